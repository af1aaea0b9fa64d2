"""Segmentation tasks: grids of tokens on disk, heads fitted to them, confusions of test images."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8

from salib.config import Precision
from salib.evaluate.columns import (
    CONVOLUTION,
    STATISTICS,
    Encoder,
    in_chunks,
    resized,
    stream,
)
from salib.evaluate.features import embed, image_statistics, random_convolution
from salib.evaluate.probes.segmentation import fit_segmentation, segmentation_counts
from salib.evaluate.scores.metrics import mask_counts
from salib.evaluate.tasks.geobench_reader import sample_names
from salib.evaluate.tasks.inputs import centre_square
from salib.evaluate.tasks.task import SPLITS, Task

Head = Literal["linear", "decoder"]
HEADS: tuple[Head, ...] = get_args(Head)
PATCH_PX = 8
"""Side of the patches that image statistics and random convolutions describe, one token each."""


class GridSplit(NamedTuple):
    """Tokens and masks of a split, both on disk, and the median metres a pixel."""

    grids: np.ndarray
    masks: np.ndarray
    gsd_m: float


class Grids(NamedTuple):
    """A task's three splits as one column sees them."""

    train: GridSplit
    valid: GridSplit
    test: GridSplit


@contextmanager
def embedded_grids(
    task: Task,
    column: str,
    encoder: Encoder | None,
    *,
    image_px: int,
    seed: int,
    precision: Precision = "float32",
    used: set[str] | None = None,
) -> Iterator[Grids]:
    """Token grids of a task for one column; they lie in the system's temporary folder meanwhile.

    Masks keep their own size, cropped to the centred square that the images are cropped to.

    Args:
        encoder: the column's, or None for image statistics and random convolutions, whose tokens
            describe patches of 8 px.
        used: see `embed`.

    Raises:
        ValueError: if the disk has no room for them (`TMPDIR` names another), masks differ in size,
            or a baseline's `image_px` is not a multiple of 8.
    """
    if encoder is None and image_px % PATCH_PX:
        raise ValueError(f"image_px must be a multiple of {PATCH_PX}, got {image_px}")
    with tempfile.TemporaryDirectory(prefix="salib-tokens-") as folder:

        def tokens(levels: np.ndarray, gsd_m: np.ndarray) -> np.ndarray:
            if encoder is None:
                return _described(column, levels, seed)
            look = {"sensor": encoder.sensor, "gsd_m": gsd_m, "precision": precision}
            found = embed(encoder.model, levels, tokens=True, used=used, **look)
            side = isqrt(found.shape[1])
            return found.reshape(len(found), side, side, -1)

        side = image_px * (encoder.zoom if encoder else 1)
        where = Path(folder)
        yield Grids(*(_split(task, split, tokens, side, where) for split in SPLITS))


def head_counts(
    what: Head, grids: Grids, *, n_classes: int, seed: int, device: str | torch.device = "cpu"
) -> Int64[np.ndarray, "items classes classes"]:
    """Confusion of each test image by a head ("linear" or "decoder") fitted to the train tokens.

    Raises:
        ValueError: if there is no such head, or it cannot be fitted (`fit_segmentation`).
    """
    fitted = (grids.train.grids, grids.train.masks, grids.valid.grids, grids.valid.masks)
    head = fit_segmentation(*fitted, kind=what, n_classes=n_classes, seed=seed, device=device)
    return segmentation_counts(head, grids.test.grids, grids.test.masks, n_classes=n_classes)


def majority_counts(grids: Grids, n_classes: int) -> Int64[np.ndarray, "items classes classes"]:
    """Confusion of each test image if every pixel were of the most common train class."""
    totals = np.zeros(n_classes, np.int64)
    for mask in grids.train.masks:
        totals += np.bincount(mask[mask >= 0], minlength=n_classes)
    masks = grids.test.masks
    constant = np.broadcast_to(np.uint8(totals.argmax()), masks.shape)
    return mask_counts(constant, masks, n_classes)


def _described(
    column: str, levels: UInt8[np.ndarray, "items side side 3"], seed: int
) -> Float32[np.ndarray, "items rows cols dim"]:
    items, rows = len(levels), levels.shape[1] // PATCH_PX
    cut = levels.reshape(items, rows, PATCH_PX, rows, PATCH_PX, 3).swapaxes(2, 3)
    patches = np.ascontiguousarray(cut.reshape(-1, PATCH_PX, PATCH_PX, 3))
    if column == STATISTICS:
        tokens = image_statistics(patches)
    else:
        generator = torch.Generator().manual_seed(stream(seed, CONVOLUTION))
        tokens = random_convolution(patches, generator)
    return tokens.reshape(items, rows, rows, -1)


def _split(
    task: Task, split: str, tokens: Callable[..., np.ndarray], side: int, folder: Path
) -> GridSplit:
    number = len(sample_names(task.path)[split])
    grids = masks = None
    gsds: list[Float64[np.ndarray, " items"]] = []
    at = 0
    for images, labels in in_chunks(task, split):
        levels, gsd_m = resized(images["optical"], task.gsd_m, side)
        found, truth = tokens(levels, gsd_m), [centre_square(np.asarray(label)) for label in labels]
        sizes = {mask.shape for mask in truth} | ({masks.shape[1:]} if masks is not None else set())
        if len(sizes) > 1:
            raise ValueError(f"masks of {task.name} must have one size, got {sorted(sizes)}")
        if grids is None or masks is None:
            grids = _room(folder / f"{split}-tokens.npy", (number, *found.shape[1:]), np.float32)
            masks = _room(folder / f"{split}-masks.npy", (number, *truth[0].shape), np.int64)
        grids[at : at + len(found)], masks[at : at + len(found)] = found, np.stack(truth)
        gsds.append(gsd_m)
        at += len(found)
    if grids is None or masks is None:
        raise ValueError(f"{split} of {task.name} must hold images, got none")
    return GridSplit(grids, masks, float(np.median(np.concatenate(gsds))))


def _room(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    size, free = int(np.prod(shape)) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if size > free:
        raise ValueError(
            f"tokens need {size / 1e9:.1f} GB in {path.parent}, got {free / 1e9:.1f} GB free: "
            "set TMPDIR to a folder on a larger disk"
        )
    room = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # a disk that fills while a map is written ends the process
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return room
