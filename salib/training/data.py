"""Tiles to batches: joint samples of all sensors that cover the same ground."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from salib.config import SENSOR_NAMES, SENSORS, TILE_PX, BandStats, TrainConfig
from salib.files.images import resize_bands
from salib.files.tables import read_table
from salib.tiles.archive import Archive
from salib.tiles.checks import check_tile
from salib.tiles.grid import TileId, hilbert_numbers, tile_gsd_m
from salib.training.sampling import order_of, stream

CACHE_BYTES = 2 << 30
GSD_TOLERANCE = 0.01
"""Of metres per pixel as the index states them."""
Pixels = Shaped[np.ndarray, "height width bands"]


@dataclass(frozen=True)
class Batch:
    """Images of the same ground by sensor, in pixel values of tiles, and metres per pixel."""

    images: Mapping[str, Float[Tensor, "batch bands height width"]]
    gsd_m: Mapping[str, Float[Tensor, " batch"]]

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        parts = (self.images, self.gsd_m)
        return Batch(*({name: value.to(device) for name, value in part.items()} for part in parts))


@dataclass(frozen=True)
class Crop:
    """A square of ground within a sample: lores pixels of the tile, then a turn or flip."""

    top: int
    left: int
    side_px: int
    turn: int


class Samples:
    """The joint samples of a curated folder; decoded tiles stay in memory up to CACHE_BYTES."""

    def __init__(self, folder: str | Path, *, split: str | None = None) -> None:
        """Open the index and the three archives.

        Args:
            folder: what `curate` wrote; every sample of its index counts, with all its sensors.
            split: "train" or "valid"; None takes both.

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
        self.rows = rows[rows.split == split].reset_index(drop=True) if split else rows
        if self.rows.empty:
            raise ValueError(
                f"folder must hold samples with split={split}, got none of {len(rows)} in {folder}"
            )
        self._zxy: list[list[int]] = np.array(self.rows[["z", "x", "y"]], dtype=int).tolist()
        self._gsd_m: list[float] = self.rows["gsd_m"].astype(float).tolist()
        listed = [name for name in SENSORS if f"valid_frac_{name}" in rows]
        self.sensors = tuple(listed) or SENSOR_NAMES
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
            pixels = [self.image(i, name)[::4, ::4].reshape(-1, bands) for i in chosen]
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


def draw_batch(
    samples: Samples,
    config: TrainConfig,
    *,
    seed: int,
    step: int,
    rank: int = 0,
    ranks: int = 1,
    sensors: Sequence[str] = (),
) -> Batch:
    """Samples, crops and radiometry of one step.

    Samples are drawn without replacement, epoch by epoch (see `training.sampling.Order`). A crop is
    the same ground for all sensors; its side is drawn, so that every encoder meets a range of
    ground sample distances, each stated truly in `gsd_m` (D18). Gains are drawn for each sensor
    apart. A step's batch does not depend on the number of ranks; a rank gets its share.

    Args:
        sensors: which images to cut; by default all that the samples have.

    Raises:
        ValueError: if the ranks do not divide the batch, or it is larger than the samples.
    """
    if config.batch % ranks:
        raise ValueError(f"batch must be a multiple of the ranks, got {config.batch} and {ranks}")
    generator = stream(seed, "batches", step)
    drawn = order_of(len(samples), config.batch, seed).batch(step)
    crops = [_draw_crop(config, generator) for _ in drawn]
    gains = {n: _draw_gains(config, len(SENSORS[n].bands), generator) for n in samples.sensors}
    mine = range(rank, config.batch, ranks)
    images, gsd_m = {}, {}
    for name in sensors or samples.sensors:
        row = SENSORS[name]
        side = config.image_px * row.factor
        cut = [cut_crop(samples.image(drawn[i], name), crops[i], row.factor, side) for i in mine]
        pixels = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous().float()
        images[name] = pixels.mul_(gains[name][list(mine)]).clamp_(0, row.max_value)
        zoomed = [samples.gsd_m(drawn[i], name) * crops[i].side_px / config.image_px for i in mine]
        gsd_m[name] = torch.tensor(zoomed)
    return Batch(images, gsd_m)


def cut_crop(
    image: Pixels, crop: Crop, factor: int, side_px: int
) -> Shaped[np.ndarray, "side side bands"]:
    """The crop's ground in one sensor, resampled to side_px, turned or flipped."""
    top, left, side = crop.top * factor, crop.left * factor, crop.side_px * factor
    part = image[top : top + side, left : left + side]
    if side != side_px:
        method = cv2.INTER_AREA if side > side_px else cv2.INTER_CUBIC
        part = resize_bands(part, side_px, method)
    turned = np.rot90(part, crop.turn % 4)
    return np.ascontiguousarray(turned if crop.turn < 4 else turned[:, ::-1])


def _draw_crop(config: TrainConfig, generator: torch.Generator) -> Crop:
    smallest, largest = config.crop_px
    size, top, left, turn = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    side = round(smallest * (largest / smallest) ** size)
    corners = TILE_PX - side + 1
    return Crop(int(top * corners), int(left * corners), side, int(turn * 8))


def _draw_gains(config: TrainConfig, bands: int, generator: torch.Generator) -> Tensor:
    whole = torch.randn(config.batch, 1, generator=generator)
    band = torch.randn(config.batch, bands, generator=generator)
    return (config.jitter * (whole + 0.3 * band)).exp()[..., None, None]
