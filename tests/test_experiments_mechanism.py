"""Experiment 2: a frozen head is told another GSD, a flat picture tells none."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from exhibits.experiments import mechanism, scale
from exhibits.experiments.mechanism import (
    FLAT,
    FREEZE,
    FROZEN_M,
    PROBE,
    UNTRAINED,
    flat_difference,
    layers_of,
    one_frozen,
    probe,
)
from exhibits.experiments.mosaics import TRAINED, Classifier, Pictures
from exhibits.experiments.plans import read_plan

SMALL = {"dim": 24, "depth": 2, "heads": 3, "slopes": (2.0, 0.5, 0.125)}


@pytest.fixture
def model():
    return Classifier(SMALL, seed=0).eval()


@pytest.fixture
def shown():
    return Pictures.draw(5, intervals=TRAINED, side_px=40, seed=[1])


def close(one, other):
    return torch.allclose(one, other, atol=2e-2)


def test_layers_end_in_what_the_head_reads(model, shown):
    last = layers_of(model, shown)[-1]
    with torch.no_grad():
        answers = model(torch.from_numpy(shown.images), shown.gsd_m)
        assert close(model.head(last), answers)


def test_freezing_all_heads_is_stating_one_gsd_for_all(model, shown):
    frozen = layers_of(model, shown, frozen=torch.ones(2, 3))
    stated = layers_of(model, replace(shown, gsd_m=torch.full((5,), FROZEN_M)))
    assert len(frozen) == 3
    assert all(close(one, other) for one, other in zip(frozen, stated, strict=True))
    assert not close(frozen[-1], layers_of(model, shown)[-1])


def test_freezing_a_layer_leaves_those_before_it(model, shown):
    plain, frozen = (
        layers_of(model, shown, frozen=f) for f in (None, torch.tensor([[0.0] * 3, [1.0] * 3]))
    )
    assert torch.equal(plain[0], frozen[0])
    assert not torch.equal(plain[1], frozen[1])


def test_freezing_a_head_is_as_if_its_slope_were_scaled_for_that_picture(model, shown):
    """One picture: head 1 told 7.75 m is head 1 of a model whose slope is 7.75 m / its GSD."""
    one = Pictures(shown.images[:1], shown.gsd_m[:1], shown.labels[:1])
    frozen = layers_of(model, one, frozen=torch.tensor([[1.0, 0.0, 0.0]] * 2))
    scaled = (2.0 * FROZEN_M / float(one.gsd_m), 0.5, 0.125)
    other = Classifier({**SMALL, "slopes": scaled}, seed=0).eval()
    assert close(layers_of(other, one)[-1], frozen[-1])


def test_cases_name_each_head_all_others_and_each_layer(model, shown, monkeypatch):
    cases = []

    def seen(model, shown, *, frozen):
        cases.append(frozen)
        return [torch.zeros(5, 24)]

    monkeypatch.setattr(mechanism, "layers_of", seen)
    found = dict(zip(one_frozen(model, shown), cases, strict=True))
    assert len(found) == 1 + 3 + 3 + 2
    assert found["nothing"].tolist() == [[0] * 3] * 2
    assert found["head 2"].tolist() == [[0, 1, 0]] * 2
    assert found["all but head 2"].tolist() == [[1, 0, 1]] * 2
    assert found["layer 2"].tolist() == [[0] * 3, [1] * 3]


def test_heads_are_counted_from_the_steepest_also_where_slopes_are_alibis(shown, monkeypatch):
    model = Classifier({}, seed=0)
    cases = []

    def seen(model, shown, *, frozen):
        cases.append(frozen)
        return [torch.zeros(5, 96)]

    monkeypatch.setattr(mechanism, "layers_of", seen)
    found = dict(zip(one_frozen(model, shown), cases, strict=True))
    slopes = model.encoder.slopes
    told = [float(slopes[found[f"head {n}"][0] > 0]) for n in range(1, 7)]
    assert told == sorted(slopes.tolist(), reverse=True)
    assert told != slopes.tolist()
    assert float(slopes[found["all but head 1"][0] == 0]) == max(told)


@pytest.mark.parametrize(("arm", "moves"), [({}, False), ({"sink": True}, True)])
def test_a_flat_picture_tells_its_scale_only_by_a_null_key(arm, moves):
    model = Classifier({**SMALL, **arm}, seed=0).eval()
    assert (flat_difference(model) > 1e-5) == moves


def test_the_probe_reads_what_is_told_and_nothing_where_nothing_is(shown):
    told = Classifier({**SMALL, "position": "patches", "told": True}, seed=0).eval()
    with torch.no_grad():
        told.told.fill_(0.5)
    blind = Classifier({**SMALL, "position": "patches"}, seed=0).eval()
    many = Pictures.draw(160, intervals=TRAINED, side_px=16, seed=[1])
    assert min(probe(told, many, seed=0)) > 0.9
    assert max(probe(blind, many, seed=0)) < 0.05


def rows(*, head=0.3, others=0.02, flat=1e-7, known=0.6, blind=-0.1, seeds=3):
    parts = {
        (scale.SCALE, FREEZE): {
            "nothing": 0.85,
            "head 1": 0.85 - head,
            "all but head 1": 0.85 - others,
        }
        | {"layer 1": 0.5},
        (scale.SCALE, PROBE): {"layer 1": 0.1, "layer 2": known},
        (scale.SCALE, UNTRAINED): {"layer 1": 0.0, "layer 2": 0.0},
        (scale.PATCHES, PROBE): {"layer 1": blind, "layer 2": -0.1},
        (scale.PATCHES, UNTRAINED): {"layer 1": blind, "layer 2": blind},
        (scale.SCALE, FLAT): {"all": flat},
        (scale.PATCHES, FLAT): {"all": 0.0},
        ("Scale-ALiBi, null key", FLAT): {"all": 0.5},
    }
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "part": part, "at": at, "value": value}
            for (arm, part), values in parts.items()
            for at, value in values.items()
            for seed in range(seeds)
        ]
    )


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, "holds"),
        ({"head": 0.09}, "does not hold"),
        ({"others": 0.2}, "does not hold"),
        ({"flat": 1e-4}, "does not hold"),
        ({"known": 0.2}, "does not hold"),
        ({"blind": 0.1}, "does not hold"),
    ],
)
def test_the_rule(changed, answer):
    assert mechanism.verdict(rows(**changed)).answer == answer
    assert mechanism.verdict(pd.DataFrame(columns=["arm"])).answer == "not run"


def test_a_run_measures_every_part_and_resumes(tmp_path, monkeypatch):
    sizes = {"seeds": 1, "steps": 1, "pictures": 9, "tested": 16}
    sizes["arms"] = [scale.SCALE, scale.PATCHES]
    plan = replace(read_plan("mechanism"), root=tmp_path, budget={"smoke": sizes})
    calls = []

    def train(arm, shown, *, steps, rate, seed):
        calls.append(arm)
        return Classifier(arm, seed=seed).eval(), 0.5

    monkeypatch.setattr(mechanism, "train", train)
    found = mechanism.run(plan, "smoke")
    parts = found.groupby("arm")["part"].unique()
    assert set(parts[scale.SCALE]) == {FREEZE, PROBE, UNTRAINED, FLAT}
    assert set(parts[scale.PATCHES]) == {PROBE, UNTRAINED, FLAT}
    assert len(mechanism.run(plan, "smoke")) == len(found)
    assert len(calls) == 2
    assert mechanism.mechanism_figure(found).axes[0].get_xticks().tolist() == [1, 2, 3, 4, 5, 6]
    assert mechanism.table(found).index.tolist() == [scale.SCALE, scale.PATCHES]
