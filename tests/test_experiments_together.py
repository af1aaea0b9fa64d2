"""Experiment 8: subsets are those that `embed` gives, retrieval is counted, the rule is kept."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from earth.landscape.themes import THEMES
from exhibits.experiments import together
from exhibits.experiments.plans import read_plan
from exhibits.experiments.together import (
    ALL,
    BESIDE,
    FOUND,
    KNN,
    REAL,
    SUBSETS,
    TRAINED,
    UNTRAINED,
    encoded,
    knn_rows,
    real_chips,
    real_rows,
    retrieval_rows,
)
from salib import build_model, preset
from salib.config import SENSOR_NAMES


@pytest.fixture(scope="module")
def model():
    how = {"depth": 2, "heads": 2, "decoder_dim": 16, "whiten": True, "partial": True}
    small = replace(preset("tiny"), dim=24, **how)
    made = build_model(small, 3).eval()
    generator = torch.Generator().manual_seed(0)
    for axes in made.whitening.values():
        axes.matrix.copy_(torch.randn(24, 24, generator=generator))
    return made


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    sides = {"radar": (2, 16), "lores": (3, 16), "hires": (3, 32)}
    return {
        name: torch.randint(0, 256, (5, bands, side, side), generator=generator).float()
        for name, (bands, side) in sides.items()
    }


def test_each_subset_has_the_vector_that_embed_gives(model, images):
    vectors, projected = encoded(model, images, batch=2)
    assert vectors.keys() == SUBSETS.keys()
    gsd_m = {"radar": 10.0, "lores": 10.0, "hires": 5.0}
    for subset, names in SUBSETS.items():
        if len(names) > 1:
            own = model.embed({n: images[n] for n in names}, gsd_m={n: gsd_m[n] for n in names})
        else:
            own = model.embed(images[names[0]], names[0], gsd_m[names[0]])
        assert vectors[subset] == pytest.approx(own.numpy(), abs=1e-4), subset
    assert projected["hires"].norm(dim=1).numpy() == pytest.approx(np.ones(5), abs=1e-5)
    fewer, _ = encoded(model, {name: images[name] for name in ("radar", "hires")})
    assert set(fewer) == {"radar", "hires", "radar + hires"}


def test_neighbours_see_all_three_side_by_side():
    """Each vector tells a third of the classes; only side by side they tell all."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(THEMES)), 12)

    def drawn():
        found = {}
        for number, name in enumerate(SENSOR_NAMES):
            told = np.where(labels % 3 == number, labels + 1, 0)
            found[name] = np.eye(len(THEMES) + 1)[told] + 0.01 * rng.standard_normal((156, 14))
        return {name: part.astype(np.float32) for name, part in found.items()}

    rows = {row["arm"]: row for row in knn_rows(drawn(), drawn(), labels, labels)}
    assert rows[BESIDE]["value"] == 1.0
    assert max(rows[name]["value"] for name in SENSOR_NAMES) < 0.6
    assert {row["n"] for row in rows.values()} == {156}


def test_retrieval_counts_what_is_nearest_and_names_chance():
    axes = F.normalize(torch.eye(7), dim=1)
    swapped = axes[[1, 0, 2, 3, 4, 5, 6]]
    swapped[2] = 0.6 * axes[2] + 0.8 * axes[3]  # nearest to radar 3, and still radar 2's nearest
    rows = {r["arm"]: r for r in retrieval_rows({"radar": axes, "lores": swapped}, FOUND)}
    assert set(rows) == {"radar → lores"}
    assert rows["radar → lores"]["value"] == pytest.approx(5 / 7)
    assert rows["radar → lores"]["chance"] == pytest.approx(1 / 7)
    assert rows["radar → lores"]["ci_low"] < 5 / 7


@pytest.mark.real
def test_real_chips_are_pairs_of_one_ground():
    """Water is dark in both: the two sensors' brightness goes together within a coastal place."""
    root = Path(os.environ.get("SALIB_DATA_DIR", "")) / "aligned"
    if not root.is_dir():
        pytest.skip("SALIB_DATA_DIR holds no aligned places")
    chips, scenes = real_chips(root)
    assert np.bincount(scenes).tolist() == [4] * 6 + [9] * 3
    assert chips["radar"].shape == (51, 2, 60, 60)
    assert chips["lores"].shape == (51, 3, 60, 60)
    assert chips["lores"].amax() <= 255
    assert chips["radar"].amin() >= 0
    assert real_chips(root / "absent")[0] == {}


