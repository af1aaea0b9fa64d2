"""Joint samples of a curated folder: tiles of all sensors that cover the same ground."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Shaped

from salib.config import SENSOR_NAMES, SENSORS, TILE_PX, BandStats
from salib.files.tables import read_table
from salib.tiles.archive import Archive
from salib.tiles.checks import check_tile
from salib.tiles.grid import TileId, hilbert_numbers, tile_gsd_m

CACHE_BYTES = 2 << 30
GSD_TOLERANCE = 0.01
"""Of metres per pixel as the index states them."""
Pixels = Shaped[np.ndarray, "height width bands"]


class Samples:
    """The joint samples of a curated folder; decoded tiles stay in memory up to CACHE_BYTES."""

    def __init__(
        self, folder: str | Path, *, split: str | None = None, sensors: Sequence[str] = ()
    ) -> None:
        """Open the index and the archives.

        Args:
            folder: what `curate` wrote; every sample of its index counts, with the sensors of which
            its valid_frac is stated and not 0.
            split: "train" or "valid"; None takes both.
            sensors: only samples that have one of these count; by default one of any.

        Raises:
            ValueError: if a file is missing or truncated, or no sample is left.
        """
        folder = Path(folder)
        index = folder / "index.parquet"
        if not index.is_file():
            raise ValueError(
                f"folder must hold index.parquet and three archives, got {folder}: "
                "make them with `salib curate`"
            )
        rows = _read_index(index)
        listed = tuple(name for name in SENSORS if f"valid_frac_{name}" in rows)
        self.sensors = listed or SENSOR_NAMES
        held = rows.reindex(columns=[f"valid_frac_{n}" for n in self.sensors], fill_value=1.0) > 0
        held.columns = self.sensors
        counted = held[[n for n in sensors or self.sensors if n in held]].any(axis=1)
        counted &= (rows.split == split) if split else True
        self.rows = rows[counted].reset_index(drop=True)
        if self.rows.empty:
            raise ValueError(
                f"folder must hold samples with split={split}, got none of {len(rows)} in {folder}"
            )
        self.present = {name: held.loc[counted, name].to_numpy(bool) for name in self.sensors}
        self._zxy: list[list[int]] = np.array(self.rows[["z", "x", "y"]], dtype=int).tolist()
        self._gsd_m: list[float] = self.rows["gsd_m"].astype(float).tolist()
        self.archives = {name: Archive(folder / f"{name}.pmtiles") for name in self.sensors}
        self._cache: dict[tuple[int, str], np.ndarray] = {}
        self._free = CACHE_BYTES

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    def image(self, number: int, sensor: str) -> Pixels:
        """One sensor's whole tile; hires is put together from the four tiles one level finer."""
        image = self._cache.get((number, sensor))
        if image is None:
            image = self._decode(number, sensor)
            image.flags.writeable = False  # whoever asks next gets it too
            if self._free >= image.nbytes and (number, sensor) not in self._cache:
                self._cache[number, sensor] = image  # nor had another thread meanwhile
                self._free -= image.nbytes
        return image

    @property
    def complete(self) -> bool:
        """Whether every sample has every sensor."""
        return all(there.all() for there in self.present.values())

    def gsd_m(self, number: int, sensor: str) -> float:
        """Metres of ground per pixel of the whole tile."""
        return self._gsd_m[number] / SENSORS[sensor].factor

    def triple(self, number: int) -> dict[str, Pixels | str]:
        """A sample as Fig. 3 shows it: radar, lores, hires, hires of the finer level, a title."""
        z, x, y = self._zxy[number]
        whole = {name: self.image(number, name) for name in SENSOR_NAMES}
        coarse = self._tile("hires", z, x, y)[..., list(SENSORS["hires"].channels)]
        finer = {"hires": np.ascontiguousarray(coarse), "hires4x": whole["hires"]}
        return whole | finer | {"title": f"tile {z}/{x}/{y}"}

    def band_stats(
        self, sensors: Sequence[str] = SENSOR_NAMES, *, count: int = 256
    ) -> tuple[BandStats, ...]:
        """Mean and standard deviation of each sensor's bands over evenly spaced samples (D13)."""
        chosen = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int).tolist()
        statistics = []
        for name in sensors:
            bands = len(SENSORS[name].bands)
            held = self.present[name].nonzero()[0].tolist()
            there = [i for i in chosen if self.present[name][i]] or held[:count]
            pixels = [self.image(i, name)[::4, ::4].reshape(-1, bands) for i in there]
            values = np.concatenate(pixels).astype(np.float64)
            std = np.maximum(values.std(axis=0), 1.0)
            mean, std = (tuple(each.round(3).tolist()) for each in (values.mean(axis=0), std))
            statistics.append(BandStats(mean=mean, std=std))
        return tuple(statistics)

    def _decode(self, number: int, sensor: str) -> Pixels:
        z, x, y = self._zxy[number]
        row = SENSORS[sensor]
        side, bands = row.factor, row.channels
        z += row.levels_down
        pairs = [number for pair in zip(bands, range(len(bands)), strict=True) for number in pair]
        image = np.empty((side * TILE_PX, side * TILE_PX, len(bands)), row.dtype)
        for south in range(side):
            for east in range(side):
                tile = self._tile(sensor, z, side * x + east, side * y + south)
                top, left = south * TILE_PX, east * TILE_PX
                cv2.mixChannels([tile], [image[top : top + TILE_PX, left : left + TILE_PX]], pairs)
        return image

    def _tile(self, sensor: str, z: int, x: int, y: int) -> Pixels:
        try:
            tile = self.archives[sensor].get(z, x, y)
        except KeyError as error:
            archive = self.archives[sensor].path
            raise ValueError(
                f"archive must hold every tile of the index, got {archive} without {z}/{x}/{y}: "
                "curate again"
            ) from error
        try:
            check_tile(tile, SENSORS[sensor])
        except ValueError as error:
            place = f"{self.archives[sensor].path}, tile {z}/{x}/{y}"
            raise ValueError(f"{place}: {error}; curate again, or see `salib verify`") from error
        return tile


