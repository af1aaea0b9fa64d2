"""The command line: each stage of the notebooks on its own."""

import os
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.curate import curate
from salib.cli.embed import embed
from salib.cli.evaluate import evaluate
from salib.cli.fetch import fetch
from salib.cli.options import Overwrite, Seed
from salib.cli.pretrain import pretrain

OURS = ("salib.", "earth.", "exhibits.")
FILE_NAMES = ("path", "href", "file", "archive", "folder", "catalog", "out")
"""What functions of ours call the file that they work on."""
app = typer.Typer(
    help="Scale-ALiBi: curate tiles, pretrain, embed, evaluate. SALIB_DEBUG=1 shows tracebacks.",
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
    overwrite: Overwrite = False,
) -> None:
    """Write scenes of the procedural Earth with a static STAC catalog."""
    from earth.scenes.write import write_scenes
    from salib.files.artifact import keep

    made = {"seed": seed, "zoom": zoom, "tiles": tiles, "spectral": spectral}
    typer.echo(keep(out, write_scenes, overwrite=overwrite, **made) / "catalog.json")


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
    """Run the command line; whatever goes wrong prints one line and exits with 2."""
    try:
        app()
    except Exception as error:
        if os.environ.get("SALIB_DEBUG"):
            raise
        typer.echo(f"salib: {line_of(error)}", err=True)
        raise SystemExit(2) from error


def line_of(error: Exception) -> str:
    """What to tell of an error; of one that a package raised, also the file that it met."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        extras = "pip install 'salib[curate,evaluate]'"
        return f"{error.name} must be installed for this command: {extras}"
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        if error.filename is not None:
            text = f"Could not read or write {error.filename}: {text}"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith(OURS)]
    if isinstance(error, ValueError | OSError) and (not ours or ours[-1] is frames[-1]):
        return text
    if isinstance(error, MemoryError):
        text = f"Out of memory ({text or 'no more is free'}): use fewer workers, or smaller inputs"
    elif not isinstance(error, ValueError | OSError):
        text = f"{type(error).__name__}: {text}"
    held = [(frame.f_locals.get(name)) for frame in reversed(ours) for name in FILE_NAMES]
    file = next((str(each) for each in held if isinstance(each, str | os.PathLike)), "")
    if not file or file in text:
        return text
    return f"{text}. It was met at {file}: if that is damaged, write or download it again"


if __name__ == "__main__":
    main()
