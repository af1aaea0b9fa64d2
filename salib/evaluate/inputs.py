"""From a task's raw values to what a model sees: one explicit rule a task."""

from dataclasses import asdict, dataclass

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Shaped, UInt8

RGB = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class InputRule:
    """How raw values become 8-bit levels, and how much ground a native pixel covers.

    Args:
        bands: the three bands read, in the order of the channels.
        level_255: raw value that becomes level 255; 0 stays 0, values outside are clipped.
        native_gsd_m: metres of ground a pixel of the task as published.
        why: where `level_255` comes from.
    """

    bands: tuple[str, str, str] = RGB
    level_255: float = 255.0
    native_gsd_m: float
    why: str


RULES = {
    "m-pv4ger": InputRule(native_gsd_m=0.1, why="8-bit aerial RGB, as published"),
    "m-forestnet": InputRule(native_gsd_m=15.0, why="8-bit pansharpened Landsat, as published"),
    "m-eurosat": InputRule(
        native_gsd_m=10.0,
        level_255=2750.0,
        why="the stretch of EuroSAT's own RGB archive: its channel means put level 255 at 2,770",
    ),
    "m-brick-kiln": InputRule(
        native_gsd_m=10.0, level_255=2000.0, why="Sentinel-2 L2A true colour: reflectance 0.2"
    ),
    "eurosat": InputRule(native_gsd_m=10.0, why="8-bit Sentinel-2 true colour, as published"),
    "ucmerced": InputRule(native_gsd_m=0.3, why="8-bit aerial RGB, as published"),
}


def rule_of(task: str) -> InputRule:
    """The input rule of a task.

    Raises:
        ValueError: if there is none.
    """
    if task not in RULES:
        raise ValueError(f"task must be one of {', '.join(RULES)}, got {task!r}")
    return RULES[task]


def to_levels(
    raw: Shaped[np.ndarray, "height width 3"], rule: InputRule
) -> UInt8[np.ndarray, "height width 3"]:
    """Raw values to 8-bit levels.

    Raises:
        ValueError: if a raw value is not finite.
    """
    if raw.dtype == np.uint8 and rule.level_255 == 255:
        return raw
    if not np.isfinite(raw).all():
        raise ValueError("raw values must be finite, got NaN or infinity")
    scaled = raw.astype(np.float64) * (255.0 / rule.level_255)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def to_input(
    image: UInt8[np.ndarray, "height width 3"], *, native_gsd_m: float, image_px: int
) -> tuple[UInt8[np.ndarray, "image_px image_px 3"], float]:
    """Resize an image to a square of `image_px`, and its true metres a pixel afterwards.

    The largest centred square is kept, so that a pixel stays square on the ground. Shrinking
    averages over area, enlarging is bicubic; neither aliases.

    Raises:
        ValueError: if `image_px` is not positive.
    """
    if image_px < 1:
        raise ValueError(f"image_px must be positive, got {image_px}")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    gsd_m = native_gsd_m * side / image_px
    if side == image_px:
        return square, gsd_m
    how = cv2.INTER_AREA if side > image_px else cv2.INTER_CUBIC
    return cv2.resize(square, (image_px, image_px), interpolation=how).astype(np.uint8), gsd_m


def input_rules() -> pd.DataFrame:
    """The rules as a table, one row a task."""
    table = pd.DataFrame([{"task": name, **asdict(rule)} for name, rule in RULES.items()])
    return table.assign(bands=table["bands"].map(", ".join)).set_index("task")
