"""Image files to a table: one vector per image, or per images of one ground."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from torch import Tensor

from salib.config import SENSORS
from salib.files.artifact import RECIPES, file_digest
from salib.files.images import read_pixels
from salib.files.tables import check_table, write_table
from salib.model import load_model
from salib.model.precision import resolve_device
from salib.model.store import model_files

MADE_FROM = "made_from"
BATCH = 256
"""Images of a sensor in memory at once."""


def embed_images(
    files: Mapping[str, Sequence[str | Path]],
    model: str | Path,
    out: str | Path,
    *,
    gsd_m: Mapping[str, float | int] | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Write a Parquet file with one row per image, in the order of the files.

    Of one sensor its columns are `image`, `sensor`, `gsd_m` and `embedding`. Of several, images at
    the same position show the same ground and are embedded together; `image_radar`, `gsd_m_radar`
    and so on tell them apart. Neighbouring images of one size go through the model
    together.

    Args:
        files: image files of 8-bit levels by sensor, as many of each.
        model: model folder.
        out: Parquet file. One made from the same images and model is kept.
        gsd_m: metres of ground per pixel by sensor; where not given, measured from the coordinates
            of each image.
        device: "cpu", "cuda" or "auto".
        overwrite: replace vectors made from something else; no other file ever is.

    Raises:
        ValueError: if `out` holds something else, there are not as many images of each sensor, one
            is missing, damaged, no 8-bit RGB, or without coordinates though its GSD is not given, a
            vector is not finite, or as `ScaleAlibi.embed`.
    """
    stated = gsd_m or {}
    counts = {name: len(paths) for name, paths in files.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise ValueError(f"images must be as many of each sensor, got {listed or 'none'}")
    for path in (path for paths in files.values() for path in paths):
        if not Path(path).is_file():
            raise ValueError(f"path must be an image file, got {path}")
    metres = {}
    for name, paths in files.items():
        if name in stated:
            metres[name] = [float(stated[name])] * len(paths)
        else:
            from salib.mapping.scene import image_gsd_m  # the raster packages of an extra

            metres[name] = [image_gsd_m(path) for path in paths]
    out = check_table(out, ("sensor", "embedding"))
    made = _made_from(files, metres, model)
    if out.exists():
        if pd.read_parquet(out, columns=["sensor"]).attrs.get(MADE_FROM) == made:
            return out
        if not overwrite:
            raise ValueError(
                f"out must not exist or be made from the same, got {out}: choose another name, or "
                "replace it with --overwrite"
            )
    loaded = load_model(model).to(resolve_device(device))
    together = zip(*files.values(), strict=True)
    images = (dict(zip(files, map(read_image, each, files), strict=True)) for each in together)
    vectors: list[list[float]] = []
    for _, alike in groupby(images, lambda image: [view.shape for view in image.values()]):
        while batch := list(islice(alike, BATCH)):
            part = slice(len(vectors), len(vectors) + len(batch))
            views = {name: torch.stack([image[name] for image in batch]) for name in files}
            gsd = {name: torch.tensor(metres[name][part]) for name in files}
            embedded = loaded.embed(views, gsd_m=gsd)
            assert isinstance(embedded, Tensor)
            if not bool(embedded.isfinite().all()):
                raise ValueError(
                    f"vectors must be finite, got NaN or infinity from {model}: pretrain it again"
                )
            vectors += embedded.tolist()
    labels = {name: f"_{name}" if len(files) > 1 else "" for name in files}
    rows: dict[str, Any] = {f"image{labels[n]}": list(map(str, files[n])) for n in files}
    rows["sensor"] = "+".join(files)
    rows |= {f"gsd_m{labels[name]}": metres[name] for name in files}
    frame = pd.DataFrame(rows | {"embedding": vectors})
    frame.attrs[MADE_FROM] = made
    write_table(out, frame)
    return out


def _made_from(
    files: Mapping[str, Sequence[str | Path]], gsd_m: Mapping[str, list[float]], model: str | Path
) -> str:
    listed = {name: [(str(path), file_digest(path)) for path in files[name]] for name in files}
    key = {"images": listed, "gsd_m": gsd_m, "recipe": RECIPES["embed"]}
    key["model"] = [file_digest(path) for path in model_files(model)]
    return sha256(json.dumps(key).encode()).hexdigest()


def read_image(path: str | Path, sensor: str) -> UInt8[Tensor, "bands height width"]:
    """An image file of 8-bit levels for one sensor, in the layout of a curated tile.

    Optical images are RGB; a radar image is RGB with VV in green and VH in blue. Alpha is ignored.

    Raises:
        ValueError: if the sensor is unknown or has no 8-bit images, or the file is damaged or no
            8-bit RGB.
    """
    names = tuple(name for name, row in SENSORS.items() if row.dtype == "uint8")
    if sensor not in names:
        raise ValueError(f"sensor must be one of {names} for image files, got {sensor!r}")
    bands = read_pixels(Path(path))[..., list(SENSORS[sensor].channels)]
    return torch.from_numpy(np.ascontiguousarray(bands.transpose(2, 0, 1)))
