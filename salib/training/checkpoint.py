"""An unfinished pretraining run on disk: saved now and then, and when it is asked to stop."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from salib.files.artifact import (
    atomic_file,
    check_disk_space,
    clear_parts,
    code_remark,
    differences,
)
from salib.model import ScaleAlibi

STATE = "state.pt"
STORED = [
    "key",
    "ran_on",
    "rows",
    "seconds",
    "instructions",
    "attention",
    "model",
    "optimizer",
    "best",
]
SAVE_EVERY_S = 600.0


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
        instructions: what the machines that ran it multiply with.
        best: weights of the least validation loss so far, if there is a validation loss.
    """

    def __init__(
        self,
        folder: Path,
        key: dict,
        ran_on: dict[str, str],
        model: ScaleAlibi,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Restore what an interrupted run left in `folder`, if one did (see `check_unfinished`).

        Args:
            key: what the finished run will be known by, as plain values.
            ran_on: device and precision; a run does not change them on its way.
        """
        self.rows: list[dict[str, int | float]] = []
        self.instructions: list[str] = []
        self.best: dict[str, Tensor] | None = None
        self._path, self._key, self._ran_on = folder / STATE, key, ran_on
        self._model, self.optimizer = model, optimizer
        self._began = self._saved = time.perf_counter()
        if state := _load(self._path):
            model.load_state_dict(state["model"])
            model.attention_used.update(state["attention"])
            optimizer.load_state_dict(state["optimizer"])
            self.rows, self.instructions = state["rows"], state["instructions"]
            best = state["best"]
            self.best = best and {name: value.clone() for name, value in best.items()}
            self._began -= state["seconds"]

    @property
    def seconds(self) -> float:
        """Time spent so far; what an interrupted run lost does not count."""
        return time.perf_counter() - self._began

    def add_validation(self, losses: dict[str, float]) -> None:
        """Add losses to the last row; store the weights if their sum is the least so far."""
        values = {f"valid_{name}": value for name, value in losses.items()}
        earlier = [sum(row[name] for name in values) for row in self.rows if {*values} <= {*row}]
        self.rows[-1].update(values)
        if sum(losses.values()) < min(earlier, default=float("inf")):
            weights = self._model.state_dict()
            self.best = {name: w.detach().to("cpu", copy=True) for name, w in weights.items()}

    def save_if_due(self) -> None:
        """Save, unless that was done within the last SAVE_EVERY_S; see `save`."""
        if time.perf_counter() - self._saved >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Replace the state on disk by the present one.

        Raises:
            OSError: if the disk has too little space; what was saved before is kept.
        """
        check_disk_space(self._path.parent, self._state_bytes())
        state = {
            "key": json.dumps(self._key),
            "ran_on": self._ran_on,
            "rows": self.rows,
            "seconds": self.seconds,
            "instructions": self.instructions,
            "attention": sorted(self._model.attention_used),
            "model": self._model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
        }
        with atomic_file(self._path) as part:
            torch.save(state, part)
        self._saved = time.perf_counter()

    def check_disk_space(self) -> None:
        """Check that a state fits on the disk beside the one it replaces.

        Raises:
            OSError: if the disk has too little space.
        """
        clear_parts(self._path.parent, STATE)
        there = self._path.stat().st_size if self._path.is_file() else 0
        check_disk_space(self._path.parent, max(0, 2 * self._state_bytes() - there))

    def _state_bytes(self) -> int:
        """Each weight, AdamW's two moments of it, and the best one."""
        copies = 3 + (self.best is not None)
        return copies * sum(w.numel() * w.element_size() for w in self._model.parameters())


def check_unfinished(folder: Path, key: dict, ran_on: dict[str, str], *, overwrite: bool) -> str:
    """Check that `folder` holds no unfinished run, or one of the same key, device and precision.

    Args:
        key: of the run that is to begin or to resume; ran_on likewise.
        overwrite: delete the state of a run of another key, or one that cannot be read.

    Returns:
        What to tell of a run that other code began, or nothing.

    Raises:
        ValueError: if there is such a state and it must not be overwritten.
    """
    remedy = f"give --overwrite (overwrite=True) or delete {folder} to begin anew"
    try:
        state = _load(folder / STATE)
    except ValueError as error:
        problem = f"{error}: {remedy}"
    else:
        if not state:
            return ""
        began = json.loads(state["key"])
        other = differences(began | state["ran_on"], key | ran_on)
        if not other:
            return code_remark(began, key)
        problem = (
            f"out must not hold an unfinished run of other inputs, got {len(state['rows'])} steps "
            f"of one that differs in {', '.join(other)}: choose another folder, or {remedy}"
        )
    if not overwrite:
        raise ValueError(problem)
    (folder / STATE).unlink()
    return ""


def clear_finished(folder: Path, key: dict) -> None:
    """Remove the state of a run of this key that was killed once it had finished."""
    with suppress(ValueError):  # somebody else's, or damaged
        state = _load(folder / STATE)
        if state and not differences(json.loads(state["key"]), key):
            shutil.rmtree(folder, ignore_errors=True)


def _load(path: Path) -> dict[str, Any]:
    """The state of a run, empty where there is none."""
    if not path.is_file():
        return {}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: state[name] for name in STORED}
    except PermissionError:
        raise
    except (RuntimeError, EOFError, UnpicklingError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path} must be a checkpoint, got another file") from error
