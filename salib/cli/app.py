"""The command line: each stage of the notebooks on its own."""

import os
from pathlib import Path
from typing import Annotated

import typer

from salib.cli.embed import embed

app = typer.Typer(
    help="Scale-ALiBi: curate tiles, pretrain, embed, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
Seed = Annotated[int, typer.Option(min=0, help="One integer seeds the run.")]
Preset = Annotated[str, typer.Option(help="tiny, small or base (of the released code's size).")]


@app.command()
def world(
    out: Annotated[Path, typer.Argument(help="Folder for the scenes and catalog.json.")],
    seed: Seed = 0,
    zoom: Annotated[int, typer.Option(help="Zoom of the tiles that will be cut.")] = 14,
    tiles: Annotated[int, typer.Option(help="Side of the covered square, in tiles.")] = 20,
) -> None:
    """Write scenes of the procedural Earth with a static STAC catalog."""
    from earth.scenes.write import write_scenes

    typer.echo(write_scenes(out, seed=seed, zoom=zoom, tiles=tiles))


@app.command()
def curate(
    catalog: Annotated[
        str,
        typer.Argument(
            help="earth-search, planetary-computer, the address of a STAC API or catalogue, or the "
            "path of a catalog.json or stac-geoparquet file."
        ),
    ] = "earth-search",
    *,
    out: Annotated[Path, typer.Option(help="Folder for the three archives and the index.")],
    zoom: Annotated[
        int | None, typer.Option(help="Zoom Y of radar and lores; hires has Y and Y + 1.")
    ] = None,
    aoi: Annotated[Path | None, typer.Option(help="GeoJSON file of the area.")] = None,
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="West, south, east, north in degrees, instead of --aoi."),
    ] = None,
    spec: Annotated[
        str | None, typer.Option(help="small, full or micro: Table 1 in kind, areas of ours.")
    ] = None,
    dates: Annotated[str | None, typer.Option(help="Such as 2023-05/2023-09.")] = None,
    hires_dates: Annotated[
        str | None, typer.Option(help="Of the aerial images; by default any, nearest first.")
    ] = None,
    max_cloud: Annotated[float, typer.Option(help="Scene cloud cover in percent.")] = 10.0,
    sar: Annotated[str, typer.Option(help="grd (the paper's) or rtc (terrain corrected).")] = "grd",
    exclude: Annotated[
        list[Path] | None,
        typer.Option(help="GeoJSON of ground not to cut, or geobench (its US ground); repeatable."),
    ] = None,
    select: Annotated[str, typer.Option(help="Tiles that the area intersects, or within.")] = (
        "intersects"
    ),
    min_valid: Annotated[float, typer.Option(help="Least valid part of a sample's tiles.")] = 0.95,
    max_cloud_frac: Annotated[
        float | None, typer.Option(help="Most cloud in a sample's lores tile, 0 to 1.")
    ] = None,
    max_days_radar: Annotated[
        float | None, typer.Option(help="Most days between radar and lores.")
    ] = None,
    max_days_hires: Annotated[
        float | None, typer.Option(help="Most days between hires and lores.")
    ] = None,
    valid_share: Annotated[
        float,
        typer.Option(help="Most samples kept for a validation loss, 0 to 1; 0: train on all."),
    ] = 0.1,
    quant: Annotated[str, typer.Option(help="Radar to 8 bits: paper or released (D12).")] = "paper",
    resampling: Annotated[
        str, typer.Option(help="smooth, or nearest (as the released code).")
    ] = "smooth",
    encoding: Annotated[str, typer.Option(help="png, or webp (lossless, smaller).")] = "png",
    engine: Annotated[str, typer.Option(help="processes, threads or dask.")] = "processes",
    workers: Annotated[int, typer.Option(help="Blocks rendered at once.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a running Dask scheduler.")
    ] = None,
    retries: Annotated[int, typer.Option(help="Further attempts at a file.")] = 5,
    max_failed: Annotated[
        float, typer.Option(help="Share of blocks that may be left out, in quarantine.csv.")
    ] = 0.01,
    requester_pays: Annotated[
        bool, typer.Option("--requester-pays", help="Read files billed to your AWS account.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace tiles made from other inputs.")
    ] = False,
) -> None:
    """Cut aligned radar, lores and hires tiles into PMTiles archives."""
    from salib.curate.area import SPECS, area_of_boxes
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
        area, zoom = area_of_boxes(SPECS[spec].boxes), SPECS[spec].zoom if zoom is None else zoom
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
        str, typer.Argument(help="small, full or micro (tiles), geobench, eurosat or ucmerced.")
    ],
    tasks: Annotated[
        list[str] | None, typer.Argument(help="After geobench: names of tasks, or all.")
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; by default GEO_BENCH_DIR, or SALIB_DATA_DIR for the zips."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="A mirror: files of the same names, for geobench a mirror of the hub."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Of geobench: a commit, branch or tag.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no server; fail unless all is there.")
    ] = False,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(help="Of tiles: GeoJSON of ground to leave out of the index, or geobench."),
    ] = None,
    valid_share: Annotated[
        float,
        typer.Option(help="Of tiles: most samples for a validation loss; 0: train on all."),
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
        from salib.curate.released.fetch import RELEASES, fetch_archives
        from salib.curate.released.index import index_released

        if name not in RELEASES:
            known = ", ".join([*RELEASES, *home])
            raise ValueError(f"name must be one of {known}, got {name!r}")
        fetched = fetch_archives(name, folder, base_url=base_url, offline=offline)
        indexed = {"exclude": exclude or (), "valid_share": valid_share}
        typer.echo(index_released(fetched, RELEASES[name].zoom, **indexed))


@app.command()
def pretrain(
    tiles: Annotated[Path, typer.Argument(help="Folder written by salib curate.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    preset: Preset = "base",
    kind: Annotated[str, typer.Option(help="scale_alibi or croma.")] = "scale_alibi",
    precision: Annotated[str, typer.Option(help="float32, bf16 or auto.")] = "auto",
    seed: Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model or a run of other inputs in --out.")
    ] = False,
) -> None:
    """Pretrain a model; in several processes with torchrun -m salib pretrain.

    After SIGTERM (exit status 0) or Ctrl-C (130) the same command resumes at the next step.
    """
    from dataclasses import replace
    from signal import SIGTERM

    from salib.config import TRAINING
    from salib.config import preset as configuration
    from salib.training.checkpoint import StoppedRun
    from salib.training.train import pretrain as run

    config = configuration(preset, kind=kind)
    training = replace(TRAINING[preset], precision=precision)
    how = {"seed": seed, "overwrite": overwrite, "report": typer.echo}
    code = 0
    try:
        end = str(run(config, training, tiles=tiles, out=out, **how))
    except StoppedRun as stopped:
        end, code = str(stopped), 0 if stopped.signal == SIGTERM else 130
    if os.environ.get("RANK", "0") == "0":
        typer.echo(end)
    raise typer.Exit(code)


app.command()(embed)


@app.command()
def evaluate(
    model: Annotated[
        list[Path],
        typer.Option(help="Model folder, or CROMA's published weights; give one or more."),
    ],
    out: Annotated[Path, typer.Option(help="The rows, .csv or .parquet.")],
    tasks: Annotated[str, typer.Option(help="all, or names such as m-eurosat,eurosat.")] = "all",
    geobench: Annotated[
        Path | None,
        typer.Option(envvar="GEO_BENCH_DIR", help="Folder with classification_v1.0/."),
    ] = None,
    procedural: Annotated[bool, typer.Option(help="Its images are procedural.")] = False,
    real: Annotated[
        Path | None,
        typer.Option(envvar="SALIB_DATA_DIR", help="EuroSAT_RGB.zip, UCMerced_LandUse.zip."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder with a folder of images for each class.")
    ] = None,
    gsd_m: Annotated[float | None, typer.Option(help="Metres a pixel of those images.")] = None,
    protocol: Annotated[str, typer.Option(help="default, or paper (D15).")] = "default",
    image_px: Annotated[int, typer.Option(help="Side of a lores input; hires has twice.")] = 256,
    precision: Annotated[str, typer.Option(help="float32, bf16 or auto.")] = "auto",
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or auto, a GPU where there is one.")
    ] = "auto",
    against: Annotated[str, typer.Option(help="Column that others are compared with.")] = "CROMA",
    paper: Annotated[Path, typer.Option(help="Folder of table2.csv and claims.yml.")] = Path(
        "paper"
    ),
    seed: Seed = 0,
) -> None:
    """Probe models and the baselines on labelled tasks; print scores, and the paper's Table 2."""
    from pandas import read_csv

    from exhibits.tables.claims import verdicts
    from exhibits.tables.printed import text_results, text_table2
    from salib.evaluate.comparison import encoders_of, find_tasks
    from salib.evaluate.protocol import protocol_named
    from salib.evaluate.run import evaluate as evaluate_encoders

    chosen = protocol_named(protocol)
    names = tasks if tasks == "all" else [name.strip() for name in tasks.split(",")]
    where = {"geobench": geobench, "procedural": procedural, "real": real}
    found = find_tasks(names, images=images, gsd_m=gsd_m, **where)
    if names == "all":
        found = [task for task in found if task.kind in chosen.kinds]
    options = {"image_px": image_px, "precision": precision, "against": against, "seed": seed}
    options |= {"device": device}
    encoders = encoders_of(model, seed=seed)
    rows = evaluate_encoders(encoders, found, protocol=chosen, out=out, **options)
    typer.echo(text_results(rows))
    printed = paper / "table2.csv"
    if not printed.is_file() and "geobench" in set(rows.source):
        typer.echo(f"no {printed}, so no Table 2: run at the repository's root")
    elif printed.is_file() and rows.task.isin(read_csv(printed).task).any():
        typer.echo(text_table2(rows, printed))
        claims = paper / "claims.yml"
        shown = verdicts(rows, claims).reset_index().to_dict("records") if claims.is_file() else []
        for claim in shown:
            made = f"; on procedural images {claim['verdict_procedural']}"
            typer.echo(f"{claim['claim']}: {claim['verdict']}{made if procedural else ''}")
    typer.echo(f"{len(rows)} rows in {out}")


@app.command()
def verify(archives: Annotated[list[Path], typer.Argument(help="PMTiles archives.")]) -> None:
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
