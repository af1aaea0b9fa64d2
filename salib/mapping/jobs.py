"""Windows as units of work: embedded here, over processes, or over Dask, to the same bytes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from salib.artifact import atomic_file
from salib.curate.engine import Engine, dask_client
from salib.curate.shards import start_worker
from salib.mapping.scene import Scene
from salib.mapping.vectors import embed_window, model_of
from salib.mapping.windows import Stretch


@dataclass(frozen=True, kw_only=True)
class Job:
    """One window: what is read, by which model it is embedded, where its vectors go."""

    path: Path
    scene: Scene
    model: str
    digest: str
    device: str
    precision: str
    patch_px: int
    rows: Stretch
    cols: Stretch
    gsd_m: float


def embed_job(job: Job) -> Path:
    """Embed one window and write its vectors, whole or not at all."""
    torch.set_num_threads(1)  # the order of a sum must not depend on the number of workers
    side, rows, cols = job.patch_px, job.rows, job.cols
    levels, valid = job.scene.read(
        cols.start * side,
        rows.start * side,
        (cols.stop - cols.start) * side,
        (rows.stop - rows.start) * side,
    )
    vectors = embed_window(
        model_of(job.model, job.digest, job.device),
        levels,
        valid,
        sensor=job.scene.sensor,
        gsd_m=job.gsd_m,
        precision=job.precision,
    )
    with atomic_file(job.path) as part, part.open("wb") as file:
        np.save(file, vectors)
    return job.path


def finished(jobs: Sequence[Job], engine: Engine) -> Iterator[Path]:
    """Embed windows and yield each one's file when it is there.

    Raises:
        ValueError: if a window cannot be read or embedded, or Dask's scheduler is out of reach.
        OSError: if a worker was killed, or the disk is full.
    """
    if engine.name == "dask":
        yield from _over_dask(jobs, engine)
    elif engine.workers == 1 or len(jobs) < 2:
        threads = torch.get_num_threads()
        try:
            yield from map(embed_job, jobs)
        finally:
            torch.set_num_threads(threads)
    else:
        yield from _over_processes(jobs, engine)


def _over_processes(jobs: Sequence[Job], engine: Engine) -> Iterator[Path]:
    pool = ProcessPoolExecutor(engine.workers, get_context("spawn"), start_worker)
    try:
        for done in as_completed([pool.submit(embed_job, job) for job in jobs]):
            yield done.result()
    except BrokenProcessPool as error:
        raise OSError(
            "workers must live, but one was killed (too little memory?): finished windows are "
            "kept; run again, with fewer workers or a smaller window"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _over_dask(jobs: Sequence[Job], engine: Engine) -> Iterator[Path]:
    with dask_client(engine) as client:
        from distributed import KilledWorker
        from distributed import as_completed as completed

        try:
            for done in completed(client.map(embed_job, jobs, pure=False)):
                yield done.result()
        except KilledWorker as error:
            raise OSError(
                f"workers must live, but a window killed them ({error}): finished windows are "
                "kept; run again, with a smaller window"
            ) from error
