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
from salib.rasters.content import Content
from salib.rasters.radar import amplitude, sar_to_8bit
from salib.rasters.reader import BlockReader, Span
from salib.tiles.grid import TILE_PX

NO_DATA_CLASS, CLOUD_CLASSES = 0, (8, 9, 10)
"""Of a Sentinel-2 scene classification: cloud of medium and high probability, thin cirrus."""
WRAPPED_DN = 50_000
"""Reflectance of 5, which no ground has."""
MOST_SCALE = 0.01
"""Below it a file's scale is to reflectance; 1 is of digital numbers."""


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
            bands=len(sensor.bands) // len(scene.hrefs),
            how=sensor.interpolation,
            nodata=sensor.nodata,
            opaque=sensor.interpolation == "linear",
            prepare=partial(_prepared, scene=scene, href=href),
        )
        for href in scene.hrefs
    ]
    parts, valid = zip(*(reader.read(span) for reader in readers), strict=True)
    values, seen = parts[0] if len(parts) == 1 else cv2.merge(parts), np.logical_and.reduce(valid)
    if sensor.radar:
        values = sar_to_8bit(values, quant=quant)
    if sensor.dtype != "uint8":
        _check_wrapped(values, seen, scene)
        values = np.clip(np.rint(values), 1, sensor.max_value).astype(np.uint16)
    else:
        values = _rgba(values)
    return values, seen, max(readers, key=lambda reader: reader.width)


def _prepared(pixels: np.ndarray, content: Content, *, scene: Scene, href: str) -> np.ndarray:
    """Pixels as those of the sensor's tiles: levels, amplitude, or reflectance x full scale.

    A file's own offset counts, else that of its item.
    """
    sensor, kind = SENSORS[scene.sensor], content.dtype
    if sensor.radar:
        if kind == np.uint8 and not content.scaled:
            raise ValueError(f"{scene.sensor} scene must be 16-bit or float, got uint8 in {href}")
        try:
            return amplitude(pixels, in_db=scene.in_db or content.in_db)
        except ValueError as error:
            raise ValueError(f"{error}, in {href}") from error
    stated = f"a scale of {content.scales[0]:g} and an offset of {content.offsets[0]:g} in {href}"
    if sensor.full_scale is None:
        if kind != sensor.dtype:
            raise ValueError(f"{scene.sensor} scene must be 8-bit, got {kind} in {href}")
        if content.scaled:
            raise ValueError(f"{scene.sensor} scene must hold levels, got {stated}")
        return pixels
    reflectance = max(content.scales) < MOST_SCALE
    if not reflectance and (min(content.scales) != 1 or any(x % 1 for x in content.offsets)):
        raise ValueError(f"{scene.sensor} scene must scale to reflectance, got {stated}")
    if not reflectance and (kind.kind not in "iu" or kind.itemsize < 2):
        raise ValueError(f"{scene.sensor} scene must be 16-bit, got {kind} in {href}")
    dn = pixels.astype(np.float32) * np.float32(sensor.full_scale if reflectance else 1)
    return dn if any(content.offsets) else dn + np.float32(scene.offset_dn)


def _check_wrapped(
    values: np.ndarray, seen: Bool[np.ndarray, "height width"], scene: Scene
) -> None:
    """Refuse reflectance below 0 that was stored without a sign, and so lies near the top."""
    some = values[::8, ::8][seen[::8, ::8]]
    if some.size and (some > WRAPPED_DN).mean() > 0.5:
        raise ValueError(
            f"{scene.id} must hold reflectance, got most values above {WRAPPED_DN}: values below 0 "
            "were stored as if they were large; leave the item out"
        )


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
