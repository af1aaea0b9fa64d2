"""The command line: each stage of the notebooks on its own."""

import os
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.embed import embed
from salib.cli.evaluate import evaluate
from salib.cli.options import Count, Number, Seed, Text, Texts
from salib.cli.pretrain import pretrain

app = typer.Typer(
    help="Scale-ALiBi: curate tiles, pretrain, embed, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@app.command()
def world(
    out: Annotated[Path, Argument(help="Folder for the scenes and catalog.json.")],
    seed: Seed = 0,
    zoom: Annotated[int, Option(help="Zoom of the tiles that will be cut.")] = 14,
    tiles: Annotated[int, Option(help="Side of the covered square, in tiles.")] = 20,
) -> None:
    """Write scenes of the procedural Earth with a static STAC catalog."""
    from earth.scenes.write import write_scenes

    typer.echo(write_scenes(out, seed=seed, zoom=zoom, tiles=tiles))


@app.command()
def curate(
    catalog: Annotated[
        str,
        Argument(
            help="earth-search, planetary-computer, the address of a STAC API or catalogue, or the "
            "path of a catalog.json or stac-geoparquet file."
        ),
    ] = "earth-search",
    *,
    out: Annotated[Path, Option(help="Folder for the three archives and the index.")],
    zoom: Annotated[Count, Option(help="Zoom Y of radar, lores; hires: Y and Y + 1.")] = None,
    aoi: Annotated[Path | None, Option(help="GeoJSON file of the area.")] = None,
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        Option(help="West, south, east, north in degrees, instead of --aoi."),
    ] = None,
    spec: Annotated[Text, Option(help="small, full or micro: Table 1, areas of ours.")] = None,
    dates: Annotated[Text, Option(help="Such as 2023-05/2023-09.")] = None,
    hires_dates: Annotated[Text, Option(help="Of aerial images; by default any.")] = None,
    max_cloud: Annotated[float, Option(help="Scene cloud cover in percent.")] = 10.0,
    sar: Annotated[str, Option(help="grd (the paper's) or rtc (terrain corrected).")] = "grd",
    exclude: Annotated[
        list[Path] | None,
        Option(help="GeoJSON of ground not to cut, or geobench (its US ground); repeatable."),
    ] = None,
    select: Annotated[
        str, Option(help="Tiles that the area intersects, or within.")
    ] = "intersects",
    min_valid: Annotated[float, Option(help="Least valid part of a sample's tiles.")] = 0.95,
    max_cloud_frac: Annotated[Number, Option(help="Most cloud in a lores tile, 0 to 1.")] = None,
    max_days_radar: Annotated[Number, Option(help="Most days between radar and lores.")] = None,
    max_days_hires: Annotated[Number, Option(help="Most days between hires and lores.")] = None,
    valid_share: Annotated[
        float, Option(help="Most samples kept for a validation loss, 0 to 1; 0: train on all.")
    ] = 0.1,
    quant: Annotated[str, Option(help="Radar to 8 bits: paper or released (D12).")] = "paper",
    resampling: Annotated[str, Option(help="smooth, or nearest (as released).")] = "smooth",
    encoding: Annotated[str, Option(help="png, or webp (lossless, smaller).")] = "png",
    engine: Annotated[str, Option(help="processes, threads or dask.")] = "processes",
    workers: Annotated[int, Option(help="Blocks rendered at once.")] = 1,
    scheduler: Annotated[Text, Option(help="Address of a running Dask scheduler.")] = None,
    retries: Annotated[int, Option(help="Further attempts at a file.")] = 5,
    max_failed: Annotated[
        float, Option(help="Share of blocks that may be left out, in quarantine.csv.")
    ] = 0.01,
    requester_pays: Annotated[
        bool, Option("--requester-pays", help="Read files billed to your AWS account.")
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace tiles made from other inputs.")
    ] = False,
) -> None:
    """Cut aligned radar, lores and hires tiles into PMTiles archives."""
    from salib.curate.area import SPECS
    from salib.curate.index import Filters
    from salib.curate.run import curate as run
    from salib.curate.search.catalog import Rules
    from salib.files.jobs import Engine

    if sum(given is not None for given in (aoi, bbox, spec)) > 1:
        raise ValueError("area must be one of --aoi, --bbox and --spec, got more than one")
    area = aoi or bbox
    if spec is not None:
        if spec not in SPECS:
            raise ValueError(f"spec must be one of {', '.join(SPECS)}, got {spec!r}")
        area, zoom = SPECS[spec].area, SPECS[spec].zoom if zoom is None else zoom
        dates = dates or SPECS[spec].dates
    if zoom is None:
        raise ValueError("zoom must be given unless --spec is, got neither")
    found = run(
        catalog,
        out,
        zoom=zoom,
        area=area,
        rules=Rules(dates=dates, hires_dates=hires_dates, max_cloud=max_cloud, sar=sar),
        exclude=exclude or (),
        select=select,
        filters=Filters(
            min_valid=min_valid,
            max_cloud_frac=max_cloud_frac,
            max_days_radar=max_days_radar,
            max_days_hires=max_days_hires,
            valid_share=valid_share,
        ),
        quant=quant,
        resampling=resampling,
        encoding=encoding,
        engine=Engine(
            name=engine,
            workers=workers,
            scheduler=scheduler,
            retries=retries,
            max_failed=max_failed,
        ),
        requester_pays=requester_pays,
        overwrite=overwrite,
        report=lambda text: typer.echo(text, err=True),
    )
    typer.echo(found)


