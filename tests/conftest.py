"""Shared set-up: where expected numbers and real data may lie, and a small curated folder."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from salib.config import SENSOR_NAMES
from salib.curate.archive import write_archive
from salib.curate.grid import TileId

torch.set_num_threads(1)
_beside = Path(os.environ.get("SALIB_DATA_DIR", "")).parent / "oracles"
if os.environ.get("SALIB_DATA_DIR") and _beside.is_dir():
    os.environ.setdefault("SALIB_ORACLE_DIR", str(_beside))
ZOOM = 14


def encode(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., [2, 1, 0, 3]])[1].tobytes()


def ground(x: int, y: int, zoom: int) -> np.ndarray:
    """A picture that is a function of place: red tells east, green tells south."""
    scale = 2 ** (ZOOM + 1 - zoom)
    east = (np.arange(256) + 0.5) * scale / 512 + x * scale / 2
    south = (np.arange(256) + 0.5) * scale / 512 + y * scale / 2
    image = np.zeros((256, 256, 4), np.uint8)
    image[..., 0] = (np.mod(east, 4) * 60)[None, :]
    image[..., 1] = (np.mod(south, 4) * 60)[:, None]
    image[..., 2] = 7
    image[..., 3] = 255
    return image


@pytest.fixture(scope="session")
def tiles(tmp_path_factory):
    """Two by three places whose sensors all show the same picture of place."""
    folder = tmp_path_factory.mktemp("tiles")
    places = [(x, y) for x in (0, 1) for y in (0, 1, 2)]
    coarse = [(TileId(ZOOM, x, y), encode(ground(x, y, ZOOM))) for x, y in places]
    fine = [
        (TileId(ZOOM + 1, 2 * x + i, 2 * y + j), encode(ground(2 * x + i, 2 * y + j, ZOOM + 1)))
        for x, y in places
        for i in (0, 1)
        for j in (0, 1)
    ]

    def in_order(pairs):
        return sorted(pairs, key=lambda pair: pair[0].hilbert)

    for name in SENSOR_NAMES:
        images = in_order([*coarse, *fine]) if name == "hires" else in_order(coarse)
        write_archive(folder / f"{name}.pmtiles", images, metadata={})
    rows = [
        {"tile_id": t.hilbert, "z": t.z, "x": t.x, "y": t.y, "gsd_m": 8.0, "split": "train"}
        | {f"valid_frac_{name}": 1.0 for name in SENSOR_NAMES}
        for t, _ in coarse
    ]
    rows[0]["split"], rows[1]["valid_frac_hires"] = "valid", 0.5
    pd.DataFrame(rows).to_parquet(folder / "index.parquet")
    return folder
