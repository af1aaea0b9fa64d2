"""Scenes to an embedding map: plan windows, embed each once, put them together."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioIOError

from salib.files.artifact import (
    RECIPES,
    SOURCE,
    atomic_file,
    check_disk_space,
    clear,
    code_remark,
    only_writer,
    source_digest,
)
from salib.files.disk import beside
from salib.files.jobs import Engine, run_jobs, unfinished
from salib.mapping.geotiff import DTYPES, WindowFiles, stretches, write_geotiff
from salib.mapping.raster import Raster
from salib.mapping.scene import on_one_grid
from salib.mapping.vectors import Job, embed_job, model_digest, model_of
from salib.model.precision import resolve_device, resolve_precision

MADE_FROM = "made_from"
MOST_WINDOWS = 1_000_000
"""Of one map; they are listed before the first is embedded."""


def embed_scene(
    scenes: Raster | Mapping[str, Raster],
    model: str | Path,
    out: str | Path,
    *,
    window: int = 32,
    overlap: int | None = None,
    dtype: str = "float32",
    precision: str = "auto",
    device: str = "auto",
    engine: Engine | None = None,
    overwrite: bool = False,
    report: Callable[[str], object] | None = None,
) -> Path:
    """Write a GeoTIFF with one band per dimension and one pixel per patch of a scene.

    A pixel of the map covers the patch it describes; columns and rows that fill no patch are left
    out. Tags tell what it was made from, of what and by what. Windows that share a patch are
    averaged (`geotiff.weights`); a scene of one window equals `ScaleAlibi.embed(tokens=True)`.

    Of several sensors the map lies on the radar scene's grid. The others may have another CRS and
    pixel size: they are resampled to that grid, hires to one twice as fine. A patch has a vector
    where all of them have data.

    An interrupted run is resumed by the same call: finished windows wait in a work directory beside
    `out`, which appears whole, at the end. A map made from the same is kept. Neither workers nor
    interruptions change a byte.

    Args:
        scenes: from `open_scene`, or several by sensor.
        model: model folder.
        out: the GeoTIFF, `.tif` or `.tiff`.
        window: side of what the model sees at once, in patches. Some heads attend far, so it
            decides more than the overlap how near the map comes to that of a single window.
        overlap: patches that windows share at least; by default a quarter of one. The more, the
            smoother the map, and the slower.
        dtype: "float32", "float16" or "int8", see `write_geotiff`.
        precision: "float32", "bf16" or "auto", see `salib.model.precision`.
        device: "cpu", "cuda" or "auto".
        engine: `processes` with a core each, or `dask`; both need to see scenes, model and `out`.
        overwrite: replace a map made from something else; a file that is no map never is.
        report: called with each line that tells of progress.

    Raises:
        ValueError: if the model lacks a sensor, the scene is smaller than a patch or has no data,
            its pixels are not square on the ground, scenes cannot be fused or do not overlap,
            `out` holds something else, or an argument is wrong.
        OSError: if there is not enough disk space, or a worker was killed.
    """
    out, engine, say = Path(out), engine or Engine(), report or (lambda _: None)
    placed, folder = resolve_device(device), str(Path(model).absolute())
    digest = model_digest(folder)
    config = model_of(folder, digest, placed.type).config
    by_sensor = {scenes.sensor: scenes} if isinstance(scenes, Raster) else scenes
    views = on_one_grid(by_sensor, config.sensors, partial=config.partial)
    grid, side = views[0], config.patch_px
    overlap = max(1, window // 4) if overlap is None else overlap
    _check(out, dtype, engine, grid, side)
    if not 0 < overlap < window:
        raise ValueError(
            f"overlap must be at least 1 and below window={window} patches, got {overlap}"
        )
    settings = {
        "sensor": "+".join(view.sensor for view in views),
        "model_sha256": digest,
        "patch_px": side,
        "window_px": window * side,
        "overlap_px": overlap * side,
        "precision": resolve_precision(precision, placed),
        "device": placed.type,
        "recipe": RECIPES["embed"],
    }
    key = _digest(settings | {"scenes": [asdict(by_sensor[view.sensor]) for view in views]})
    made = {MADE_FROM: _digest({"windows": key, "dtype": dtype}), SOURCE: source_digest(__name__)}
    work_dir = beside(out, ".parts")
    if _exists(out, made, overwrite, say):
        clear(work_dir, key[:16])  # of a run killed at the very end
        return out
    rows, cols = grid.height // side, grid.width // side
    windows = -(-rows // (window - overlap)) * -(-cols // (window - overlap))
    if windows > MOST_WINDOWS:
        raise ValueError(
            f"scene must take at most {MOST_WINDOWS:,} windows, got {windows:,} of {grid.width} x "
            f"{grid.height} px in {grid.href}: cut it (gdal_translate -srcwin), or see whether its "
            "size is what its header claims"
        )
    down, across = (stretches(n, window, overlap) for n in (rows, cols))
    files = WindowFiles(folder=work_dir / key[:16], rows=down, cols=across, dim=config.dim)
    common: dict[str, Any] = {"views": views, "model": folder, "digest": digest}
    common |= {name: settings[name] for name in ("device", "precision")}
    jobs = []
    for path, rows, cols in files:
        middle = (cols.start + cols.stop) * side / 2, (rows.start + rows.stop) * side / 2
        place = {"path": path, "rows": rows, "cols": cols, "gsd_m": grid.gsd_at(*middle)}
        jobs.append(Job(**place, **common))
    with only_writer(work_dir):
        _embed(jobs, engine, files, say)
        tags = settings | _tags(views, jobs) | files.what_ran() | {"dtype": dtype} | made
        whole = work_dir / out.name
        with atomic_file(whole) as part:
            if not (share := write_geotiff(part, files, grid, tags)):
                shutil.rmtree(files.folder, ignore_errors=True)
                names = " with ".join(view.href for view in views)
                raise ValueError(
                    f"scene must have a patch with data, got none in {names}: see with gdalinfo "
                    "whether its nodata value or an alpha band hides all; a band that is no alpha "
                    "is renamed by `gdal_edit.py -colorinterp_4 undefined FILE`"
                )
        whole.replace(out)
        if share < 1:
            say(f"{1 - share:.1%} of the map has no data, and no vector")
        shutil.rmtree(work_dir, ignore_errors=True)  # NFS holds the lock a moment longer
    return out


def _check(out: Path, dtype: str, engine: Engine, grid: Raster, patch_px: int) -> None:
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(
            f"out must end in .tif or .tiff for a map, got {out}: GDAL converts it to other formats"
        )
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if engine.name == "threads":
        raise ValueError("engine must be processes or dask for embedding, got threads")
    if min(grid.width, grid.height) < patch_px:
        raise ValueError(
            f"scene must hold a patch of {patch_px} px, got {grid.width} x {grid.height} px in "
            f"{grid.href}: resample it finer, or use a model with smaller patches"
        )


def _exists(out: Path, made: dict[str, str], overwrite: bool, say: Callable[[str], object]) -> bool:
    """Whether `out` is the map asked for; anything else there is refused, or to be replaced."""
    if not out.exists():
        return False
    try:
        with rasterio.open(out) as file:
            tags = file.tags()
    except RasterioIOError:
        tags = {}
    if tags.get(MADE_FROM) == made[MADE_FROM]:
        say(f"kept: {out} was made from the same scene and model{code_remark(tags, made)}")
        return True
    if MADE_FROM in tags and overwrite:
        return False
    rule, remedy = "not exist or be a map by `salib embed`", "delete it"
    if MADE_FROM in tags:
        rule, remedy = "not exist or be made from the same", "replace it with --overwrite"
    raise ValueError(f"out must {rule}, got {out}: choose another name, or {remedy}")


def _embed(
    jobs: Sequence[Job], engine: Engine, files: WindowFiles, say: Callable[[str], object]
) -> None:
    """Embed the windows that no earlier call has finished."""
    waiting, (rows, cols) = unfinished(jobs), files.shape
    done = len(jobs) - len(waiting)
    say(f"{rows} x {cols} patches of {files.dim} numbers, {len(jobs)} windows, {done} done earlier")
    patches = rows * cols + sum(len(job.rows) * len(job.cols) for job in waiting)
    check_disk_space(files.folder, 4 * files.dim * patches)
    run_jobs(embed_job, jobs, engine, unit="window")


def _tags(scenes: Sequence[Raster], jobs: Sequence[Job]) -> dict[str, str]:
    """What the map says of its scenes; metres per pixel may differ by window."""
    metres = sorted(job.gsd_m for job in jobs)
    said = dict.fromkeys(scene.attribution for scene in scenes if scene.attribution)
    return {
        "gsd_m": f"{metres[len(metres) // 2]:.6g}",
        "gsd_m_range": f"{metres[0]:.6g} {metres[-1]:.6g}",
        "scene": "+".join(Path(scene.href).name for scene in scenes),
        "bands": "+".join(",".join(map(str, scene.bands)) for scene in scenes),
        "attribution": "; ".join(said),
        "procedural": str(any(scene.procedural for scene in scenes)).lower(),
    }


def _digest(key: dict) -> str:
    return sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
