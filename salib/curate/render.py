"""Scenes to 8-bit RGBA on the tile grid: radar in G and B, optical in RGB, validity in alpha."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int16, UInt8, UInt16

from salib.curate.catalog import Scene
from salib.curate.raster import BlockReader, Span

QUANTS = ("paper", "released")
FULL_SCALE_DN = 1000


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """RGBA of a span, and for each pixel the number of the scene it comes from (-1 for none)."""

    rgba: UInt8[np.ndarray, "height width 4"]
    source: Int16[np.ndarray, "height width"]


def sar_to_8bit(
    dn: UInt16[np.ndarray, "*shape"], *, quant: str = "paper"
) -> UInt8[np.ndarray, "*shape"]:
    """Radar amplitude to 8 bits: floor(DN * 256 / 1000), row D12.

    Args:
        dn: digital numbers of a GRD product.
        quant: `paper` saturates at 255; `released` wraps 256 to 0 as the released code does, so
            that the brightest pixels are black.

    Raises:
        ValueError: for another quant.
    """
    if quant not in QUANTS:
        raise ValueError(f"quant must be one of {', '.join(QUANTS)}, got {quant!r}")
    levels = np.minimum(np.arange(1 << 16) * 256 // FULL_SCALE_DN, 256)
    table = np.minimum(levels, 255) if quant == "paper" else levels % 256
    return table.astype(np.uint8)[dn]


def mosaic(scenes: Sequence[Scene], span: Span, *, quant: str = "paper") -> Mosaic:
    """Render a span from scenes of one sensor: each pixel from the first scene that has it."""
    filled: Mosaic | None = None
    for number, scene in enumerate(scenes):
        levels, valid = _layer(scene, span, quant)
        fresh = valid if filled is None else valid & (filled.source < 0)
        if filled is None:
            filled = Mosaic(rgba=_rgba(levels, valid), source=np.where(valid, 0, -1).astype("i2"))
        elif fresh.any():
            filled.rgba[fresh] = _rgba(levels, valid)[fresh]
            filled.source[fresh] = number
        if (filled.source >= 0).all():
            break
    assert filled is not None, "a span is rendered from one scene or more"
    return filled


def _layer(
    scene: Scene, span: Span, quant: str
) -> tuple[UInt8[np.ndarray, "height width bands"], Bool[np.ndarray, "height width"]]:
    radar = scene.sensor == "radar"
    reader = BlockReader(scene.hrefs, bands=2 if radar else 3, cubic=scene.sensor != "hires")
    values, valid = reader.read(span)
    if radar:
        values = sar_to_8bit(values.astype(np.uint16), quant=quant)
    elif values.dtype != np.uint8:
        raise ValueError(f"{scene.sensor} scene must be 8-bit, got {values.dtype} in {scene.id}")
    return values, valid


def _rgba(
    levels: UInt8[np.ndarray, "height width bands"], valid: Bool[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 4"]:
    """Radar as R = 0, G = VV, B = VH; optical as it is; zero where not valid."""
    rgba = np.zeros((*valid.shape, 4), dtype=np.uint8)
    rgba[..., 3 - levels.shape[2] : 3] = levels
    rgba[..., 3] = 255
    rgba[~valid] = 0
    return rgba
