"""Archives to other archives and to shards: merge, lower zooms for a map, WebDataset."""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import UInt8

from salib.config import SENSOR_NAMES
from salib.files.artifact import atomic_dir, check_replaceable
from salib.tiles.archive import Archive, write_archive
from salib.tiles.codec import encode, image_format
from salib.tiles.grid import TileId

CORNERS = ("nw", "ne", "sw", "se")


def merge(paths: Sequence[str | Path], out: str | Path) -> Path:
    """One archive that holds the tiles of several.

    A place may stand in more than one of them if its bytes are the same. Attributions and scenes
    are joined; the whole counts as procedural if a part does.

    Raises:
        ValueError: if no archive is given, one is damaged, or two differ in a tile.
    """
    if not paths:
        raise ValueError("paths must name at least one archive, got none")
    archives = [Archive(path) for path in paths]
    parts = [archive.metadata for archive in archives]
    metadata = {**parts[0], "attribution": "; ".join(_once(p.get("attribution") for p in parts))}
    metadata["procedural"] = any(part.get("procedural") for part in parts)
    if any("scenes" in part for part in parts):
        metadata["scenes"] = _once(scene for part in parts for scene in part.get("scenes", []))
    return write_archive(out, _all_tiles(archives), metadata=metadata)


def downsample(path: str | Path, out: str | Path, *, min_zoom: int) -> Path:
    """An archive with lower zooms added, so that a map can be zoomed out of it.

    Each tile is the mean of the four that it covers, weighted by alpha; where one of them is
    absent it is transparent. New tiles are WebP in an archive of WebP, else PNG; those that `path`
    holds stay as they are.

    Raises:
        ValueError: if min_zoom is not below the archive's lowest zoom, or negative.
    """
    lowest = Archive(path).zooms[0]
    if not 0 <= min_zoom < lowest:
        raise ValueError(f"min_zoom must lie between 0 and {lowest - 1}, got {min_zoom}")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        return merge([path, *lower_zooms(path, folder, min_zoom=min_zoom)], out)


def lower_zooms(path: str | Path, folder: str | Path, *, min_zoom: int) -> list[Path]:
    """The zooms below an archive's lowest, as `downsample` adds them: one file each, finest first.

    Args:
        path: the archive.
        folder: where `<zoom>.pmtiles` are written.
        min_zoom: the last one; none is written if the archive begins there.
    """
    archive = Archive(path)
    levels = [Path(path)]
    for zoom in range(archive.zooms[0] - 1, min_zoom - 1, -1):
        tiles = _coarser(Archive(levels[-1]), zoom)
        levels.append(Path(folder) / f"{zoom}.pmtiles")
        write_archive(levels[-1], tiles, metadata=archive.metadata)
    return levels[1:]


def export_webdataset(tiles: str | Path, out: str | Path, *, samples_a_shard: int = 1000) -> Path:
    """Joint samples as tar shards that WebDataset streams, for stores without random access.

    A sample is `<z>_<x>_<y>.radar.png`, `.lores.png`, `.hires.png`, the four finer hires tiles as
    `.hires_nw.png`, `_ne`, `_sw`, `_se`, and `.json` with its row of the index. Encoded bytes are
    copied as they are. The same tiles give the same bytes.

    Args:
        tiles: folder written by `curate`.
        out: folder for train-000000.tar, valid-000000.tar and so on, written whole.
        samples_a_shard: how many samples a file holds.

    Raises:
        ValueError: if the folder has no index, or samples_a_shard is below one.
    """
    tiles, out = Path(tiles), Path(out)
    if samples_a_shard < 1:
        raise ValueError(f"samples_a_shard must be at least 1, got {samples_a_shard}")
    check_replaceable(out, "train-??????.tar", "valid-??????.tar")
    if not (tiles / "index.parquet").is_file():
        raise ValueError(f"tiles must hold index.parquet, got {tiles} without it: curate it first")
    index = pd.read_parquet(tiles / "index.parquet").drop(columns="geometry", errors="ignore")
    archives = {name: Archive(tiles / f"{name}.pmtiles") for name in SENSOR_NAMES}
    with atomic_dir(out) as part:
        for split, rows in index.groupby("split"):
            records = json.loads(str(rows.to_json(orient="records", date_format="iso")))
            for shard in range(-(-len(records) // samples_a_shard)):
                chosen = records[shard * samples_a_shard : (shard + 1) * samples_a_shard]
                with tarfile.open(part / f"{split}-{shard:06d}.tar", "w") as tar:
                    for row in chosen:
                        _add_sample(tar, row, archives)
    return out


def with_alpha(image: UInt8[np.ndarray, "height width _"]) -> UInt8[np.ndarray, "height width 4"]:
    """Levels as RGBA; grey is repeated, and an image without alpha is opaque."""
    if image.shape[2] == 4:
        return image
    opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
    return np.concatenate([np.broadcast_to(image[..., -3:], (*image.shape[:2], 3)), opaque], axis=2)


def _once(values: Any) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _all_tiles(archives: Sequence[Archive]) -> Iterator[tuple[TileId, bytes]]:
    for number, archive in enumerate(archives):
        for tile in archive.tiles():
            data = archive.read(*tile)
            earlier = next((other for other in archives[:number] if tile in other), None)
            if earlier is None:
                yield tile, data
            elif earlier.read(*tile) != data:
                raise ValueError(
                    f"archives must agree where they overlap: tile {'/'.join(map(str, tile))} of "
                    f"{archive.path} differs from that of {earlier.path}"
                )


def _coarser(finer: Archive, zoom: int) -> Iterator[tuple[TileId, bytes]]:
    tiles = finer.tiles(zoom + 1)
    webp = image_format(finer.read(*tiles[0])) == "webp"
    for parent in dict.fromkeys(tile.parent() for tile in tiles):
        yield parent, encode(_mean_of_four(finer, parent), "webp" if webp else "png")


def _mean_of_four(finer: Archive, parent: TileId) -> UInt8[np.ndarray, "height width 4"]:
    whole = None
    for child in parent.children():
        if child not in finer:
            continue
        image = with_alpha(finer.get(*child)).astype(np.float32)
        height, width = image.shape[:2]
        if whole is None:
            whole = np.zeros((2 * height, 2 * width, 4), np.float32)
        top, left = (child.y - 2 * parent.y) * height, (child.x - 2 * parent.x) * width
        image[..., :3] *= image[..., 3:] / 255
        whole[top : top + height, left : left + width] = image
    assert whole is not None
    half = cv2.resize(
        whole, (whole.shape[1] // 2, whole.shape[0] // 2), interpolation=cv2.INTER_AREA
    )
    alpha = half[..., 3:]
    colour = half[..., :3] * 255 / np.maximum(alpha, 1e-6)
    return np.concatenate([colour, alpha], axis=-1).round().clip(0, 255).astype(np.uint8)


def _add_sample(tar: tarfile.TarFile, row: dict, archives: dict[str, Archive]) -> None:
    place = TileId(row["z"], row["x"], row["y"])
    parts = {name: archive.read(*place) for name, archive in archives.items()}
    for corner, finer in zip(CORNERS, place.children(), strict=True):
        parts[f"hires_{corner}"] = archives["hires"].read(*finer)
    key = "_".join(map(str, place))
    for name, data in parts.items():
        _add(tar, f"{key}.{name}.{image_format(data)}", data)
    _add(tar, f"{key}.json", json.dumps(row, sort_keys=True).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
