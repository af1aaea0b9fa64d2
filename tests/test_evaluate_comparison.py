"""Rows of a comparison are kept while models, tasks and recipe stay, and made anew otherwise."""

from dataclasses import replace

import pandas as pd
import pytest
from test_evaluate_tasks import write_zip

from exhibits import comparison
from exhibits.chips import chips_by_class
from salib import build_model, preset
from salib.config import KINDS
from salib.evaluate import encoders_of, evaluate, real_tasks
from salib.model import save_model

SMALL = replace(preset("tiny"), dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2)


@pytest.fixture
def folders(tmp_path):
    write_zip(tmp_path / "UCMerced_LandUse.zip", {"ant": 61, "bee": 63})
    for kind in ("scale_alibi", "croma"):
        save_model(build_model(replace(SMALL, **KINDS[kind]), 0), tmp_path / kind)
    return tmp_path


def test_rows_are_made_once_for_the_same_models_and_tasks(folders, monkeypatch):
    asked = []

    def count(encoders, tasks, *, out, **options):
        asked.append((sorted(encoders), [task.name for task in tasks], options["seed"]))
        pd.DataFrame({"call": [len(asked)]}).to_csv(out, index=False)

    monkeypatch.setattr(comparison, "evaluate", count)
    options = {"scale_alibi": folders / "scale_alibi", "croma": folders / "croma", "image_px": 8}
    for seed, expected in ((0, 1), (0, 1), (1, 2), (1, 2)):
        rows = comparison.compare(folders / "out", real=folders, seed=seed, **options)
        assert rows["call"][0] == expected
    save_model(build_model(replace(SMALL, **KINDS["croma"]), 5), folders / "croma")
    assert comparison.compare(folders / "out", real=folders, seed=1, **options)["call"][0] == 3
    columns = {"SA-high", "SA-low", "SA-radar", "SA-joint", "CROMA", "CROMA-radar", "CROMA-joint"}
    assert set(asked[0][0]) == columns | {f"{name} untrained" for name in columns}
    assert asked[0][1:] == (["ucmerced"], 0)


def test_rows_outlive_a_change_of_code_with_a_remark_and_not_one_of_recipe(
    folders, monkeypatch, caplog
):
    calls = []

    def count(encoders, tasks, *, out, **options):
        calls.append(options["seed"])
        pd.DataFrame({"call": [len(calls)]}).to_csv(out, index=False)

    monkeypatch.setattr(comparison, "evaluate", count)
    options = {"scale_alibi": folders / "scale_alibi", "croma": folders / "croma", "image_px": 8}
    options |= {"real": folders, "seed": 0}

    def call():
        return comparison.compare(folders / "out", **options)["call"][0]

    assert [call(), call()] == [1, 1]
    assert not caplog.text
    monkeypatch.setattr(comparison, "source_digest", lambda *modules: "5" * 64)
    assert call() == 1
    assert "the code has changed since" in caplog.text
    monkeypatch.setitem(comparison.RECIPES, "evaluate", 1 + comparison.RECIPES["evaluate"])
    assert call() == 2
    assert calls == [0, 0]


def test_a_model_of_another_kind_is_named_by_its_sensors_and_position(folders):
    config = replace(SMALL, sensors=("radar", "lores"), position="ground")
    save_model(build_model(config, 0), folders / "two")
    models = [folders / name for name in ("scale_alibi", "two")]
    found = encoders_of(models, seed=0)
    named = {name: one.views for name, one in found.items() if one.model.config == config}
    kind = "(radar+lores, ground)"
    assert named[f"joint {kind}"] == {"radar": 1, "lores": 1}
    assert set(named) == {
        f"{sensor} {kind}{suffix}"
        for sensor in ("radar", "lores", "joint")
        for suffix in ("", " untrained")
    }


def test_unknown_protocols_are_refused():
    with pytest.raises(ValueError, match="protocol must be one of"):
        evaluate({}, [], protocol="mine", image_px=8, seed=0)


def test_chips_for_pictures_come_class_by_class(folders):
    assert [task.name for task in real_tasks(folders)] == ["ucmerced"]
    assert chips_by_class(folders, count=3) == {}
    write_zip(folders / "EuroSAT_RGB.zip", {"ant": 5, "bee": 4})
    found = chips_by_class(folders, count=3)
    assert {name: chips.shape[0] for name, chips in found.items()} == {"ant": 3, "bee": 3}
