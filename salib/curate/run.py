"""From a STAC catalogue to three archives and an index: plan, render, commit."""

import json
import shutil
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from salib.curate.area import Area, area_of, check_tiles, excluded_ground
from salib.curate.index import MIN_VALID, VALID_SHARE, check_keep, check_share, joint_samples
from salib.curate.output import (
    NEXT,
    QUARANTINE,
    SHARDS,
    SNAPSHOT,
    check_out,
    outputs,
    place_of,
    write_output,
)
from salib.curate.plan import check_bill, make_blocks, make_plan, tell
from salib.curate.search import sources
from salib.curate.search.catalog import Rules, search_all
from salib.curate.search.items import Say
from salib.curate.shards import commit, read_rows
from salib.files.addresses import without_secrets
from salib.files.artifact import (
    RECIPES,
    SOURCE,
    check_disk_space,
    code_remark,
    is_kept,
    only_writer,
    source_digest,
    stamp,
)
from salib.files.disk import not_a_link
from salib.files.jobs import Engine, run_jobs, unfinished
from salib.rasters.radar import QUANTS
from salib.rasters.reader import close_files
from salib.rasters.remote import ReadError
from salib.tiles.codec import ENCODINGS

ZOOMS = (8, 20)
TILE_BYTES = 40_000
"""A low guess at an encoded tile; a sample has seven, each in a shard and in an archive."""


