"""Which samples a step draws: epochs without replacement, no sample twice in a batch."""

from functools import lru_cache
from threading import Lock

import numpy as np
import torch

_LOCK = Lock()


def stream(seed: int, name: str, step: int) -> torch.Generator:
    """The random stream of one step, spawned by name from a run's seed."""
    entropy = np.random.SeedSequence([seed, *name.encode(), step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0] >> np.uint64(1)))


class Order:
    """The batches of a run: a queue of shuffled epochs, of which each batch takes the next samples.

    The rest of an epoch is drawn too. In a batch that spans two epochs a sample that it holds
    already is put off, and goes first in the next batch. All samples are drawn equally often, to
    within one.
    """

    def __init__(self, count: int, batch: int, *, seed: int) -> None:
        """Prepare an order of so many samples, which grows as later steps are asked for.

        Raises:
            ValueError: if the batch is larger than the number of samples.
        """
        if batch > count:
            raise ValueError(
                f"batch must not exceed the number of samples, got a batch of {batch} and "
                f"{count} samples: choose a smaller batch or curate more"
            )
        self._count, self._batch, self._seed = count, batch, seed
        self._waiting = np.empty(0, np.int32)
        self._epochs = 0
        self._batches: list[np.ndarray] = []

    def batch(self, step: int) -> list[int]:
        """Samples of a step, in the order drawn."""
        with _LOCK:
            while len(self._batches) <= step:
                self._batches.append(self._next())
            return self._batches[step].tolist()

    def _next(self) -> np.ndarray:
        if len(self._waiting) < self._batch:
            generator = stream(self._seed, "epochs", self._epochs)
            epoch = torch.randperm(self._count, generator=generator).numpy().astype(np.int32)
            self._waiting = np.concatenate([self._waiting, epoch])
            self._epochs += 1
        drawn, rest = self._waiting[: self._batch], self._waiting[self._batch :]
        if len(np.unique(drawn)) < self._batch:  # it spans two epochs
            positions = np.sort(np.unique(self._waiting, return_index=True)[1])[: self._batch]
            drawn, rest = self._waiting[positions], np.delete(self._waiting, positions)
        self._waiting = rest
        return drawn


@lru_cache(maxsize=16)
def order_of(count: int, batch: int, seed: int) -> Order:
    """The order of a run, which its steps and threads share."""
    return Order(count, batch, seed=seed)
