"""Real pictures for figures, where a data folder holds them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from jaxtyping import UInt8

from salib.evaluate.tasks import SPLITS
from salib.evaluate.tasks.class_folders import CHIP_ZIPS, ChipZip, chips, members, read_rgb
from salib.evaluate.tasks.task import geobench_task, iter_split
from salib.files.images import resize_bands

SAMPLES = Path("geobench_real/classification_v1.0/m-eurosat")
TRIPLE = Path("aligned/scale_alibi_nb/15_8654_13124_p8")
PARTS = {"radar": 2, "lores": 3, "hires": 3, "hir4x": 3}
"""Images of the one published sample of the paper's own data set, and their bands."""


def chips_by_class(
    folder: str | Path, *, count: int
) -> dict[str, UInt8[np.ndarray, "count height width 3"]]:
    """The first EuroSAT chips of each class, for pictures; empty if the archive is not there."""
    path = Path(folder) / CHIP_ZIPS["eurosat"].file
    classes = chips(path) if path.is_file() else {}
    return {name: np.stack([*map(read_rgb, own[:count])]) for name, own in classes.items()}


def chips_by_split(
    path: str | Path, layout: ChipZip, *, splits: Sequence[str] = SPLITS, side_px: int | None = None
) -> dict[str, tuple[UInt8[np.ndarray, "count height width 3"], np.ndarray]]:
    """Images and the name of each one's class, by split of a published zip; no known twin.

    Args:
        path: of the zip.
        layout: its own, or with other bounds.
        splits: which of them to read.
        side_px: bring images to this size by averaging; by default all must be of one size.
    """
    found, classes = {}, members(path, layout)
    for split in splits:
        held = [
            (read_rgb(one), name)
            for name, own in classes[split].items()
            for one in own
            if one.stem not in layout.twins
        ]
        pixels, labels = zip(*held, strict=True)
        if side_px is not None:
            pixels = [resize_bands(image, side_px, cv2.INTER_AREA) for image in pixels]
        found[split] = np.stack(pixels), np.array(labels)
    return found


def missing_real(folder: str | Path | None) -> list[str]:
    """One line for each zip of real chips that `folder` lacks, saying what to do."""
    return [
        f"{source} skipped: set SALIB_DATA_DIR to a folder, then salib fetch {source} brings "
        f"{layout.file} there; or take it from {layout.url}"
        for source, layout in CHIP_ZIPS.items()
        if folder is None or not (Path(folder) / layout.file).is_file()
    ]


def missing_samples(folder: str | Path | None) -> str | None:
    """What is lacking of the real m-eurosat samples and how to get them, or None."""
    what = "real m-eurosat samples (tests/data of github.com/ServiceNow/geo-bench-experiments)"
    return _missing(folder, SAMPLES, ["default_partition.json"], what)


def sample_pictures(folder: str | Path) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    """The five real m-eurosat samples of a data folder as an encoder gets them, by class name."""
    task = geobench_task(Path(folder) / SAMPLES, procedural=False)
    images = enumerate(iter_split(task, "test"), start=1)
    return {f"{n}. {task.class_names[label]}": image for n, (image, label) in images}


def missing_triple(folder: str | Path | None) -> str | None:
    """What is lacking of the paper's own sample and where it comes from, or None."""
    what = "the paper's own sample (cut from the notebooks of github.com/pkage/scale-alibi)"
    return _missing(folder, TRIPLE, [f"{part}.tif" for part in PARTS], what)


def published_triple(folder: str | Path) -> dict[str, Any]:
    """Radar (VV, VH), lores, hires and hires4x of tile 15/8654/13124, near Atlanta, and its title.

    8-bit images (height, width, bands): the released ones at half size; radar has the wrap of D12.
    """
    images = {}
    for part, bands in PARTS.items():
        with rasterio.open(Path(folder) / TRIPLE / f"{part}.tif") as image:
            images[part] = image.read()[:bands].transpose(1, 2, 0)
    return {"hires4x": images.pop("hir4x"), **images, "title": "tile 15/8654/13124"}


def _missing(folder: str | Path | None, under: Path, files: list[str], what: str) -> str | None:
    if folder and all((Path(folder) / under / name).is_file() for name in files):
        return None
    return f"{what} skipped: put {under}/ into the folder named by SALIB_DATA_DIR"
