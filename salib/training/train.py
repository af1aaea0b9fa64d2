"""The one pretraining loop, in one process or in several that `torchrun` starts."""

import json
import math
import shutil
import signal
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from salib.config import ModelConfig, TrainConfig
from salib.files.artifact import (
    MADE_FROM,
    RECIPES,
    SOURCE,
    atomic_dir,
    check_replaceable,
    code_remark,
    differences,
    file_digest,
    is_kept,
    made_from,
    only_writer,
    source_digest,
    stamp,
)
from salib.files.disk import beside
from salib.model import ScaleAlibi, build_model, save_model
from salib.model.precision import instructions, resolve_precision
from salib.model.store import CONFIG, WEIGHTS
from salib.training.checkpoint import (
    Checkpoint,
    StoppedRun,
    clear_state,
    find_state,
    stop_signals,
)
from salib.training.data import Samples
from salib.training.ranks import (
    drawing_threads,
    from_first_rank,
    join_ranks,
    mean_over_ranks,
    rank_device,
)
from salib.training.step import LOSSES, Run, draw_step, learn, learning_rate, make_optimizer
from salib.training.validation import Validation

LOG, TIMING, BEST = "log.csv", "timing.json", "best"


def pretrain(
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    tiles: str | Path,
    out: str | Path,
    seed: int,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Pretrain on curated tiles; a finished run of the same inputs is kept and returned at once.

    Called again, an interrupted run resumes from what it saved last: at most ten minutes are lost,
    and nothing after SIGTERM or SIGINT.

    The folder holds the model (see `salib.load_model`), log.csv (losses by step) and timing.json
    (on what it ran, in which precision and how fast). Where the tiles have a validation split, both
    losses on a fixed set of its samples are logged twenty times a run, after the step, and `best/`
    holds the model of their least sum. The standardisation of the inputs is measured on the
    training samples. With the same seed, all models see the same samples, crops and masks. Under
    `torchrun` each rank takes its share.

    Args:
        tiles: folder written by `curate`.
        out: model folder, written whole at the end by rank 0.
        overwrite: replace a finished or unfinished run of other inputs in `out`.
        report: called with one line when a kept run is reused, or an interrupted one resumes.

    Raises:
        ValueError: if the tiles cannot be read, `out` holds something else or a run of other
            inputs, a machine runs more ranks than it has GPUs, or the loss stops being finite.
        OSError: if another run writes to `out`, or the disk has too little space.
        StoppedRun: if SIGTERM or SIGINT stopped the run; it is a KeyboardInterrupt.
    """
    tiles, out = Path(tiles), Path(out)
    work = beside(out, ".unfinished")
    rank, ranks = join_ranks()
    device = rank_device()
    precision = resolve_precision(train_config.precision, device)
    ran_on = {"device": device.type, "precision": precision}

    def claim() -> tuple[dict, int, str] | None:
        key = {
            "model": model_config.to_json(),
            "train": asdict(train_config),
            "seed": seed,
            "tiles": {path.name: file_digest(path) for path in sorted(tiles.glob("*.p[am]*"))},
            "recipe": RECIPES["pretrain"],
            SOURCE: source_digest("salib.training.train"),
        }
        if is_kept(out, key):
            same = f"kept: {out} was pretrained from the same data and configuration"
            report(same + code_remark(out, key))
            clear_state(work, key | ran_on)  # of a run killed at the very end
            return None
        _check_out(out, key, overwrite=overwrite)
        held.enter_context(only_writer(work))
        state = find_state(work, key | ran_on, overwrite=overwrite)
        if not state:
            return key, 0, ""
        return key, len(state["rows"]), code_remark(json.loads(state["key"]), key)

    with ExitStack() as held:
        claimed = from_first_rank(claim, rank, ranks)
        if claimed is None:
            return out
        key, done, remark = claimed
        samples = Samples(tiles, split="train")
        steps = train_config.steps_for(len(samples))
        run = Run(config=train_config, steps=steps, seed=seed, rank=rank, ranks=ranks)
        model = build_model(_standardised(model_config, samples), seed).to(device)
        optimizer = make_optimizer(model, train_config)
        checkpoint = Checkpoint(work, key | ran_on, model, optimizer)
        if len(checkpoint.rows) != done:
            raise ValueError(
                f"ranks must resume from one step, got {len(checkpoint.rows)} on rank {rank} and "
                f"{done} on rank 0: put the model folder on a disk that all machines share"
            )
        if rank == 0:
            checkpoint.check_disk_space()
            if done:
                report(f"Resuming at step {done} of {steps}{remark}")
        validation = Validation.of(tiles, run, model)
        with stop_signals() as stops:
            _learn_all(run, model, samples, validation, checkpoint, stops)
            if rank == 0:
                with atomic_dir(out) as part:
                    _write(part, run, model, checkpoint, ran_on)
                    stamp(part, key)
                shutil.rmtree(work, ignore_errors=True)  # NFS holds the lock a moment longer
    return out


def _standardised(config: ModelConfig, samples: Samples) -> ModelConfig:
    """The configuration with the training samples' band statistics (D13)."""
    absent = [name for name in config.sensors if name not in samples.sensors]
    if absent:
        raise ValueError(
            f"tiles must hold {', '.join(config.sensors)}, got {', '.join(samples.sensors)}: "
            "curate them with --sensors"
        )
    return replace(config, band_stats=samples.band_stats(config.sensors))


def _check_out(out: Path, key: dict, *, overwrite: bool) -> None:
    """Refuse to replace what is no model folder of ours, and a finished run unless told to."""
    check_replaceable(out, CONFIG, WEIGHTS, LOG, TIMING, BEST, MADE_FROM, stamped=True)
    check_replaceable(out / BEST, CONFIG, WEIGHTS)
    made = made_from(out)
    if made and not overwrite:
        raise ValueError(
            f"out must not hold another finished model, got {out}, which differs in "
            f"{', '.join(differences(made, key))}: choose another folder, or give --overwrite "
            "(overwrite=True) to replace it"
        )


def _learn_all(
    run: Run,
    model: ScaleAlibi,
    samples: Samples,
    validation: Validation | None,
    checkpoint: Checkpoint,
    stops: list[int],
) -> None:
    """All steps that are left; `stops` holds the signals that ask to end after the present one."""
    config, begin = run.config, len(checkpoint.rows)
    wrapped = DistributedDataParallel(model) if run.ranks > 1 else model
    how = {"joint_target": model.config.joint_target, "precision": config.precision}
    options = {"desc": model.config.kind, "unit": "step", "mininterval": 1.0}
    draw = partial(draw_step, samples, model, run)
    drawn = _ahead(draw, range(begin, run.steps), drawing_threads(rank_device()))
    with closing(drawn) as batches:
        bar = tqdm(batches, initial=begin, total=run.steps, disable=run.rank != 0, **options)
        for step, (batch, masks) in enumerate(bar, begin):
            rate = learning_rate(config, step, steps=run.steps)
            losses = learn(wrapped, checkpoint.optimizer, batch, masks, rate=rate, **how)
            stop = losses[0].new_tensor(float(bool(stops)))
            *both, stopping = mean_over_ranks(torch.stack([*losses, stop]), run.ranks).tolist()
            if not math.isfinite(sum(both)):
                raise ValueError(f"loss must stay finite, got {sum(both)} at step {step}")
            values = dict(zip(LOSSES, both, strict=True))
            checkpoint.rows.append({"step": step, "lr": rate, **values})
            bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
            done = step + 1
            if validation and (done % validation.every == 0 or done == run.steps):
                checkpoint.add_validation(validation.losses(run, model))
            ending = bool(stopping) and done < run.steps
            if run.rank == 0:
                checkpoint.save(now=ending)
            if ending:
                text = f"stopped at step {done} of {run.steps}; resume with the same command"
                raise StoppedRun(text, stops[0] if stops else signal.SIGTERM)


def _write(
    folder: Path, run: Run, model: ScaleAlibi, checkpoint: Checkpoint, ran_on: dict[str, str]
) -> None:
    seconds = checkpoint.seconds
    save_model(model.cpu(), folder)
    pd.DataFrame(checkpoint.rows).to_csv(folder / LOG, index=False, float_format="%.6g")
    timing = ran_on | {
        "instructions": instructions(rank_device()),
        "attention": sorted(model.attention_used),
        "steps": run.steps,
        "seconds": seconds,
        "images_per_second": run.steps * run.config.batch / seconds,
    }
    (folder / TIMING).write_text(json.dumps(timing) + "\n")
    if checkpoint.best is not None:
        model.load_state_dict(checkpoint.best)
        save_model(model, folder / BEST)


def _ahead(draw: Callable[[int], Any], steps: range, workers: int) -> Generator[Any]:
    """What is drawn for each step, in order; `workers` threads draw ahead of what is learnt.

    When closed, it waits for what is being drawn and draws no more.
    """
    pool, waiting = ThreadPoolExecutor(workers), deque()
    try:
        for step in steps:
            waiting.append(pool.submit(draw, step))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        for drawn in waiting:
            yield drawn.result()
    finally:
        pool.shutdown(cancel_futures=True)
