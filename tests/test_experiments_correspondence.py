"""Experiment 5: what is asked of the tokens, how each arm tells positions, the rule."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from exhibits.experiments import correspondence as c
from exhibits.experiments.plans import NOT_RUN, read_plan

SEEDS = np.array([-1.0, 0.0, 0.5, 1.0, -0.5]) / 100


def pairs(count=3, seed=7, ground_m=240.0):
    return c.Pairs.draw(count, coarse_m=10.0, fine_m=5.0, ground_m=ground_m, seed=[seed])


def reader(arm, seed=1):
    return c.Reader(arm, next(iter(c.ARMS[arm].values())), seed=seed).eval()


def given(model, coarse_px, fine_px, gsds_m):
    """What the transformer of a reader is given: tokens and geometries."""
    caught = []
    hook = model.transformer.register_forward_pre_hook(lambda module, args: caught.append(args))
    with torch.no_grad():
        model(torch.zeros(1, 3, coarse_px, coarse_px), torch.zeros(1, 3, fine_px, fine_px), gsds_m)
    hook.remove()
    return caught[0]


def test_pairs_show_one_square_of_ground_and_share_nothing_else():
    shown = pairs()
    assert shown.coarse.shape == (3, 24, 24, 3)
    assert shown.fine.shape == (3, 48, 48, 3)
    assert shown.times == 2
    again, other = pairs(), pairs(seed=8)
    assert (shown.fine == again.fine).all()
    assert (shown.fine != other.fine).any()
    halves = shown.fine.reshape(3, 24, 2, 24, 2, 3).mean((2, 4))
    for one, half in zip(shown.coarse, halves, strict=True):
        assert abs(np.corrcoef(one[..., 0].ravel(), half[..., 0].ravel())[0, 1]) < 0.4


def test_batches_turn_whole_images_and_pair_them_at_random():
    shown = pairs(5)
    sums = [[image.astype(int).sum() for image in images] for images in (shown.coarse, shown.fine)]
    chosen = []
    for batch in shown.batches(11, 4, seed=3):
        for images, own in zip(batch, sums, strict=True):
            back = (images * 40 + 120).sum((1, 2, 3)).round().int().tolist()
            chosen.append([own.index(value) for value in back])
    assert all(one != other for one, other in zip(chosen[0::2], chosen[1::2], strict=True))
    first, again = (next(shown.batches(11, 1, seed=3)) for _ in range(2))
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_target_is_the_mean_colour_under_each_coarse_token_by_loops(times):
    side = times * c.PATCH_PX
    fine = torch.randn(2, 3, 3 * side, 3 * side)
    found = c.colours(fine, times)
    assert found.shape == (2, 9, 3)
    for token in range(9):
        south, east = token // 3 * side, token % 3 * side
        under = fine[:, :, south : south + side, east : east + side]
        torch.testing.assert_close(found[:, token], under.mean((2, 3)))


@pytest.mark.parametrize(
    ("coarse_px", "fine_px", "gsds_m"), [(24, 48, (10.0, 5.0)), (16, 64, (10.0, 2.5))]
)
@pytest.mark.parametrize("arm", [c.METRES, c.ALIBI, c.INDICES])
def test_biases_are_those_of_distance_in_metres_or_in_own_patches_by_loops(
    arm, coarse_px, fine_px, gsds_m
):
    model = reader(arm)
    _, here, _, across = given(model, coarse_px, fine_px, gsds_m)
    sides = [px // c.PATCH_PX for px in (coarse_px, fine_px)]
    steps = [gsd_m * c.PATCH_PX / 64 if arm != c.INDICES else 1.0 for gsd_m in gsds_m]
    coarse, fine = (
        [((i % side + 0.5) * step, (i // side + 0.5) * step) for i in range(side**2)]
        for side, step in zip(sides, steps, strict=True)
    )
    for geometry, keys in ((here, coarse), (across, fine)):
        bias = geometry.bias()[0]
        assert bias.shape == (c.HEADS, len(coarse), len(keys))
        for head, slope in enumerate(model.strength):
            for query, key in ((0, 1), (2, len(keys) - 1), (len(coarse) - 1, 0)):
                expected = -slope * math.dist(coarse[query], keys[key])
                assert float(bias[head, query, key]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("arm", [c.TABLE, c.SINCOS, c.NONE])
def test_codes_come_without_a_bias(arm):
    _, here, _, across = given(reader(arm), 24, 48, (10.0, 5.0))
    assert here is None
    assert across is None


@pytest.mark.parametrize("arm", c.ARMS)
def test_the_same_ground_is_coded_alike_in_metres_and_the_order_of_fine_tokens_matters(arm):
    """With positions, two fine patches that change places change the answer; without, nothing."""
    model, (coarse, fine) = reader(arm), next(pairs().batches(2, 1, seed=0))
    other = fine.clone()
    other[..., :8, :8], other[..., 8:16, -8:] = fine[..., 8:16, -8:], fine[..., :8, :8]
    with torch.no_grad():
        one, two = (model(coarse, images, (10.0, 5.0)) for images in (fine, other))
    apart = float((one - two).abs().max())
    assert (apart < 1e-5) == (arm == c.NONE)


def test_a_learned_table_is_itself_on_the_trained_grids_and_stretched_on_others():
    model = reader(c.TABLE)
    for number, side in enumerate((6, 12)):
        own = model.tables[number]
        code = model.code(number, side, torch.zeros(1, side**2, 2))
        torch.testing.assert_close(code[0, 2 * side + 3], own[0, :, 2, 3])
        twice = model.code(number, 2 * side, torch.zeros(1, 4 * side**2, 2))
        assert twice.shape == (1, 4 * side**2, c.DIM)
    spreads = [float(c.Reader(c.TABLE, by, seed=0).tables[1].detach().std()) for by in (0.1, 0.5)]
    assert spreads == pytest.approx([0.1, 0.5], rel=0.05)


def test_a_sine_cosine_code_has_one_value_at_one_point_of_the_ground():
    model = reader(c.SINCOS)
    xy = torch.tensor([[[40.0, 120.0]]])
    assert torch.equal(model.code(0, 6, xy), model.code(1, 24, xy))
    assert float(model.code(0, 6, xy)[0, 0, 0]) == pytest.approx(math.sin(40 / model.strength))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda target: target, 1.0),
        (lambda target: target.mean(dim=1, keepdim=True).expand_as(target), 0.0),
        (lambda target: 2 * target.mean(dim=1, keepdim=True) - target, -3.0),
    ],
)
def test_r2_is_1_for_the_truth_0_for_each_images_mean_and_less_for_worse(answer, expected):
    class Answer(c.Reader):
        def forward(self, coarse, fine, gsds_m):
            assert gsds_m == (10.0, 5.0)
            return answer(c.colours(fine, 2))

    assert c.r2(Answer(c.NONE, None, seed=0), pairs(37)) == pytest.approx(expected, abs=1e-4)


def test_nothing_but_positions_can_find_the_ground():
    """A reader without positions gives all coarse tokens of one colour the same answer."""
    model, (_, fine) = reader(c.NONE), next(pairs().batches(2, 1, seed=0))
    with torch.no_grad():
        found = model(torch.ones(2, 3, 24, 24), fine, (10.0, 5.0))
    torch.testing.assert_close(found, found[:, :1].expand_as(found), atol=1e-5, rtol=0)


def plan(root, **budget):
    sizes = {"seeds": 2, "steps": 1, "pictures": 3, "tested": 2, "tuning": 0}
    return replace(read_plan("correspondence"), root=root, budget={"smoke": {**sizes, **budget}})


def test_a_run_trains_what_is_missing_each_seed_with_its_own_images(tmp_path, monkeypatch):
    trained, real = [], c.train
    monkeypatch.setattr(c, "train", lambda *a, **k: trained.append((a, k)) or real(*a, **k))
    small = plan(tmp_path, arms=[c.NONE, c.METRES])
    rows = c.run(small, "smoke")
    assert [*zip(rows["seed"], rows["arm"], strict=True)] == [
        (seed, arm) for seed in (0, 1) for arm in (c.NONE, c.METRES)
    ]
    assert rows["strength"].tolist() == ["-", "steep"] * 2
    first = [args[2].fine[0].tobytes() for args, _ in trained]
    assert first[0] == first[1] != first[2] == first[3]
    path = tmp_path / "smoke" / "experiments" / "correspondence.csv"
    pd.read_csv(path).drop(index=1).to_csv(path, index=False)
    assert len(c.run(small, "smoke")) == 4
    assert (len(trained), trained[-1][0][0], trained[-1][1]["seed"]) == (5, c.METRES, 0)
    assert c.run(small, "paper").empty


def test_each_arm_takes_its_best_strength_and_rate_and_tries_all_once(tmp_path, monkeypatch):
    tried = []

    def train(arm, value, shown, *, steps, rate, seed):
        tried.append((arm, value, rate, steps, seed))
        return (arm, value, rate, shown), 0.5

    def r2(model, shown):
        assert (model[3].fine != shown.fine).any()  # not what it was trained on
        return 0.9 if model[1:3] == best[model[0]] else 0.2

    best = {c.SINCOS: (64.0, c.RATES[0]), c.NONE: (None, c.RATES[2])}
    monkeypatch.setattr(c, "train", train)
    monkeypatch.setattr(c, "r2", r2)
    small = plan(tmp_path)
    sizes = {"steps": 900, "pictures": 2, "tested": 2, "tuning": 30}
    for _ in range(2):
        found = small.rows("smoke", c.TUNED, part="tuning")
        chosen = c.tuned(found, [*best], **sizes)
        assert chosen == {c.SINCOS: ("64 m a radian", c.RATES[0]), c.NONE: ("-", c.RATES[2])}
        assert len(tried) == 9 + 3
    assert {each[3] for each in tried} == {30}
    assert min(each[4] for each in tried) > 4


def test_arms_choose_from_equally_many_strengths_but_for_the_two_that_have_none():
    counts = {arm: len(strengths) for arm, strengths in c.ARMS.items()}
    assert {arm for arm, count in counts.items() if count == 1} == {c.ALIBI, c.NONE}
    assert set(counts.values()) == {1, 3}
    assert all(len(slopes) == c.HEADS for slopes in c.SLOPES.values())


def rows_of(held):
    """Rows of five seeds about the R2 of the three tests, by arm."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "strength": "steep", "rate": 0.002}
        | {test: value + off for test, value in zip(c.TESTS, values, strict=True)}
        for arm, values in held.items()
        for seed, off in enumerate(SEEDS * (1 if arm == c.METRES else -1))
    )


