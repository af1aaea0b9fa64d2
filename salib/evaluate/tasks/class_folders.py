"""Images in class folders: any folder of them, and the zips of EuroSAT and UC Merced as they are.

Either is read as its images by class, `<class>/<image>`, and split by a rule on names alone.
"""

import hashlib
import logging
import os
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from salib.evaluate.tasks import SPLITS
from salib.files.images import bytes_of, read_pixels
from salib.rasters.bands import picture
from salib.rasters.rules import rule_of

logger = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
Classes = dict[str, list[Path]]
"""Images by class."""
MOST_BYTES = 2**26
"""Of one chip in a zip."""
_NO_ZIP = (zipfile.BadZipFile, RuntimeError, struct.error, EOFError, OverflowError)
"""What zipfile raises besides for odd archives."""


class ChipZip(NamedTuple):
    """A published zip of `.../<class>/<chip>`.

    Attributes:
        bounds: of each class, chips from the first to the second bound are train, to the third
            valid, to the fourth test; None is the last chip.
        twins: names without ending of chips that the publisher gave twice, in two splits of ours.
    """

    file: str
    bounds: tuple[int, int, int, int | None]
    twins: tuple[str, ...] = ()


CHIP_ZIPS = {
    "eurosat": ChipZip("EuroSAT_RGB.zip", (0, 200, 300, 400)),
    "ucmerced": ChipZip("UCMerced_LandUse.zip", (0, 40, 60, None), ("airplane01", "airplane02")),
}


