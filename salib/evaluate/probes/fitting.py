"""The one loop that fits torch heads: AdamW, which is Adam where the weight decay is 0."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from salib.evaluate.protocol import Protocol

Loss = Callable[[Tensor, Tensor], tuple[Tensor, int]]
"""Of outputs and targets: the loss summed over labelled items or pixels, and their number."""


class Examples(NamedTuple):
    """Inputs and targets item by item; both may be memory maps."""

    inputs: np.ndarray
    targets: np.ndarray


def fit_best(
    build: Callable[[], nn.Module],
    train: Examples,
    valid: Examples,
    *,
    loss: Loss,
    score: Callable[[nn.Module], float],
    protocol: Protocol,
    seed: int,
    device: str = "cpu",
) -> nn.Module:
    """The candidate of best valid score, then least valid loss, of all learning rates.

    Draws are made on the CPU: every candidate, on every device, starts from the same weights and
    sees the same batches. A candidate whose valid loss stops being finite ends there.

    Args:
        build: makes the head; its parameters are drawn from the seed.
        protocol: its rates, weight decay, epochs, patience and batch, and which epoch it keeps.
        score: of a fitted head on the valid split.

    Raises:
        ValueError: if every candidate diverges.
    """
    candidates = []
    for rate in protocol.learning_rates:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = build().to(device)
            reached = _fit(head, train, valid, loss, protocol, rate)
        if reached is not None:
            candidates.append((score(head), -reached, head))
    if not candidates:
        raise ValueError(
            f"learning_rates must hold one that converges, got {protocol.learning_rates}: "
            "add lower ones or standardise the features"
        )
    return max(candidates, key=lambda candidate: candidate[:2])[2]


def outputs(head: nn.Module, inputs: np.ndarray, batch: int) -> Iterator[Tensor]:
    """What a head makes of its inputs, a batch at a time."""
    for start in range(0, len(inputs), batch):
        with torch.inference_mode():
            yield head(_tensor(inputs[start : start + batch], head))


def _fit(
    head: nn.Module,
    train: Examples,
    valid: Examples,
    loss: Loss,
    protocol: Protocol,
    rate: float,
) -> float | None:
    """Fit in place; the valid loss of the weights that stay, None if it was never finite."""
    options = {"lr": rate, "weight_decay": protocol.weight_decay, "foreach": False, "fused": True}
    optimiser = torch.optim.AdamW(head.parameters(), **options)
    best, weights, waited = math.inf, None, 0
    for _ in range(protocol.epochs):
        for items in torch.randperm(len(train.inputs)).split(protocol.batch):
            rows = items.sort().values.numpy()  # sorted: a memory map is read in its order
            optimiser.zero_grad()
            made = head(_tensor(train.inputs[rows], head))
            total, count = loss(made, _tensor(train.targets[rows], head))
            (total / max(count, 1)).backward()
            optimiser.step()
        reached = _mean_loss(head, valid, loss, protocol.batch)
        waited += 1
        if not math.isfinite(reached):
            weights = weights if protocol.keep == "best" else None
            break
        if weights is None or protocol.keep == "last" or reached < best:
            best, weights, waited = reached, deepcopy(head.state_dict()), 0
        if waited >= protocol.patience:
            break
    if weights is None:
        return None
    head.load_state_dict(weights)
    return best


def _mean_loss(head: nn.Module, examples: Examples, loss: Loss, batch: int) -> float:
    total, number, start = 0.0, 0, 0
    for made in outputs(head, examples.inputs, batch):
        part, count = loss(made, _tensor(examples.targets[start : start + batch], head))
        total, number, start = total + part.item(), number + count, start + batch
    return total / number


def _tensor(values: np.ndarray, head: nn.Module) -> Tensor:
    # A copy: torch aligns it, and products of aligned arrays give the same bits each time.
    return torch.tensor(values, device=next(head.parameters()).device)
