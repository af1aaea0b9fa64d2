"""Experiment 6: how far attention spreads, what is lost on larger pictures, the rule."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from exhibits.experiments import length, scale
from exhibits.experiments.mosaics import SMALL, Classifier, Pictures
from exhibits.experiments.plans import NOT_RUN, read_plan
from salib.attention import Geometry
from salib.bias import patch_centres
from salib.model.layers import Attention

SEEDS = np.array([-1.0, 0.0, 0.5, 1.0, -0.5]) / 100
PLACES = patch_centres(3, 5, torch.tensor([7.0, 11.0]))
SLOPES = torch.tensor([2.0, 0.5, 0.25])
KINDS = {
    "none": None,
    "bias": Geometry(PLACES, PLACES, SLOPES, 16.0),
    "rotary": Geometry(PLACES, PLACES, SLOPES, 16.0, rotary=True),
}


def pictures(count, side_px, seed=5):
    return Pictures.draw(count, intervals=((4.0, 9.0),), side_px=side_px, seed=[seed])


def without_queries(arm):
    """A classifier whose queries are all zero, so that positions alone decide."""
    model = Classifier(arm, seed=1).eval()
    for layer in model.encoder.encoder("lores").transformer.layers:
        torch.nn.init.zeros_(layer.self_attention.queries.weight)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_weights_mix_values_into_what_the_attention_gives(kind):
    torch.manual_seed(3)
    attention, x = Attention(12, 3), torch.randn(2, 15, 12)
    found = length.weights(attention, x, KINDS[kind])
    values = attention.keys_values(attention.norm(x))[..., 12:].unflatten(-1, (3, 4)).movedim(2, 1)
    mixed = attention.out((found @ values).movedim(1, 2).flatten(2))
    torch.testing.assert_close(mixed, attention(x, KINDS[kind]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_some_queries_are_theirs_among_all(kind):
    torch.manual_seed(4)
    attention, x = Attention(12, 3), 3 * torch.randn(2, 15, 12)
    some = length.weights(attention, x, KINDS[kind], slice(1, None, 7))
    torch.testing.assert_close(some, length.weights(attention, x, KINDS[kind])[:, :, [1, 8]])


def test_attention_without_positions_and_queries_spreads_over_all_tokens():
    model = without_queries({"position": "none"})
    assert length.effective_tokens(model, pictures(3, 40)) == pytest.approx(25, rel=1e-4)


def test_attention_that_distance_confines_stays_at_one_token():
    model = without_queries({"slopes": (1e4,) * SMALL.heads})
    assert length.effective_tokens(model, pictures(3, 40)) == pytest.approx(1, rel=1e-4)


def test_effective_tokens_are_the_exponential_of_the_entropy_of_the_bias_by_loops():
    model, shown = without_queries({}), pictures(2, 24)
    found = []
    for gsd_m in shown.gsd_m.tolist():
        at = [((i % 3) * 8 * gsd_m, (i // 3) * 8 * gsd_m) for i in range(9)]
        for slope in model.encoder.slopes.tolist():
            for one in at:
                raw = [math.exp(-slope * math.dist(one, other) / 64) for other in at]
                shares = [value / sum(raw) for value in raw]
                found.append(math.exp(-sum(share * math.log(share) for share in shares)))
    expected = sum(found) / len(found)
    assert length.effective_tokens(model, shown) == pytest.approx(expected, rel=1e-4)


def test_looking_leaves_no_hook_behind():
    model, shown = Classifier({}, seed=0).eval(), pictures(2, 24)
    length.effective_tokens(model, shown)
    layers = model.encoder.encoder("lores").transformer.layers
    assert [len(layer.self_attention._forward_pre_hooks) for layer in layers] == [0] * len(layers)


@pytest.mark.parametrize("side", [3, 8, 16, 32])
def test_about_64_queries_are_looked_at_in_every_column(side, monkeypatch):
    seen = []

    def weights(attention, x, geometry, rows):
        seen.append(range(x.shape[1])[rows])
        return torch.ones(1, 1, 1, 1)

    monkeypatch.setattr(length, "weights", weights)
    length.effective_tokens(Classifier({}, seed=0).eval(), pictures(1, 8 * side))
    assert {at % side for at in seen[0]} == set(range(side))
    assert len(seen) == SMALL.depth
    assert min(side**2, 50) <= len(seen[0]) <= 64


def test_the_size_of_whole_logits_is_that_of_their_tensor():
    tokens = (96 // 4) ** 2
    whole = torch.empty(SMALL.heads, tokens, tokens)
    assert length.logits_mb(96, 4) == pytest.approx(whole.numel() * whole.element_size() / 1e6)


def rows_of(held, patch_px=8):
    """Rows of five seeds: accuracy at 64 and 256 px by arm, each seed moved alike at 256."""
    lines = []
    for arm, (small, large) in held.items():
        for seed, off in enumerate(SEEDS):
            own = {"arm": arm, "patch_px": patch_px, "seed": seed, "effective": 3.0, "wall_ms": 2.0}
            for side_px, right in ((256, large + off), (128, 0.1), (64, small)):
                lines.append(own | {"side_px": side_px, "accuracy": right})
    return pd.DataFrame(lines)


GOOD = {scale.SCALE: (0.85, 0.83), length.ROTARY: (0.89, 0.5), length.SINCOS: (0.89, 0.4)}


def test_what_is_lost_lies_between_the_trained_and_the_largest_side():
    assert length.lost(rows_of(GOOD), length.ROTARY) == pytest.approx(39 - 100 * SEEDS)


def test_the_rule_holds_where_the_bias_keeps_what_the_codes_lose():
    assert length.verdict(rows_of(GOOD)).answer == "holds"
    better = rows_of({**GOOD, scale.SCALE: (0.6, 0.9)})
    assert length.verdict(better).answer == "holds"


@pytest.mark.parametrize(
    ("arm", "held"),
    [
        (scale.SCALE, (0.85, 0.805)),  # 4.5 points, with an interval that reaches beyond 5
        (scale.SCALE, (0.85, 0.5)),
        (length.ROTARY, (0.89, 0.685)),
        (length.SINCOS, (0.89, 0.88)),
    ],
)
def test_the_rule_fails_where_any_interval_crosses_its_bound(arm, held):
    assert length.verdict(rows_of({**GOOD, arm: held})).answer == "does not hold"


def test_the_rule_needs_its_arms_at_its_patch_and_several_seeds():
    rows = rows_of(GOOD)
    assert length.verdict(rows[rows["seed"] == 3]).answer == "cannot be decided here"
    assert length.verdict(rows[rows["arm"] != length.SINCOS]).answer == "cannot be decided here"
    assert length.verdict(rows.assign(patch_px=4)).answer == "cannot be decided here"
    assert length.verdict(rows[:0]) == NOT_RUN
    other = rows_of({arm: (0.9, 0.9) for arm in GOOD}, patch_px=16)
    assert length.verdict(pd.concat([other, rows])).answer == "holds"


def test_a_run_trains_what_is_missing_and_measures_every_side(tmp_path, monkeypatch):
    trained, real = [], length.train
    monkeypatch.setattr(length, "train", lambda *a, **k: trained.append(a) or real(*a, **k))
    budget = {"seeds": 1, "steps": 1, "pictures": 7, "tested": 9}
    cases = [[16, scale.SCALE], [8, length.ROTARY]]
    plan = replace(read_plan("length"), root=tmp_path, budget={"smoke": {**budget, "cases": cases}})
    rows = length.run(plan, "smoke")
    assert [*zip(rows["patch_px"], rows["side_px"], strict=True)] == [
        (patch_px, side_px) for patch_px in (16, 8) for side_px in length.SIDES_PX
    ]
    assert [arm["patch_px"] for arm, _ in trained] == [16, 8]
    assert trained[1][0]["position"] == "rotary"
    most = (rows["side_px"] / rows["patch_px"]) ** 2
    assert (rows["effective"] <= most * 1.001).all()
    path = tmp_path / "smoke" / "experiments" / "length.csv"
    pd.read_csv(path)[:5].to_csv(path, index=False)
    assert len(length.run(plan, "smoke")) == 6
    assert len(trained) == 3
    assert length.run(plan, "paper").empty


def test_a_larger_test_has_fewer_pictures_of_its_own():
    drawn = length.draw_tests(17, seed=2)
    assert [shown.images.shape[:2] for shown in drawn] == [(17, 64), (8, 128), (2, 256)]
    assert drawn[0].labels[:8].tolist() != drawn[1].labels.tolist()


def test_the_table_tells_patches_apart_and_leaves_out_what_was_not_run():
    rows = pd.concat([rows_of(GOOD), rows_of({scale.SCALE: (0.5, 0.75)}, patch_px=4)])
    shown = length.table(rows)
    assert [*shown.index] == [*(("8 px", arm) for arm in GOOD), ("4 px", scale.SCALE)]
    assert shown.loc[("4 px", scale.SCALE), ["64 px", "256 px"]].tolist() == ["50.0", "75.0"]
    assert shown.loc[("4 px", scale.SCALE), "lost"].startswith("-25.0 [")


def test_the_figure_draws_accuracy_in_percent_and_other_patches_apart():
    rows = pd.concat([rows_of(GOOD), rows_of({scale.SCALE: (0.5, 0.75)}, patch_px=4)])
    figure = length.length_figure(rows)
    lines = [[line.get_ydata().tolist() for line in axis.lines] for axis in figure.axes]
    assert [len(each) for each in lines] == [3, 1, 4, 3]
    assert lines[1][0] == pytest.approx([50, 10, 75])
    assert lines[2][-1] == [64, 256, 1024]
