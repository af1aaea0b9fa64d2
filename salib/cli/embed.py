"""`salib embed`: image files to rows of vectors, scenes to maps."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from salib.cli.options import (
    BY_SENSOR,
    UNIT,
    Count,
    Device,
    Overwrite,
    Text,
    Texts,
    by_sensor,
    number_list,
)
from salib.config import SENSORS

IMAGES = "Images (PNG, JPEG, TIFF ...), or one georeferenced scene; bands in files: vv.tif,vh.tif."
SENSOR = f"Of the images: {', '.join(SENSORS)}; default lores."
GSD_M = f"Metres per pixel; measured if not given; {BY_SENSOR} lores=10."
BANDS = f"Bands by number, such as 4,3,2, if no names tell; {BY_SENSOR} hires=1,2,3."
OFFSET_DN = f"Added to DN: -1000 of Sentinel-2 since 04.00, or 0; {BY_SENSOR} lores=-1000."
LEVEL_255 = f"Value of level 255 in unknown products; {BY_SENSOR} hires=2000."
HOW = ("window", "overlap", "dtype", "precision", "device", "overwrite")
OF_MAPS = ("window", "overlap", "dtype", "precision", "workers", "scheduler", "attribution")
OF_MAPS += ("procedural",)


def embed(
    images: Annotated[Texts, Argument(help=IMAGES)] = None,
    *,
    model: Annotated[Path, Option(help="Model folder.")],
    out: Annotated[Path, Option(help=".parquet: one row per image. .tif: one vector per patch.")],
    radar: Annotated[Texts, Option(help="Radar, embedded with --lores (and --hires).")] = None,
    lores: Annotated[Texts, Option(help="Low-resolution image of the same ground.")] = None,
    hires: Annotated[Texts, Option(help="High-resolution image of the same ground.")] = None,
    s2: Annotated[Texts, Option(help="Twelve-band image of the same ground.")] = None,
    sensor: Annotated[Text, Option(help=SENSOR)] = None,
    gsd_m: Annotated[Texts, Option(help=GSD_M)] = None,
    device: Device = "auto",
    bands: Annotated[Texts, Option(help=BANDS)] = None,
    unit: Annotated[Texts, Option(help=UNIT)] = None,
    offset_dn: Annotated[Texts, Option(help=OFFSET_DN)] = None,
    level_255: Annotated[Texts, Option("--level-255", help=LEVEL_255)] = None,
    window: Annotated[int, Option(help="Map: side of a window in patches.")] = 32,
    overlap: Annotated[Count, Option(help="Map: overlap in patches; default a quarter.")] = None,
    dtype: Annotated[str, Option(help="Map: float32, float16, or scaled int8.")] = "float32",
    precision: Annotated[str, Option(help="Map: float32, bf16, or auto.")] = "auto",
    workers: Annotated[int, Option(help="Map: windows in parallel, one core each.")] = 1,
    scheduler: Annotated[Text, Option(help="Map: a Dask cluster's address.")] = None,
    attribution: Annotated[Text, Option(help="Map: source to name; else the file's tag.")] = None,
    procedural: Annotated[bool, Option("--procedural", help="Map: it is procedural.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Represent images by vectors: one per image, or one per patch of a georeferenced scene.

    The ending of --out decides. With .parquet every image gets one row; the images need no
    coordinates. With .tif the one image must be georeferenced, may be larger than memory, and
    becomes a GeoTIFF with a band per dimension and a pixel per patch; after an interruption the
    same command resumes. Options marked "Map" belong to it alone.

    With --radar and --lores, or --radar, --lores and --hires, the sensors of one ground are
    embedded together. Images: repeat the options; the first of each belong together, and so on.
    Scenes: one of each, of any grid; the map lies on the radar scene's.

    Bands are taken by their names, colours or product (NAIP); reflectance of 0.2 becomes 255, as in
    ESA's true-colour image. What a file does not tell is asked for: --bands, --unit, --offset-dn.
    """
    given = locals()
    files = _files(images, sensor, {"radar": radar, "lores": lores, "hires": hires, "s2": s2})
    metres = by_sensor("gsd_m", gsd_m, files, float, "a number such as 10")
    stated = {
        "bands": by_sensor("bands", bands, files, number_list, "numbers such as 1,2,3"),
        "unit": by_sensor("unit", unit, files, str.lower, "a word such as db"),
        "offset_dn": by_sensor("offset_dn", offset_dn, files, float, "a number such as -1000"),
        "level_255": by_sensor("level_255", level_255, files, float, "a number such as 2000"),
    }
    reading = {name: {o: of[name] for o, of in stated.items() if name in of} for name in files}
    ending, most = out.suffix.lower(), max(map(len, files.values()))
    if ending == ".parquet":
        from salib.mapping.images import embed_images

        defaults = {name: each.default for name, each in signature(embed).parameters.items()}
        if wrong := [name for name in OF_MAPS if given[name] != defaults[name]]:
            raise ValueError(
                f"out must end in .tif for {', '.join(wrong)}, got {out}: these belong to the map "
                "of a scene"
            )
        options = {"gsd_m": metres, "device": device, "reading": reading, "overwrite": overwrite}
        embed_images(files, model, out, **options)
    elif ending not in (".tif", ".tiff"):
        raise ValueError(
            "out must end in .parquet, for one vector per image, or .tif or .tiff, for a map of "
            f"one scene (GDAL, rasterio and xarray convert it), got {out}"
        )
    elif most > 1:
        raise ValueError(
            f"images must be one scene for a map, got {most}: give each its own --out, or write "
            "one vector per image to a .parquet file"
        )
    else:
        from salib.files.jobs import Engine
        from salib.mapping.run import embed_scene
        from salib.mapping.scene import open_scene

        said = {"attribution": attribution, "procedural": procedural}
        scenes = {
            name: open_scene(path, name, gsd_m=metres.get(name), **reading[name], **said)
            for name, (path,) in files.items()
        }
        for scene in scenes.values():
            typer.echo(scene.says, err=True)
        how: dict[str, Any] = {name: given[name] for name in HOW}
        engine = "dask" if scheduler else "processes"
        how["engine"] = Engine(name=engine, workers=workers, scheduler=scheduler)
        embed_scene(scenes, model, out, **how, report=lambda text: typer.echo(text, err=True))
    typer.echo(out)


def _files(images: Texts, sensor: str | None, named: Mapping[str, Texts]) -> dict[str, list[str]]:
    """Files by sensor, from the one way or the other to name them."""
    files = {name: paths for name, paths in named.items() if paths}
    if bool(images) == bool(files) or (files and sensor):
        got = "both" if files else "none"
        raise ValueError(
            f"images must be given by themselves (with --sensor) or by --radar, --lores and "
            f"--hires, got {got}"
        )
    return {sensor or "lores": images} if images else files
