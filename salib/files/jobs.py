"""Run jobs serially, in threads, in processes or on Dask, retrying failures.

A job writes one file, whole or not at all; a job whose file is there is finished and not run again.
"""

import csv
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from salib.files.artifact import atomic_file

ENGINES = ("processes", "threads", "dask")
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


Outcome = tuple[str, str | None]
"""Name of a job and, if it failed, the reason."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where jobs run, and how many failures are tolerated.

    Attributes:
        name: `processes`, `threads` or `dask`; one worker of the first two is this process.
        workers: jobs at once; of Dask, workers of one thread started here.
        scheduler: address of a running Dask cluster, whose workers see the output folder.
        retries: further attempts at a job that may succeed later.
        max_failed: share of the jobs that may fail before the run does.
    """

    name: str = "processes"
    workers: int = 1
    scheduler: str | None = None
    retries: int = 5
    max_failed: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.name!r}")
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if self.retries < 0:
            raise ValueError(f"retries must not be negative, got {self.retries}")
        if not 0 <= self.max_failed < 1:
            raise ValueError(f"max_failed must be at least 0 and below 1, got {self.max_failed}")
        if self.scheduler and self.name != "dask":
            raise ValueError(f"scheduler must go with engine dask, got engine {self.name}")


def unfinished(jobs: Sequence[Any]) -> list[Any]:
    """Jobs whose file no earlier run has written."""
    return [job for job in jobs if not (job.path.is_file() and job.path.stat().st_size)]


def run_jobs(
    work: Callable[[Any], object],
    jobs: Sequence[Any],
    engine: Engine,
    *,
    unit: str,
    retry: Callable[[ValueError], bool] | None = None,
    quarantine: Path | None = None,
) -> list[Outcome]:
    """Run the unfinished jobs, with a progress bar that counts the finished ones as well.

    Args:
        work: writes the file of a job. Its ValueError is a failed job; anything else ends the run.
        jobs: all of them; the `path` of each is its file, whose name without the ending is its own.
        engine: where they run.
        unit: what a job is called in messages.
        retry: whether a failed job may succeed later; by default never.
        quarantine: CSV file that lists the failed jobs, absent if there are none. Without it the
            first failure ends the run.

    Returns:
        The failed jobs.

    Raises:
        ValueError: as soon as more than `max_failed` of the jobs failed, or Dask is out of reach.
        OSError: if a worker process was killed. Finished jobs are kept in either case.
    """
    waiting, failed = unfinished(jobs), []
    attempt = partial(_attempt, work, retries=engine.retries, retry=retry)
    done, allowed = len(jobs) - len(waiting), engine.max_failed * len(jobs)
    with (
        tqdm(None, unit, len(jobs), initial=done, unit=unit, disable=None) as bar,
        closing(_outcomes(attempt, waiting, engine, unit)) as outcomes,
    ):
        for name, reason in outcomes:
            bar.update()
            if reason is None:
                continue
            if quarantine is None:
                raise ValueError(reason)
            failed.append((name, reason))
            bar.set_postfix(failed=len(failed))
            if len(failed) > allowed:
                break
    if quarantine is None:
        return failed
    quarantine.unlink(missing_ok=True)
    if failed:
        with atomic_file(quarantine) as part, part.open("w", newline="") as file:
            csv.writer(file).writerows([(unit, "reason"), *failed])
    if len(failed) > allowed:
        raise ValueError(
            f"{len(failed)} of {len(jobs)} {unit}s failed, more than max_failed = "
            f"{engine.max_failed:.1%} allows; {unit} {': '.join(failed[-1])}. "
            f"Finished {unit}s are kept: run again to resume, or raise max_failed"
        )
    return failed


def _attempt(
    work: Callable[[Any], object],
    job: Any,
    *,
    retries: int,
    retry: Callable[[ValueError], bool] | None,
) -> Outcome:
    """Do a job, with growing pauses between attempts; Dask repeats what a dead worker did."""
    name = job.path.stem
    for trial in range(retries + 1):
        try:
            if unfinished([job]):
                work(job)
            break
        except ValueError as error:
            if trial == retries or retry is None or not retry(error):
                return name, str(error)
            spread = random.Random(f"{name} {trial}").uniform(0.75, 1.25)
            time.sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**trial * spread))
    return name, None


def _outcomes(
    attempt: Callable[[Any], Outcome], jobs: Sequence[Any], engine: Engine, unit: str
) -> Generator[Outcome, None, None]:
    if engine.name != "dask" and (engine.workers == 1 or len(jobs) < 2):
        yield from map(attempt, jobs)
        return
    with _executor(engine) as (executor, killed):
        waiting, suspects = {executor.submit(attempt, job): job for job in jobs}, []
        try:
            for done in as_completed(waiting):
                try:
                    yield done.result()
                except killed:
                    suspects.append(waiting[done])
            for job in suspects:  # one by one: a dying worker takes along the jobs that wait for it
                try:
                    yield executor.submit(attempt, job).result()
                except killed as error:
                    yield job.path.stem, f"it killed its workers ({error})"
        except BrokenExecutor as error:
            raise OSError(
                f"A worker was killed (out of memory?). Finished {unit}s are kept; rerun with "
                "fewer workers"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _executor(engine: Engine) -> Iterator[tuple[Executor, type[Exception] | tuple[()]]]:
    """Workers, and the error that tells of a job that killed several of them."""
    if engine.name == "threads":
        with ThreadPoolExecutor(engine.workers) as threads:
            yield threads, ()
        return
    if engine.name == "processes":
        with ProcessPoolExecutor(engine.workers, get_context("spawn"), _start_process) as processes:
            yield processes, ()
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise ValueError("engine dask needs pip install distributed") from error
    here: Any = {"n_workers": engine.workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    try:
        client = Client(engine.scheduler) if engine.scheduler else Client(**here)
    except OSError as error:
        raise ValueError(
            f"Could not reach the Dask scheduler {engine.scheduler} ({error}): start it, or check "
            "its address"
        ) from error
    with client:
        yield client.get_executor(pure=False), KilledWorker


def _start_process() -> None:
    """Prepare a worker process: one thread of OpenCV, and no life after the parent's."""
    cv2.setNumThreads(1)
    if parent := parent_process():
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
