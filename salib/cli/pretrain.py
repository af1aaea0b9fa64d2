"""`salib pretrain`: curated tiles to a model folder."""

import os
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from salib.cli.options import Count, Overwrite, Text, names_of

Rate = float | None


def pretrain(
    tiles: Annotated[Path, Argument(help="Folder written by salib curate.")],
    out: Annotated[Path, Option(help="Model folder to write.")],
    preset: Annotated[Text, Option(help="tiny, laptop, small or base, the default.")] = None,
    kind: Annotated[Text, Option(help="scale_alibi, the default, or croma.")] = None,
    sensors: Annotated[Text, Option(help="Such as radar,s2; by default the kind's.")] = None,
    config: Annotated[
        Path | None, Option(help="YAML like run.yml of a model folder: model, train, seed.")
    ] = None,
    init: Annotated[Path | None, Option(help="Model folder whose weights to start from.")] = None,
    steps: Annotated[Count, Option(help="Optimiser steps, in place of epochs.")] = None,
    epochs: Annotated[Count, Option(help="Passes through the samples, in place of steps.")] = None,
    batch: Annotated[Count, Option(help="Samples per step, over all ranks.")] = None,
    lr: Annotated[Rate, Option(help="Peak of the learning rate.")] = None,
    set_: Annotated[
        list[str] | None,
        Option("--set", help="KEY=VALUE of ModelConfig or TrainConfig; repeatable."),
    ] = None,
    precision: Annotated[Text, Option(help="float32, bf16, or auto, bf16 where fast.")] = None,
    seed: Annotated[Count, Option(min=0, max=2**63 - 1, help="One integer seeds it.")] = None,
    tensorboard: Annotated[Path | None, Option(help="Folder to log for TensorBoard.")] = None,
    wandb: Annotated[Text, Option(help="Project to log to at Weights & Biases.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Pretrain a model; in several processes with torchrun -m salib pretrain.

    After SIGTERM (exit status 0) or Ctrl-C (130) the same command resumes at the next step.
    """
    from signal import SIGTERM

    from salib.config.runs import read_run
    from salib.model import load_model
    from salib.training.checkpoint import StoppedRun
    from salib.training.train import pretrain as run
    from salib.training.watch import watcher

    asked = {"steps": steps, "epochs": epochs, "batch": batch, "learning_rate": lr}
    asked |= {"precision": precision, "sensors": sensors and names_of(sensors)}
    begin = {"name": preset, "kind": kind, "changes": asked, "texts": set_ or ()}
    if init is not None and not (preset or config):
        begin["base"] = load_model(init).config
    model, training, stored = read_run(config, **begin)
    how = {"seed": stored if seed is None else seed, "init": init, "overwrite": overwrite}
    how |= {"report": typer.echo, "watch": watcher(tensorboard, wandb)}
    code = 0
    try:
        end = str(run(model, training, tiles=tiles, out=out, **how))
    except StoppedRun as stopped:
        end, code = str(stopped), 0 if stopped.signal == SIGTERM else 130
    if os.environ.get("RANK", "0") == "0":
        typer.echo(end)
    raise typer.Exit(code)