GOOD = {
    c.METRES: (0.96, 0.95, 0.96),
    c.INDICES: (0.02, 0.0, -0.1),
    c.TABLE: (0.99, 0.4, 0.95),
    c.SINCOS: (0.98, 0.2, 0.98),
}


def test_the_rule_holds_for_metres_that_find_the_ground_and_indices_that_do_not():
    assert c.verdict(rows_of(GOOD)).answer == "holds"


@pytest.mark.parametrize(
    ("arm", "held"),
    [
        (c.METRES, (0.905, 0.95, 0.96)),  # the interval reaches below 0.9
        (c.METRES, (0.96, 0.8, 0.96)),
        (c.METRES, (0.96, 0.95, 0.5)),
        (c.INDICES, (0.095, 0.0, -0.1)),
        (c.INDICES, (0.02, 0.0, 0.5)),
        (c.TABLE, (0.99, 0.945, 0.95)),
        (c.SINCOS, (0.98, 0.97, 0.98)),
    ],
)
def test_the_rule_fails_where_any_interval_crosses_its_bound(arm, held):
    assert c.verdict(rows_of({**GOOD, arm: held})).answer == "does not hold"


def test_the_rule_needs_its_arms_and_several_seeds():
    rows = rows_of(GOOD)
    assert c.verdict(rows[rows["seed"] == 2]).answer == "cannot be decided here"
    assert c.verdict(rows[rows["arm"] != c.TABLE]).answer == "cannot be decided here"
    assert c.verdict(rows[:0]) == NOT_RUN


def test_the_table_keeps_the_order_of_the_arms_and_tells_what_they_chose():
    shown = c.table(rows_of({arm: GOOD[arm] for arm in (c.SINCOS, c.METRES)}))
    assert [*shown.index] == [c.METRES, c.SINCOS]
    assert shown.loc[c.METRES, c.LARGER].startswith("0.95 [")
    assert shown.loc[c.METRES, ["strength", "learning rate"]].tolist() == ["steep", "0.002"]


def test_the_figure_has_a_dot_for_each_arm_and_test_and_names_each_arm_once():
    axis = c.correspondence_figure(rows_of(GOOD)).axes[0]
    dots = [float(line.get_ydata()[0]) for line in axis.lines if line.get_marker() == "o"]
    assert sorted(dots) == pytest.approx(sorted(v for values in GOOD.values() for v in values))
    assert axis.get_legend_handles_labels()[1] == [arm for arm in c.ARMS if arm in GOOD]
