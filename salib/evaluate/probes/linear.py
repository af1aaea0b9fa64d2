"""The linear probe: logistic regression by L-BFGS, its penalty chosen on the valid split."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from salib.evaluate.probes.checks import check_features, check_labels
from salib.evaluate.protocol import LINEAR_CS

ITERATIONS = 1000
SLOPE = 1e-4
"""Greatest slope of the mean loss at which the descent stops: scikit-learn's default."""
FALLS = 4
"""The sweep ends after so many values of C in a row that score below the best so far."""

Features = Float32[np.ndarray, "_ dim"]


class Linear(NamedTuple):
    """Class of each test item, the probabilities behind it, and what the sweep found.

    `scores` are the valid scores of each C in rising order, NaN where the sweep had ended.
    """

    predicted: Int64[np.ndarray, " test"]
    probabilities: Float32[np.ndarray, "test classes"]
    c: float
    scores: Float64[np.ndarray, " cs"]


class Goal(NamedTuple):
    """A loss summed over items, a score of valid items, and the number of logits an item."""

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    outputs: int


class Sweep(NamedTuple):
    """Test logits of the refitted weights, the chosen C, and the valid scores of all."""

    logits: Float32[Tensor, "test outputs"]
    c: float
    scores: Float64[np.ndarray, " cs"]


def linear(
    train: Float32[np.ndarray, "train dim"],
    train_labels: Int64[np.ndarray, " train"],
    valid: Float32[np.ndarray, "valid dim"],
    valid_labels: Int64[np.ndarray, " valid"],
    test: Float32[np.ndarray, "test dim"],
    *,
    n_classes: int,
    cs: tuple[float, ...] = LINEAR_CS,
    device: str | torch.device = "cpu",
) -> Linear:
    """Logistic regression with the C of best valid accuracy, refitted on train and valid items.

    The same minimum as scikit-learn's `LogisticRegression(C)` (L2 penalty, free intercept, one
    logit for two classes). Features should be z-scored (`standardise`), which the range of C
    supposes; those statistics stay the train split's in the refit. Of equal accuracies that of
    least valid loss is taken. A class with neither a train nor a valid item has probability 0.
    Nothing is drawn: there is no seed.

    Raises:
        ValueError: if features are not finite, a split is empty, a label is not one of
            0..n_classes - 1, or cs is empty or not positive.
    """
    check_features(train=train, valid=valid, test=test)
    check_labels(n_classes, train=train_labels, valid=valid_labels)
    seen, together = np.unique(np.concatenate([train_labels, valid_labels]), return_inverse=True)
    targets = torch.from_numpy(together).to(device)
    if len(seen) == 2:
        goal, targets = Goal(sigmoid_loss, _binary_accuracy, 1), targets[:, None]
    else:
        goal = Goal(_softmax_loss, _accuracy, len(seen))
    parts = (targets[: len(train)], targets[len(train) :])
    swept = sweep((train, valid, test), parts, goal, cs)
    logits = swept.logits.cpu()
    if len(seen) == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    probabilities = np.zeros((len(test), n_classes), np.float32)
    probabilities[:, seen] = logits.softmax(1).numpy()
    predicted = seen[logits.argmax(1).numpy()].astype(np.int64)
    return Linear(predicted, probabilities, swept.c, swept.scores)


def sweep(
    features: tuple[Features, Features, Features],
    targets: tuple[Tensor, Tensor],
    goal: Goal,
    cs: tuple[float, ...],
) -> Sweep:
    """Fit the train items for each C, strongest penalty first; refit with the valid items.

    The best C has the highest valid score, then the least valid loss. Each fit starts from the
    last one's weights.

    Args:
        features: train, valid and test.
        targets: of train and valid, where the products with the features are to be made.

    Raises:
        ValueError: if cs is empty or not positive.
    """
    if not cs or min(cs) <= 0:
        raise ValueError(f"cs must hold positive values, got {cs}")
    device = targets[0].device
    train, valid, test = (torch.from_numpy(part).to(device) for part in features)
    rising = sorted(cs)
    scores = np.full(len(rising), np.nan)
    weights, best, falls = np.zeros(goal.outputs * (train.shape[1] + 1)), None, 0
    for number, c in enumerate(rising):
        weights = minimise(train, targets[0], goal, c, weights)
        logits = _logits(valid, weights, goal)
        scores[number] = goal.score(logits, targets[1])
        rank = (scores[number], -goal.loss(logits, targets[1]).item())
        if best is None or rank > best[0]:
            best = (rank, c, weights)
        falls = falls + 1 if rank[0] < best[0][0] else 0
        if falls >= FALLS:
            break
    assert best is not None
    _, c, weights = best
    weights = minimise(torch.cat([train, valid]), torch.cat(targets), goal, c, weights)
    return Sweep(_logits(test, weights, goal).float(), c, scores)


def minimise(
    features: Float32[Tensor, "items dim"],
    targets: Tensor,
    goal: Goal,
    c: float,
    start: Float64[np.ndarray, " weights"],
) -> Float64[np.ndarray, " weights"]:
    """Weights, rows of (dim, intercept) an output, of least c * loss + |weights|^2 / 2.

    Products with the features are in float32 where these lie, the loss over them in float64; the
    descent itself is scipy's.
    """
    items, dim = features.shape

    def mean_loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logits = _logits(features, flat, goal).requires_grad_()
        loss = goal.loss(logits, targets)
        (slope,) = torch.autograd.grad(loss, logits)
        gradient = np.empty((goal.outputs, dim + 1))
        gradient[:, :-1] = (slope.T.float() @ features).cpu().numpy()
        gradient[:, -1] = slope.sum(0).cpu().numpy()
        free = flat.reshape(goal.outputs, -1).copy()
        free[:, -1] = 0
        penalty = (free**2).sum() / (2 * c)
        return (loss.item() + penalty) / items, (gradient + free / c).reshape(-1) / items

    options = {"maxiter": ITERATIONS, "maxls": 50, "gtol": SLOPE, "ftol": 64 * np.finfo(float).eps}
    with _one_thread():
        return minimize(mean_loss, start, jac=True, method="L-BFGS-B", options=options).x


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same bits for any number of threads; and torch's and BLAS's never wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


def sigmoid_loss(
    logits: Float[Tensor, "items outputs"], targets: Int64[Tensor, "items outputs"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy summed over items and outputs."""
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")


def _softmax_loss(
    logits: Float[Tensor, "items outputs"], targets: Int64[Tensor, " items"]
) -> Float[Tensor, ""]:
    return F.cross_entropy(logits, targets, reduction="sum")


def _accuracy(logits: Tensor, targets: Tensor) -> float:
    return (logits.argmax(1) == targets).double().mean().item()


def _binary_accuracy(logits: Tensor, targets: Tensor) -> float:
    return ((logits > 0) == (targets == 1)).double().mean().item()


def _logits(
    features: Float32[Tensor, "items dim"], flat: Float64[np.ndarray, " weights"], goal: Goal
) -> Float64[Tensor, "items outputs"]:
    rows = torch.from_numpy(flat).to(features.device).reshape(goal.outputs, -1)
    return (features @ rows[:, :-1].T.float()).double() + rows[:, -1]
