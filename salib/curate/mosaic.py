"""Scenes to images on the tile grid.

8-bit sensors give RGBA: radar in G and B, optical in RGB, validity in alpha. Sensors of 16 bits
give their bands, and 0 where there is no value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from jaxtyping import Bool, Int16, Shaped, UInt8

from salib.config import SENSORS
from salib.curate.search.catalog import Scene
from salib.rasters.radar import amplitude, sar_to_8bit
from salib.rasters.reader import BlockReader, Span
from salib.tiles.grid import TILE_PX

CLOUD_CLASSES = (8, 9, 10)
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
    readers = dict[int, BlockReader]()
    for number, scene in enumerate(scenes):
        values, fresh, readers[number] = _layer(scene, span, quant)
        fresh &= bare
        if not fresh.any():
            continue
        cv2.copyTo(values, fresh.view(np.uint8), image)
        cv2.copyTo(np.full(shape, number, np.int16), fresh.view(np.uint8), source)
        bare ^= fresh
        if not bare.any():
            break
    cloud = _cloud(scenes, source, span)
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
            bands=len(sensor.bands) // len(scene.hrefs),
            how=sensor.interpolation,
            nodata=sensor.nodata,
            opaque=sensor.interpolation == "linear",
            prepare=partial(amplitude, in_db=scene.in_db) if sensor.radar else None,
        )
        for href in scene.hrefs
    ]
    parts, valid = zip(*(reader.read(span) for reader in readers), strict=True)
    kinds, depth = {str(part.dtype) for part in parts}, 8 * np.dtype(sensor.dtype).itemsize
    if len(kinds) > 1 or not (sensor.radar or sensor.dtype in kinds):
        got = ", ".join(sorted(kinds))
        raise ValueError(f"{scene.sensor} scene must be {depth}-bit, got {got} in {scene.id}")
    values = parts[0] if len(parts) == 1 else cv2.merge(parts)
    if sensor.radar:
        values = sar_to_8bit(values, quant=quant)
    if depth > 8:
        values = np.clip(values.astype(np.int32) + scene.offset_dn, 1, sensor.max_value)
    values = _rgba(values) if depth == 8 else values.astype(np.uint16)
    finest = max(readers, key=lambda reader: reader.width)
    return values, np.logical_and.reduce(valid), finest


def _cloud(
    scenes: Sequence[Scene], source: Int16[np.ndarray, "height width"], span: Span
) -> Bool[np.ndarray, "height width"]:
    cloud = np.zeros(source.shape, bool)
    for number, scene in enumerate(scenes):
        here = source == number
        if not (scene.scl and here.any()):
            continue
        classes, _ = BlockReader(scene.scl, bands=1, how="nearest").read(span)
        cloud |= here & np.isin(classes[..., 0], CLOUD_CLASSES)
    return cloud


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
