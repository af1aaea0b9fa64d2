"""The command line: each stage of the notebooks on its own."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.curate import curate
from salib.cli.embed import embed
from salib.cli.evaluate import evaluate
from salib.cli.fetch import fetch
from salib.cli.options import Seed
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
    spectral: Annotated[bool, Option("--spectral", help="Write Sentinel-2's bands too.")] = False,
) -> None:
    """Write scenes of the procedural Earth with a static STAC catalog."""
    from earth.scenes.write import write_scenes

    typer.echo(write_scenes(out, seed=seed, zoom=zoom, tiles=tiles, spectral=spectral))


app.command()(curate)
app.command()(fetch)
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
