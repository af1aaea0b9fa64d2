"""An exported encoder gives what the model gives, for other batches, sizes and distances."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from salib import build_model, preset
from salib.config import BandStats
from salib.model.export import export_encoder

LEVELS = (
    BandStats(mean=(11.0, 3.0), std=(2.0, 5.0)),
    BandStats(mean=(90.0, 70.0, 50.0), std=(30.0, 20.0, 10.0)),
    BandStats(mean=(100.0, 120.0, 90.0), std=(40.0, 50.0, 60.0)),
)
SMALL = replace(preset("tiny"), dim=24, depth=2, heads=2, decoder_dim=16, decoder_heads=2)
SMALL = replace(SMALL, band_stats=LEVELS)
CHANGES = (
    {},
    {"whiten": True},
    {"shared_optical": True},
    {"stem": "conv"},
    {"position": "rotary"},
    {"position": "gsd_sincos"},
    {"sink": True},
)


def compare(folder):
    """What the test runs in a process of its own, as types are not checked while torch traces."""
    for change in CHANGES:
        model = build_model(replace(SMALL, **change), 3).eval()
        model.whitening.fit(
            {name: torch.randn(99, 24) for name in (*model.config.sensors, "joint")}
        )
        torch.export.save(export_encoder(model, "hires"), folder / "hires.pt2")
        program = torch.export.load(folder / "hires.pt2").module()
        generator = torch.Generator().manual_seed(1)
        for batch, height, width in ((1, 16, 40), (3, 96, 80), (5, 24, 24)):
            images = 255 * torch.rand(batch, 3, height, width, generator=generator)
            metres = 1 + 9 * torch.rand(batch, generator=generator)
            found = [program(images, each).detach() for each in (metres, 2 * metres)]
            for tokens, each in zip(found, (metres, 2 * metres), strict=True):
                expected = model.embed(images, "hires", each, tokens=True)
                torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=0)
            assert not torch.equal(*found)


def test_a_program_equals_the_model_at_any_batch_size_and_distance(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
    code += "import test_export as t; t.compare(Path(sys.argv[2]))"
    settings = {"JAXTYPING_DISABLE": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_sensor_that_the_model_lacks_is_refused():
    with pytest.raises(ValueError, match="sensor must be one of"):
        export_encoder(build_model(SMALL, 0), "s2")
