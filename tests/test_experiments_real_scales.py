"""Real images at many scales: what is told, what cannot be heard, what the rule says of tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from train_runs import MODEL, held_out

from exhibits.experiments import real_scales
from exhibits.experiments.plans import Plan
from exhibits.experiments.pretraining import NOT_TOLD, TRULY, WRONGLY, Runs, described
from exhibits.experiments.real_scales import (
    ARMS,
    DEAF,
    EUROSAT,
    FACTORS,
    MERCED,
    PATCHES,
    SCALE,
    SHIPPED,
    Chips,
    verdict,
)
from salib import build_model
from salib.config.models import POSITIONS
from salib.config.runs import read_run
from salib.files.artifact import MADE_FROM

NAMES = {EUROSAT: ["Forest", "Pasture", "River"], MERCED: ["river", "forest", "beach"]}


def chips(name, *, side_px, gsd_m, seed=0, count=3):
    """Noise whose brightness tells the class."""
    rng, labels = np.random.default_rng(seed), np.array(NAMES[name] * count)
    light = 50 * np.array([NAMES[name].index(label) for label in labels])
    images = light[:, None, None, None] + rng.integers(0, 30, (len(labels), side_px, side_px, 3))
    return Chips(name, images.astype(np.uint8), labels, gsd_m)


def sets_of():
    """Two small data sets: bank and asked images."""
    sizes = {EUROSAT: (64, 10.0), MERCED: (64, 1.2)}
    return {
        name: tuple(chips(name, side_px=side, gsd_m=gsd_m, seed=n) for n in (0, 1))
        for name, (side, gsd_m) in sizes.items()
    }


@pytest.mark.parametrize("position", POSITIONS)
def test_which_positions_hear_a_stated_gsd(position):
    model = build_model(replace(MODEL, position=position), 0).eval()
    images = chips(EUROSAT, side_px=32, gsd_m=10.0).images
    one, other = (described(model, images, gsd_m) for gsd_m in (5.0, 20.0))
    assert np.array_equal(one, other) == (position in DEAF)


def test_every_arm_is_a_recipe_of_both_presets():
    for name, changes in ARMS.items():
        for preset in ("tiny", "laptop"):
            model, _, _ = read_run(name=preset, texts=changes)
            assert f"position={model.position}" in changes, name
    assert {read_run(name="tiny", texts=changes)[0].position for changes in ARMS.values()} == {
        *POSITIONS
    }


@pytest.mark.parametrize("position", ["ground", "patches"])
def test_each_image_is_told_what_its_row_says(position, monkeypatch):
    seen = []

    def describe(model, images, gsd_m):
        seen.append((len(images), images.shape[1], round(gsd_m, 6)))
        return described(model, images, gsd_m)

    monkeypatch.setattr(real_scales, "described", describe)
    model = build_model(replace(MODEL, position=position), 0).eval()
    bank = chips(EUROSAT, side_px=64, gsd_m=10.0, count=5)
    asked = chips(MERCED, side_px=64, gsd_m=1.2, count=2)
    rows = [*real_scales.by_factor(model, bank, asked)]
    sides = {factor: round(64 / factor) for factor in FACTORS[MERCED]}
    wanted = {(15, 64, 10.0)} | {(6, side, 1.2 * f) for f, side in sides.items()}
    if position == "ground":
        wanted |= {(15, 64, 15.0)} | {(6, side, m) for side in sides.values() for m in (10.0, 15.0)}
    assert sorted(seen) == sorted((n, side, round(metres, 6)) for n, side, metres in wanted)
    told = [TRULY] if position == "patches" else [TRULY, WRONGLY, NOT_TOLD]
    expected = [(float(factor), each) for factor in FACTORS[MERCED] for each in told]
    assert [(row["factor"], row["told"]) for row in rows] == expected


def test_at_its_own_gsd_truth_and_the_banks_are_one():
    model = build_model(MODEL, 0).eval()
    bank, asked = (chips(EUROSAT, side_px=64, gsd_m=10.0, seed=n) for n in (0, 1))
    rows = [*real_scales.by_factor(model, bank, asked)]
    value = {(row["factor"], row["told"]): row["value"] for row in rows}
    assert value[1.0, TRULY] == value[1.0, WRONGLY]


def test_common_classes_take_common_names():
    common = chips(MERCED, side_px=8, gsd_m=1.0).common()
    assert common.labels.tolist() == ["river", "forest"] * 3
    whole = chips(MERCED, side_px=8, gsd_m=1.0)
    assert np.array_equal(common.images, whole.images[whole.labels != "beach"])
    assert set(chips(EUROSAT, side_px=8, gsd_m=1.0).common().labels) == {"river", "forest"}


def test_a_run_resumes_and_needs_neither_data_nor_tiles_to_say_that_there_are_none(
    ramps, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SALIB_DATA_DIR", raising=False)
    sizes = {"preset": "tiny", "seeds": 1, "steps": 1, "tuning": 0, "batch": 3}
    sizes |= {"eurosat": [1, 1], "ucmerced": [1, 1], "arms": [SCALE, PATCHES]}
    texts = dict.fromkeys(("page", "question", "expected", "rule"), "")
    how = {"budget": {"smoke": sizes}, "minutes": {"smoke": 1.0}, "root": tmp_path / "results"}
    plan = Plan(name="real_scales", recipe=1, **texts, **how)
    assert real_scales.run(plan, "smoke").empty
    assert verdict(real_scales.run(plan, "gpu")).answer == "not run"
    held_out(ramps, tmp_path / "runs/smoke/tiles", valid=3)
    (tmp_path / "runs/smoke/tiles" / MADE_FROM).touch()
    monkeypatch.setattr(real_scales, "data_sets", lambda *_: sets_of())
    load = real_scales.load_model
    shipped = build_model(MODEL, 0).eval()
    monkeypatch.setattr(
        real_scales, "load_model", lambda name: shipped if name == "laptop" else load(name)
    )
    rows = real_scales.run(plan, "smoke")
    count = 2 * sum(map(len, FACTORS.values()))
    assert rows.groupby("arm").size().to_dict() == {
        SCALE: 3 * count,
        SHIPPED: 3 * count,
        PATCHES: count,
    }
    assert not rows.duplicated([*real_scales.KEYS]).any()
    monkeypatch.setattr(real_scales, "measure", lambda *_: 1 / 0)
    monkeypatch.setattr(Runs, "train", lambda *_, **__: 1 / 0)
    assert len(real_scales.run(plan, "smoke")) == len(rows)
    assert verdict(rows).answer == "cannot be decided here"
    assert set(real_scales.table(rows)) == {SCALE, PATCHES, SHIPPED}
    assert real_scales.factors_figure(rows).axes


def rows_of(values, *, seeds=3, names=(EUROSAT, MERCED)):
    """0.9 at factor 1; at others as `values` say by arm and what is told, 0.6 by default."""
    rng, lines = np.random.default_rng(2), []
    for seed in range(seeds):
        for arm in (SCALE, PATCHES):
            for told in (TRULY, WRONGLY, NOT_TOLD) if arm == SCALE else (TRULY,):
                for bank in names:
                    for asked in names:
                        for factor in FACTORS[asked]:
                            held = values.get((arm, told), 0.6) if factor >= 2 else 0.9
                            held = 0.3 if bank != asked else held
                            at = {"arm": arm, "seed": seed, "bank": bank, "asked": asked}
                            value = held + 0.001 * rng.standard_normal()
                            lines.append(at | {"factor": factor, "told": told, "value": value})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({}, "does not hold"),
        ({(SCALE, TRULY): 0.7}, "holds"),
        ({(SCALE, TRULY): 0.7, (PATCHES, TRULY): 0.8}, "does not hold"),
        ({(SCALE, WRONGLY): 0.5}, "does not hold"),
        ({(SCALE, WRONGLY): 0.5, (PATCHES, TRULY): 0.5}, "holds"),
        ({(SCALE, WRONGLY): 0.8, (PATCHES, TRULY): 0.5}, "does not hold"),
        ({(SCALE, NOT_TOLD): 0.1, (PATCHES, TRULY): 0.5}, "does not hold"),
        ({(SCALE, TRULY): 0.7, (PATCHES, TRULY): 0.7}, "does not hold"),
    ],
)
def test_the_rule(values, answer):
    assert verdict(rows_of(values)).answer == answer
    assert verdict(rows_of(values, names=(EUROSAT,))).answer == answer
    assert verdict(rows_of(values, names=(MERCED,))).answer == "cannot be decided here"
    assert verdict(rows_of(values, seeds=1)).answer == "cannot be decided here"


def test_a_lead_on_which_the_seeds_do_not_agree_is_none():
    rows = rows_of({(SCALE, TRULY): 0.7})
    one = rows["seed"].eq(0) & rows["arm"].eq(SCALE) & rows["told"].eq(TRULY)
    rows.loc[one & rows["factor"].eq(2), "value"] -= 0.25
    assert verdict(rows).answer == "does not hold"


def test_what_is_kept_is_the_mean_over_factors_then_data_sets():
    rows = rows_of({})
    rng = np.random.default_rng(5)
    rows["value"] = rng.random(len(rows))
    wide = real_scales.wide(rows).set_index(["arm", "seed"])
    for (arm, seed), line in wide.iterrows():
        one = rows[(rows.arm == arm) & (rows.seed == seed) & (rows.told == TRULY)]
        parts = {
            (bank, asked): one[(one.bank == bank) & (one.asked == asked)].set_index("factor").value
            for bank in NAMES
            for asked in NAMES
        }
        kept = np.mean([np.mean([parts[n, n][f] for f in (2, 4, 8)]) for n in NAMES])
        assert line["kept, truly"] == pytest.approx(kept)
        assert line["20 m, truly"] == pytest.approx(parts[EUROSAT, EUROSAT][2])
        assert line["across, bank of UC Merced"] == pytest.approx(parts[MERCED, EUROSAT].mean())
        assert line["UC Merced, 2-8"] == pytest.approx(parts[MERCED, MERCED][[2, 4, 8]].mean())
