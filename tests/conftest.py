"""Shared set-up: where expected numbers and real data may lie, and a small curated folder."""

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from salib.config import SENSOR_NAMES
from salib.tiles.archive import write_archive
from salib.tiles.grid import TileId, tile_gsd_m

torch.set_num_threads(1)
for _name in ("NO_PROXY", "no_proxy"):  # servers of the tests are asked without a proxy
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1", "localhost")))
_beside = Path(os.environ.get("SALIB_DATA_DIR", "")).parent / "oracles"
if os.environ.get("SALIB_DATA_DIR") and _beside.is_dir():
    os.environ.setdefault("SALIB_ORACLE_DIR", str(_beside))
ZOOM = 14


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch, in every test: what UMAP runs gives the process as many as there are cores."""
    torch.set_num_threads(1)


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


def write_samples(folder: Path, places: list[TileId], picture, gsd_m: list[float]) -> Path:
    """A curated folder of training samples; picture(sensor, tile) draws each of their tiles."""
    for name in SENSOR_NAMES:
        shown = [*places, *(child for tile in places for child in tile.children())]
        shown = sorted(shown if name == "hires" else places, key=lambda tile: tile.hilbert)
        images = [(tile, encode(picture(name, tile))) for tile in shown]
        write_archive(folder / f"{name}.pmtiles", images, metadata={})
    rows = pd.DataFrame(places).assign(
        tile_id=[tile.hilbert for tile in places],
        gsd_m=gsd_m,
        split="train",
        **{f"valid_frac_{name}": 1.0 for name in SENSOR_NAMES},
    )
    rows.to_parquet(folder / "index.parquet")
    return folder


@pytest.fixture(scope="session")
def tiles(tmp_path_factory):
    """Two by three places whose sensors all show the same picture of place; one is valid."""
    places = [TileId(ZOOM, x, y) for x in (0, 1) for y in (6588, 6589, 6590)]
    folder = write_samples(
        tmp_path_factory.mktemp("tiles"),
        places,
        lambda _, tile: ground(tile.x, tile.y, tile.z),
        [tile_gsd_m(tile) for tile in places],
    )
    rows = pd.read_parquet(folder / "index.parquet")
    rows.loc[0, "split"] = "valid"
    rows.to_parquet(folder / "index.parquet")
    return folder


RAMP_TILES = [
    TileId(ZOOM, x, y)
    for x, y in ((10, 5602), (20, 4401), (9, 5003), (4, 7405), (9, 6202), (3, 6806), (3, 8005))
]
RAMP_GSD_M = [tile_gsd_m(tile) for tile in RAMP_TILES]
LEVELS_A_PX = np.array([[0.6, 0.23], [-0.23, 0.6]])
"""Of the first two bands, east and south; oblique, so that rounding averages out in both."""


def ramp_corner(number: int) -> np.ndarray:
    """The first two bands of a sample at its north-west corner."""
    return np.array([0, 0.23 * 256]) + 6 * number


def ramp(sensor: str, tile: TileId) -> np.ndarray:
    """Pixels that state their ground: lores pixels east and south of their sample's corner.

    Optical images tell (mostly) east in red, south in green and the number of the sample in blue;
    radar tells east in VV and south in VH, and the number by an offset of both.
    """
    factor = 2 ** (tile.z - ZOOM)
    number = RAMP_TILES.index(tile.parent(tile.z - ZOOM))
    ground = [
        (np.arange(256) + 0.5) / factor + 256 / factor * (at % factor) for at in (tile.x, tile.y)
    ]
    at = np.stack(np.meshgrid(*ground), axis=-1)
    stated = np.round(at @ LEVELS_A_PX.T + ramp_corner(number))
    image = np.full((256, 256, 4), 255, np.uint8)
    image[..., slice(1, 3) if sensor == "radar" else slice(0, 2)] = stated
    image[..., 0 if sensor == "radar" else 2] = 10 + 30 * number
    return image


@pytest.fixture(scope="session")
def ramps(tmp_path_factory):
    """Seven places, apart and of unequal GSD, whose pixels state their ground (see `ramp`)."""
    return write_samples(tmp_path_factory.mktemp("ramps"), RAMP_TILES, ramp, RAMP_GSD_M)
