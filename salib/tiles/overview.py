"""Archives small enough to travel inside a page: few zooms, lossy."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from salib.tiles.archive import Archive, write_archive
from salib.tiles.grid import TileId
from salib.tiles.reshape import lower_zooms, with_alpha

MAP_BYTES = 3_000_000
"""Most bytes of images that a map brings, all sensors together, before base64 adds a third."""
QUALITY = 75
Tiles = list[tuple[TileId, bytes]]


def overviews(paths: Mapping[str, Path], *, max_bytes: int = MAP_BYTES) -> dict[str, bytes]:
    """PMTiles to look at, one for each archive, that reach as deep as `max_bytes` allows.

    The first zoom is the one at which the widest archive spans no more than a tile; finer ones
    follow while the images of all archives together fit, so that none is shown finer than another
    for want of room. Images are lossy WebP with exact transparency.

    Args:
        paths: archives by name.
        max_bytes: bound on the sum of the images of all of them.

    Raises:
        ValueError: if max_bytes does not hold the first zoom.
    """
    first = min(_whole_zoom(Archive(path)) for path in paths.values())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pyramids = {name: _pyramid(path, folder / name, first) for name, path in paths.items()}
        kept = _while_they_fit(pyramids, max_bytes)
        if not all(kept.values()):
            raise ValueError(f"max_bytes must hold the tiles of zoom {first}, got {max_bytes}")
        return {name: _packed(tiles, paths[name], folder) for name, tiles in kept.items()}


def _whole_zoom(archive: Archive) -> int:
    zoom = archive.zooms[0]
    tiles = archive.tiles(zoom)
    spans = [max(side) - min(side) + 1 for side in ([t.x for t in tiles], [t.y for t in tiles])]
    return max(0, zoom - (max(spans) - 1).bit_length())


def _pyramid(path: Path, folder: Path, first: int) -> dict[int, Archive]:
    """For each zoom the archive that holds its tiles."""
    folder.mkdir()
    archives = [Archive(level) for level in [path, *lower_zooms(path, folder, min_zoom=first)]]
    return {zoom: archive for archive in archives for zoom in archive.zooms}


def _while_they_fit(pyramids: Mapping[str, dict[int, Archive]], room: int) -> dict[str, Tiles]:
    kept: dict[str, Tiles] = {name: [] for name in pyramids}
    for zoom in sorted({zoom for pyramid in pyramids.values() for zoom in pyramid}):
        level: dict[str, Tiles] = {name: [] for name in pyramids}
        for name, pyramid in pyramids.items():
            for tile in pyramid[zoom].tiles(zoom) if zoom in pyramid else []:
                data = _lossy(pyramid[zoom].get(*tile))
                room -= len(data)
                if room < 0:
                    return kept
                level[name].append((tile, data))
        for name, tiles in level.items():
            kept[name] += tiles
    return kept


def _lossy(image: UInt8[ndarray, "height width bands"]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(with_alpha(image)).save(out, "webp", quality=QUALITY, method=4)
    return out.getvalue()


def _packed(tiles: Tiles, path: Path, scratch: Path) -> bytes:
    said = Archive(path).metadata
    metadata = {name: said[name] for name in ("name", "attribution", "procedural") if name in said}
    return write_archive(scratch / "overview.pmtiles", tiles, metadata=metadata).read_bytes()
