"""Segmentation tasks: grids of tokens on disk, and heads fitted to them."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isqrt, prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from salib.config import Precision
from salib.evaluate.columns import CONVOLUTION, STATISTICS, Candidate, in_chunks, named_seed
from salib.evaluate.features import embed, image_statistics, random_convolution
from salib.evaluate.probes.fitting import Examples
from salib.evaluate.probes.segmentation import fit_segmentation, segment
from salib.evaluate.tasks.geobench_reader import sample_names
from salib.evaluate.tasks.inputs import centre_square
from salib.evaluate.tasks.task import SPLITS, Task

PATCH_PX = 8
"""Side of the patches that image statistics and random convolutions describe, one token each."""


class GridSplit(NamedTuple):
    """Tokens and masks of a split, both on disk, and the median metres per pixel."""

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
    candidate: Candidate | None,
    *,
    image_px: int,
    seed: int,
    precision: Precision = "float32",
    used: set[str] | None = None,
) -> Iterator[Grids]:
    """Token grids of a task for one column; they lie in the system's temporary folder meanwhile.

    Masks keep their own size, cropped to the centred square that the images are cropped to.

    Args:
        candidate: the column's, or None for image statistics and random convolutions, whose
            tokens describe patches of 8 px.
        used: see `embed`.

    Raises:
        ValueError: if the disk has no space for them (`TMPDIR` names another), masks differ in
            size, or a baseline's `image_px` is not a multiple of 8.
    """
    if candidate is None and image_px % PATCH_PX:
        raise ValueError(f"image_px must be a multiple of {PATCH_PX}, got {image_px}")

    def tokens(pixels: np.ndarray, gsd_m: np.ndarray) -> np.ndarray:
        if candidate is None:
            return _patches_described(column, pixels, seed)
        view = {"sensor": candidate.sensor, "gsd_m": gsd_m, "precision": precision}
        rows = embed(candidate.model, pixels, tokens=True, used=used, **view)
        side = isqrt(rows.shape[1])
        return rows.reshape(len(rows), side, side, -1)

    side = image_px * (candidate.upsample if candidate else 1)
    with tempfile.TemporaryDirectory(prefix="salib-tokens-") as folder:
        yield Grids(*(_split(task, split, tokens, side, Path(folder)) for split in SPLITS))


def predicted_masks(
    head: str, grids: Grids, *, n_classes: int, seed: int, device: str = "cpu"
) -> UInt8[np.ndarray, "items height width"]:
    """Class of each pixel of the test images by a head fitted to the train tokens.

    Raises:
        ValueError: if there is no such head, or it cannot be fitted (`fit_segmentation`).
    """
    train, valid = (Examples(part.grids, part.masks) for part in (grids.train, grids.valid))
    options = {"kind": head, "n_classes": n_classes, "seed": seed, "device": device}
    fitted = fit_segmentation(train, valid, **options)
    return segment(fitted, grids.test.grids, grids.test.masks.shape[1:])


def majority_masks(grids: Grids, n_classes: int) -> UInt8[np.ndarray, "items height width"]:
    """The most common class of the train pixels, for each pixel of the test images."""
    totals = np.zeros(n_classes, np.int64)
    for mask in grids.train.masks:
        totals += np.bincount(mask[mask >= 0], minlength=n_classes)
    return np.broadcast_to(np.uint8(totals.argmax()), grids.test.masks.shape)


def _patches_described(
    column: str, pixels: UInt8[np.ndarray, "items side side 3"], seed: int
) -> Float32[np.ndarray, "items rows cols dim"]:
    items, rows = len(pixels), pixels.shape[1] // PATCH_PX
    cut = pixels.reshape(items, rows, PATCH_PX, rows, PATCH_PX, 3).swapaxes(2, 3)
    patches = np.ascontiguousarray(cut.reshape(-1, PATCH_PX, PATCH_PX, 3))
    if column == STATISTICS:
        tokens = image_statistics(patches)
    else:
        tokens = random_convolution(patches, named_seed(seed, CONVOLUTION))
    return tokens.reshape(items, rows, rows, -1)


def _split(
    task: Task, split: str, tokens: Callable[..., np.ndarray], side: int, folder: Path
) -> GridSplit:
    number, start = len(sample_names(task.path)[split]), 0
    grids = masks = None
    gsds: list[Float64[np.ndarray, " items"]] = []
    for shown, labels in in_chunks(task, split, {("optical", side)}):
        pixels, gsd_m = shown["optical", side]
        made, truth = tokens(pixels, gsd_m), [centre_square(np.asarray(label)) for label in labels]
        sizes = {mask.shape for mask in truth} | ({masks.shape[1:]} if masks is not None else set())
        if len(sizes) > 1:
            raise ValueError(f"masks of {task.name} must have one size, got {sorted(sizes)}")
        if grids is None or masks is None:
            grids = _on_disk(folder / f"{split}-tokens.npy", (number, *made.shape[1:]), np.float32)
            masks = _on_disk(folder / f"{split}-masks.npy", (number, *truth[0].shape), np.int64)
        rows = slice(start, start + len(made))
        grids[rows], masks[rows] = made, np.stack(truth)
        gsds.append(gsd_m)
        start += len(made)
    if grids is None or masks is None:
        raise ValueError(f"{split} of {task.name} must hold images, got none")
    return GridSplit(grids, masks, float(np.median(np.concatenate(gsds))))


def _on_disk(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    size, free = prod(shape) * np.dtype(dtype).itemsize, shutil.disk_usage(path.parent).free
    if size > free:
        raise ValueError(
            f"tokens need {size / 1e9:.1f} GB in {path.parent}, got {free / 1e9:.1f} GB free: "
            "set TMPDIR to a folder on a larger disk"
        )
    return np.lib.format.open_memmap(path, "w+", dtype, shape)
