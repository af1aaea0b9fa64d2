"""The one published sample of the paper's own data set that we can show."""

from pathlib import Path

import numpy as np
import rasterio
from jaxtyping import UInt8

TRIPLE = Path("aligned/scale_alibi_nb/15_8654_13124_p8")
TITLE = "tile 15/8654/13124"
PARTS = {"radar": 2, "lores": 3, "hires": 3, "hir4x": 3}


def missing_triple(data: str | Path | None) -> str | None:
    """What is lacking of the published sample and where it comes from, or None if it is there."""
    if data and all((Path(data) / TRIPLE / f"{part}.tif").is_file() for part in PARTS):
        return None
    return (
        f"the paper's own sample skipped: put {TRIPLE}/ (a triple cut from the notebooks of "
        "github.com/pkage/scale-alibi) into the folder named by SALIB_DATA_DIR"
    )


def published_triple(data: str | Path) -> dict[str, UInt8[np.ndarray, "height width bands"] | str]:
    """Radar (VV, VH), lores, hires and hires4x of tile 15/8654/13124, near Atlanta, and its title.

    Pixels are the released ones at half size; radar has the wrap of D12.

    Args:
        data: folder of real data, such as SALIB_DATA_DIR names.

    Raises:
        ValueError: if a file is missing.
    """
    images = {}
    for part, bands in PARTS.items():
        path = Path(data) / TRIPLE / f"{part}.tif"
        if not path.is_file():
            raise ValueError(f"data must hold {TRIPLE}/{part}.tif, got {data} without it")
        with rasterio.open(path) as image:
            images[part] = image.read()[:bands].transpose(1, 2, 0)
    return {"hires4x": images.pop("hir4x"), **images, "title": TITLE}
