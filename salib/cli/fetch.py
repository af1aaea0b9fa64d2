"""`salib fetch`: published tiles and labelled tasks to a folder."""

import os
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.options import Exclude, Text, Texts

FOLDERS = {"geobench": "GEO_BENCH_DIR", "eurosat": "SALIB_DATA_DIR", "ucmerced": "SALIB_DATA_DIR"}
"""Variables that name the folder of what is no tiles."""


def fetch(
    name: Annotated[str, Argument(help="small, full, micro, geobench, eurosat or ucmerced.")],
    tasks: Annotated[Texts, Argument(help="After geobench: names of tasks, or all.")] = None,
    *,
    out: Annotated[
        Path | None, Option(help="Folder; by default GEO_BENCH_DIR, or SALIB_DATA_DIR for zips.")
    ] = None,
    base_url: Annotated[Text, Option(help="A mirror (of the hub, for geobench).")] = None,
    revision: Annotated[Text, Option(help="Of geobench: a commit, branch or tag.")] = None,
    offline: Annotated[bool, Option("--offline", help="Ask no server; fail if any lacks.")] = False,
    exclude: Exclude = None,
    valid_share: Annotated[
        float, Option(help="Of tiles: maximum share for a validation loss; 0: train on all.")
    ] = 0.0,
) -> None:
    """Download tiles or labelled tasks; files that exist are not downloaded again."""
    if name != "geobench" and (tasks or revision):
        raise ValueError(f"tasks and --revision must come with geobench only, got {name}")
    if (exclude or valid_share) and name in FOLDERS:
        raise ValueError(f"--exclude and --valid-share must come with tiles only, got {name}")
    folder = out or os.environ.get(FOLDERS.get(name, ""))
    if not folder:
        raise ValueError(f"--out must be given for {name}, got none")
    where = {"base_url": base_url, "offline": offline}
    if name == "geobench":
        from salib.evaluate.fetch import REVISION, fetch_geobench

        fetched = fetch_geobench(tasks or [], folder, revision=revision or REVISION, **where)
    elif name in FOLDERS:
        from salib.evaluate.fetch import fetch_chips

        fetched = fetch_chips(name, folder, **where)
    else:
        from salib.curate.released import RELEASES, fetch_archives, index_released

        if name not in RELEASES:
            known = ", ".join([*RELEASES, *FOLDERS])
            raise ValueError(f"name must be one of {known}, got {name!r}")
        tiles = fetch_archives(name, folder, **where)
        indexed = {"exclude": exclude or (), "valid_share": valid_share}
        fetched = index_released(tiles, RELEASES[name].zoom, **indexed)
    typer.echo(fetched)