def _read_index(path: Path) -> pd.DataFrame:
    """The index in Hilbert order, with the columns that samples need and true metres per pixel."""
    places = ["tile_id", "z", "x", "y"]
    rows = read_table(path, [*places, "gsd_m", "split"])
    numbers, metres = (_numbers(rows.filter(names), path) for names in (places, ["gsd_m"]))
    tiles = np.nan_to_num(numbers, nan=-1, posinf=-1, neginf=-1).astype(np.int64)
    wrong = (tiles != numbers).any(1) | (hilbert_numbers(tiles[:, 1:]) != tiles[:, 0])
    wrong |= rows.duplicated("tile_id").to_numpy()
    if wrong.any():
        raise ValueError(
            f"{path} must list each tile once, by whole numbers of an XYZ tile and its tile_id, got"
            f" {dict(zip(places, numbers[wrong][0].tolist(), strict=True))}: curate again"
        )
    true_m = np.array([tile_gsd_m(TileId(*tile)) for tile in tiles[:, 1:].tolist()])
    wrong = ~(np.abs(metres[:, 0] - true_m) <= GSD_TOLERANCE * true_m)
    if wrong.any():
        raise ValueError(
            f"gsd_m in {path} must be the metres per pixel at the tile's centre, got "
            f"{metres[wrong][0, 0]:g} where it is {true_m[wrong][0]:.4g}: curate again"
        )
    return rows.sort_values("tile_id", kind="stable", ignore_index=True)


def _numbers(rows: pd.DataFrame, path: Path) -> np.ndarray:
    try:
        return rows.to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        names = ", ".join(rows)
        raise ValueError(f"{path} must hold numbers as {names} ({error}): curate again") from error
