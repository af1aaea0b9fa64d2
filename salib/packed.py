"""Decoded samples in one memory-mapped file a sensor, for runs that read them many times."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from tqdm import tqdm

from salib.artifact import (
    MADE_FROM,
    atomic_dir,
    check_replaceable,
    check_room,
    file_digest,
    stamp,
)
from salib.config import SENSOR_NAMES

IDS = "tile_id.npy"
SOURCES = (*(f"{name}.pmtiles" for name in SENSOR_NAMES), "index.parquet")


class Packed:
    """A pack open for reading; `data.pack` makes one. Forked and spawned workers share its pages.

    Raises:
        ValueError: if the pack is missing, incomplete, or made from other archives than `folder`
            holds now.
    """

    def __init__(self, path: str | Path, folder: str | Path) -> None:
        """Open `path`, made from the curated `folder`.

        An archive whose size and time are those recorded counts as unchanged; one of equal size
        and another time, as a copy has, is read once to compare its sha256.
        """
        self.path = Path(path)
        recorded = self.path / MADE_FROM
        if not recorded.is_file():
            raise ValueError(f"packed must be a folder that `pack` wrote, got {self.path}")
        made_from = json.loads(recorded.read_text())
        for name in SOURCES:
            was = made_from.get(name, {"bytes": -1, "sha256": "unknown"})
            if not _is_unchanged(Path(folder) / name, was):
                raise ValueError(
                    f"packed must be made from {Path(folder) / name} as it is now, got "
                    f"{self.path} made from {was['bytes']} bytes, sha256 {was['sha256'][:12]}: "
                    "pack again"
                )
        self._open()

    def _open(self) -> None:
        self.tile_ids: Int64[np.ndarray, " samples"] = _map(self.path / IDS)
        self._images = {name: _map(self.path / f"{name}.npy") for name in SENSOR_NAMES}
        counts = {name: len(images) for name, images in self._images.items()}
        if set(counts.values()) != {len(self.tile_ids)}:
            raise ValueError(
                f"packed must hold each sample once a sensor, got {counts}: pack again"
            )

    def rows_of(self, tile_ids: Int64[np.ndarray, " places"]) -> list[int]:
        """Which row of the pack holds each tile.

        Raises:
            ValueError: if a tile is not in the pack.
        """
        rows = np.searchsorted(self.tile_ids, tile_ids).clip(max=len(self.tile_ids) - 1)
        if (self.tile_ids[rows] != tile_ids).any():
            raise ValueError(f"packed must hold every sample, got {self.path}: pack again")
        return rows.tolist()

    def image(self, row: int, sensor: str) -> UInt8[np.ndarray, "height width bands"]:
        """Pixels of one sample, a read-only view of the file."""
        return self._images[sensor][row]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


def sources_of(folder: str | Path) -> dict[str, dict[str, int | str]]:
    """Size, time and sha256 of what a pack of `folder` is made from."""
    found = {}
    for path in (Path(folder) / name for name in SOURCES):
        if not path.is_file():
            raise ValueError(f"folder must hold {path.name}, got {folder}: curate first")
        state = path.stat()
        what = {"bytes": state.st_size, "modified_ns": state.st_mtime_ns}
        found[path.name] = what | {"sha256": file_digest(path)}
    return found


def write_packed(
    path: str | Path,
    made_from: Mapping[str, object],
    tile_ids: Int64[np.ndarray, " samples"],
    shapes: Mapping[str, tuple[int, int, int]],
    decode: Callable[[int, str], np.ndarray],
) -> Path:
    """Write a pack, whole or not at all.

    Args:
        made_from: what `sources_of` told before the sources were opened.
        tile_ids: ascending; one a sample.
        shapes: height, width and bands of each sensor's images.
        decode: image of a sample, by its position in `tile_ids`, and a sensor.

    Raises:
        ValueError: if `path` holds anything but a pack.
        OSError: if the disk has too little room.
    """
    path = Path(path)
    check_replaceable(path, MADE_FROM, IDS, *(f"{name}.npy" for name in SENSOR_NAMES))
    check_room(path, len(tile_ids) * sum(map(prod, shapes.values())))
    with atomic_dir(path) as part, ExitStack() as stack:
        files = {n: stack.enter_context((part / f"{n}.npy").open("wb")) for n in shapes}
        for name, shape in shapes.items():
            whole = {"descr": "|u1", "fortran_order": False, "shape": (len(tile_ids), *shape)}
            np.lib.format.write_array_header_1_0(files[name], whole)
        for place in tqdm(range(len(tile_ids)), "pack", unit="sample", disable=None):
            for name, shape in shapes.items():
                image = decode(place, name)
                assert image.shape == shape, f"{name} of sample {place} is {image.shape}"
                files[name].write(np.ascontiguousarray(image).data)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
        np.save(part / IDS, tile_ids)
        stamp(part, dict(made_from))
    return path


def _is_unchanged(path: Path, was: Mapping[str, int | str]) -> bool:
    if not path.is_file() or (state := path.stat()).st_size != was["bytes"]:
        return False
    return state.st_mtime_ns == was["modified_ns"] or file_digest(path) == was["sha256"]


def _map(path: Path) -> np.ndarray:
    """A whole .npy file as a memory map, without numpy's subclass of arrays."""
    try:
        mapped = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"packed must hold a whole {path.name}, got {path}: pack again") from error
    size, whole = path.stat().st_size, mapped.offset + mapped.nbytes
    if size != whole:
        raise ValueError(f"{path} must have {whole} bytes, got {size}: pack again")
    return np.asarray(mapped)
