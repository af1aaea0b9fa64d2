"""How far a pretraining run is, saved now and then, so that an interrupted one goes on."""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from salib.artifact import InUseError, atomic_file, check_room, is_kept, only_writer

STATE = "state.pt"
STORED = ("key", "ran_on", "rows", "seconds", "model", "optimizer")
SAVE_EVERY_S = 600.0


class Progress:
    """The steps a run has made: their rows, the seconds they took, weights and optimiser.

    Attributes:
        rows: what log.csv holds, one a step.
        optimizer: as the last of them left it.
    """

    def __init__(
        self,
        folder: Path,
        key: dict,
        ran_on: dict[str, str],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Take up what an interrupted run of the same key left in `folder`, if one did.

        Args:
            key: what the finished run will be known by, as plain values.
            ran_on: device and precision; a run does not change them on its way.

        Raises:
            ValueError: if the run there has another key, or its state cannot be read.
        """
        self.rows: list[dict[str, int | float]] = []
        self._path, self._key, self._ran_on = folder / STATE, json.loads(json.dumps(key)), ran_on
        self._model, self.optimizer = model, optimizer
        self._earlier_s = 0.0
        if self._path.is_file():
            self._take_up()
        self._began = self._saved = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time spent so far; what an interrupted run lost does not count."""
        return self._earlier_s + time.perf_counter() - self._began

    def save_if_due(self) -> None:
        """Save, unless that was done within the last SAVE_EVERY_S.

        Raises:
            OSError: if the disk has too little room; what was saved before is kept.
        """
        if time.perf_counter() - self._saved < SAVE_EVERY_S:
            return
        check_room(self._path.parent, self._state_bytes)
        state = {
            "key": json.dumps(self._key),
            "ran_on": self._ran_on,
            "rows": self.rows,
            "seconds": self.seconds,
            "model": self._model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_file(self._path) as part:
            torch.save(state, part)
        self._saved = time.perf_counter()

    def make_room(self) -> None:
        """See that a state fits on the disk beside the one it replaces.

        Raises:
            OSError: if the disk has too little room.
        """
        for left in self._path.parent.glob(f".{STATE}.*.part"):  # of a run killed while it saved
            left.unlink()
        there = self._path.stat().st_size if self._path.is_file() else 0
        check_room(self._path.parent, max(0, 2 * self._state_bytes - there))

    @property
    def _state_bytes(self) -> int:
        """Each weight, and AdamW's two moments of it."""
        return 3 * sum(w.numel() * w.element_size() for w in self._model.parameters())

    def _take_up(self) -> None:
        remedy = f"delete {self._path.parent} to begin anew"
        try:
            state = _load(self._path)
        except ValueError as error:
            raise ValueError(f"{error}: {remedy}") from error
        was, now = json.loads(state["key"]) | state["ran_on"], self._key | self._ran_on
        other = sorted(name for name in now if now[name] != was.get(name))
        if other:
            raise ValueError(
                f"out must not hold an unfinished run of something else, got {len(state['rows'])} "
                f"steps with another {' and '.join(other)}: choose another folder, or {remedy}"
            )
        self._model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows, self._earlier_s = state["rows"], state["seconds"]


def clear_finished(folder: Path, out: Path) -> None:
    """Remove the state of a run that was killed after `out` was written, before it was cleared."""
    if not (folder / STATE).is_file():
        return
    with suppress(ValueError, InUseError), only_writer(folder):
        if is_kept(out, json.loads(_load(folder / STATE)["key"])):
            shutil.rmtree(folder, ignore_errors=True)


def _load(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: state[name] for name in STORED}
    except PermissionError:
        raise
    except (RuntimeError, EOFError, UnpicklingError, ValueError, KeyError, OSError) as error:
        raise ValueError(f"{path} must be the state of a run, which it is not") from error
