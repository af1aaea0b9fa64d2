"""The one pretraining loop: `python -m salib.train`, `torchrun -m salib.train`."""

import argparse
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from salib.artifact import (
    MADE_FROM,
    atomic_dir,
    check_replaceable,
    file_digest,
    is_kept,
    only_writer,
    source_digest,
    stamp,
)
from salib.config import PRECISIONS, SENSOR_NAMES, TRAINING, ModelConfig, TrainConfig, preset
from salib.data import Batch, Samples, draw_batch, stream
from salib.losses import contrastive_loss, normalise_targets, reconstruction_loss, total_loss
from salib.model import Mask, ScaleAlibi, build_model, save_model
from salib.model.store import CONFIG, WEIGHTS
from salib.precision import autocast, resolve_precision
from salib.progress import Progress, clear_finished
from salib.ranks import check_same_step, drawing_threads, join_ranks, mean_over_ranks, own_device

T = TypeVar("T")
LOG, TIMING = "log.csv", "timing.json"


def pretrain(
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    tiles: str | Path,
    out: str | Path,
    seed: int,
    report: Callable[[str], None] = print,
) -> Path:
    """Pretrain on curated tiles; a finished run of the same inputs is kept and returned at once.

    Called again, an interrupted run goes on from what it saved last: at most ten minutes are lost.

    The folder holds the model (see `salib.load_model`), log.csv (losses a step) and timing.json,
    which also says on what it ran and in which precision. The standardisation of the inputs is
    measured on the training samples. With the same seed, all models see the same places, crops and
    masks. Under `torchrun` each rank takes its share.

    Args:
        tiles: folder written by `curate`.
        out: model folder, written whole at the end by rank 0.
        report: called with one line when a kept run is reused, or an interrupted one goes on.

    Raises:
        ValueError: if the tiles cannot be read, `out` holds something else, an interrupted run
            there had other inputs, a machine runs more ranks than it has GPUs, or the loss stops
            being finite.
        OSError: if another run writes to `out`, or the disk has too little room.
    """
    tiles, out = Path(tiles), Path(out)
    key = {
        "model": model_config.to_json(),
        "train": asdict(train_config),
        "seed": seed,
        "tiles": {path.name: file_digest(path) for path in sorted(tiles.glob("*.p[am]*"))},
        "source": source_digest("salib.train"),
    }
    room = out.with_name(f".{out.name}.unfinished")
    if int(os.environ.get("RANK", 0)) == 0:
        clear_finished(room, out)
    if is_kept(out, key):
        report(f"kept: {out} was pretrained from the same data, configuration and code")
        return out
    check_replaceable(out, CONFIG, WEIGHTS, LOG, TIMING, MADE_FROM, stamped=True)
    rank, ranks = join_ranks()
    samples = Samples(tiles, split="train")
    measured = zip(SENSOR_NAMES, samples.levels(), strict=True)
    levels = tuple(found for name, found in measured if name in model_config.sensors)
    model = build_model(replace(model_config, levels=levels), seed).to(own_device())
    ran_on = {
        "device": own_device().type,
        "precision": resolve_precision(train_config.precision, own_device()),
    }
    with only_writer(room) if rank == 0 else nullcontext():
        progress = Progress(room, key, ran_on, model, _optimizer(model, train_config))
        if rank == 0:
            progress.make_room()
        if rank == 0 and progress.rows:
            report(f"goes on at step {len(progress.rows)} of {train_config.steps}")
        _run(model, train_config, samples, progress, seed=seed, rank=rank, ranks=ranks)
        if rank == 0:
            with atomic_dir(out) as part:
                _write(part, model, train_config, progress, ran_on)
                stamp(part, key)
            shutil.rmtree(room, ignore_errors=True)  # NFS holds the lock a moment longer
    return out


def _write(
    folder: Path, model: ScaleAlibi, config: TrainConfig, progress: Progress, ran_on: dict[str, str]
) -> None:
    seconds = progress.seconds
    save_model(model.cpu(), folder)
    pd.DataFrame(progress.rows).to_csv(folder / LOG, index=False, float_format="%.6g")
    timing = {
        "seconds": seconds,
        "images_per_second": config.steps * config.batch / seconds,
    } | ran_on
    (folder / TIMING).write_text(json.dumps(timing) + "\n")


