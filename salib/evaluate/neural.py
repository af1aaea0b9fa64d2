"""The neural probe: one hidden layer of 2048 on frozen features."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from salib.evaluate.protocol import Protocol


class Layers(NamedTuple):
    """Weights of the two layers."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class Fit(NamedTuple):
    """The layers at the epoch of least valid loss, and what they reach on the valid items."""

    layers: Layers
    accuracy: float
    loss: float


class Data(NamedTuple):
    """Train and valid features and labels as tensors."""

    train: Tensor
    train_labels: Tensor
    valid: Tensor
    valid_labels: Tensor


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
) -> Int64[np.ndarray, " test"]:
    """Class of each test item by a one-hidden-layer network fitted on the train items.

    GELU, cross-entropy, AdamW. The learning rate and weight decay are those of the best valid
    accuracy (then least valid loss); within a run the weights are those of least valid loss.
    Every candidate starts from the same weights and sees the same batches.
    """
    tensors = map(torch.from_numpy, (train, train_labels, valid, valid_labels))
    data = Data(*tensors)
    candidates = [(lr, wd) for lr in protocol.learning_rates for wd in protocol.weight_decays]
    fits = [
        _fit(data, n_classes, protocol, seed=seed, learning_rate=lr, weight_decay=wd)
        for lr, wd in candidates
    ]
    best = max(fits, key=lambda fit: (fit.accuracy, -fit.loss))
    with torch.inference_mode():
        return _logits(best.layers, torch.from_numpy(test)).argmax(1).numpy()


def _fit(
    data: Data,
    n_classes: int,
    protocol: Protocol,
    *,
    seed: int,
    learning_rate: float,
    weight_decay: float,
) -> Fit:
    generator = torch.Generator().manual_seed(seed)
    layers = _initial(data.train.shape[1], protocol.hidden, n_classes, generator)
    optimiser = torch.optim.AdamW(
        layers, lr=learning_rate, weight_decay=weight_decay, foreach=False, fused=True
    )
    best, waited = None, 0
    for _ in range(protocol.epochs):
        for chosen in torch.randperm(len(data.train), generator=generator).split(protocol.batch):
            optimiser.zero_grad()
            logits = _logits(layers, data.train[chosen])
            F.cross_entropy(logits, data.train_labels[chosen]).backward()
            optimiser.step()
        accuracy, loss = _score(layers, data)
        waited += 1
        if best is None or loss < best.loss:
            kept = Layers(*(layer.detach().clone() for layer in layers))
            best, waited = Fit(kept, accuracy, loss), 0
        if waited >= protocol.patience:
            break
    assert best is not None
    return best


def _initial(dim: int, hidden: int, n_classes: int, generator: torch.Generator) -> Layers:
    def uniform(*shape: int, fan_in: int) -> Tensor:
        drawn = torch.rand(shape, generator=generator) * 2 - 1
        return (drawn / fan_in**0.5).requires_grad_()

    return Layers(
        uniform(hidden, dim, fan_in=dim),
        uniform(hidden, fan_in=dim),
        uniform(n_classes, hidden, fan_in=hidden),
        uniform(n_classes, fan_in=hidden),
    )


def _logits(layers: Layers, features: Tensor) -> Tensor:
    hidden = F.gelu(F.linear(features, layers.hidden_weight, layers.hidden_bias))
    return F.linear(hidden, layers.out_weight, layers.out_bias)


def _score(layers: Layers, data: Data) -> tuple[float, float]:
    with torch.inference_mode():
        logits = _logits(layers, data.valid)
        right = (logits.argmax(1) == data.valid_labels).float().mean()
        return right.item(), F.cross_entropy(logits, data.valid_labels).item()
