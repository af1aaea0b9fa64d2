"""The small model that maps and tables are made with in tests."""

from dataclasses import replace
from pathlib import Path

from salib import build_model, preset
from salib.model import save_model

PATCH, DIM = 4, 24


def small_model(folder: Path, seed: int) -> Path:
    """Save an untrained model of 4 px patches and 24 dimensions."""
    sizes = {"dim": DIM, "depth": 2, "heads": 3, "patch_px": PATCH}
    config = replace(preset("tiny"), **sizes, decoder_dim=16, decoder_heads=2)
    return save_model(build_model(config, seed), folder)
