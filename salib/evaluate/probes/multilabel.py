"""Heads for several labels an item: a score of each class for each test item."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from salib.evaluate.probes.checks import check_features, check_multilabels
from salib.evaluate.probes.linear import Goal, sigmoid_loss, sweep
from salib.evaluate.probes.neighbours import cosine_neighbours, vote_weights
from salib.evaluate.probes.neural import Objective, data_on, neural_logits
from salib.evaluate.protocol import LINEAR_CS, Protocol
from salib.evaluate.scores.metrics import micro_average_precision


def multilabel_knn(
    train: Float32[np.ndarray, "train dim"],
    labels: Int64[np.ndarray, "train classes"],
    test: Float32[np.ndarray, "test dim"],
    *,
    k: int,
    temperature: float | None = None,
) -> Float32[np.ndarray, "test classes"]:
    """Share of the votes of the k train items of greatest cosine similarity, class by class.

    Args:
        temperature: weigh a vote by exp(similarity / temperature); None counts votes.

    Raises:
        ValueError: if there are fewer than k train items, features are not finite, a split is
            empty, a label is not 0 or 1, or the temperature is not positive.
    """
    check_features(train=train, test=test)
    check_multilabels(train=labels)
    if temperature is not None and temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    found = cosine_neighbours(train, test, k=k)
    weights = np.ones(found.places.shape)
    if temperature is not None:
        weights = vote_weights(found.similarity, temperature)
    votes = (weights[:, :, None] * labels[found.places]).sum(1)
    return (votes / weights.sum(1, keepdims=True)).astype(np.float32)


def multilabel_linear(
    train: Float32[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, "train classes"],
    valid: Float32[np.ndarray, "valid dim"],
    valid_labels: Int64[np.ndarray, "valid classes"],
    test: Float32[np.ndarray, "test dim"],
    *,
    cs: tuple[float, ...] = LINEAR_CS,
    device: str | torch.device = "cpu",
) -> Float32[np.ndarray, "test classes"]:
    """Probabilities by one logistic regression a class, refitted on train and valid items.

    One C for all classes, that of best valid micro mAP. Plain binary cross-entropy; GEO-Bench's
    own training weighs positive and negative labels alike. Features should be z-scored.

    Raises:
        ValueError: if features are not finite, a split is empty, a label is not 0 or 1, no valid
            label is positive, or cs is empty or not positive.
    """
    check_features(train=train, valid=valid, test=test)
    check_multilabels(train=train_labels, valid=valid_labels)
    goal = Goal(sigmoid_loss, _valid_score, train_labels.shape[1])
    targets = [torch.from_numpy(labels).to(device) for labels in (train_labels, valid_labels)]
    swept = sweep((train, valid, test), (targets[0], targets[1]), goal, cs)
    return swept.logits.sigmoid().cpu().numpy()


def multilabel_neural(
    train: Float32[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, "train classes"],
    valid: Float32[np.ndarray, "valid dim"],
    valid_labels: Int64[np.ndarray, "valid classes"],
    test: Float32[np.ndarray, "test dim"],
    *,
    protocol: Protocol,
    seed: int,
    device: str | torch.device = "cpu",
) -> Float32[np.ndarray, "test classes"]:
    """Probabilities by one hidden layer and binary cross-entropy, chosen by valid micro mAP.

    See `salib.evaluate.probes.neural.neural_logits`.

    Raises:
        ValueError: if features are not finite, a split is empty, a label is not 0 or 1, no valid
            label is positive, or every candidate diverges.
    """
    check_features(train=train, valid=valid, test=test)
    check_multilabels(train=train_labels, valid=valid_labels)
    objective = Objective(_mean_loss, _valid_score)
    classes, data = train_labels.shape[1], data_on(device, train, train_labels, valid, valid_labels)
    logits = neural_logits(data, test, classes, objective, protocol, seed)
    return torch.from_numpy(logits).sigmoid().numpy()


def _mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def _valid_score(logits: Tensor, targets: Tensor) -> float:
    ranked = logits.float().cpu().numpy()
    if not np.isfinite(ranked).all():
        return 0.0
    return micro_average_precision(ranked, targets.cpu().numpy())(np.ones((1, len(ranked)))).item()
