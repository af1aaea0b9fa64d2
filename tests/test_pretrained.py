"""The script behind the shipped model, whole, at toy size: world, runs, scores, weights."""

import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from salib import load_model

ROOT = Path(__file__).parent.parent
TOY = ["dim=16", "depth=2", "heads=2", "slopes=[]", "decoder_dim=16", "batch=8", "views=2"]


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("pretrained", ROOT / "benchmarks/pretrained.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.pop(0)
    return module


@pytest.fixture
def at_toy_size(script, tmp_path, monkeypatch):
    """A folder with a small world's profile and ten classes that differ in brightness."""
    rng = np.random.default_rng(0)
    (tmp_path / "profiles").mkdir()
    profile = yaml.safe_load((ROOT / "profiles/gpu.yml").read_text())
    profile |= {"tiles_side": 4, "processes": 1, "task_train": 24, "task_valid": 4, "task_test": 12}
    (tmp_path / "profiles/gpu.yml").write_text(yaml.safe_dump(profile))
    with zipfile.ZipFile(tmp_path / "EuroSAT_RGB.zip", "w") as archive:
        for number in range(10):
            for chip in range(9):
                pixels = rng.integers(0, 20, (64, 64, 3)) + 22 * number
                held = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(held, "PNG")
                archive.writestr(f"chips/class{number}/class{number}_{chip}.png", held.getvalue())
    arms = {"small": {"set": TOY, **script.ALL}, "base": {"set": TOY, "kind": "croma"}}
    for name, value in {"ARMS": {"gpu": arms}, "BANK": 3, "VALID": 2}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "same_allocator", lambda: None)
    monkeypatch.setenv("SALIB_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pretrained.py", "gpu", *map(str, arguments)])
        script.main()

    return run


def test_the_script_trains_scores_and_ships_and_does_nothing_twice(
    at_toy_size, script, tmp_path, monkeypatch
):
    """Two arms, two seeds; brightness tells the classes apart, so the scores are near 1."""
    how = ("--steps", 2, "--seeds", 0, 1, "--test", "--others", "--ship", tmp_path / "weights")
    at_toy_size(*how)
    results = tmp_path / "results/gpu"
    rows, runs = (pd.read_csv(results / name) for name in ("rows.csv", "runs.csv"))
    assert runs[["arm", "seed", "steps"]].values.tolist() == [
        [arm, seed, 2] for arm in ("small", "base") for seed in (0, 1)
    ]
    assert (rows.n == 40).all()
    assert set(rows.split) == {"test"}
    trained = rows[rows.arm == "small"]
    assert set(trained.encoder) == {"lores", "hires", "untrained"}
    assert set(trained.probe) == {"k-NN 20", "k-NN 20, weighted", "k-NN 5, L2", "linear"}
    plain = rows[(rows.arm == "image statistics") & (rows.probe == "k-NN 5, L2")]
    assert plain.value.item() > 0.9
    classes = [f"of class{number}" for number in range(10)]
    np.testing.assert_allclose(rows[classes].mean(axis=1), rows.value, atol=2e-4)
    others = pd.read_csv(results / "others.csv")
    assert {"SA-joint", "SA-low", "SA-high"} <= set(others.model)
    shipped = load_model(tmp_path / "weights").state_dict()
    kept = load_model(tmp_path / "runs/gpu/models/small-0").state_dict()
    assert all(torch.equal(v.bfloat16(), shipped[k].bfloat16()) for k, v in kept.items())
    monkeypatch.setattr(script, "described", lambda *_: 1 / 0)  # features are kept too
    at_toy_size(*how[:-2])
    pd.testing.assert_frame_equal(pd.read_csv(results / "rows.csv"), rows)


def test_a_smaller_zip_gives_the_same_chips(at_toy_size, script, tmp_path):
    at_toy_size("--pack", tmp_path / "small.zip", "--most", 2)
    whole, part = (script.chips(tmp_path / name, 2) for name in ("EuroSAT_RGB.zip", "small.zip"))
    for split, (pixels, labels) in whole.items():
        assert np.array_equal(pixels, part[split][0])
        assert np.array_equal(labels, part[split][1])
    assert len(script.chips(tmp_path / "small.zip", None)["test"][1]) == 20
