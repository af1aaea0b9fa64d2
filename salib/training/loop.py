"""The one loop over steps: draw ahead, learn, log, measure, save, stop when asked to."""

import math
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from salib.model import ScaleAlibi
from salib.model.layers import Transformer
from salib.model.precision import memory
from salib.training.checkpoint import Checkpoint, StoppedRun
from salib.training.data import Samples
from salib.training.ranks import drawing_threads, rank_device
from salib.training.step import Run, draw_step, learn, learning_rate
from salib.training.validation import Validation

LOST = re.compile(r"gloo|nccl|connection (was )?(closed|reset|refused)|timed out", re.IGNORECASE)
"""What torch's backends say of a rank that does not answer."""


def learn_all(
    run: Run,
    model: ScaleAlibi,
    samples: Samples,
    validation: Validation | None,
    checkpoint: Checkpoint,
    stops: list[int],
    watch: Callable[[dict[str, float]], object] | None,
) -> None:
    """Take all steps that are left.

    Args:
        run: what this rank knows of the run.
        model: on its device.
        samples: to draw from.
        validation: what to measure now and then.
        checkpoint: what was done; it gets a row per step.
        stops: holds the signals that ask to end after the present step.
        watch: called by rank 0 with each row.

    Raises:
        ValueError: if the loss stops being finite.
        OSError: if another rank is lost; what was done is saved.
        StoppedRun: if it was asked to end.
    """
    config, begin, device = run.config, len(checkpoint.rows), rank_device()
    for module in model.modules():
        if isinstance(module, Transformer):
            module.recompute = config.recompute
    passing: Any = torch.compile(model) if config.compile else model
    options = {"desc": model.config.kind, "unit": "step", "mininterval": 1.0}
    draw = partial(draw_step, samples, model, run)
    drawn = _ahead(draw, range(begin, run.steps), drawing_threads(device))
    with closing(_timed(drawn, checkpoint)) as batches, _other_ranks(run, checkpoint):
        bar = tqdm(batches, initial=begin, total=run.steps, disable=run.rank != 0, **options)
        for step, views in enumerate(bar, begin):
            rate = learning_rate(config, step, steps=run.steps)
            how = {"rate": rate, "stop": bool(stops)}
            values, stopping = learn(passing, checkpoint.optimizer, views, run, **how)
            if not math.isfinite(sum(values.values())):
                raise ValueError(
                    f"loss must stay finite, got {values} at step {step}: lower the learning rate"
                )
            checkpoint.rows.append({"step": step, "lr": rate, **values})
            if config.ema:
                checkpoint.follow(config.ema)
            done = step + 1
            if validation and (done % validation.every == 0 or done == run.steps):
                checkpoint.settled = False
                checkpoint.add_validation(*validation.measure(run, model))
                checkpoint.settled = True
            ending = stopping and done < run.steps
            if run.rank == 0:
                per_s = (done - begin) * config.batch / max(1e-9, bar.format_dict["elapsed"])
                shown = {name: f"{value:.3f}" for name, value in values.items()}
                shown |= {"samples/s": f"{per_s:.0f}", "GB": f"{memory(device):.1f}"}
                bar.set_postfix(shown)
                if watch is not None:
                    watch(checkpoint.rows[-1])
                checkpoint.write_log()
                checkpoint.save(now=ending)
            if ending:
                text = f"stopped at step {done} of {run.steps}; resume with the same command"
                raise StoppedRun(text, stops[0] if stops else signal.SIGTERM)


@contextmanager
def _other_ranks(run: Run, checkpoint: Checkpoint) -> Iterator[None]:
    """Save what was done, between two steps, when another rank is lost within the block."""
    try:
        yield
    except RuntimeError as error:
        if run.ranks == 1 or not LOST.search(str(error)):
            raise
        if run.rank == 0 and checkpoint.settled:
            checkpoint.save(now=True)
        raise OSError(
            f"Lost another rank after step {len(checkpoint.rows)} of {run.steps} "
            f"({str(error).splitlines()[0]}): resume with the same command"
        ) from error


def _timed(batches: Generator[Any], checkpoint: Checkpoint) -> Generator[Any]:
    """The same batches; the time that is waited for each counts."""
    with closing(batches):
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            checkpoint.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch


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
