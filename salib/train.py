"""The one pretraining loop: `python -m salib.train`, `torchrun -m salib.train`."""

import argparse
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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
    atomic_dir,
    check_replaceable,
    check_room,
    file_digest,
    is_kept,
    source_digest,
    stamp,
)
from salib.config import PRECISIONS, SENSOR_NAMES, TRAINING, ModelConfig, TrainConfig, preset
from salib.data import Batch, Samples, draw_batch, stream
from salib.losses import contrastive_loss, normalise_targets, reconstruction_loss, total_loss
from salib.model import Fusion, Mask, build_model, save_model
from salib.precision import autocast, resolve_precision

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

    The folder holds the model (see `salib.load_model`), log.csv (losses a step) and timing.json,
    which also says on what it ran and in which precision. The standardisation of the inputs is
    measured on the training samples. With the same seed, all models see the same places, crops and
    masks. Under `torchrun` each rank takes its share.

    Args:
        tiles: folder written by `curate`.
        out: model folder, written whole at the end by rank 0.
        report: called with one line when a kept run is reused.

    Raises:
        ValueError: if the tiles cannot be read, a machine runs more ranks than it has GPUs, or the
            loss stops being finite.
    """
    tiles, out = Path(tiles), Path(out)
    key = {
        "model": model_config.to_json(),
        "train": asdict(train_config),
        "seed": seed,
        "tiles": {path.name: file_digest(path) for path in sorted(tiles.glob("*.p[am]*"))},
        "source": source_digest("salib.train"),
    }
    if is_kept(out, key):
        report(f"kept: {out} was pretrained from the same data, configuration and code")
        return out
    check_replaceable(out, "model.safetensors")
    rank, ranks = _join_ranks()
    samples = Samples(tiles, split="train")
    measured = zip(SENSOR_NAMES, samples.levels(), strict=True)
    levels = tuple(found for name, found in measured if name in model_config.sensors)
    model = build_model(replace(model_config, levels=levels), seed).to(_device())
    check_room(out, 4 * sum(weight.numel() for weight in model.parameters()))
    rows, seconds = _run(model, train_config, samples, seed=seed, rank=rank, ranks=ranks)
    if rank == 0:
        with atomic_dir(out) as part:
            save_model(model.cpu(), part)
            pd.DataFrame(rows).to_csv(part / LOG, index=False, float_format="%.6g")
            timing = {
                "seconds": seconds,
                "images_per_second": train_config.steps * train_config.batch / seconds,
                "device": _device().type,
                "precision": resolve_precision(train_config.precision, _device()),
            }
            (part / TIMING).write_text(json.dumps(timing) + "\n")
            stamp(part, key)
    return out


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
    model: Fusion, config: TrainConfig, samples: Samples, *, seed: int, rank: int, ranks: int
) -> tuple[list[dict[str, int | float]], float]:
    device = _device()
    wrapped = DistributedDataParallel(model) if ranks > 1 else model
    optimizer = _optimizer(model, config)
    grid = config.image_px // model.config.patch_px
    rows: list[dict[str, int | float]] = []
    began = time.perf_counter()
    draw = partial(draw_batch, samples, config, seed=seed, rank=rank, ranks=ranks)
    sensors = model.config.sensors

    def placed(step: int) -> Batch:
        batch = draw(step=step)
        parts = (batch.images, batch.gsd_m)
        return Batch(*({name: part[name].to(device) for name in sensors} for part in parts))

    options = {"desc": model.config.kind, "unit": "step", "mininterval": 1.0}
    with closing(_ahead(placed, config.steps, _workers(device))) as batches:
        bar = tqdm(batches, total=config.steps, disable=rank != 0, **options)
        for step, batch in enumerate(bar):
            masks = model.draw_masks(
                config.batch, rows=grid, cols=grid, generator=stream(seed, "masks", step)
            )
            mine = {
                n: Mask(*(_share(m, rank, ranks, device) for m in _pair(masks[n]))) for n in masks
            }
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            with autocast(config.precision, device):
                contrastive, reconstruction = step_losses(
                    wrapped, batch, mine, joint_target=model.config.joint_target
                )
            loss = total_loss(contrastive, reconstruction)
            if not torch.isfinite(loss):
                raise ValueError(f"loss must stay finite, got {loss.item()} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            both = _mean_over_ranks(
                torch.stack([contrastive.detach(), reconstruction.detach()]), ranks
            )
            values = dict(zip(("contrastive", "reconstruction"), both.tolist(), strict=True))
            rows.append({"step": step, "lr": learning_rate(config, step), **values})
            bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
    return rows, time.perf_counter() - began


def _ahead(draw: Callable[[int], T], steps: int, workers: int) -> Generator[T]:
    """What is drawn for each step, in order; `workers` threads draw ahead of what is learnt.

    When closed, it waits for what is being drawn and draws no more.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(draw, step) for step in range(min(workers, steps)))
        for step in range(workers, steps + workers):
            batch = waiting.popleft().result()
            if step < steps:
                waiting.append(pool.submit(draw, step))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _workers(device: torch.device) -> int:
    """Threads that draw batches: a GPU takes several a second, a processor needs its cores.

    Each holds a batch on the device, 150 MB for 32 samples at the paper's size.
    """
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(8, (os.cpu_count() or 1) // ranks_here)) if device.type == "cuda" else 1


def _mean_over_ranks(values: Tensor, ranks: int) -> Tensor:
    if ranks > 1:
        torch.distributed.all_reduce(values)
    return values / ranks


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


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if rank >= gpus:
        raise ValueError(
            f"ranks of a machine must not exceed its GPUs, got LOCAL_RANK={rank} and {gpus}: "
            f"start torchrun with --nproc-per-node={gpus}"
        )
    return torch.device("cuda", rank)


def _join_ranks() -> tuple[int, int]:
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    if ranks == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        device = _device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), ranks


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
