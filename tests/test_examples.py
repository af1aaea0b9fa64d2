"""The programs that page 11 shows learn what is easy, from files as a user has them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earth.triples import write_chips
from salib import build_model, preset
from salib.config import BandStats
from salib.model import save_model

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    stats = tuple(BandStats(mean=(125.0,) * n, std=(60.0,) * n) for n in (2, 3, 3))
    sizes = {"dim": 32, "depth": 2, "heads": 2, "decoder_dim": 16, "decoder_heads": 2}
    config = replace(preset("tiny"), **sizes, band_stats=stats)
    return save_model(build_model(config, 3), tmp_path_factory.mktemp("model"))


def shares(program, *arguments):
    """Percentages that a program tells, one per epoch."""
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "JAXTYPING_DISABLE": "1"}
    command = [sys.executable, str(ROOT / "examples" / f"{program}.py"), *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [float(line.split("%")[0].split()[-1]) for line in done.stdout.splitlines()]


def picture(rng, level):
    return np.clip(rng.normal(level, 20, (32, 32, 3)), 0, 255).astype(np.uint8)


def test_bright_images_are_told_from_dark_ones(model, tmp_path):
    rng = np.random.default_rng(1)
    for name, level in (("dark", 60), ("bright", 190)):
        (tmp_path / name).mkdir()
        for number in range(100):
            Image.fromarray(picture(rng, level)).save(tmp_path / name / f"{name}{number}.png")
    assert shares("classify", model, tmp_path, 10)[-1] == 100


def test_the_bright_part_of_an_image_is_told_from_the_dark_one(model, tmp_path):
    rng = np.random.default_rng(1)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(160):
        edge = 8 * int(rng.integers(1, 4))
        image, mask = picture(rng, 60), np.zeros((32, 32), np.uint8)
        image[:, edge:], mask[:, edge:] = picture(rng, 190)[:, edge:], 1
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    found = shares("segment", model, tmp_path, 10)
    assert found[-1] > 95


def test_chips_have_the_masks_of_their_ground_and_are_the_same_again(tmp_path):
    one, two = (write_chips(tmp_path / name, seed=4, per_theme=2) for name in "ab")
    paths = sorted(path.relative_to(one) for path in one.rglob("*.png"))
    assert paths == sorted(path.relative_to(two) for path in two.rglob("*.png"))
    for path in paths:
        assert (one / path).read_bytes() == (two / path).read_bytes()
    themes = sorted(path.name for path in (one / "chips").iterdir())
    for chip in (path for path in paths if path.parts[0] == "chips"):
        image, mask = (one / "ground" / part / chip.name for part in ("images", "masks"))
        assert image.read_bytes() == (one / chip).read_bytes()
        assert np.array(Image.open(mask)).max() < len(themes)
    with pytest.raises(ValueError, match="per_theme must be positive, got 0"):
        write_chips(tmp_path / "c", seed=4, per_theme=0)
