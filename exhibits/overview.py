"""Archives small enough to travel inside a page: few zooms, lossy."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from salib.tiles.archive import Archive, write_archive
from salib.tiles.grid import TileId, blocks_of

MAP_BYTES = 3_000_000
"""Most bytes of images that a map brings, all sensors together, before base64 adds a third."""

KEPT = 400
"""Images of an archive, 256 kB each, that are not made again for the next zoom."""


class Pyramid:
    """An archive and, below its lowest zoom, the means of the four tiles that a tile covers.

    Attributes:
        zooms: tiles in Hilbert order by zoom, each with the tiles that it is the mean of.
        first: the zoom at which the archive spans no more than a tile.
    """

    def __init__(self, path: Path) -> None:
        """Open the archive and go down to zoom 0."""
        self.archive, self._made = Archive(path), dict[TileId, Image.Image]()
        self.zooms: dict[int, dict[TileId, list[TileId]]] = {}
        for tile in self.archive.tiles():
            self.zooms.setdefault(tile.z, {})[tile] = []
        self.lowest = min(self.zooms)
        span = int(np.ptp([*self.zooms[self.lowest]], axis=0).max())
        self.first = max(0, self.lowest - span.bit_length())
        for zoom in reversed(range(self.lowest)):
            self.zooms[zoom] = blocks_of([*self.zooms[zoom + 1]], levels=1)

    def image(self, tile: TileId) -> Image.Image:
        """A tile in RGBA; a mean is weighted by alpha, and transparent where a tile is absent."""
        made = self._made.get(tile)
        if made is None:
            made = self._image(tile)
            if len(self._made) < KEPT:
                self._made[tile] = made
        return made

    def _image(self, tile: TileId) -> Image.Image:
        if tile.z >= self.lowest:
            return Image.fromarray(self.archive.get(*tile).squeeze()).convert("RGBA")
        four = {child: self.image(child) for child in self.zooms[tile.z][tile]}
        side = max(image.width for image in four.values())
        whole = Image.new("RGBA", (2 * side, 2 * side))
        for child, image in four.items():
            whole.paste(image, (child.x % 2 * side, child.y % 2 * side))
        return whole.reduce(2)


def overviews(paths: Mapping[str, Path], *, max_bytes: int = MAP_BYTES) -> dict[str, bytes]:
    """PMTiles for display, one for each archive, that reach as deep as `max_bytes` allows.

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
    left = max_bytes
    for zoom in range(first, max(max(pyramid.zooms) for pyramid in pyramids.values()) + 1):
        level = _level(pyramids, zoom, left)
        if level is None:
            break
        left -= sum(len(data) for tiles in level.values() for _, data in tiles)
        for name, tiles in level.items():
            shown[name] += tiles
    if not all(shown.values()):
        raise ValueError(f"max_bytes must hold the tiles of zoom {first}, got {max_bytes}")
    return {name: _packed(tiles) for name, tiles in shown.items()}


def _level(
    pyramids: Mapping[str, Pyramid], zoom: int, left: int
) -> dict[str, list[tuple[TileId, bytes]]] | None:
    """Images of a zoom by archive; None as soon as they take more than so many bytes."""
    level = {}
    for name, pyramid in pyramids.items():
        level[name] = []
        for tile in pyramid.zooms.get(zoom, ()):
            data = _lossy(pyramid.image(tile))
            left -= len(data)
            if left < 0:
                return None
            level[name].append((tile, data))
    return level


def _lossy(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=75, method=4)
    return buffer.getvalue()


def _packed(tiles: list[tuple[TileId, bytes]]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overview.pmtiles"
        return write_archive(path, tiles, metadata={}).read_bytes()
