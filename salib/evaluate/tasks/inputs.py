"""From a task's raw values to what a model sees: one explicit rule per task."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Shaped

from salib.config import SENSORS
from salib.files.images import resize_bands

RGB = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class InputRule:
    """How raw values become pixel values of a sensor, and how much ground a native pixel covers.

    Args:
        bands: the bands read, in the order of the channels.
        level_255: raw value that becomes 255; 0 stays 0, values outside are clipped. Of radar,
            the square root of the raw value, which is an intensity. Not of "multispectral" images.
        full_scale: raw value of reflectance 1, of "multispectral" images.
        native_gsd_m: metres per pixel of the task as published.
        why: where `level_255` comes from, and `native_gsd_m` where the task states another.
        modality: of `salib.config.Sensor`; its encoders get the images.
    """

    bands: tuple[str, ...] = RGB
    level_255: float = 255.0
    full_scale: float = 10_000.0
    native_gsd_m: float
    why: str
    modality: str = "optical"


L2A = InputRule(
    native_gsd_m=10.0, level_255=2000.0, why="Sentinel-2 L2A true colour: reflectance 0.2"
)
AERIAL = InputRule(native_gsd_m=0.1, why="8-bit aerial RGB, as published")
RULES = {
    "m-bigearthnet": L2A,
    "m-so2sat": InputRule(
        native_gsd_m=10.0,
        level_255=0.275,
        why="Sentinel-2 L1C, stored as reflectance: m-eurosat's stretch over 10,000",
    ),
    "m-brick-kiln": L2A,
    "m-forestnet": InputRule(native_gsd_m=15.0, why="8-bit pansharpened Landsat, as published"),
    "m-eurosat": InputRule(
        native_gsd_m=10.0,
        level_255=2750.0,
        why="the stretch of EuroSAT's own RGB archive: its channel means put 255 at 2,770",
    ),
    "m-pv4ger": AERIAL,
    "m-pv4ger-seg": AERIAL,
    "m-chesapeake": InputRule(native_gsd_m=1.0, why="8-bit NAIP, stored as float32"),
    "m-cashew-plant": replace(
        L2A,
        why=f"{L2A.why}; the specification states 0.5 m, which is the imagery its labels were "
        "drawn on: the pixels are Sentinel-2's 10 m",
    ),
    "m-SA-crop-type": InputRule(
        native_gsd_m=10.0,
        level_255=51.0,
        why="Sentinel-2 L2A, stored as reflectance x 255 (its means x 39 are those of L2A over "
        "farmland): reflectance 0.2 as in the other L2A tasks",
    ),
    "m-nz-cattle": AERIAL,
    "m-NeonTree": AERIAL,
    "eurosat": InputRule(native_gsd_m=10.0, why="8-bit Sentinel-2 true colour, as published"),
    "ucmerced": replace(AERIAL, native_gsd_m=0.3),
}
GEOBENCH_TASKS = tuple(name for name in RULES if name.startswith("m-"))
DN_OF_SIGMA0 = 597.0
"""Median of a Sentinel-1 IW product's sigma calibration table: DN = 597 sqrt(sigma0)."""
FULL_SCALE_DN = 1000
RADAR_RULES = {
    "m-so2sat": InputRule(
        bands=("06 - VV.LEE Filtered", "05 - VH.LEE Filtered"),
        level_255=255 / 256 * FULL_SCALE_DN / DN_OF_SIGMA0,
        native_gsd_m=10.0,
        why="VV, VH: intensity to amplitude, DN 597 at 0 dB as in a GRD product, then the paper's "
        "min(floor(DN x 256 / 1000), 255)",
        modality="radar",
    )
}

THIRTEEN = (
    *("01 - Coastal aerosol", "02 - Blue", "03 - Green", "04 - Red"),
    *(f"0{number} - Vegetation Red Edge" for number in (5, 6, 7)),
    *("08 - NIR", "08A - Vegetation Red Edge", "09 - Water vapour", "10 - SWIR - Cirrus"),
    *("11 - SWIR", "12 - SWIR"),
)
"""GEO-Bench's names of the bands of Sentinel-2; without cirrus those of s2, in its order."""
TWELVE = tuple(name for name in THIRTEEN if "Cirrus" not in name)
TWELVE_BAND_RULES = {
    task: InputRule(
        bands=TWELVE, full_scale=full_scale, native_gsd_m=10.0, why=why, modality="multispectral"
    )
    for task, full_scale, why in (
        ("m-bigearthnet", 10_000.0, "Sentinel-2 L2A: reflectance x 10,000"),
        ("m-eurosat", 10_000.0, "Sentinel-2 L1C: reflectance x 10,000"),
        ("m-cashew-plant", 10_000.0, "Sentinel-2 L2A: reflectance x 10,000"),
        ("m-SA-crop-type", 255.0, "Sentinel-2 L2A, stored as reflectance x 255"),
    )
}
"""Tasks that publish all twelve; m-brick-kiln names thirteen and holds ten."""


def to_pixel_values(
    raw: Shaped[np.ndarray, "height width bands"], rule: InputRule
) -> Shaped[np.ndarray, "height width bands"]:
    """Raw values to 8 bits: rounded if optical; amplitude, rounded down, if radar (D12).

    Of twelve bands reflectance x 10,000 in 16 bits, where the least value is 1, as in tiles of s2.

    Raises:
        ValueError: if a raw value is not finite, or a radar intensity is negative.
    """
    if raw.dtype == np.uint8 and rule.level_255 == 255:
        return raw
    if not np.isfinite(raw).all():
        raise ValueError("raw values must be finite, got NaN or infinity")
    values = raw.astype(np.float64)
    if rule.modality == "radar":
        if values.min() < 0:
            raise ValueError(f"radar intensity must not be negative, got {values.min()}")
        dn = DN_OF_SIGMA0 * np.sqrt(values)
        return np.minimum(np.floor(dn * (256 / FULL_SCALE_DN)), 255).astype(np.uint8)
    if rule.modality == "multispectral":
        scale = (SENSORS["s2"].full_scale or 1.0) / rule.full_scale
        return np.rint(np.clip(values * scale, 1, SENSORS["s2"].max_value)).astype(np.uint16)
    return np.rint(np.clip(values * (255.0 / rule.level_255), 0, 255)).astype(np.uint8)


def centre_square(
    array: Shaped[np.ndarray, "height width *rest"],
) -> Shaped[np.ndarray, "side side *rest"]:
    """The largest centred square of an image, or of its mask; a view.

    Of an odd number of rows or columns too many, one more is cut at the bottom or right.
    """
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return array[top : top + side, left : left + side]


def to_input(
    image: Shaped[np.ndarray, "height width bands"], *, native_gsd_m: float, image_px: int
) -> tuple[Shaped[np.ndarray, "image_px image_px bands"], float]:
    """Resize an image to a square of `image_px`, and its true metres per pixel afterwards.

    `centre_square` is kept, so that a pixel stays square on the ground. Shrinking averages over
    area, enlarging is bicubic; neither aliases.

    Raises:
        ValueError: if `image_px` is not positive.
    """
    if image_px < 1:
        raise ValueError(f"image_px must be positive, got {image_px}")
    square = np.ascontiguousarray(centre_square(image))
    side = len(square)
    gsd_m = native_gsd_m * side / image_px
    if side == image_px:
        return square, gsd_m
    how = cv2.INTER_AREA if side > image_px else cv2.INTER_CUBIC
    return resize_bands(square, image_px, how), gsd_m
