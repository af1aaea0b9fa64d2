"""Images in class folders: any folder of them, and the zips of EuroSAT and UC Merced as they are.

Either is read as its images by split and class, and split by a rule on names alone.
"""

import hashlib
import logging
import os
import struct
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from salib.evaluate.tasks import SPLITS
from salib.files.artifact import file_digest
from salib.files.images import bytes_of, read_pixels
from salib.rasters.bands import picture
from salib.rasters.rules import rule_of

logger = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
Classes = dict[str, list[Any]]
"""Images by class, each a `Path` or `zipfile.Path`, in the order in which they are split."""
Bounds = tuple[int | None, ...]
"""Four: from each to the next of a class's images are train, valid and test; None is the last."""
MOST_BYTES = 2**26
"""Of one chip in a zip."""
_NO_ZIP = (zipfile.BadZipFile, RuntimeError, struct.error, EOFError, OverflowError)
"""What zipfile raises besides for odd archives."""


class ChipZip(NamedTuple):
    """A published zip of `.../<class>/<chip>`.

    Attributes:
        url: ends in the file's name.
        size: bytes.
        bounds: of every class.
        twins: names without ending of chips that the publisher gave twice, in two splits of ours.
    """

    url: str
    size: int
    sha256: str
    bounds: Bounds
    twins: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


CHIP_ZIPS = {
    "eurosat": ChipZip(
        "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip",
        94_658_721,
        "b4f5b234ecb7d7ff9c6cddb046543b4717c53fd6e9815be6c0e80cc614f51b90",
        (0, 200, 300, 400),
    ),
    "ucmerced": ChipZip(
        "https://huggingface.co/datasets/torchgeo/ucmerced/resolve/"
        "7c5ef3454d9b1cccfa7ccde0c01fc8f00a45909a/UCMerced_LandUse.zip",
        332_468_434,
        "06c539ef28703a58fb07bd2837991ac7c48b813b00bb12ac197efd813a18daeb",
        (0, 40, 60, None),
        ("airplane01", "airplane02"),
    ),
}
"""EuroSAT from its Zenodo record; UC Merced from TorchGeo's copy at the hub, whose bytes are those
of the university's server. Sizes and sha256 are those that public code, for UC Merced TorchGeo's
own, checks these addresses against; we have not downloaded the files ourselves."""


def members(path: str | Path, layout: ChipZip | None = None) -> dict[str, Classes]:
    """Images of each split and class of a folder or, with its layout, of a published zip.

    A folder with `train`, `valid` and `test` is split by them. Any other is split here, of each
    class the first 60 % to train, the next 20 % to valid, the rest to test, both bounds rounded up:
    a class has a training image always, a valid one from three images, a test one from five. The
    split depends on names alone, and a class on no other: images are ordered by the sha256 of
    `<class>/<name>`, those of a zip by that of `<name>`. Where a file is added to a class, at most
    one other image of it crosses each bound: one between train and valid, one between valid and
    test.

    A class may lack valid or test images; it still counts as a class. Hidden entries, files beside
    the class folders and files of other endings in them are left out.

    Raises:
        ValueError: if a folder holds fewer than two classes, a class without a training image, a
            split without an image, or a folder where an image should be; if the file is not a whole
            zip, holds no chip inside a class folder, class folders within several folders (such as
            the same chips twice, or another product of them), chips that are encrypted, larger than
            `MOST_BYTES` or there twice, or too few of a class; or if a class name cannot be
            printed.
    """
    path = Path(path)
    if layout is not None:
        classes = chips(path)
        splits = _split(classes, lambda _: layout.bounds)
        for least, split in zip(layout.bounds, SPLITS, strict=False):
            if few := [name for name, images in splits[split].items() if not images]:
                raise ValueError(
                    f"class {few[0]!r} of {path} must have more than {least} chips for split "
                    f"{split!r}, got {len(classes[few[0]])}"
                )
        return splits
    if not path.is_dir():
        raise ValueError(f"folder must be a folder of class folders, got {path}")
    names = [entry.name for entry in _visible(path) if entry.is_dir()]
    if set(SPLITS).isdisjoint(names):
        splits = _split(_classes(path), lambda n: (0, -(-n * 6 // 10), -(-n * 8 // 10), None))
    elif set(names) == set(SPLITS):
        splits = {split: _classes(path / split) for split in SPLITS}
    else:
        raise ValueError(
            f"{path} must hold the folders train, valid and test alone, or class folders of "
            f"other names, got {names}"
        )
    _check(path, splits)
    classes = splits["train"]
    return {split: {label: splits[split].get(label, []) for label in classes} for split in SPLITS}


def _split(classes: Classes, bounds: Callable[[int], Bounds]) -> dict[str, Classes]:
    """Of each class the images from each bound to the next; `bounds` gives them by their number."""
    return {
        split: {name: own[slice(*bounds(len(own))[n : n + 2])] for name, own in classes.items()}
        for n, split in enumerate(SPLITS)
    }


def contents(path: Path, layout: ChipZip | None) -> dict[str, dict[str, str]]:
    """Images of each split: a digest of the bytes, and the name.

    Twins that are known of a published zip are left out.
    """
    found: dict[str, dict[str, str]] = {}
    for split, classes in members(path, layout).items():
        images = chain.from_iterable(classes.values())
        if layout is None:
            found[split] = {file_digest(image): str(image.relative_to(path)) for image in images}
        else:
            own = [each.root.getinfo(each.at) for each in images if each.stem not in layout.twins]
            found[split] = {f"{each.CRC} {each.file_size}": each.filename for each in own}
    return found


def chips(path: Path) -> dict[str, list[zipfile.Path]]:
    """Chips of a zip by class; names that begin with a dot, such as those macOS adds, are none.

    Raises:
        ValueError: as `members`, but for too few of a class.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (*_NO_ZIP, OSError, ValueError) as error:
        raise ValueError(
            f"{path} must be a whole zip file, got {error}: download it again"
        ) from error
    entries = {PurePosixPath(info.filename): info for info in archive.infolist()}
    found = [name for name in entries if _is_chip(name)]
    if not found:
        others = len(entries)
        raise ValueError(f"{path} must hold <class>/<chip> images, got {others} other entries")
    trees = sorted({str(name.parent.parent) for name in found})
    if len(trees) > 1 or ".." in found[0].parts or len(entries) < len(archive.infolist()):
        raise ValueError(
            f"{path} must hold each chip once, as <class>/<chip> of one folder, got {trees[:4]}: "
            "keep one of them (zip -d takes the others away), or name a folder by --images"
        )
    classes: dict[str, list[zipfile.Path]] = {name.parent.name: [] for name in sorted(found)}
    for name in sorted(found, key=lambda name: hashlib.sha256(name.name.encode()).digest()):
        check_name(f"class name in {path}", name.parent.name)
        entry, encrypted = entries[name], entries[name].flag_bits & 1
        if encrypted or entry.file_size > MOST_BYTES:
            raise ValueError(
                f"{path} must hold plain chips of {MOST_BYTES:,} bytes at most, got {name} of "
                f"{entry.file_size:,} bytes, {'encrypted' if encrypted else 'unpacked'}"
            )
        classes[name.parent.name].append(zipfile.Path(archive, entry.filename))
    return classes


def _is_chip(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and bool(name.parent.name) and name.name[0] != "."


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
