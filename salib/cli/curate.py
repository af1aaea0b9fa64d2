"""`salib curate`: a STAC catalogue to aligned tiles."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.options import (
    UNIT,
    Count,
    Exclude,
    Overwrite,
    Text,
    Texts,
    by_sensor,
    from_options,
    names_of,
)

Bbox = tuple[float, float, float, float] | None
CATALOG = """earth-search, planetary-computer, the address of a STAC API or catalogue, or the path
of a catalog.json, ItemCollection or stac-geoparquet file, or of a folder of them."""


def curate(
    catalog: Annotated[str, Argument(help=CATALOG)] = "earth-search",
    *,
    out: Annotated[Path, Option(help="Folder for the archives and the index.")],
    zoom: Annotated[Count, Option(help="Zoom Y of radar, lores; hires: Y and Y + 1.")] = None,
    aoi: Annotated[Path | None, Option(help="GeoJSON file of the area.")] = None,
    bbox: Annotated[Bbox, Option(help="West, south, east, north, instead of --aoi.")] = None,
    sensors: Annotated[
        str, Option(help="What a sample has, radar first; s2 is Sentinel-2's twelve bands.")
    ] = "radar,lores,hires",
    dates: Annotated[Text, Option(help="Such as 2023-05/2023-09.")] = None,
    hires_dates: Annotated[Text, Option(help="Dates of aerial images; default any.")] = None,
    max_cloud: Annotated[float, Option(help="Scene cloud cover in percent.")] = 10.0,
    sar: Annotated[str, Option(help="grd (the paper's) or rtc (terrain corrected).")] = "grd",
    offset_dn: Annotated[
        Count, Option(help="Of Sentinel-2 items that state no processing baseline: -1000 or 0.")
    ] = None,
    unit: Annotated[Texts, Option(help=UNIT)] = None,
    exclude: Exclude = None,
    min_valid: Annotated[float, Option(help="Minimum valid share of a tile.")] = 0.95,
    valid_share: Annotated[
        float, Option(help="Most samples for validation; 0: train on all.")
    ] = 0.1,
    keep: Annotated[
        Text, Option(help='Samples that stay: "cloud_frac_lores <= 0.05 and days_radar <= 10".')
    ] = None,
    least_sensors: Annotated[
        Count, Option(help="How many of the sensors a sample must have; default all.")
    ] = None,
    quant: Annotated[str, Option(help="Radar to 8 bits: paper or released (D12).")] = "paper",
    encoding: Annotated[str, Option(help="png, or webp (lossless, smaller).")] = "png",
    engine: Annotated[str, Option(help="processes, threads or dask.")] = "processes",
    workers: Annotated[int, Option(help="Blocks in parallel.")] = 1,
    scheduler: Annotated[Text, Option(help="Address of a running Dask scheduler.")] = None,
    retries: Annotated[int, Option(help="Retries per file.")] = 5,
    max_failed: Annotated[float, Option(help="Share of blocks that may be quarantined.")] = 0.01,
    requester_pays: Annotated[
        bool, Option("--requester-pays", help="Read files billed to your AWS account.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Cut aligned tiles of radar, lores and hires, or other sensors, into PMTiles archives."""
    given = {**locals(), "name": engine, "sensors": names_of(sensors)}
    from salib.curate.run import curate as run
    from salib.curate.search.catalog import Rules
    from salib.files.jobs import Engine

    if zoom is None:
        raise ValueError("zoom must be given, got none")
    if aoi and bbox:
        raise ValueError("area must be one of --aoi and --bbox, got both")
    given["units"] = by_sensor("unit", unit, given["sensors"], str.lower, "a word such as db")
    same = ("min_valid", "valid_share", "keep", "least_sensors", "quant", "encoding")
    same += ("requester_pays", "overwrite")
    tiles = run(
        catalog,
        out,
        zoom=zoom,
        area=aoi or bbox,
        rules=from_options(Rules, given),
        exclude=exclude or (),
        engine=from_options(Engine, given),
        report=lambda text: typer.echo(text, err=True),
        **{name: given[name] for name in same},
    )
    typer.echo(tiles)
