"""What `pip install salib` alone can do: nothing here finds a package that only an extra brings."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
BLOCK = """if True:
    import json, sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] not in absent:
                return self.finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    absent = set(json.loads(sys.argv.pop(1)))
    sys.meta_path[:] = map(Without, sys.meta_path)
"""
TRAIN = """
    from dataclasses import replace
    import salib.config, salib.training.data, salib.model, salib.training.train
    from salib import TrainConfig, build_model, load_model, preset
    from salib.model import save_model

    tiles, out = sys.argv[1:]
    sizes = dict(dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2)
    config = replace(preset("tiny"), **sizes)
    save_model(build_model(config, 3), out + "/untrained")
    how = TrainConfig(steps=2, batch=3, learning_rate=1e-3, crop_px=(24, 48), image_px=32)
    trained = salib.training.train.pretrain(config, how, tiles=tiles, out=out + "/trained", seed=3)
    weights = [load_model(path).state_dict() for path in (out + "/untrained", trained)]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    samples = salib.training.data.Samples(tiles)
    print(samples.image(0, "hires").astype(int).sum())
"""
CLI = """
    from salib.cli.app import main
    main()
"""


def absent():
    """Top-level modules that are installed here, but that no dependency of the package asks for."""
    waiting, needed = [Requirement(line) for line in PROJECT["dependencies"]], set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if name in needed or (asked.marker and not asked.marker.evaluate({"extra": ""})):
            continue
        needed.add(name)
        waiting += [Requirement(line) for line in metadata.requires(name) or []]
    names = metadata.packages_distributions().items()
    return [top for top, by in names if not (needed | {"salib"}) & set(map(canonicalize_name, by))]


def run(script, *arguments):
    command = [sys.executable, "-c", BLOCK + script, json.dumps(absent()), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_extras_bring_is_out_of_reach_here():
    assert {"rasterio", "h5py", "pooch", "matplotlib", "sklearn"} <= set(absent())
    assert "No module named 'rasterio'" in run("\n    import rasterio").stderr


def test_a_base_install_builds_saves_loads_and_trains(tiles, tmp_path):
    from salib.training.data import Samples

    done = run(TRAIN, tiles, tmp_path)
    assert done.returncode == 0, done.stderr
    pixels = Samples(tiles).image(0, "hires")  # here by another reader of PNG
    assert int(done.stdout) == pixels.astype(int).sum()


def test_a_base_install_embeds_images_to_a_table_and_says_what_else_needs(tmp_path):
    from salib import build_model, preset
    from salib.model import save_model

    save_model(build_model(preset("tiny"), 5), tmp_path / "model")
    pixels = np.random.default_rng(7).integers(0, 256, (48, 32, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    asked = ["embed", tmp_path / "a.png", "--model", tmp_path / "model"]
    done = run(CLI, *asked, "--gsd-m", 11, "--out", tmp_path / "x.parquet")
    assert done.returncode == 0, done.stderr
    (vector,) = pd.read_parquet(tmp_path / "x.parquet")["embedding"]
    assert len(vector) == preset("tiny").dim
    refused = run(CLI, *asked, "--out", tmp_path / "x.tif")
    assert refused.returncode == 2
    assert refused.stderr.strip().startswith("salib: ")
    assert "pip install 'salib[curate,evaluate]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", PROJECT["optional-dependencies"])
def test_an_extra_repeats_no_dependency_of_the_base(name):
    base, extra = (
        {canonicalize_name(Requirement(line).name) for line in lines}
        for lines in (PROJECT["dependencies"], PROJECT["optional-dependencies"][name])
    )
    assert base & extra == set()


def test_the_first_example_of_the_readme_runs_from_a_wheel_in_an_empty_folder(tmp_path):
    """The wheel holds the weights; nothing of this repository is within reach."""
    root, empty = Path(__file__).parent.parent, tmp_path / "empty"
    for name in ("salib", "earth", "exhibits", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copyfile
        copy(root / name, tmp_path / "source" / name)
    build = [
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
    ]
    subprocess.run([sys.executable, *build, tmp_path / "source"], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    readme = (root / "README.md").read_text()
    (code,) = [
        b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load_model" in b
    ]
    (joint,) = re.findall(r"`(model\.embed\(\{.*?\))`", readme)
    code += "radar = images[:, :2]\njoint = " + joint + "\n"
    code += "print(salib.__file__, vectors.shape, tokens.shape, joint.shape)\n"
    empty.mkdir()
    command = [sys.executable, "-c", BLOCK + textwrap.indent(code, "    "), json.dumps(absent())]
    settings = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(command, cwd=empty, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "installed"))
    assert done.stdout.count("[2, 128]") == 2
    assert "[2, 256, 128]" in done.stdout