@app.command()
def fetch(
    name: Annotated[
        str, Argument(help="small, full or micro (tiles), geobench, eurosat or ucmerced.")
    ],
    tasks: Annotated[Texts, Argument(help="After geobench: names of tasks, or all.")] = None,
    *,
    out: Annotated[
        Path | None, Option(help="Folder; by default GEO_BENCH_DIR, or SALIB_DATA_DIR for zips.")
    ] = None,
    base_url: Annotated[
        Text, Option(help="A mirror: files of the same names, for geobench a mirror of the hub.")
    ] = None,
    revision: Annotated[Text, Option(help="Of geobench: a commit, branch or tag.")] = None,
    offline: Annotated[
        bool, Option("--offline", help="Ask no server; fail unless all is there.")
    ] = False,
    exclude: Annotated[
        list[Path] | None,
        Option(help="Of tiles: GeoJSON of ground to leave out of the index, or geobench."),
    ] = None,
    valid_share: Annotated[
        float, Option(help="Of tiles: most samples for a validation loss; 0: train on all.")
    ] = 0.0,
) -> None:
    """Download tiles or labelled tasks, whatever of them is not there yet."""
    if name != "geobench" and (tasks or revision):
        raise ValueError(f"tasks and --revision must come with geobench only, got {name}")
    if (exclude or valid_share) and name in ("geobench", "eurosat", "ucmerced"):
        raise ValueError(f"--exclude and --valid-share must come with tiles only, got {name}")
    home = {"geobench": "GEO_BENCH_DIR", "eurosat": "SALIB_DATA_DIR", "ucmerced": "SALIB_DATA_DIR"}
    folder = out or os.environ.get(home.get(name, ""))
    if not folder:
        raise ValueError(f"--out must be given for {name}, got none")
    if name == "geobench":
        from salib.evaluate.fetch.geobench import REVISION, fetch_geobench

        chosen = {"revision": revision or REVISION, "base_url": base_url, "offline": offline}
        typer.echo(fetch_geobench(tasks or [], folder, **chosen))
    elif name == "eurosat" or name == "ucmerced":
        from salib.evaluate.fetch.chips import fetch_chips

        typer.echo(fetch_chips(name, folder, base_url=base_url, offline=offline))
    else:
        from salib.curate.released import RELEASES, fetch_archives, index_released

        if name not in RELEASES:
            known = ", ".join([*RELEASES, *home])
            raise ValueError(f"name must be one of {known}, got {name!r}")
        fetched = fetch_archives(name, folder, base_url=base_url, offline=offline)
        indexed = {"exclude": exclude or (), "valid_share": valid_share}
        typer.echo(index_released(fetched, RELEASES[name].zoom, **indexed))


app.command()(pretrain)
app.command()(embed)
app.command()(evaluate)


@app.command()
def verify(archives: Annotated[list[Path], Argument(help="PMTiles archives.")]) -> None:
    """Read and decode every tile; print what is wrong and exit with 1 if anything is."""
    from salib.tiles.checks import verify as problems_of

    problems = [(path, *problem) for path in archives for problem in problems_of(path)]
    for path, tile, text in problems:
        typer.echo(f"{path}{'' if tile is None else ' ' + '/'.join(map(str, tile))}: {text}")
    typer.echo(f"{len(problems)} problems in {len(archives)} archives")
    raise typer.Exit(code=1 if problems else 0)


def main() -> None:
    """Run the command line; a wrong input prints its one line and exits with 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        typer.echo(f"salib: {error}", err=True)
        raise SystemExit(2) from error
    except ModuleNotFoundError as error:
        extras = "pip install 'salib[curate,evaluate]'"
        typer.echo(f"salib: {error.name} must be installed for this command: {extras}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
