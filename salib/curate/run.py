"""From a STAC catalogue to three archives and an index: plan, render, commit."""

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pystac
import shapely
from tqdm import tqdm

from salib.artifact import MADE_FROM, atomic_file, is_kept, source_digest, stamp
from salib.config import SENSOR_NAMES
from salib.curate.archive import Archive, write_archive
from salib.curate.catalog import Scene, catalog_digest, check_files, open_catalog, search
from salib.curate.codec import ENCODINGS
from salib.curate.cover import cover, covered_fraction
from salib.curate.grid import TileId, blocks_of, check_bbox, tile_bounds, tiles_of_bbox
from salib.curate.index import MIN_VALID, joint_samples
from salib.curate.raster import BlockReader
from salib.curate.render import QUANTS
from salib.curate.shards import Block, commit, read_rows, read_tiles, start_worker

ZOOMS = (8, 20)
BLOCK_LEVELS = 2
INDEX = "index.parquet"
SHARDS = ".shards"
ATTRIBUTION = {
    "radar": "Contains modified Copernicus Sentinel data",
    "lores": "Contains modified Copernicus Sentinel data",
    "hires": "USDA NAIP, public domain",
}
PROCEDURAL = "Procedural: made-up ground, no satellite data"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be rendered: places, and for each sensor the fewest scenes that cover them."""

    zoom: int
    tiles: tuple[TileId, ...]
    scenes: dict[str, tuple[Scene, ...]]


def curate(
    catalog: str | Path,
    out: str | Path,
    *,
    zoom: int,
    bbox: Sequence[float | int] | None = None,
    dates: str | None = None,
    quant: str = "paper",
    encoding: str = "png",
    processes: int = 1,
) -> Path:
    """Render aligned 256 px tiles of three sensors from a static STAC catalogue.

    Writes `radar.pmtiles`, `lores.pmtiles` (both of `zoom`), `hires.pmtiles` (`zoom` and
    `zoom + 1`) and `index.parquet`, all RGBA with validity in alpha. An interrupted call
    resumes; a call whose catalogue, arguments and code are those of the last one returns at once.
    The bytes depend on neither interruptions nor `processes`.

    Args:
        catalog: path of catalog.json.
        out: folder to write to.
        zoom: of radar and lores; 8 to 20.
        bbox: west, south, east, north in degrees (west exceeds east across the antimeridian); by
            default what all three sensors cover.
        dates: such as `2022-05-01/2022-08-31`; by default any.
        quant: `paper` or `released`, see `render.sar_to_8bit`.
        encoding: `png`, or `webp` (lossless), a quarter smaller, which the released code's loader
            does not read.
        processes: how many render at once.

    Raises:
        ValueError: for arguments out of range, a missing catalogue or file, a search that finds
            nothing, or a bbox that the scenes do not cover.
    """
    _check(zoom, quant, encoding, processes)
    out, stac = Path(out), open_catalog(catalog)
    key = {
        "zoom": zoom,
        "bbox": None if bbox is None else [*check_bbox(bbox)],
        "dates": dates,
        "quant": quant,
        "encoding": encoding,
        "catalog": catalog_digest(stac),
        "source": source_digest("salib.curate"),
    }
    if is_kept(out, key) and _is_whole(out):
        return out
    plan = make_plan(stac, zoom=zoom, bbox=bbox, dates=dates)
    shards = out / SHARDS / sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    blocks = make_blocks(plan, shards, quant, encoding)
    execute([block for block in blocks if not block.path.is_file()], len(blocks), processes)
    _finish(out, plan, [block.path for block in blocks])
    stamp(out, key)
    shutil.rmtree(out / SHARDS)
    return out


def _is_whole(out: Path) -> bool:
    """Whether the index is there and no archive is missing or cut off."""
    try:
        for sensor in SENSOR_NAMES:
            Archive(out / f"{sensor}.pmtiles").close()
    except ValueError:
        return False
    return (out / INDEX).is_file()


def outputs() -> list[str]:
    """Names of the files that `curate` leaves."""
    return [*(f"{sensor}.pmtiles" for sensor in SENSOR_NAMES), INDEX]


def make_plan(
    catalog: pystac.Catalog,
    *,
    zoom: int,
    bbox: Sequence[float | int] | None = None,
    dates: str | None = None,
) -> Plan:
    """Search, keep the tiles that all sensors cover, choose the fewest scenes for them."""
    found = {name: search(catalog, name, bbox=bbox, dates=dates) for name in SENSOR_NAMES}
    areas = [shapely.union_all([scene.footprint for scene in found[n]]) for n in SENSOR_NAMES]
    common = shapely.intersection_all(areas)
    asked = common.bounds if bbox is None else check_bbox(bbox)
    if common.is_empty:
        raise ValueError(f"radar, lores and hires scenes must overlap, got none in bbox {bbox}")
    tiles = tiles_of_bbox(asked, zoom)
    kept = np.ones(len(tiles), dtype=bool)
    for area in areas:
        kept &= covered_fraction(area, tiles) >= MIN_VALID
    tiles = [tile for tile, keep in zip(tiles, kept.tolist(), strict=True) if keep]
    if not tiles:
        edges = ", ".join(f"{edge:.4f}" for edge in common.bounds)
        raise ValueError(
            f"bbox must hold a tile of zoom {zoom} that all sensors cover, got {bbox}: "
            f"they cover about ({edges}); move bbox, or raise zoom"
        )
    scenes = {name: cover(found[name], tiles).scenes for name in SENSOR_NAMES}
    for name in SENSOR_NAMES:
        check_files(scenes[name])
    return Plan(zoom=zoom, tiles=tuple(tiles), scenes=scenes)


def make_blocks(plan: Plan, folder: Path, quant: str, encoding: str = "png") -> list[Block]:
    """The plan as units of work in Hilbert order, each with the scenes that meet it."""
    blocks = []
    for parent, tiles in blocks_of(plan.tiles, BLOCK_LEVELS).items():
        ground = shapely.box(*tile_bounds(parent))
        scenes = {
            name: tuple(scene for scene in plan.scenes[name] if scene.footprint.intersects(ground))
            for name in SENSOR_NAMES
        }
        path = folder / f"{parent.z}-{parent.x}-{parent.y}.parquet"
        how = {"quant": quant, "encoding": encoding}
        blocks.append(Block(path=path, tiles=tuple(tiles), scenes=scenes, **how))
    return blocks


def execute(blocks: Sequence[Block], total: int, processes: int = 1) -> None:
    """Commit blocks here or in worker processes, with a bar that counts those already there."""
    done = total - len(blocks)
    for _ in tqdm(
        _committed(blocks, processes), "curate", total, initial=done, unit="block", disable=None
    ):
        pass


def _committed(blocks: Sequence[Block], processes: int) -> Iterator[Path]:
    if processes == 1 or len(blocks) < 2:
        yield from map(commit, blocks)
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), start_worker)
    try:
        yield from pool.map(commit, blocks)
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(out: Path, plan: Plan, paths: Sequence[Path]) -> None:
    """Shards to archives and, last, the index; what an earlier call left goes first."""
    index = joint_samples(read_rows(paths), plan.zoom)
    for name in (MADE_FROM, INDEX, *outputs()):
        (out / name).unlink(missing_ok=True)
    for sensor in SENSOR_NAMES:
        zooms = (plan.zoom, plan.zoom + 1) if sensor == "hires" else (plan.zoom,)
        tiles = (pair for zoom in zooms for pair in read_tiles(paths, sensor, zoom))
        write_archive(out / f"{sensor}.pmtiles", tiles, metadata=_metadata(plan, sensor))
    with atomic_file(out / INDEX) as part:
        index.to_parquet(part)


def _metadata(plan: Plan, sensor: str) -> dict:
    scenes = plan.scenes[sensor]
    procedural = any(scene.procedural for scene in scenes)
    metadata = {
        "name": sensor,
        "attribution": PROCEDURAL if procedural else ATTRIBUTION[sensor],
        "procedural": procedural,
        "scenes": [scene.id for scene in scenes],
    }
    if sensor == "radar":
        metadata["gcp_residual_px"] = {
            scene.id: round(BlockReader(scene.hrefs, bands=2, cubic=True).residual_px, 6)
            for scene in scenes
        }
    return metadata


def _check(zoom: int, quant: str, encoding: str, processes: int) -> None:
    if not ZOOMS[0] <= zoom <= ZOOMS[1]:
        raise ValueError(f"zoom must be between {ZOOMS[0]} and {ZOOMS[1]}, got {zoom}")
    if quant not in QUANTS:
        raise ValueError(f"quant must be one of {', '.join(QUANTS)}, got {quant!r}")
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {encoding!r}")
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
