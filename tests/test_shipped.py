"""The model that the package holds: whole, small, licensed, and trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_runs import MODEL

from earth.triples import render_triple, squares
from salib import PRESETS, load_model
from salib.files.artifact import file_digest, read_json
from salib.model import build_model, save_model
from salib.model.store import SHIPPED, shipped_models

FOLDER = SHIPPED / "laptop"


def test_it_is_of_its_preset_and_fits_its_room():
    assert shipped_models() == ["laptop"]
    assert {path.name for path in FOLDER.iterdir()} == {
        *("config.json", "model.safetensors", "README.md", "LICENSE")
    }
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    stored = read_json(FOLDER / "config.json")
    assert stored["weights_sha256"] == file_digest(FOLDER / "model.safetensors")
    config = load_model("laptop").config
    assert replace(config, band_stats=()) == PRESETS["laptop"]
    assert (FOLDER / "LICENSE").read_text() == (Path(__file__).parents[1] / "LICENSE").read_text()


def test_a_folder_of_that_name_counts_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(build_model(MODEL, 0), "laptop")
    assert load_model("laptop").config == MODEL


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="or name laptop"):
        load_model("lapton")


def test_weights_in_bfloat16_load_as_their_rounded_values(tmp_path):
    model = build_model(MODEL, 3)
    save_model(model, tmp_path / "half", dtype=torch.bfloat16)
    halves, whole = load_model(tmp_path / "half").state_dict(), model.state_dict()
    assert all(value.dtype == torch.float32 for value in halves.values())
    assert all(torch.equal(halves[name], whole[name].bfloat16().float()) for name in whole)


def test_who_may_read_a_configuration_may_read_the_weights(tmp_path):
    folder = save_model(build_model(MODEL, 3), tmp_path / "model")
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("sensor", "gsd_m", "least"), [("lores", 10.0, 0.8), ("hires", 5.0, 0.8), ("radar", 10.0, 0.35)]
)
def test_it_knows_a_ground_again_when_it_is_mirrored_and_darker(sensor, gsd_m, least):
    """On a landscape of another seed, among forty; an untrained model knows one in seven."""
    themes = ("arable", "residential", "forest", "pasture")
    grounds = [corner for theme in themes for corner in squares(77, theme, 10)]
    images = np.stack([getattr(render_triple(77, *corner), sensor) for corner in grounds])
    changed = (0.75 * images[:, :, ::-1]).astype(np.uint8)
    model, vectors = load_model("laptop"), []
    for shown in (images, changed):
        found = model.embed(torch.from_numpy(shown).permute(0, 3, 1, 2), sensor, gsd_m)
        vectors.append(torch.nn.functional.normalize(found - found.mean(dim=0), dim=1))
    nearest = (vectors[0] @ vectors[1].T).argmax(dim=1)
    assert (nearest == torch.arange(len(grounds))).float().mean() > least
