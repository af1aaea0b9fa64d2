"""An unfinished pretraining run on disk: saved now and then, and when it is asked to stop."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from salib.files.artifact import atomic_file, check_disk_space, clear, differences
from salib.files.checksum import check_zip
from salib.model import ScaleAlibi

STATE, LOG = "state.pt", "log.csv"
STORED = ("key", "rows", "seconds", "waited", "model", "optimizer", "best", "average")
SAVE_EVERY_S = 600.0
LOG_EVERY_S = 5.0


class StoppedRun(KeyboardInterrupt):
    """A run that signal number `signal` stopped between two steps, after its state was saved."""

    def __init__(self, text: str, signal: int) -> None:
        """Say at which step it stopped and by which signal."""
        super().__init__(text)
        self.signal = signal


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM within the block, where they would end the process.

    Only the main thread receives signals; in another one the list stays empty. A signal that the
    process ignores, such as SIGINT of a job in the background, stays ignored.
    """
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


class Checkpoint:
    """Saves and restores an unfinished run: losses so far, time, weights and optimiser.

    Attributes:
        rows: what log.csv holds, one per step.
        optimizer: as the last step left it.
        best: weights of the least validation loss so far, if there is a validation loss.
        average: of the weights over the steps, if one is kept.
        waited: seconds that the steps waited for their samples.
        settled: whether weights, rows and all else are those of the same step.
    """

    def __init__(
        self, folder: Path, key: dict, model: ScaleAlibi, optimizer: torch.optim.Optimizer
    ) -> None:
        """Restore what an interrupted run left in `folder`, if one did (see `find_state`).

        Args:
            key: what tells the run from others, as plain values.
        """
        self.rows: list[dict[str, int | float]] = []
        self.best: dict[str, Tensor] | None = None
        self.average: dict[str, Tensor] | None = None
        self.waited, self.settled = 0.0, True
        self._path, self._key = folder / STATE, key
        self._model, self.optimizer = model, optimizer
        self._began = self._saved = time.perf_counter()
        self._log_next = self._began + LOG_EVERY_S
        if state := _load(self._path):
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            self.rows, self.best, self.average = state["rows"], state["best"], state["average"]
            self.waited = state["waited"]
            self._began -= state["seconds"]

    @property
    def seconds(self) -> float:
        """Time spent so far; what an interrupted run lost does not count."""
        return time.perf_counter() - self._began

    def add_validation(self, losses: dict[str, float], told: dict[str, float]) -> None:
        """Add losses to the last row; store the weights if their sum is the least so far.

        Args:
            losses: on the validation split.
            told: what else was measured there.
        """
        values = {f"valid_{name}": value for name, value in losses.items()}
        earlier = [sum(row[name] for name in values) for row in self.rows if {*values} <= {*row}]
        self.rows[-1].update(values | {f"valid_{name}": value for name, value in told.items()})
        if sum(losses.values()) < min(earlier, default=float("inf")):
            weights = self._model.state_dict()
            self.best = {name: w.detach().to("cpu", copy=True) for name, w in weights.items()}

    @torch.no_grad()
    def follow(self, kept: float) -> None:
        """Move the average towards the weights, of which it keeps a share; early on less."""
        weights, steps = self._model.state_dict(), len(self.rows)
        if self.average is None:
            self.average = {name: w.detach().clone() for name, w in weights.items()}
        for name, mean in self.average.items():
            mean.lerp_(weights[name].to(mean.device), 1 - min(kept, steps / (steps + 10)))

    def write_log(self, path: Path | None = None) -> None:
        """Write the rows as CSV: at a place of their own, or for who watches the run.

        The latter beside the state, and now and then only: a twentieth of the time at most.
        """
        began = time.perf_counter()
        if path is None and began < self._log_next:
            return
        with atomic_file(path or self._path.with_name(LOG)) as part:
            pd.DataFrame(self.rows).to_csv(part, index=False, float_format="%.6g")
        took = time.perf_counter() - began
        self._log_next = began + max(LOG_EVERY_S, 20 * took)

    def save(self, *, now: bool) -> None:
        """Replace the state on disk, now or once SAVE_EVERY_S have passed since the last time.

        Raises:
            OSError: if the disk has too little space; what was saved before is kept.
        """
        if not now and time.perf_counter() - self._saved < SAVE_EVERY_S:
            return
        self.check_disk_space()
        state = {
            "key": json.dumps(self._key),
            "rows": self.rows,
            "seconds": self.seconds,
            "waited": self.waited,
            "model": self._model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "average": self.average,
        }
        with atomic_file(self._path) as part, part.open("wb") as file:
            torch.save(state, file)  # a file of Python's tells why it could not be written
        self._saved = time.perf_counter()

    def check_disk_space(self) -> None:
        """Check that a state fits: each weight, AdamW's two moments of it, and the best one.

        Raises:
            OSError: if the disk has too little space.
        """
        copies = 3 + sum(more is not None for more in (self.best, self.average))
        weights = sum(w.numel() * w.element_size() for w in self._model.parameters())
        check_disk_space(self._path.parent, copies * weights)


def find_state(folder: Path, key: dict, *, overwrite: bool) -> dict[str, Any]:
    """The state of an interrupted run of this key, empty where there is none.

    Args:
        overwrite: delete the state of a run of another key, or one that cannot be read.

    Raises:
        ValueError: if there is such a state and it must not be overwritten.
    """
    remedy = f"give --overwrite (overwrite=True) or delete {folder} to begin anew"
    try:
        state = _load(folder / STATE)
        other = differences(json.loads(state["key"]), key) if state else []
        if not other:
            return state
        problem = (
            f"out must not hold an unfinished run of other inputs, got {len(state['rows'])} steps "
            f"of one that differs in {', '.join(other)}: choose another folder, or {remedy}"
        )
    except ValueError as error:
        problem = f"{error}: {remedy}"
    if not overwrite:
        raise ValueError(problem)
    (folder / STATE).unlink()
    return {}


def clear_state(folder: Path, key: dict) -> None:
    """Remove what a run of this key left that was killed between its end and its clearing up."""
    with suppress(OSError, ValueError):
        state = _load(folder / STATE)
        if not (state and differences(json.loads(state["key"]), key)):
            clear(folder, STATE, LOG)


def _load(path: Path) -> dict[str, Any]:
    """The state of a run, empty where there is none."""
    if not path.is_file():
        return {}
    try:
        check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: state[name] for name in STORED}
    except PermissionError:
        raise
    except Exception as error:  # torch names no common ancestor for what a damaged file raises
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path} must be a checkpoint, got another file ({reason})") from error