def test_telling_scenes_apart_is_worth_nothing_and_the_interval_is_over_scenes():
    """Three scenes of four chips, each scene one vector; then one scene whose chips are told."""
    scenes = np.repeat([0, 1, 2], 4)
    own = torch.eye(3)[torch.from_numpy(scenes)]
    [row] = real_rows({"radar": own, "lores": own}, scenes)
    assert (row["value"], row["chance"], row["n"]) == (0.25, 0.25, 3)
    assert row["ci_low"] == pytest.approx(0.25)
    told = torch.cat([own, torch.zeros(12, 4)], dim=1)
    told[:4, 3:] = torch.eye(4)
    [row] = real_rows({"radar": told, "lores": told}, scenes)
    each = np.array([0.75, 0, 0])
    assert row["value"] == pytest.approx(0.5)
    half = 4.302653 * each.std(ddof=1) / np.sqrt(3)
    assert row["ci_low"] == pytest.approx(0.25 + each.mean() - half)


def rows(*, more=3.0, missing=2.0, found=0.5, real=(0.2, 0.1), seeds=4):
    base = {name: 0.7 for name in SUBSETS} | {"radar": 0.5, BESIDE: 0.8}
    base[ALL] = 0.7 + more / 100
    base |= {name: base[ALL] for name in ("radar + lores", "lores + hires")}
    base["radar + hires"] = base[ALL] - missing / 100
    pairs = {"radar → lores": found, "lores → hires": 0.9, "radar → hires": 0.5}
    every = [
        {"part": part, "arm": arm, "weights": weights, "seed": seed, "value": value}
        | {"chance": 0.01, "n": 100, "ci_low": value - 0.05}
        for part, values in ((KNN, base), (FOUND, pairs))
        for arm, value in values.items()
        for weights in (TRAINED, UNTRAINED)
        for seed in range(seeds)
    ]
    if real:
        told = {"part": REAL, "arm": "radar → lores", "weights": TRAINED, "seed": 0, "n": 51}
        every.append(told | {"value": real[0], "ci_low": real[1], "chance": 0.02})
    return pd.DataFrame(every)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, "holds"),
        ({"more": -1.0}, "does not hold"),
        ({"missing": 6.0}, "does not hold"),
        ({"found": 0.04}, "does not hold"),
        ({"real": (0.05, 0.01)}, "does not hold"),
        ({"real": None}, "cannot be decided here"),
        ({"seeds": 1}, "cannot be decided here"),
    ],
)
def test_the_rule(changed, answer):
    assert together.verdict(rows(**changed)).answer == answer
    assert together.verdict(pd.DataFrame()).answer == "not run"


def test_a_run_draws_other_places_for_each_seed_and_resumes(tmp_path, monkeypatch, model):
    """The model is a small one, and the places few."""
    sizes = {"seeds": 2, "bank": 1, "asked": 1}
    plan = replace(read_plan("together"), root=tmp_path, budget={"smoke": sizes})
    drawn = []

    def triples(seed, *, count, salt):
        drawn.append((seed, salt))
        rng = np.random.default_rng(drawn[-1])
        sides = {"radar": (2, 16), "lores": (3, 16), "hires": (3, 32)}
        made = {
            n: torch.from_numpy(rng.integers(0, 256, (13, bands, side, side), dtype=np.uint8))
            for n, (bands, side) in sides.items()
        }
        return made, np.arange(13)

    monkeypatch.setattr(together, "triples", triples)
    monkeypatch.setattr(together, "NEIGHBOURS", 1)
    monkeypatch.setattr(together, "load_model", lambda name: model)
    monkeypatch.delenv("SALIB_DATA_DIR", raising=False)
    found = together.run(plan, "smoke")
    assert drawn == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len(found) == 2 * 2 * (len(SUBSETS) + 1 + 3)
    assert len(together.run(plan, "smoke")) == len(found)
    assert len(drawn) == 4
    assert together.verdict(found).answer == "cannot be decided here"
    assert together.table(found).loc[f"{KNN}: {ALL}", TRAINED]
    figure = together.subsets_figure(found)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [*SUBSETS, BESIDE]


def test_triples_are_of_the_themes_in_order_and_differ_by_salt():
    images, labels = together.triples(1, count=1, salt=0)
    assert labels.tolist() == list(range(len(THEMES)))
    assert images["hires"].shape[-1] == 2 * images["lores"].shape[-1]
    others, _ = together.triples(1, count=1, salt=1)
    assert not torch.equal(images["lores"], others["lores"])
