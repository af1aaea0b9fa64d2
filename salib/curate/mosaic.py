"""Scenes to images on the tile grid.

8-bit sensors give RGBA: radar in G and B, optical in RGB, validity in alpha. Sensors of 16 bits
give their bands, and 0 where there is no value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int16, Shaped, UInt8

from salib.config import SENSORS
from salib.curate.search.catalog import Scene
from salib.rasters.bands import COLOURS, PLAIN, Told, named_bands
from salib.rasters.pixels import Rule
from salib.rasters.reader import BlockReader, Span
from salib.rasters.rules import rule_of, unit_said
from salib.tiles.grid import TILE_PX

NO_DATA_CLASS, CLOUD_CLASSES = 0, (8, 9, 10)
"""Of a Sentinel-2 scene classification: cloud of medium and high probability, thin cirrus."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The image of a span, and for each pixel the number of the scene it comes from (-1 for none).

    `cloud` is where the scene that a pixel comes from is classified as cloud; `readers` holds by
    number the reader of each scene that was read, of its finest file.
    """

    image: Shaped[np.ndarray, "height width channels"]
    source: Int16[np.ndarray, "height width"]
    cloud: Bool[np.ndarray, "height width"]
    readers: dict[int, BlockReader]


def mosaic(scenes: Sequence[Scene], span: Span, *, quant: str = "paper") -> Mosaic:
    """Render a span from scenes of one sensor: each pixel from the first scene that has it.

    Args:
        scenes: best first.
        span: the tiles.
        quant: of radar, see `sar_to_8bit`.
    """
    shape = span.rows * TILE_PX, span.cols * TILE_PX
    sensor = SENSORS[scenes[0].sensor] if scenes else SENSORS["lores"]
    channels = 4 if sensor.dtype == "uint8" else len(sensor.bands)
    image, source = np.zeros((*shape, channels), sensor.dtype), np.full(shape, -1, np.int16)
    bare = np.ones(shape, bool)
    readers, cloud = dict[int, BlockReader](), np.zeros(shape, bool)
    for number, scene in enumerate(scenes):
        values, fresh, readers[number] = _layer(scene, span, quant)
        fresh &= bare
        if scene.scl and fresh.any():
            classes = _classes(scene.scl, fresh, span)
            fresh &= classes != NO_DATA_CLASS
            cloud |= fresh & np.isin(classes, CLOUD_CLASSES)
        if not fresh.any():
            continue
        cv2.copyTo(values, fresh.view(np.uint8), image)
        cv2.copyTo(np.full(shape, number, np.int16), fresh.view(np.uint8), source)
        bare ^= fresh
        if not bare.any():
            break
    return Mosaic(image=image, source=source, cloud=cloud, readers=readers)


def _layer(
    scene: Scene, span: Span, quant: str
) -> tuple[
    Shaped[np.ndarray, "height width channels"], Bool[np.ndarray, "height width"], BlockReader
]:
    """A scene's pixels as a tile has them, where it has any, and the reader of its finest file."""
    sensor = SENSORS[scene.sensor]
    readers = [
        BlockReader(
            href,
            how=sensor.interpolation,
            rule=partial(_rule, scene=scene, place=place),
            opaque=sensor.interpolation == "linear",
        )
        for place, href in enumerate(scene.hrefs)
    ]
    parts, valid = zip(*(reader.read(span) for reader in readers), strict=True)
    values, seen = parts[0] if len(parts) == 1 else cv2.merge(parts), np.logical_and.reduce(valid)
    levels = readers[0].rule.levels(values, quant=quant)
    if sensor.dtype == "uint8":
        levels = _rgba(levels)
    return levels, seen, max(readers, key=lambda reader: reader.width)


def _rule(told: Told, *, scene: Scene, place: int) -> Rule:
    """How a file is read: by what it says itself, and else by what its item or product says.

    Optical tiles hold the levels of a product, whose order of bands is red, green, blue.
    Backscatter without a unit is power, as in RTC, or in integers the digital numbers of GRD. A
    file's own offset counts, else that of its item.
    """
    row, kind = SENSORS[scene.sensor], np.dtype(told.bands[0].dtype)
    scaled = next((band for band in told.bands if band.scaled), None)
    levels = kind == np.uint8 and not scaled
    if levels != (row.modality == "optical"):
        rule = "16-bit integers or floats" if levels else "8-bit levels"
        more = f" with a scale of {scaled.scale:g}, offset {scaled.offset:g}" if scaled else ""
        raise ValueError(f"{row.name} scene must hold {rule}, got {kind}{more} in {told.name}")
    how: dict[str, Any] = {"unit": scene.unit}
    if levels:
        colours = [band.colour for band in told.bands]
        if any(named_bands([band.name for band in told.bands])):
            return rule_of(told, row.name)
        if all(colours.count(colour) == 1 for colour in COLOURS):
            how["bands"] = [colours.index(colour) + 1 for colour in COLOURS]
        elif {*colours} <= PLAIN and len(told.opaque) > len(COLOURS):
            how["bands"] = told.opaque[: len(COLOURS)]
        return rule_of(told, row.name, **how)
    each = len(row.bands) // len(scene.hrefs)
    how["held"] = row.bands[each * place : each * (place + 1)]
    how["bands"] = told.opaque[:each] if len(told.opaque) >= each else None
    integers = kind.kind in "iu"
    if row.radar:
        own = unit_said(band.unit for band in told.bands)
        how["unit"] = scene.unit or own or ("dn" if integers and not scaled else "power")
    elif (integers or scene.unit == "dn") and not any(band.offset for band in told.bands):
        how["offset_dn"] = scene.offset_dn
    return rule_of(told, row.name, **how)


def _classes(
    scl: str, fresh: Bool[np.ndarray, "height width"], span: Span
) -> Shaped[np.ndarray, "height width"]:
    """Scene classes at the pixels of a span; refused where they deny all that is fresh."""
    classes = BlockReader(scl, bands=1, how="nearest").read(span)[0][..., 0]
    if fresh.sum() > TILE_PX**2 // 4 and not classes[fresh].any():
        raise ValueError(
            f"{scl} must classify what its scene shows, got class 0 (no data) throughout: leave "
            "the item out"
        )
    return classes


def _rgba(
    levels: UInt8[np.ndarray, "height width bands"],
) -> UInt8[np.ndarray, "height width 4"]:
    """Radar as R = 0, G = VV, B = VH; optical as it is; opaque."""
    if levels.shape[2] == 4:
        return levels
    if levels.shape[2] == 3:
        return cv2.cvtColor(levels, cv2.COLOR_RGB2RGBA)
    vv, vh = cv2.split(levels)
    return cv2.merge([np.zeros_like(vv), vv, vh, np.full_like(vv, 255)])