def curate(
    catalog: str | Path,
    out: str | Path,
    *,
    zoom: int,
    area: Area | None = None,
    rules: Rules | None = None,
    exclude: Sequence[str | Path] = (),
    min_valid: float | int = MIN_VALID,
    valid_share: float | int = VALID_SHARE,
    keep: str | None = None,
    least_sensors: int | None = None,
    quant: str = "paper",
    encoding: str = "png",
    engine: Engine | None = None,
    requester_pays: bool = False,
    overwrite: bool = False,
    report: Callable[[str], object] | None = None,
) -> Path:
    """Render aligned 256 px tiles of several sensors from a STAC catalogue.

    Writes an archive per sensor, `radar.pmtiles`, `lores.pmtiles` (both of `zoom`), `hires.pmtiles`
    (`zoom` and `zoom + 1`), all RGBA with validity in alpha; `index.parquet` of the joint samples,
    `tiles.parquet` of every tile with its origin and sha256, and `scenes.json`, the search's
    answer, which is itself a catalogue that repeats the run. An API is not asked again while that
    file answers the same question; delete it to search anew.

    Of each file its own mask, opacity, no-data values, scale, offset, unit and colours count; what
    would have to be guessed is refused with the name of the file. Backscatter whose unit neither
    item, file nor `rules.units` state counts as power, in integers as digital numbers.

    An interrupted call resumes; a call whose scenes and arguments are those of the last one returns
    at once. The bytes depend on neither interruptions nor the engine. Blocks that could not be
    rendered are listed in `quarantine.csv`, and a later call tries them again.

    Args:
        catalog: see `sources.find_items`.
        out: folder to write to.
        zoom: of radar and lores; 8 to 20.
        area: west, south, east, north in degrees (west exceeds east across the antimeridian), the
            path of a GeoJSON file, or polygons in degrees; by default what all sensors cover.
        rules: which scenes may be used.
        exclude: GeoJSON files; no tile that meets their polygons is cut, so that no image of a
            benchmark's ground can reach a model. `geobench` stands for GEO-Bench's in the US.
        min_valid: part of a tile that each sensor must have seen for a joint sample.
        valid_share: see `index.split_by_block`.
        keep: a rule over the index's columns, see `index.joint_samples`; what it drops stays in the
            archives.
        least_sensors: how many of the sensors a sample must have, two or more; by default all. A
            model that is trained with holes fuses any sensors that it is given.
        quant: `paper` or `released`, see `rasters.radar.sar_to_8bit`.
        encoding: `png`, or `webp` (lossless), a quarter smaller, which the released code's loader
            does not read.
        engine: where blocks of tiles are rendered, how often again, and how many may fail.
        requester_pays: read files whose transfer is billed to the caller's AWS account.
        overwrite: replace tiles in `out` that were made from other scenes or arguments.
        report: told what was found, in a line at a time.

    Raises:
        ValueError: for arguments out of range, an `out` that holds files of others or (without
            `overwrite`) tiles of other inputs, a catalogue or file that is missing or out of reach,
            a search or area without a scene, files whose transfer would be billed without
            `requester_pays`, or more failed blocks than the engine allows.
        OSError: if the disk is full or another run writes to `out`.
    """
    if not ZOOMS[0] <= zoom <= ZOOMS[1]:
        raise ValueError(f"zoom must be between {ZOOMS[0]} and {ZOOMS[1]}, got {zoom}")
    for name, value, known in (("quant", quant, QUANTS), ("encoding", encoding, ENCODINGS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if not 0 <= min_valid <= 1:
        raise ValueError(f"min_valid must lie between 0 and 1, got {min_valid}")
    check_share(valid_share)
    out, rules, engine = Path(out), rules or Rules(), engine or Engine()
    if keep is not None:
        check_keep(keep, read_rows([]).to_pandas(), rules.sensors)
    say = report or (lambda _: None)
    if least_sensors is not None and not 2 <= least_sensors <= len(rules.sensors):
        raise ValueError(
            f"least_sensors must lie between 2 and {len(rules.sensors)}, got {least_sensors}"
        )
    samples = {"min_valid": min_valid, "valid_share": valid_share, "keep": keep}
    samples |= {} if least_sensors is None else {"least_sensors": least_sensors}
    how = {"quant": quant, "encoding": encoding}
    with only_writer(out):
        ground = None if area is None else area_of(area)
        if ground is not None:
            check_tiles(ground, zoom)  # before a search for it
        banned = excluded_ground(exclude)
        asked = {"rules": rules.key, "area": _digest(ground)}
        key = {"zoom": zoom, "exclude": _digest(banned), **asked, **samples, **how}
        key |= {"recipe": RECIPES["curate"], SOURCE: source_digest("salib.curate")}
        check_out(out, key, overwrite=overwrite)  # before a search
        items, query = _items(catalog, out, asked, rules, ground, say)
        key["items"] = sources.items_digest(items)
        check_out(out, key, overwrite=overwrite)
        shards = not_a_link(out / SHARDS)
        if is_kept(out, key):
            for left in (shards, out / NEXT):
                shutil.rmtree(left, ignore_errors=True)
            say(f"kept: {out} was curated from the same inputs{code_remark(out, key)}")
            return out
        plan = make_plan(
            search_all(items, rules, ground, say),
            zoom=zoom,
            area=ground,
            exclude=banned,
            min_valid=min_valid,
            least_sensors=least_sensors,
        )
        tell(plan, say)
        check_bill(plan, requester_pays, say)
        if shards.is_dir() and not is_kept(shards, key):
            shutil.rmtree(shards, ignore_errors=True)
        blocks = make_blocks(plan, shards, **how, requester_pays=requester_pays)
        waiting = unfinished(blocks)
        if len(waiting) < len(blocks):
            done = f"{len(blocks) - len(waiting)} of {len(blocks)} blocks"
            say(f"resuming: {done} are rendered{code_remark(shards, key)}")
        rest = sum(len(block.tiles) for block in waiting) + len(plan.tiles)
        check_disk_space(out, 7 * TILE_BYTES * rest)
        sources.write_snapshot(place_of(out) / SNAPSHOT, items, query)
        try:
            if len(waiting) == len(blocks):
                stamp(shards, key)
            options = {"retry": _may_pass, "quarantine": out / QUARANTINE}
            failed = run_jobs(commit, blocks, engine, unit="block", **options)
            paths = [block.path for block in blocks if block.path.is_file()]
            rows = read_rows(paths).to_pandas()
            index = joint_samples(rows, zoom, rules.sensors, **samples)
            write_output(out, plan, paths, rows, index, engine.workers)
        finally:
            close_files()
        if failed:
            left = f"{len(failed)} of {len(blocks)} blocks are left out"
            say(f"{left}, see {out / QUARANTINE}: run again")
            return out
        stamp(out, key, *outputs(rules.sensors))
        shutil.rmtree(shards)
        return out


def _may_pass(error: ValueError) -> bool:
    """Whether a block may succeed later."""
    return isinstance(error, ReadError) and error.again


def _digest(ground: BaseGeometry | None) -> str | None:
    if ground is None or ground.is_empty:
        return None
    return sha256(shapely.to_wkb(shapely.normalize(ground))).hexdigest()


def _items(
    catalog: str | Path,
    out: Path,
    asked: dict,
    rules: Rules,
    ground: BaseGeometry | None,
    say: Say,
) -> tuple[list[pystac.Item], str]:
    """Items of the catalogue, and what an API was asked, whose answer beside the output is read."""
    query = ""
    if sources.is_api(catalog):
        query = json.dumps({"catalog": without_secrets(str(catalog)), **asked}, sort_keys=True)
        answers = (folder / SNAPSHOT for folder in (out, out / NEXT))
        catalog = next((each for each in answers if sources.snapshot_query(each) == query), catalog)
    return sources.find_items(catalog, rules, ground, say), query
