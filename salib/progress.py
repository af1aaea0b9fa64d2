"""How far a pretraining run is, saved now and then, so that an interrupted one goes on."""

import json
import time
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from salib.artifact import atomic_file, check_room

STATE = "state.pt"
SAVE_EVERY_S = 600.0


class Progress:
    """The steps a run has made: their rows, the seconds they took, weights and optimiser.

    Attributes:
        rows: what log.csv holds, one a step.
        optimizer: as the last of them left it.
    """

    def __init__(
        self, folder: Path, key: dict, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Take up what an interrupted run of the same key left in `folder`, if one did.

        Args:
            key: all that decides the result, as plain values.

        Raises:
            ValueError: if the run there has another key, or its state cannot be read.
        """
        self.rows: list[dict[str, int | float]] = []
        self._path, self._key = folder / STATE, json.loads(json.dumps(key))
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
        for left in self._path.parent.glob(f".{STATE}.*.part"):  # of a run killed while it saved
            left.unlink()
        check_room(self._path.parent, state_bytes(self._model))
        state = {
            "key": json.dumps(self._key),
            "rows": self.rows,
            "seconds": self.seconds,
            "model": self._model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_file(self._path) as part:
            torch.save(state, part)
        self._saved = time.perf_counter()

    def _take_up(self) -> None:
        remedy = f"delete {self._path.parent} to begin anew"
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise ValueError(f"{self._path} must be the state of a run: {remedy}") from error
        key = json.loads(state["key"])
        other = sorted(name for name in self._key if self._key[name] != key.get(name))
        if other:
            raise ValueError(
                f"out must not hold an unfinished run of something else, got {len(state['rows'])} "
                f"steps with another {' and '.join(other)}: choose another folder, or {remedy}"
            )
        self._model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows, self._earlier_s = state["rows"], state["seconds"]


def state_bytes(model: nn.Module) -> int:
    """Room that a saved state takes: each weight, and AdamW's two moments of it."""
    return 3 * sum(weight.numel() * weight.element_size() for weight in model.parameters())
