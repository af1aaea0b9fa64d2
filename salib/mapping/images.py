"""Image files to a table: one vector per image, or per images of one ground."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from salib.config import SENSORS
from salib.files.artifact import RECIPES, file_digest
from salib.files.images import check_pixels, read_pixels
from salib.files.tables import check_table, write_table
from salib.model import ScaleAlibi, load_model
from salib.model.precision import resolve_device
from salib.model.store import model_files
from salib.model.views import checked_views
from salib.rasters.bands import picture
from salib.rasters.pixels import Rule
from salib.rasters.rules import rule_of

MADE_FROM = "made_from"
BATCH = 256
"""Images of a sensor in memory at once, unless they have more pixels than `BATCH_PX`."""
BATCH_PX = 256 * 256**2
MOST_PX = 2048 * 2048
"""Of an image that the model sees at once: it compares every patch with every other."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of files that hold 8-bit levels and no bands of other meaning."""
Pixels = tuple[np.ndarray, np.ndarray]
Views = dict[str, Pixels]
"""Pixel values and where there is data, by sensor."""


def embed_images(
    files: Mapping[str, Sequence[str | Path]],
    model: str | Path,
    out: str | Path,
    *,
    gsd_m: Mapping[str, float | int] | None = None,
    device: str = "auto",
    overwrite: bool = False,
    reading: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write a Parquet file with one row per image, in the order of the files.

    Of one sensor its columns are `image`, `sensor`, `gsd_m` and `embedding`. Of several, images at
    the same position show the same ground and are embedded together; `image_radar`, `gsd_m_radar`
    and so on tell them apart. Neighbouring images of one size go through the model
    together. Of an image without data in places, the vector is the mean over patches with data.

    Args:
        files: image files by sensor, as many of each: PNG, JPEG or WebP of 8-bit levels, and
            rasters of any kind that `open_scene` reads.
        model: model folder.
        out: Parquet file. One made from the same images and model is kept.
        gsd_m: metres of ground per pixel by sensor; where not given, measured from the coordinates
            of each raster.
        device: "cpu", "cuda" or "auto".
        reading: by sensor, `bands`, `unit`, `offset_dn` and `level_255` as for `open_scene`.
        overwrite: replace vectors made from something else; no other file ever is.

    Raises:
        ValueError: if `out` holds something else, there are not as many images of each sensor, one
            is missing, damaged, larger than `MOST_PX`, not to be read without a word of the caller,
            without data, or without coordinates though its GSD is not given, a vector is not
            finite, or as `ScaleAlibi.embed`.
    """
    stated, how = gsd_m or {}, reading or {}
    counts = {name: len(paths) for name, paths in files.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"images must be as many of each sensor, got {listed or 'none'}")
    found = {
        name: [open_file(path, name, gsd_m=stated.get(name), **how.get(name, {})) for path in paths]
        for name, paths in files.items()
    }
    metres = {name: [each.gsd_m for each in images] for name, images in found.items()}
    out = check_table(out, ("sensor", "embedding"))
    made = _made_from(files, metres, how, model)
    if out.exists():
        if pd.read_parquet(out, columns=["sensor"]).attrs.get(MADE_FROM) == made:
            return out
        if not overwrite:
            raise ValueError(
                f"out must not exist or be made from the same, got {out}: choose another name, or "
                "replace it with --overwrite"
            )
    loaded = load_model(model).to(resolve_device(device))
    side = loaded.config.patch_px
    together = zip(*found.values(), strict=True)
    images = ({n: each.read(side) for n, each in zip(files, one, strict=True)} for one in together)
    vectors: list[list[float]] = []
    for kind, alike in groupby(images, _kind):
        pixels = max(1, *(height * width for (_, height, width), _ in kind))
        while batch := list(islice(alike, min(BATCH, -(-BATCH_PX // pixels)))):
            part = slice(len(vectors), len(vectors) + len(batch))
            gsd = {name: torch.tensor(metres[name][part]) for name in files}
            vectors += _vectors(loaded, batch, gsd, list(zip(*files.values(), strict=True))[part])
            if not np.isfinite(vectors[part]).all():
                raise ValueError(
                    f"vectors must be finite, got NaN or infinity from {model}: pretrain it again"
                )
    labels = {name: f"_{name}" if len(files) > 1 else "" for name in files}
    rows: dict[str, Any] = {f"image{labels[n]}": list(map(str, files[n])) for n in files}
    rows["sensor"] = "+".join(files)
    rows |= {f"gsd_m{labels[name]}": metres[name] for name in files}
    frame = pd.DataFrame(rows | {"embedding": vectors})
    frame.attrs[MADE_FROM] = made
    write_table(out, frame)
    return out


def _made_from(
    files: Mapping[str, Sequence[str | Path]],
    gsd_m: Mapping[str, list[float]],
    reading: Mapping[str, Mapping[str, Any]],
    model: str | Path,
) -> str:
    """A digest of the files and of how they are read, of the model, and of the recipe."""
    parts = {name: [str(path).split(",") for path in files[name]] for name in files}
    key: dict[str, Any] = {"gsd_m": gsd_m, "reading": reading, "recipe": RECIPES["embed"]}
    key["images"] = {
        name: [[(p, file_digest(p) if Path(p).is_file() else "") for p in each] for each in images]
        for name, images in parts.items()
    }
    key["model"] = [file_digest(path) for path in model_files(model)]
    return sha256(json.dumps(key, default=str).encode()).hexdigest()


def _kind(image: Views) -> list[tuple]:
    """What images of one batch have in common."""
    return [(levels.shape, bool(valid.all())) for levels, valid in image.values()]


def _vectors(
    model: ScaleAlibi, batch: list[Views], gsd_m: Mapping[str, Tensor], names: Sequence[tuple]
) -> list[list[float]]:
    if all(whole for _, whole in _kind(batch[0])):
        views = {n: torch.stack([_tensor(image[n][0]) for image in batch]) for n in batch[0]}
        embedded = model.embed(views, gsd_m=gsd_m)
        assert isinstance(embedded, Tensor)
        return embedded.tolist()
    from salib.mapping.vectors import embed_window  # the raster packages of an extra

    checked_views(
        {n: _tensor(each[0])[None] for n, each in batch[0].items()}, None, gsd_m, model.config
    )
    found = []
    for number, image in enumerate(batch):
        metres = {name: float(each[number]) for name, each in gsd_m.items()}
        grid = embed_window(model, image, metres).reshape(-1, model.config.dim)
        seen = grid[np.isfinite(grid).all(axis=1)]
        if not len(seen):
            listed = ", ".join(map(str, names[number]))
            raise ValueError(f"image must have a patch with data, got none in {listed}")
        found.append(seen.mean(axis=0, dtype=np.float64).tolist())
    return found


def _tensor(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(levels))


class ImageFile(NamedTuple):
    """An image file that was checked: metres per pixel, and its pixels when they are asked for."""

    gsd_m: float
    read: Callable[[int], Pixels]


def open_file(
    path: str | Path, sensor: str, *, gsd_m: float | int | None = None, **reading: Any
) -> ImageFile:
    """Check an image file of one sensor, in the layout of a curated tile or as `open_scene` reads.

    Of PNG, JPEG and WebP, whose GSD is always stated, optical images are RGB; a radar image is RGB
    with VV in green and VH in blue. Where a fourth band, opacity, is 0, there is no data.

    Raises:
        ValueError: if the sensor is unknown, or the file is missing, too large, not to be read so,
            or does not tell its GSD.
    """
    if Path(path).suffix.lower() in PICTURES:
        if sensor not in SENSORS:
            raise ValueError(f"sensor must be one of {', '.join(SENSORS)}, got {sensor!r}")
        if not Path(path).is_file():
            raise ValueError(f"path must be an image file, got {path}")
        rule = rule_of(picture(str(path)), sensor, **reading)
        if gsd_m is not None:
            return ImageFile(float(gsd_m), lambda _: _picture(Path(path), rule))
    else:
        from salib.mapping.scene import open_image  # the raster packages of an extra

        image = open_image(path, sensor, gsd_m=gsd_m, **reading)
        check_pixels(str(path), image.width, image.height, MOST_PX)

        def read(patch_px: int) -> Pixels:
            whole = patch_px if image.warped else 1
            return image.read(0, 0, image.width // whole * whole, image.height // whole * whole)

        if gsd_m is not None or image.crs:
            return ImageFile(image.gsd_at(image.width / 2, image.height / 2), read)
    raise ValueError(
        f"gsd_m must be given for PNG, JPEG, WebP and rasters without coordinates, got {path}: "
        "state the metres of ground per pixel with --gsd-m"
    )


def _picture(path: Path, rule: Rule) -> Pixels:
    image = read_pixels(path)
    check_pixels(str(path), image.shape[1], image.shape[0], MOST_PX)
    levels = image.transpose(2, 0, 1)[[number - 1 for number in rule.bands]]
    return levels, image[..., 3] > 0 if image.shape[2] == 4 else np.ones(image.shape[:2], bool)
