"""One sample of GEO-Bench: only the bands asked for, straight from its HDF5 file.

geobench's own loader reads every band and builds an object of each. The same values and labels
come several times faster (`benchmarks/reading.py`) from the bands that are wanted alone.
"""

import ast
import os
import pickle
from collections.abc import Callable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Shaped

UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)
"""What a damaged or hostile file makes geobench, h5py or pickle raise."""
_NUMBERS = "biuf"


def safe_loads() -> Callable[[bytes], Any]:
    """Return geobench's unpickler, which makes the types that geobench writes and nothing else.

    Raises:
        ValueError: if the geobench at hand is older than 1.1.0: its unpickler runs whatever
            stands in a file. Python 3.11 gets such a one from a plain `pip install geobench`.
    """
    try:
        from geobench._safe_pickle import safe_loads as loads
    except ImportError as error:
        raise ValueError(
            f"geobench must be 1.1.0 or newer, got {_installed()}: older ones run code that stands "
            "in a data file; pip install --no-deps --ignore-requires-python geobench==1.1.0"
        ) from error
    return loads


def _installed() -> str:
    try:
        return metadata.version("geobench")
    except metadata.PackageNotFoundError:
        return "none"


def unreadable(path: Path, error: BaseException) -> ValueError:
    """The one error about a file that is damaged or not geobench's."""
    reason = f"{type(error).__name__}: {error}"
    return ValueError(f"{path} must be a readable GEO-Bench file, got {reason}; download it again")


def read_sample(
    path: Path, bands: tuple[str, ...], loads: Callable[[bytes], Any]
) -> tuple[Shaped[np.ndarray, "height width bands"], Any]:
    """Some bands of a sample, in the stored type and in the order asked for, and its label.

    Args:
        bands: full names, without the date that some tasks append to them.
        loads: unpickler, from `safe_loads`.

    Returns:
        Bands, and the label as stored: a number, a vector, or the pixels of its band.

    Raises:
        ValueError: if the file is damaged or not geobench's, lacks a band, holds one at several
            dates, or the bands differ in size.
    """
    try:
        file = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY)
        try:
            root = h5py.h5g.open(file, b"/")
            notes = loads(ast.literal_eval(str(h5py.Group(root).attrs["pickle"])))
            keys = [_key(path, notes, name) for name in bands]
            stored = [_pixels(root, key) for key in keys]
            label = _label(root, notes)
        finally:
            file.close()
    except _Refused as refused:
        raise ValueError(str(refused)) from None
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    sizes = {band.shape[:2] for band in stored}
    if len(sizes) > 1:
        by_band = {name: band.shape[:2] for name, band in zip(bands, stored, strict=True)}
        raise ValueError(f"bands of {path} must have one size, got {by_band}: read them apart")
    return np.concatenate([band.reshape(*band.shape[:2], -1) for band in stored], axis=2), label


class _Refused(Exception):
    """A file in order that does not hold what was asked for."""


def _key(path: Path, notes: dict[str, Any], name: str) -> str:
    """Name of a band's data set: the band's own, or followed by its date."""
    if name in notes:
        return name
    dated = [key for key in notes if key.startswith(f"{name}_") and _is_date(key[len(name) + 1 :])]
    if len(dated) == 1:
        return dated[0]
    if dated:
        raise _Refused(f"band {name!r} of {path} must stand there once, got {len(dated)} dates")
    held = [key for key, value in notes.items() if isinstance(value, dict)]
    raise _Refused(f"band must be one that {path} holds, got {name!r}; it holds {held}")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _pixels(root: h5py.h5g.GroupID, key: str) -> np.ndarray:
    data = h5py.h5d.open(root, key.encode())
    dtype = data.dtype
    if dtype.kind not in _NUMBERS:
        raise TypeError(f"{key!r} holds {dtype}, not numbers")
    pixels = np.empty(data.shape, dtype)
    if pixels.ndim not in (2, 3):
        raise TypeError(f"{key!r} has {pixels.ndim} axes, not 2 or 3")
    data.read(h5py.h5s.ALL, h5py.h5s.ALL, pixels)
    return pixels


def _label(root: h5py.h5g.GroupID, notes: dict[str, Any]) -> Any:
    """The label beside the bands' notes, or the pixels of the band "label", dated or not."""
    for key, value in notes.items():
        if key.startswith("label") and isinstance(value, dict):
            return _pixels(root, key)
    return notes["label"]
