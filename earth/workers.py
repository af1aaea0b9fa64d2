"""Jobs over worker processes, in order and with progress shown."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from tqdm import tqdm


def results(
    job: Callable[[Any], Any], items: Sequence[Any], processes: int, name: str
) -> Iterator[Any]:
    """Results of a job over items, in their order; one process is this one."""
    if processes == 1:
        yield from tqdm(map(job, items), name, len(items), disable=None)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        yield from tqdm(pool.map(job, items), name, len(items), disable=None)
