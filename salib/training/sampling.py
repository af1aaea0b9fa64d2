"""Which samples a step draws: epochs without replacement, no ground twice in a batch."""

from collections import Counter
from collections.abc import Sequence
from threading import Lock

import numpy as np
import torch

Tile = tuple[int, int, int]
"""Zoom, x and y."""
_LOCK = Lock()


def stream(seed: int, name: str, step: int) -> torch.Generator:
    """The random stream of one step, spawned by name from a run's seed."""
    entropy = np.random.SeedSequence([seed, *name.encode(), step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0] >> np.uint64(1)))


class Order:
    """The batches of a run: a queue of shuffled epochs, in which overlapping samples are put off.

    A batch takes the next samples of the queue that share no ground with one it holds already: of
    the same tile, or of a tile around it or within it. Those put off go first in the next batch. So
    the rest of an epoch is drawn too, and a batch that spans two epochs repeats nothing. With tiles
    of one zoom all samples are drawn equally often, to within one.

    Tiles of several zooms may leave no such sample, neither waiting nor in the epoch after. Then
    the sample that overlaps the fewest is drawn; counts differ by two at most.
    """

    def __init__(self, tiles: Sequence[Tile], batch: int, *, seed: int) -> None:
        """Prepare an order, which grows as later steps are asked for.

        Args:
            tiles: of each sample.

        Raises:
            ValueError: if the batch is larger than the number of samples.
        """
        if batch > len(tiles):
            raise ValueError(
                f"batch must not exceed the number of samples, got a batch of {batch} and "
                f"{len(tiles)} samples: choose a smaller batch or curate more"
            )
        self._batch, self._seed = batch, seed
        self._lines = _lines(list(tiles))
        number = {tile: row for row, tile in enumerate(line[0] for line in self._lines)}
        self._coarsest = np.array([number[line[0]] for line in self._lines])
        self._waiting = np.empty(0, np.int32)
        self._epochs = 0
        self._batches: list[np.ndarray] = []
        self._overlapping: set[int] = set()

    def batch(self, step: int) -> list[int]:
        """Samples of a step, in the order drawn."""
        with _LOCK:
            while len(self._batches) <= step:
                self._batches.append(self._next())
            return self._batches[step].tolist()

    def remark(self) -> str:
        """One line if samples overlap within batches of the first epoch, else empty."""
        steps = len(self._lines) // self._batch
        self.batch(steps - 1)
        shared = sum(step < steps for step in self._overlapping)
        if not shared:
            return ""
        return (
            f"samples overlap on the ground in {shared} of the first {steps} batches: tiles of "
            f"several zooms leave too few apart for a batch of {self._batch}"
        )

    def _next(self) -> np.ndarray:
        while len(self._waiting) < self._batch:
            self._shuffle()
        drawn, rest = self._waiting[: self._batch], self._waiting[self._batch :]
        if len(set(self._coarsest[drawn].tolist())) < self._batch:  # some may overlap
            positions = self._apart()
            drawn, rest = self._waiting[positions], np.delete(self._waiting, positions)
        self._waiting = rest
        return drawn

    def _shuffle(self) -> None:
        """Put one more epoch at the end of the queue."""
        generator = stream(self._seed, "epochs", self._epochs)
        epoch = torch.randperm(len(self._lines), generator=generator).numpy().astype(np.int32)
        self._waiting = np.concatenate([self._waiting, epoch])
        self._epochs += 1

    def _apart(self) -> list[int]:
        """Where in the queue the next samples apart are, then those that overlap the fewest."""
        taken: dict[int, int] = {}
        chosen: Counter[Tile] = Counter()
        within: Counter[Tile] = Counter()
        """Chosen tiles by each tile that they lie in or are."""

        def overlaps(at: int) -> int:
            *around, tile = self._lines[self._waiting[at]]
            return within[tile] + sum(chosen[coarser] for coarser in around)

        def take(at: int) -> None:
            sample = int(self._waiting[at])
            if overlaps(at):
                self._overlapping.add(len(self._batches))
            taken[sample] = at
            chosen[self._lines[sample][-1]] += 1
            within.update(self._lines[sample])

        at = 0
        while len(taken) < self._batch:
            if at < len(self._waiting):
                if not overlaps(at):
                    take(at)
                at += 1
            elif len(set(self._waiting.tolist())) == len(self._waiting) < len(self._lines):
                self._shuffle()
            else:
                break
        while len(taken) < self._batch:
            left = [at for at, sample in enumerate(self._waiting.tolist()) if sample not in taken]
            if left:
                take(min(left, key=overlaps))
            else:
                self._shuffle()
        return list(taken.values())


def _lines(tiles: list[Tile]) -> list[list[Tile]]:
    """For each tile those of the list that contain it, coarsest first, and itself."""
    known, zooms = set(tiles), sorted({z for z, _, _ in tiles})
    return [
        [
            coarser
            for zoom in zooms
            if zoom <= z and (coarser := (zoom, x >> (z - zoom), y >> (z - zoom))) in known
        ]
        for z, x, y in tiles
    ]
