"""`salib pretrain`: curated tiles to a model folder."""

import os
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.options import Overwrite, Precision, Seed, Text, names_of


def pretrain(
    tiles: Annotated[Path, Argument(help="Folder written by salib curate.")],
    out: Annotated[Path, Option(help="Model folder to write.")],
    preset: Annotated[str, Option(help="tiny, small or base (the released size).")] = "base",
    kind: Annotated[str, Option(help="scale_alibi or croma.")] = "scale_alibi",
    sensors: Annotated[Text, Option(help="Such as radar,s2; by default the kind's.")] = None,
    precision: Precision = "auto",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Pretrain a model; in several processes with torchrun -m salib pretrain.

    After SIGTERM (exit status 0) or Ctrl-C (130) the same command resumes at the next step.
    """
    from dataclasses import replace
    from signal import SIGTERM

    from salib import config
    from salib.training.checkpoint import StoppedRun
    from salib.training.train import pretrain as run

    model = config.preset(preset, kind=kind)
    if sensors is not None:
        model = replace(model, sensors=names_of(sensors))
    training = replace(config.TRAINING[preset], precision=precision)
    how = {"seed": seed, "overwrite": overwrite, "report": typer.echo}
    code = 0
    try:
        end = str(run(model, training, tiles=tiles, out=out, **how))
    except StoppedRun as stopped:
        end, code = str(stopped), 0 if stopped.signal == SIGTERM else 130
    if os.environ.get("RANK", "0") == "0":
        typer.echo(end)
    raise typer.Exit(code)
