"""EuroSAT and UC Merced, read from their zips; nothing is extracted."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from salib.evaluate.tasks.image_folder import SUFFIXES


@dataclass(frozen=True, kw_only=True)
class ChipZip:
    """A labelled archive `.../<class>/<chip>` and the sizes of its splits per class.

    Args:
        home: where the archive is published.
        test: chips per class in the test split; None takes all that are left.
    """

    file: str
    home: str = ""
    train: int
    valid: int
    test: int | None


ChipSource = Literal["eurosat", "ucmerced"]
CHIP_ZIPS: dict[ChipSource, ChipZip] = {
    "eurosat": ChipZip(
        file="EuroSAT_RGB.zip", home="zenodo.org/records/7711810", train=200, valid=100, test=100
    ),
    "ucmerced": ChipZip(
        file="UCMerced_LandUse.zip",
        home="weegee.vision.ucmerced.edu/datasets/landuse.html",
        train=40,
        valid=20,
        test=None,
    ),
}


def members(path: str | Path) -> dict[str, list[str]]:
    """Chips of the archive by class, classes by name, chips by the sha256 of their file name.

    Names that begin with a dot, such as those macOS adds, are no chips.

    Raises:
        ValueError: if the file is not a whole zip, or holds no chip inside a class folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} must be a whole zip file, got {error}") from error
    classes: dict[str, list[PurePosixPath]] = {}
    for name in names:
        if name.suffix.lower() in SUFFIXES and name.parent.name and name.name[0] != ".":
            classes.setdefault(name.parent.name, []).append(name)
    if not classes:
        raise ValueError(f"{path} must hold <class>/<chip> images, got {len(names)} other entries")
    return {
        label: [str(n) for n in sorted(classes[label], key=_order)] for label in sorted(classes)
    }


def split_members(path: str | Path, layout: ChipZip, split: str) -> list[tuple[str, int]]:
    """Archive member and label of each chip of a split, class by class.

    Raises:
        ValueError: if a class has too few chips to reach the split.
    """
    start = {"train": 0, "valid": layout.train, "test": layout.train + layout.valid}
    size = {"train": layout.train, "valid": layout.valid, "test": layout.test}
    stop = None if size[split] is None else start[split] + size[split]
    chosen = []
    for label, (name, chips) in enumerate(members(path).items()):
        if len(chips) <= start[split]:
            raise ValueError(
                f"class {name!r} of {path} must have more than {start[split]} chips "
                f"for split {split!r}, got {len(chips)}"
            )
        chosen += [(chip, label) for chip in chips[start[split] : stop]]
    return chosen


def chips(
    path: str | Path, chosen: list[tuple[str, int]]
) -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], int]]:
    """Decoded RGB chips and their labels.

    Raises:
        ValueError: if a chip cannot be read or decoded.
    """
    with zipfile.ZipFile(path) as archive:
        for name, label in chosen:
            try:
                encoded = np.frombuffer(archive.read(name), np.uint8)
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise ValueError(f"{path}:{name} must be readable, got {error}") from error
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
            if image is None:
                raise ValueError(f"{path}:{name} must be an image, got {encoded.size} other bytes")
            yield image.astype(np.uint8, copy=False), label


def _order(name: PurePosixPath) -> str:
    return hashlib.sha256(name.name.encode()).hexdigest()
