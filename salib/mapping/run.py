"""Scenes to an embedding map: plan windows, embed each once, put them together."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError

from salib.files.artifact import RECIPES, SOURCE, check_disk_space, only_writer, source_digest
from salib.files.jobs import Engine, run_jobs, unfinished
from salib.mapping.align import AlignedRaster, on_one_grid
from salib.mapping.geotiff import DTYPES, WindowFiles, write_geotiff
from salib.mapping.jobs import Job, embed_job, what_ran
from salib.mapping.raster import Raster
from salib.mapping.vectors import model_digest, model_of
from salib.mapping.windows import in_patches, stretches
from salib.model.precision import resolve_device, resolve_precision

ENDINGS = (".tif", ".tiff")
MADE_FROM = "made_from"


def embed_scene(
    scenes: Raster | Mapping[str, Raster],
    model: str | Path,
    out: str | Path,
    *,
    window_px: int | None = None,
    overlap_px: int | None = None,
    dtype: str = "float32",
    precision: str = "auto",
    device: str = "auto",
    engine: Engine | None = None,
    overwrite: bool = False,
    report: Callable[[str], object] | None = None,
) -> Path:
    """Write a GeoTIFF with one band per dimension and one pixel per patch of a scene.

    The map has the scene's CRS and its transform times the patch: a pixel of the map covers the
    patch it describes. Columns and rows at the end that fill no patch are left out. Tags name the
    sensor, metres per pixel, the model's sha256, patch, window and overlap, attribution, whether
    the ground is procedural, and what computed it. Windows that share a patch are averaged (see
    `windows.weights`); a scene of one window equals `ScaleAlibi.embed(tokens=True)`. Neither
    workers nor interruptions change a byte.

    Scenes of radar, lores and hires are embedded together. The map then lies on the radar scene's
    grid. The others may have another CRS and pixel size: lores is resampled to that grid, hires to
    one twice as fine. A patch has a vector where all of them have data.

    An interrupted run is continued by the same call: finished windows wait in a hidden folder
    beside `out`, which appears whole, at the end. A map made from the same is kept.

    Args:
        scenes: from `open_scene`, or several by sensor.
        model: model folder.
        out: the GeoTIFF, `.tif` or `.tiff`.
        window_px: side of what the model sees at once; by default 32 patches. Some heads attend
            far, so it decides more than the overlap how near the map comes to the answer of a
            single window.
        overlap_px: what windows share at least; by default a quarter of one. The more, the smoother
            the map, and the slower.
        dtype: "float32", "float16" or "int8", see `write_geotiff`.
        precision: "float32", "bf16" or "auto", see `salib.model.precision`.
        device: "cpu", "cuda" or "auto".
        engine: `processes` with a core each, or `dask`; both need to see scenes, model and `out`.
        overwrite: replace a map made from something else; a file that is no map never is.
        report: told what is found, in a line at a time.

    Raises:
        ValueError: if the model lacks a sensor, the scene is smaller than a patch or has no data,
            its pixels are not square on the ground, scenes cannot be fused or do not overlap,
            `out` holds something else, or an argument is wrong.
        OSError: if the disk has too little room, or a worker was killed.
    """
    out, engine, say = Path(out), engine or Engine(), report or (lambda _: None)
    _check(out, dtype, engine)
    scenes = {scenes.sensor: scenes} if isinstance(scenes, Raster) else scenes
    placed = resolve_device(device)
    folder, digest = str(Path(model).absolute()), model_digest(model)
    config = model_of(folder, digest, placed.type).config
    scene, views = on_one_grid(scenes, config.sensors)
    scenes = {name: scenes[name] for name in config.sensors if name in scenes}
    _check_size(scene, config.patch_px)
    window, overlap = in_patches(config.patch_px, window_px, overlap_px)
    settings = {
        "sensor": "+".join(scenes),
        "model_sha256": digest,
        "patch_px": config.patch_px,
        "window_px": window * config.patch_px,
        "overlap_px": overlap * config.patch_px,
        "precision": resolve_precision(precision, placed),
        "device": placed.type,
        "recipe": RECIPES["embed"],
    }
    key = _digest(settings | {"scenes": [asdict(each) for each in scenes.values()]})
    made_from = _digest({"parts": key, "dtype": dtype})
    source = source_digest("salib.mapping")
    if _is_kept(out, made_from, source, overwrite, say):
        return out
    parts = WindowFiles(
        folder=work_dir(out) / key[:16],
        rows=stretches(scene.height // config.patch_px, window, overlap),
        cols=stretches(scene.width // config.patch_px, window, overlap),
        dim=config.dim,
    )
    jobs = _jobs(parts, scene, views, folder, settings)
    with only_writer(work_dir(out)):
        _embed(jobs, engine, parts, say)
        _check_data(jobs, parts, scenes, say)
        tags = settings | _tags(scenes, jobs) | what_ran(parts.folder)
        tags |= {"dtype": dtype, MADE_FROM: made_from, SOURCE: source}
        _put_together(out, parts, scene, tags)
    return out


def _jobs(
    parts: WindowFiles,
    scene: Raster,
    views: tuple[Raster | AlignedRaster, ...],
    model: str,
    settings: dict[str, Any],
) -> list[Job]:
    side = settings["patch_px"]
    return [
        Job(
            path=parts.path(down, across),
            views=views,
            model=model,
            digest=settings["model_sha256"],
            device=settings["device"],
            precision=settings["precision"],
            patch_px=side,
            rows=rows,
            cols=cols,
            gsd_m=scene.gsd_at(
                (cols.start + cols.stop) * side / 2, (rows.start + rows.stop) * side / 2
            ),
        )
        for (down, rows), (across, cols) in product(enumerate(parts.rows), enumerate(parts.cols))
    ]


def _embed(
    jobs: Sequence[Job], engine: Engine, parts: WindowFiles, say: Callable[[str], object]
) -> None:
    """Embed the windows that no earlier call has finished."""
    waiting = unfinished(jobs)
    done = len(jobs) - len(waiting)
    rows, cols = parts.shape
    say(f"{rows} x {cols} patches of {parts.dim} numbers, {len(jobs)} windows, {done} done earlier")
    seen = sum(
        (job.rows.stop - job.rows.start) * (job.cols.stop - job.cols.start) for job in waiting
    )
    check_disk_space(parts.folder, 4 * parts.dim * (seen + rows * cols))
    for job in waiting:
        job.path.parent.mkdir(parents=True, exist_ok=True)
    run_jobs(embed_job, jobs, engine, unit="window")


def _check_data(
    jobs: Sequence[Job],
    parts: WindowFiles,
    scenes: Mapping[str, Raster],
    say: Callable[[str], object],
) -> None:
    """Say how much of the map has no data; one without any is refused."""
    found = [np.isfinite(np.load(job.path, mmap_mode="r")[..., 0]) for job in jobs]
    share = sum(int(each.sum()) for each in found) / sum(each.size for each in found)
    if share == 0:
        shutil.rmtree(parts.folder, ignore_errors=True)
        names = " with ".join(scene.href for scene in scenes.values())
        raise ValueError(
            f"scene must have a patch with data, got none in {names}: see with "
            "gdalinfo whether its nodata value or an alpha band hides all; a band that is no alpha "
            "is renamed by `gdal_edit.py -colorinterp_4 undefined FILE`"
        )
    if share < 1:
        say(f"{1 - share:.1%} of what the windows see has no data, and no vector in the map")


def _tags(scenes: Mapping[str, Raster], jobs: Sequence[Job]) -> dict[str, str]:
    """What the map says of its scenes; metres per pixel may differ by window."""
    metres, each = sorted(job.gsd_m for job in jobs), scenes.values()
    return {
        "gsd_m": f"{metres[len(metres) // 2]:.6g}",
        "gsd_m_range": f"{metres[0]:.6g} {metres[-1]:.6g}",
        "scene": "+".join(Path(scene.href).name for scene in each),
        "bands": "+".join(",".join(map(str, scene.bands)) for scene in each),
        "attribution": "; ".join(dict.fromkeys(s.attribution for s in each if s.attribution)),
        "procedural": str(any(scene.procedural for scene in each)).lower(),
    }


def _put_together(out: Path, parts: WindowFiles, scene: Raster, tags: dict[str, Any]) -> None:
    """Write the map beside its parts, move it to its place, and clear the parts away."""
    whole = parts.folder / "whole.tif"
    write_geotiff(whole, parts, scene, tags)
    with whole.open("rb+") as file:
        os.fsync(file.fileno())
    whole.replace(out)
    shutil.rmtree(parts.folder.parent, ignore_errors=True)  # NFS holds the lock a moment longer


def _check(out: Path, dtype: str, engine: Engine) -> None:
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(
            f"out must end in {' or '.join(ENDINGS)} for a map, got {out}: GDAL, rasterio and "
            "xarray read a GeoTIFF by tiles and convert it to other formats"
        )
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if engine.name == "threads":
        raise ValueError("engine must be processes or dask for embedding, got threads")


def _check_size(scene: Raster, patch_px: int) -> None:
    if min(scene.width, scene.height) < patch_px:
        raise ValueError(
            f"scene must hold a patch of {patch_px} px, got {scene.width} x {scene.height} "
            f"px in {scene.href}: resample it finer, or use a model with smaller patches"
        )


def _is_kept(
    out: Path, made_from: str, source: str, overwrite: bool, say: Callable[[str], object]
) -> bool:
    """Whether `out` is the map asked for; anything else there is refused, or to be replaced."""
    if not out.exists():
        return False
    try:
        with rasterio.open(out) as file:
            tags = file.tags()
    except RasterioIOError:
        tags = {}
    found = tags.get(MADE_FROM)
    if found == made_from:
        changed = tags.get(SOURCE) != source
        remark = "; the code has changed since, the recipe has not" if changed else ""
        say(f"kept: {out} was made from the same scene and model{remark}")
        return True
    if found is None:
        raise ValueError(
            f"out must not exist or be a map by `salib embed`, got {out}: choose another name, or "
            "delete it"
        )
    if not overwrite:
        raise ValueError(
            f"out must not exist, got {out} made from something else: choose another name, or "
            "replace it with --overwrite"
        )
    return False


def work_dir(out: Path) -> Path:
    """Folder beside `out` that holds finished windows until the map is whole."""
    return out.parent / f".{out.name}.parts"


def _digest(key: dict) -> str:
    return sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
