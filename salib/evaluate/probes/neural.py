"""The neural probe: one hidden layer of 2048 on frozen features."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from salib.evaluate.probes.checks import check_features, check_labels
from salib.evaluate.protocol import Protocol

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class Layers(NamedTuple):
    """Weights of the two layers."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class Objective(NamedTuple):
    """What is descended, of (logits, targets), and what chooses a candidate on the valid items."""

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]


class Fit(NamedTuple):
    """The layers kept, and what they reach on the valid items."""

    layers: Layers
    score: float
    loss: float


class Data(NamedTuple):
    """Train and valid features and targets as tensors."""

    train: Tensor
    train_targets: Tensor
    valid: Tensor
    valid_targets: Tensor


def data_on(device: str | torch.device, *arrays: np.ndarray) -> Data:
    """Train and valid features and targets, where the network is to be fitted."""
    return Data(*(torch.from_numpy(array).to(device) for array in arrays))


def accuracy(logits: Float[Tensor, "items classes"], labels: Int64[Tensor, " items"]) -> float:
    """Share of items whose greatest logit is that of their class."""
    return (logits.argmax(1) == labels).float().mean().item()


ONE_CLASS = Objective(F.cross_entropy, accuracy)


def neural(
    train: Float32[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, " train"],
    valid: Float32[np.ndarray, "valid dim"],
    valid_labels: Int64[np.ndarray, " valid"],
    test: Float32[np.ndarray, "test dim"],
    *,
    n_classes: int,
    protocol: Protocol,
    seed: int,
    device: str | torch.device = "cpu",
) -> Int64[np.ndarray, " test"]:
    """Class of each test item by a one-hidden-layer network fitted on the train items.

    Cross-entropy; otherwise see `neural_logits`. A class without a train item is not predicted
    but by chance.

    Raises:
        ValueError: if features are not finite, a split is empty, a label is not one of
            0..n_classes - 1, or every candidate diverges.
    """
    check_features(train=train, valid=valid, test=test)
    check_labels(n_classes, train=train_labels, valid=valid_labels)
    data = data_on(device, train, train_labels, valid, valid_labels)
    logits = neural_logits(data, test, n_classes, ONE_CLASS, protocol, seed)
    return logits.argmax(1).astype(np.int64)


def neural_logits(
    data: Data,
    test: Float32[np.ndarray, "test dim"],
    n_outputs: int,
    objective: Objective,
    protocol: Protocol,
    seed: int,
) -> Float32[np.ndarray, "test outputs"]:
    """Logits of the test items by the candidate that does best on the valid items.

    AdamW, which is Adam where the weight decay is 0, where the data lie. The learning rate and
    weight decay are those of the best valid score (then least valid loss); within a run the weights
    are those of least valid loss, or the last, as the protocol keeps. Draws are made on the CPU:
    every candidate, on every device, starts from the same weights and sees the same batches. A
    candidate whose loss stops being finite ends there.

    Raises:
        ValueError: if no candidate has a finite valid loss.
    """
    candidates = [(lr, wd) for lr in protocol.learning_rates for wd in protocol.weight_decays]
    fits = [
        _fit(data, n_outputs, objective, protocol, seed=seed, learning_rate=lr, weight_decay=wd)
        for lr, wd in candidates
    ]
    finite = [fit for fit in fits if fit is not None]
    if not finite:
        raise ValueError(
            f"learning_rates must hold one that converges, got {protocol.learning_rates}: "
            "add lower ones or standardise the features"
        )
    best = max(finite, key=lambda fit: (fit.score, -fit.loss))
    with torch.inference_mode():
        asked = torch.from_numpy(test).to(data.train.device)
        return _logits(best.layers, asked, protocol.activation).cpu().numpy()


def _fit(
    data: Data,
    n_outputs: int,
    objective: Objective,
    protocol: Protocol,
    *,
    seed: int,
    learning_rate: float,
    weight_decay: float,
) -> Fit | None:
    generator = torch.Generator().manual_seed(seed)
    drawn = _initial(data.train.shape[1], protocol.hidden, n_outputs, generator)
    layers = Layers(*(layer.to(data.train.device).requires_grad_() for layer in drawn))
    optimiser = torch.optim.AdamW(
        layers, lr=learning_rate, weight_decay=weight_decay, foreach=False, fused=True
    )
    best, waited = None, 0
    for _ in range(protocol.epochs):
        order = torch.randperm(len(data.train), generator=generator).to(data.train.device)
        for chosen in order.split(protocol.batch):
            optimiser.zero_grad()
            logits = _logits(layers, data.train[chosen], protocol.activation)
            objective.loss(logits, data.train_targets[chosen]).backward()
            optimiser.step()
        score, loss = _score(layers, data, objective, protocol.activation)
        waited += 1
        if not math.isfinite(loss):
            return best if protocol.keep == "best" else None
        if best is None or protocol.keep == "last" or loss < best.loss:
            kept = Layers(*(layer.detach().clone() for layer in layers))
            best, waited = Fit(kept, score, loss), 0
        if waited >= protocol.patience:
            break
    return best


def _initial(dim: int, hidden: int, n_outputs: int, generator: torch.Generator) -> Layers:
    def uniform(*shape: int, fan_in: int) -> Tensor:
        drawn = torch.rand(shape, generator=generator) * 2 - 1
        return drawn / fan_in**0.5

    return Layers(
        uniform(hidden, dim, fan_in=dim),
        uniform(hidden, fan_in=dim),
        uniform(n_outputs, hidden, fan_in=hidden),
        uniform(n_outputs, fan_in=hidden),
    )


def _logits(layers: Layers, features: Tensor, activation: str) -> Tensor:
    hidden = F.linear(features, layers.hidden_weight, layers.hidden_bias)
    return F.linear(ACTIVATIONS[activation](hidden), layers.out_weight, layers.out_bias)


def _score(
    layers: Layers, data: Data, objective: Objective, activation: str
) -> tuple[float, float]:
    with torch.inference_mode():
        logits = _logits(layers, data.valid, activation)
        loss = objective.loss(logits, data.valid_targets).item()
        return objective.score(logits, data.valid_targets), loss
