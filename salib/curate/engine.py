"""Blocks to files: one attempt, mapped in turn, over threads, over processes or over Dask."""

import csv
import random
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from salib.curate.rasters.reader import close_files, keep_files
from salib.curate.rasters.remote import ReadError
from salib.curate.shards import Block, commit, start_worker
from salib.files.artifact import atomic_file

ENGINES = ("processes", "threads", "dask")
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How blocks are mapped.

    Attributes:
        name: `processes`, `threads` or `dask`; one worker of the first two is this process.
        workers: blocks at once; of Dask, workers of one thread started here.
        scheduler: address of a Dask cluster that runs already, whose workers see the output folder.
        retries: further attempts at a block whose files could not be read.
        max_failed: share of the blocks that may be left out before the run fails.
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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A block and, if it could not be rendered, the reason."""

    name: str
    reason: str | None


def attempt(block: Block, retries: int) -> Outcome:
    """Commit a block, again after a while where that may help.

    A scene that is wrong is a reason; a full disk, or a fault of ours, is raised. Dask asks again
    for what a dead worker had done.
    """
    if block.path.is_file():
        return Outcome(name=block.name, reason=None)
    for trial in range(retries + 1):
        try:
            commit(block)
            return Outcome(name=block.name, reason=None)
        except ReadError as error:
            if not error.again or trial == retries:
                return Outcome(name=block.name, reason=str(error))
            spread = random.Random(f"{block.name} {trial}").uniform(0.75, 1.25)
            time.sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**trial * spread))
        except ValueError as error:
            return Outcome(name=block.name, reason=str(error))
    raise AssertionError("the last trial returns")


def execute(blocks: Sequence[Block], total: int, engine: Engine, quarantine: Path) -> list[Outcome]:
    """Attempt blocks, with a bar of rate and time left that counts those already there.

    Returns:
        The outcomes that failed, which are also listed in the file `quarantine`.

    Raises:
        ValueError: as soon as more than `max_failed` of `total` failed; what was rendered is kept.
    """
    failed: list[Outcome] = []
    bar = tqdm(None, "curate", total, initial=total - len(blocks), unit="block", disable=None)
    outcomes = _outcomes(blocks, engine)
    with bar:
        for outcome in outcomes:
            bar.update()
            if outcome.reason is None:
                continue
            failed.append(outcome)
            bar.set_postfix(failed=len(failed))
            if len(failed) > engine.max_failed * total:
                outcomes.close()
                _write_quarantine(quarantine, failed)
                raise ValueError(
                    f"at most {engine.max_failed:.1%} of {total} blocks may fail, got "
                    f"{len(failed)}; block {outcome.name}: {outcome.reason}. What was rendered is "
                    "kept: run again to go on, or allow more with max_failed"
                )
    _write_quarantine(quarantine, failed)
    return failed


def _write_quarantine(path: Path, failed: Sequence[Outcome]) -> None:
    """List the blocks that were left out, with their reasons; no file where there are none."""
    path.unlink(missing_ok=True)
    if not failed:
        return
    with atomic_file(path) as part, part.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["block", "reason"])
        rows.writerows([outcome.name, outcome.reason] for outcome in failed)


def _outcomes(blocks: Sequence[Block], engine: Engine) -> Generator[Outcome, None, None]:
    if engine.name == "dask":
        yield from _over_dask(blocks, engine)
    elif engine.workers == 1 or len(blocks) < 2:
        keep_files()
        try:
            yield from (attempt(block, engine.retries) for block in blocks)
        finally:
            close_files()
    else:
        yield from _over_pool(blocks, engine)


def _over_pool(blocks: Sequence[Block], engine: Engine) -> Generator[Outcome, None, None]:
    pool: Executor
    if engine.name == "threads":
        pool = ThreadPoolExecutor(engine.workers, initializer=keep_files)
    else:
        pool = ProcessPoolExecutor(engine.workers, get_context("spawn"), start_worker)
    try:
        waiting: list[Future[Outcome]] = [
            pool.submit(attempt, block, engine.retries) for block in blocks
        ]
        for done in as_completed(waiting):
            yield done.result()
    except BrokenProcessPool as error:
        raise OSError(
            "workers must live, but one was killed (too little memory?): what was rendered is "
            "kept; run again, with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def dask_client(engine: Engine) -> Iterator[Any]:
    """A client of the engine's cluster, or of one started here for the block.

    Raises:
        ValueError: if Dask is not installed, or its scheduler is out of reach.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ValueError("engine dask needs pip install distributed") from error
    with ExitStack() as stack:
        where: Any = engine.scheduler
        if where is None:
            where = stack.enter_context(
                LocalCluster(n_workers=engine.workers, threads_per_worker=1, dashboard_address=":0")
            )
        try:
            client = stack.enter_context(Client(where))
        except OSError as error:
            raise ValueError(
                f"scheduler must be a Dask within reach, got {where} ({error})"
            ) from error
        yield client


def _over_dask(blocks: Sequence[Block], engine: Engine) -> Generator[Outcome, None, None]:
    with dask_client(engine) as client:
        from distributed import KilledWorker
        from distributed import as_completed as completed

        once = partial(attempt, retries=engine.retries)
        waiting = client.map(once, blocks, pure=False)
        named = {future.key: block for future, block in zip(waiting, blocks, strict=True)}
        killed: list[Block] = []
        for done in completed(waiting):
            try:
                yield done.result()
            except KilledWorker:
                killed.append(named[done.key])
        for block in killed:  # one by one: a dying worker takes along the blocks that wait for it
            try:
                yield client.submit(once, block, pure=False).result()
            except KilledWorker as error:
                yield Outcome(name=block.name, reason=f"it killed its workers ({error})")
