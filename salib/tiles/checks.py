"""What is wrong with an archive: every tile read, decoded and compared with tiles.parquet."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from salib.config import SENSORS, Sensor
from salib.tiles.archive import Archive
from salib.tiles.grid import TILE_PX, TileId


def verify(path: str | Path) -> list[tuple[TileId | None, str]]:
    """Everything wrong with an archive, by tile (None: the archive as a whole).

    A missing or truncated archive, or one with other tiles than tiles.parquet beside it lists; a
    tile that is no whole image (such as a server's error page), of one opaque colour (as written
    where a source had nothing), of another size or with fewer bands than models are trained on, or
    with other bytes than tiles.parquet tells.
    """
    path = Path(path)
    try:
        archive = Archive(path)
    except ValueError as error:
        return [(None, str(error))]
    problems: list[tuple[TileId | None, str]] = []
    for tile in archive.tiles():
        try:
            image = archive.get(*tile)
            check_tile(image, SENSORS.get(path.stem))
            if is_placeholder(image):
                problems.append((tile, "placeholder of one colour"))
        except ValueError as error:
            problems.append(
                (tile, str(error).removeprefix(f"{path}, tile {'/'.join(map(str, tile))}: "))
            )
    return problems


def check_tile(image: Shaped[np.ndarray, "height width bands"], sensor: Sensor | None) -> None:
    """Refuse a tile that no sample can be made of.

    Args:
        sensor: whose bands it must hold; of an unknown one, red, green and blue.

    Raises:
        ValueError: if it is of another size or type, or lacks a band.
    """
    kind, channels = (sensor.dtype, sensor.channels) if sensor else (image.dtype, (0, 1, 2))
    height, width, bands = image.shape
    if (height, width) != (TILE_PX, TILE_PX) or image.dtype != kind or bands <= max(channels):
        raise ValueError(
            f"tiles must be {TILE_PX} px squared, {kind} with the bands of "
            f"{sensor.name if sensor else 'an image'}, got {height} x {width} px, {image.dtype} "
            f"with {bands} channels"
        )


def is_placeholder(image: Shaped[np.ndarray, "height width bands"]) -> bool:
    """Whether every pixel is of one colour and, where the image has alpha, opaque."""
    opaque = image.shape[2] != 4 or bool((image[..., 3] == 255).all())
    return opaque and bool((image == image[:1, :1]).all())
