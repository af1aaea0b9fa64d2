"""`salib embed`: image files to rows of vectors, scenes to maps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Files = Mapping[str, list[str]]
"""Image files by sensor, as many of each: those at the same position show the same ground."""
Paths = Annotated[
    list[str] | None,
    typer.Argument(help="PNG, JPEG or TIFF files of 8-bit levels; or one georeferenced scene."),
]
BY_SENSOR = "for several sensors repeat it by name, such as"


def embed(
    images: Paths = None,
    *,
    model: Annotated[Path, typer.Option(help="Model folder.")],
    out: Annotated[
        Path,
        typer.Option(help=".parquet: one row per image. .tif: a map, one vector per patch."),
    ],
    radar: Annotated[
        list[str] | None,
        typer.Option(help="Radar image or scene, embedded together with --lores (and --hires)."),
    ] = None,
    lores: Annotated[
        list[str] | None, typer.Option(help="Low-resolution image or scene of the same ground.")
    ] = None,
    hires: Annotated[
        list[str] | None, typer.Option(help="High-resolution image or scene of the same ground.")
    ] = None,
    sensor: Annotated[
        str | None,
        typer.Option(help="Of the images: radar (VV, VH), lores (default) or hires (RGB)."),
    ] = None,
    gsd_m: Annotated[
        list[str] | None,
        typer.Option(
            help="Metres of ground per pixel; of a georeferenced file measured if not given; "
            f"{BY_SENSOR} lores=10."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or auto, a GPU where there is one.")
    ] = "auto",
    bands: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Map: the sensor's bands by number, such as 4,3,2; {BY_SENSOR} hires=1,2,3."
        ),
    ] = None,
    level_255: Annotated[
        list[str] | None,
        typer.Option(
            "--level-255",
            help=f"Map: value that becomes level 255, unless it is 8-bit; {BY_SENSOR} lores=2000.",
        ),
    ] = None,
    window_px: Annotated[
        int | None, typer.Option(help="Map: side that the model sees at once; 32 patches.")
    ] = None,
    overlap_px: Annotated[
        int | None, typer.Option(help="Map: what windows share at least; a quarter of one.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Map: float32 (default), float16, or int8 with a scale per band."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Map: float32, bf16, or auto (default), bf16 where it is fast."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Map: processes (default) or dask.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Map: windows embedded at once, a core each; 1 by default.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Map: address of a running Dask scheduler.")
    ] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Map: what it must say of its source; else the file's tag.")
    ] = None,
    procedural: Annotated[
        bool | None, typer.Option("--procedural", help="Map: the ground is made up.")
    ] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite", help="Map: replace one made from something else.")
    ] = None,
) -> None:
    """Represent images by vectors: one per image, or one per patch of a georeferenced scene.

    The ending of --out decides. With .parquet every image gets one row; the images need no
    coordinates. With .tif the one image must be georeferenced, may be larger than memory, and
    becomes a GeoTIFF with a band per dimension and a pixel per patch; after an interruption the
    same command resumes. Options marked "Map" belong to it alone.

    With --radar and --lores, or --radar, --lores and --hires, the sensors of one ground are
    embedded together. Images: repeat the options; the first of each belong together, and so on.
    Scenes: one of each, of any grid; the map lies on the radar scene's.
    """
    files = _files(images, sensor, {"radar": radar, "lores": lores, "hires": hires})
    source = {"bands": bands, "level_255": level_255}
    about = _given(attribution=attribution, procedural=procedural)
    how = _given(window_px=window_px, overlap_px=overlap_px, dtype=dtype)
    how |= _given(precision=precision, overwrite=overwrite)
    where = _given(engine=engine, workers=workers, scheduler=scheduler)
    metres = _by_sensor("gsd_m", gsd_m, files, float, "a number such as 10")
    if out.suffix.lower() == ".parquet":
        given = [*_given(**source), *about, *how, *where]
        if given:
            raise ValueError(
                f"out must end in .tif for {', '.join(given)}, got {out}: these belong to the map "
                "of a scene"
            )
        from salib.mapping.images import embed_images

        embed_images(files, model, out, gsd_m=metres, device=device)
    elif out.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(
            "out must end in .parquet, for one vector per image, or .tif or .tiff, for a map of "
            f"one scene (GDAL, rasterio and xarray convert it), got {out}"
        )
    else:
        numbers = _by_sensor("bands", bands, files, _numbers, "numbers such as 1,2,3")
        levels = _by_sensor("level_255", level_255, files, float, "a number such as 2000")
        reading = {
            name: _given(gsd_m=metres.get(name), bands=numbers.get(name)) | about for name in files
        }
        for name, value in levels.items():
            reading[name]["level_255"] = value
        _embed_scene(files, model, out, reading, how | {"device": device}, where)
    typer.echo(out)


def _embed_scene(
    files: Files,
    model: Path,
    out: Path,
    reading: Mapping[str, dict],
    how: dict,
    where: dict,
) -> None:
    from salib.files.jobs import Engine
    from salib.mapping.run import embed_scene
    from salib.mapping.scene import open_scene

    most = max(map(len, files.values()))
    if most > 1:
        raise ValueError(
            f"images must be one scene for a map, got {most}: give each its own --out, or write "
            "one vector per image to a .parquet file"
        )
    if "engine" in where:
        where["name"] = where.pop("engine")
    how |= {"engine": Engine(**where), "report": lambda text: typer.echo(text, err=True)}
    scenes = {name: open_scene(paths[0], name, **reading[name]) for name, paths in files.items()}
    embed_scene(scenes, model, out, **how)


def _files(
    images: list[str] | None, sensor: str | None, named: Mapping[str, list[str] | None]
) -> Files:
    """Files by sensor, from the one way or the other to name them."""
    files = {name: paths for name, paths in named.items() if paths}
    if bool(images) == bool(files) or (files and sensor):
        got = "both" if files else "none"
        raise ValueError(
            f"images must be given by themselves (with --sensor) or by --radar, --lores and "
            f"--hires, got {got}"
        )
    if images:
        return {sensor or "lores": images}
    return files


def _by_sensor(
    option: str, texts: list[str] | None, files: Files, read: Callable[[str], Any], rule: str
) -> dict[str, Any]:
    """What an option states, for the one sensor or as sensor=value for each of several."""
    found = {}
    for text in texts or ():
        name, is_named, value = text.rpartition("=")
        if not is_named and len(files) == 1:
            name = next(iter(files))
        if name not in files or name in found:
            raise ValueError(
                f"{option} must be given once for one of {', '.join(files)}, such as "
                f"{next(iter(files))}={value}, got {text!r}"
            )
        try:
            found[name] = read(value)
        except ValueError as error:
            raise ValueError(f"{option} must be {rule}, got {value!r}") from error
    return found


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _given(**options: object) -> dict[str, Any]:
    """Those that were not left out."""
    return {name: value for name, value in options.items() if value is not None}