def chips(path: str | Path) -> dict[str, list[zipfile.Path]]:
    """Chips of a zip by class: classes by name, chips by the sha256 of their file name.

    Names that begin with a dot, such as those macOS adds, are no chips.

    Raises:
        ValueError: if the file is not a whole zip, holds no chip inside a class folder, class
            folders within several folders (such as the same chips twice, or another product of
            them), or chips that are encrypted, larger than `MOST_BYTES` or there twice.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (*_NO_ZIP, OSError, ValueError) as error:
        raise ValueError(
            f"{path} must be a whole zip file, got {error}: download it again"
        ) from error
    members = {PurePosixPath(info.filename): info for info in archive.infolist()}
    found = [name for name in members if _is_chip(name)]
    if not found:
        others = len(members)
        raise ValueError(f"{path} must hold <class>/<chip> images, got {others} other entries")
    trees = sorted({str(name.parent.parent) for name in found})
    if len(trees) > 1 or ".." in found[0].parts or len(members) < len(archive.infolist()):
        raise ValueError(
            f"{path} must hold each chip once, as <class>/<chip> of one folder, got {trees[:4]}: "
            "keep one of them (zip -d takes the others away), or name a folder by --images"
        )
    for name in found:
        check_name(f"class name in {path}", name.parent.name)
        if members[name].flag_bits & 1 or members[name].file_size > MOST_BYTES:
            what = f"{name} of {members[name].file_size:,} bytes"
            raise ValueError(
                f"{path} must hold plain chips of {MOST_BYTES:,} bytes at most, got {what}, "
                f"{'encrypted' if members[name].flag_bits & 1 else 'unpacked'}"
            )
    classes: dict[str, list[zipfile.Path]] = {}
    for name in sorted(found, key=lambda name: hashlib.sha256(name.name.encode()).digest()):
        chip = zipfile.Path(archive, members[name].filename)
        classes.setdefault(name.parent.name, []).append(chip)
    return {label: classes[label] for label in sorted(classes)}


def _is_chip(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and bool(name.parent.name) and name.name[0] != "."


def split_chips(path: str | Path, layout: ChipZip, split: str) -> dict[str, list[zipfile.Path]]:
    """Chips of one split by class.

    Raises:
        ValueError: as `chips`, or if a class has too few to reach the split.
    """
    classes = chips(path)
    for name, paths in classes.items():
        if not parted(paths, layout)[split]:
            raise ValueError(
                f"class {name!r} of {path} must have more than "
                f"{layout.bounds[SPLITS.index(split)]} chips for split {split!r}, got {len(paths)}"
            )
    return {name: parted(paths, layout)[split] for name, paths in classes.items()}


def parted(paths: list[zipfile.Path], layout: ChipZip) -> dict[str, list[zipfile.Path]]:
    """The chips of one class by split."""
    bounds = zip(layout.bounds[:3], layout.bounds[1:], strict=True)
    return {split: paths[slice(*edges)] for split, edges in zip(SPLITS, bounds, strict=True)}


def members(folder: str | Path) -> dict[str, Classes]:
    """Images of each split and class: classes by name, images by sha256 of `<class>/<name>`.

    A folder with `train`, `valid` and `test` is split by them. Any other is split here, of each
    class the first 60 % to train, the next 20 % to valid, the rest to test, both bounds rounded up:
    a class has a training image always, a valid one from three images, a test one from five. The
    split depends on names alone, and a class on no other. Where a file is added to a class, at most
    one other image of it crosses each bound: one between train and valid, one between valid and
    test.

    A class may lack valid or test images; it still counts as a class. Hidden entries, files beside
    the class folders and files of other endings in them are left out.

    Raises:
        ValueError: if there are fewer than two classes, a class without a training image, a split
            without an image, a folder where an image should be, or a class name that cannot be
            printed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"folder must be a folder of class folders, got {folder}")
    names = [path.name for path in _visible(folder) if path.is_dir()]
    if set(SPLITS).isdisjoint(names):
        splits: dict[str, Classes] = {split: {} for split in SPLITS}
        for label, paths in _classes(folder).items():
            first, second = (-(-len(paths) * tenths // 10) for tenths in (6, 8))
            parts = (paths[:first], paths[first:second], paths[second:])
            for split, part in zip(SPLITS, parts, strict=True):
                splits[split][label] = part
    elif set(names) == set(SPLITS):
        splits = {split: _classes(folder / split) for split in SPLITS}
    else:
        raise ValueError(
            f"{folder} must hold the folders train, valid and test alone, or class folders of "
            f"other names, got {names}"
        )
    _check(folder, splits)
    classes = splits["train"]
    return {split: {label: splits[split].get(label, []) for label in classes} for split in SPLITS}


def read_rgb(path: Path | zipfile.Path, **reading: Any) -> UInt8[np.ndarray, "_ _ 3"]:
    """Red, green and blue of an image in 8 bits, as its pixels are stored (EXIF turns nothing).

    A palette is resolved, of several pages the first is read, and a fourth band is dropped where it
    is opaque alpha, 255 everywhere. Of a TIFF the bands are chosen, and reflectance of Sentinel-2
    is brought to 8 bits, as for maps.

    Args:
        path: of the image.
        reading: `bands`, `unit`, `offset_dn` and `level_255`, see `salib.rasters.rules.rule_of`.

    Raises:
        ValueError: as `read_pixels`, or if a TIFF does not tell its bands and their unit, or there
            is no data somewhere.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        from salib.rasters.images import read_tiff  # the raster packages of an extra

        image, valid = read_tiff(bytes_of(path), str(path), **reading)
        lowest = 255 if valid.all() else 0
    else:
        image = read_pixels(path)
        if reading:
            order = rule_of(picture(str(path)), "hires", **reading).bands
            image[..., :3] = image[..., [number - 1 for number in order]]
        lowest = image[..., 3].min() if image.shape[2] == 4 else 255
    if lowest < 255:
        raise ValueError(
            f"{str(path)!r} must be opaque, got pixels without data (alpha, a mask or no-data "
            f"value; lowest {lowest}): cut them away, or write red, green and blue alone "
            "(gdal_translate -b 1 -b 2 -b 3)"
        )
    return np.ascontiguousarray(image[..., :3])


def check_name(what: str, name: str) -> None:
    """Refuse a name that cannot stand in a table: empty, with control characters, not UTF-8.

    Raises:
        ValueError: if it is one.
    """
    if not name or not name.isprintable():
        raise ValueError(f"{what} must be text without control characters, got {name!r}")


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _classes(folder: Path) -> Classes:
    """Images of the class folders in a folder, in the order in which they are split."""
    classes = [path for path in _visible(folder) if path.is_dir()]
    for path in classes:
        check_name(f"class name in {folder}", path.name)
    return {path.name: sorted(_images(path), key=_order) for path in classes}


def _images(folder: Path) -> list[Path]:
    entries = _visible(folder)
    for path in entries:
        if not path.is_file():
            raise ValueError(
                f"{str(path)!r} must be an image, got a folder, device or broken link: class "
                "folders hold images alone"
            )
    chosen = [path for path in entries if path.suffix.lower() in SUFFIXES]
    if other := len(entries) - len(chosen):
        logger.info("%s: %d files skipped that do not end in %s", folder, other, SUFFIXES)
    return chosen


def _order(path: Path) -> bytes:
    return hashlib.sha256(os.fsencode(f"{path.parent.name}/{path.name}")).digest()


def _check(folder: Path, splits: dict[str, Classes]) -> None:
    classes = sorted(set().union(*splits.values()))
    if len(classes) < 2:
        raise ValueError(
            f"{folder} must hold two class folders or more, as <class>/<image> or as "
            f"train/<class>/<image> with valid and test alike, got {classes or 'none'}"
        )
    if unseen := [label for label in classes if not splits["train"].get(label)]:
        raise ValueError(
            f"each class of {folder} must have an image to train on, ending in one of {SUFFIXES}, "
            f"got none of {unseen}"
        )
    if empty := [split for split, group in splits.items() if not any(group.values())]:
        raise ValueError(
            f"{empty[0]} of {folder} must hold an image, got none: a class gives one to test from "
            "five images on"
        )
