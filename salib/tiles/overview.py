"""Archives small enough to travel inside a page: few zooms, lossy."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from salib.tiles.archive import Archive, write_archive
from salib.tiles.grid import TileId, blocks_of

MAP_BYTES = 3_000_000
"""Most bytes of images that a map brings, all sensors together, before base64 adds a third."""
QUALITY = 75


class Pyramid:
    """An archive and, below its lowest zoom, the means of the four tiles that a tile covers.

    Attributes:
        zooms: tiles in Hilbert order by zoom, each with the tiles that it is the mean of.
    """

    def __init__(self, path: Path) -> None:
        """Open the archive and go down to zoom 0."""
        self.archive = Archive(path)
        self.lowest = self.archive.zooms[0]
        self.zooms: dict[int, dict[TileId, list[TileId]]] = {
            zoom: {tile: [] for tile in self.archive.tiles(zoom)} for zoom in self.archive.zooms
        }
        for zoom in reversed(range(self.lowest)):
            self.zooms[zoom] = blocks_of([*self.zooms[zoom + 1]], levels=1)

    @property
    def first(self) -> int:
        """The zoom at which the archive spans no more than a tile."""
        tiles = np.array(self.archive.tiles(self.lowest))
        return max(0, self.lowest - int(np.ptp(tiles, axis=0).max()).bit_length())

    def image(self, tile: TileId) -> UInt8[np.ndarray, "height width 4"]:
        """RGBA of a tile; a mean is weighted by alpha, and transparent where a tile is absent."""
        if tile.z >= self.lowest:
            return _with_alpha(self.archive.get(*tile))
        children = {c: self.image(c).astype(np.float32) for c in self.zooms[tile.z][tile]}
        height, width = next(iter(children.values())).shape[:2]
        whole = np.zeros((2 * height, 2 * width, 4), np.float32)
        for child, image in children.items():
            top, left = (child.y - 2 * tile.y) * height, (child.x - 2 * tile.x) * width
            image[..., :3] *= image[..., 3:] / 255
            whole[top : top + height, left : left + width] = image
        half = whole.reshape(len(whole) // 2, 2, -1, 2, 4).mean(axis=(1, 3))
        half[..., :3] *= 255 / np.maximum(half[..., 3:], 1e-6)
        return half.round().clip(0, 255).astype(np.uint8)


def overviews(paths: Mapping[str, Path], *, max_bytes: int = MAP_BYTES) -> dict[str, bytes]:
    """PMTiles to look at, one for each archive, that reach as deep as `max_bytes` allows.

    The first zoom is the one at which the widest archive spans no more than a tile; finer ones
    follow while the images of all archives together fit, so that none is shown finer than another.
    Images are lossy WebP with exact transparency.

    Args:
        paths: archives by name.
        max_bytes: bound on the sum of the images of all of them.

    Raises:
        ValueError: if max_bytes does not hold the first zoom.
    """
    pyramids = {name: Pyramid(path) for name, path in paths.items()}
    first = min(pyramid.first for pyramid in pyramids.values())
    shown: dict[str, list[tuple[TileId, bytes]]] = {name: [] for name in paths}
    for zoom in range(first, max(max(pyramid.zooms) for pyramid in pyramids.values()) + 1):
        level = _lossy(pyramids, zoom, max_bytes)
        if level is None:
            break
        for name, tile, data in level:
            shown[name].append((tile, data))
            max_bytes -= len(data)
    if not all(shown.values()):
        raise ValueError(f"max_bytes must hold the tiles of zoom {first}, got {max_bytes}")
    return {name: _packed(pyramids[name].archive, tiles) for name, tiles in shown.items()}


def _with_alpha(image: UInt8[np.ndarray, "height width _"]) -> UInt8[np.ndarray, "height width 4"]:
    """Pixel values as RGBA; grey is repeated, and an image without alpha is opaque."""
    if image.shape[2] == 4:
        return image
    opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
    return np.concatenate([np.broadcast_to(image[..., -3:], (*image.shape[:2], 3)), opaque], axis=2)


def _lossy(
    pyramids: Mapping[str, Pyramid], zoom: int, room: int
) -> list[tuple[str, TileId, bytes]] | None:
    """WebP images of a zoom; None if they take more bytes than `room`."""
    images = []
    for name, pyramid in pyramids.items():
        for tile in pyramid.zooms.get(zoom, ()):
            buffer = io.BytesIO()
            Image.fromarray(pyramid.image(tile)).save(buffer, "webp", quality=QUALITY, method=4)
            images.append((name, tile, buffer.getvalue()))
            room -= len(images[-1][2])
            if room < 0:
                return None
    return images


def _packed(archive: Archive, tiles: list[tuple[TileId, bytes]]) -> bytes:
    told = ("name", "attribution", "procedural")
    metadata = {name: value for name, value in archive.metadata.items() if name in told}
    with tempfile.TemporaryDirectory() as folder:
        path = write_archive(Path(folder) / "overview.pmtiles", tiles, metadata=metadata)
        return path.read_bytes()