def step_losses(
    model: nn.Module, batch: Batch, masks: dict[str, Mask], *, joint_target: bool
) -> tuple[Tensor, Tensor]:
    """Contrastive and reconstruction loss of one batch, Eqs. (3) and (4)."""
    out = model(batch.images, batch.gsd_m, masks)
    target = normalise_targets(out.target, joint=joint_target)
    return (
        contrastive_loss(out.projections, out.temperature),
        reconstruction_loss(out.predicted, target, out.hidden),
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm = max(1, round(config.warmup * config.steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _run(
    model: ScaleAlibi,
    config: TrainConfig,
    samples: Samples,
    progress: Progress,
    *,
    seed: int,
    rank: int,
    ranks: int,
) -> None:
    device, sensors = own_device(), model.config.sensors
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    grid = config.image_px // model.config.patch_px
    begin = len(progress.rows)
    check_same_step(begin, ranks)
    draw = partial(draw_batch, samples, config, seed=seed, rank=rank, ranks=ranks)

    def placed(step: int) -> Batch:
        batch = draw(step=step)
        parts = (batch.images, batch.gsd_m)
        return Batch(*({name: part[name].to(device) for name in sensors} for part in parts))

    options = {"desc": model.config.kind, "unit": "step", "mininterval": 1.0}
    with closing(_ahead(placed, range(begin, config.steps), drawing_threads(device))) as batches:
        bar = tqdm(batches, initial=begin, total=config.steps, disable=rank != 0, **options)
        for step, batch in enumerate(bar, begin):
            masks = model.draw_masks(
                config.batch, rows=grid, cols=grid, generator=stream(seed, "masks", step)
            )
            mine = {
                n: Mask(*(_share(m, rank, ranks, device) for m in _pair(masks[n]))) for n in masks
            }
            joint = model.config.joint_target
            losses = _learn(
                wrapped, progress.optimizer, config, step, batch, mine, joint_target=joint
            )
            both = mean_over_ranks(torch.stack(losses), ranks).tolist()
            values = dict(zip(("contrastive", "reconstruction"), both, strict=True))
            progress.rows.append({"step": step, "lr": learning_rate(config, step), **values})
            bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
            if rank == 0:
                progress.save_if_due()


def _learn(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    step: int,
    batch: Batch,
    masks: dict[str, Mask],
    *,
    joint_target: bool,
) -> tuple[Tensor, Tensor]:
    """One step of the optimiser; both losses before it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    with autocast(config.precision, own_device()):
        contrastive, reconstruction = step_losses(model, batch, masks, joint_target=joint_target)
    loss = total_loss(contrastive, reconstruction)
    if not torch.isfinite(loss):
        raise ValueError(f"loss must stay finite, got {loss.item()} at step {step}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return contrastive.detach(), reconstruction.detach()


def _ahead(draw: Callable[[int], T], steps: range, workers: int) -> Generator[T]:
    """What is drawn for each step, in order; `workers` threads draw ahead of what is learnt.

    When closed, it waits for what is being drawn and draws no more.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(draw, step) for step in steps[:workers])
        for ahead in range(workers, len(steps) + workers):
            batch = waiting.popleft().result()
            if ahead < len(steps):
                waiting.append(pool.submit(draw, steps[ahead]))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _pair(mask: Mask) -> tuple[Tensor, Tensor]:
    return mask.keep, mask.hidden


def _share(values: Tensor, rank: int, ranks: int, device: torch.device) -> Tensor:
    return values[rank::ranks].to(device)


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def main() -> None:
    """Pretrain from the command line; `salib pretrain --help` is the same in one process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=Path, required=True, help="folder written by salib curate")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--preset", default="base", choices=tuple(TRAINING))
    parser.add_argument("--kind", default="scale_alibi", choices=("scale_alibi", "croma"))
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    config = preset(chosen.preset, kind=chosen.kind)
    try:
        pretrain(
            config,
            replace(TRAINING[chosen.preset], precision=chosen.precision),
            tiles=chosen.tiles,
            out=chosen.out,
            seed=chosen.seed,
            report=tqdm.write,
        )
    except (ValueError, OSError) as error:
        parser.exit(2, f"salib: {error}\n")


if __name__ == "__main__":
    main()
