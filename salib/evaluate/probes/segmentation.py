"""Segmentation heads on a grid of tokens: one linear layer, or a small convolutional decoder."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from salib.evaluate.probes.token_layers import GROUPS, LAYERS, initial
from salib.evaluate.scores.metrics import mask_counts, mean_iou

UNLABELLED = -1
Grids = Float32[np.ndarray, "_ _ _ _"]  # images, rows, cols, dim
Masks = Int64[np.ndarray, "_ _ _"]  # images, height, width
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class SegmentationSweep:
    """How a segmentation head is fitted.

    Args:
        learning_rates: candidates of AdamW, chosen by valid mIoU.
        epochs: at most.
        patience: epochs without a better valid loss before a candidate stops.
        batch: images a step; also bounds memory in prediction.
        width: channels of the decoder; a multiple of 16.
    """

    learning_rates: tuple[float, ...] = (1e-3, 1e-2)
    weight_decay: float = 1e-2
    epochs: int = 20
    patience: int = 2
    batch: int = 16
    width: int = 128

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a count is below one, a rate not positive, or the width not divisible.
        """
        for field in ("epochs", "patience", "batch", "width"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive, got {self.learning_rates}")
        if self.width % (2 * GROUPS):
            raise ValueError(f"width must be a multiple of {2 * GROUPS}, got {self.width}")


class SegmentationHead(NamedTuple):
    """A fitted head: z-scores of the train tokens' channels, weights, and the sweep's choice."""

    kind: str
    mean: Float32[Tensor, " dim"]
    deviation: Float32[Tensor, " dim"]
    weights: tuple[Tensor, ...]
    learning_rate: float
    valid_mean_iou: float
    batch: int


class Fit(NamedTuple):
    """Weights of least valid loss of one candidate, and that loss."""

    weights: tuple[Tensor, ...]
    loss: float


def fit_segmentation(
    train: Grids,
    train_masks: Masks,
    valid: Grids,
    valid_masks: Masks,
    *,
    kind: Literal["linear", "decoder"],
    n_classes: int,
    seed: int,
    sweep: SegmentationSweep | None = None,
    device: str | torch.device = "cpu",
) -> SegmentationHead:
    """Fit a head that tells the class of each pixel from the tokens.

    Tokens are z-scored by the train tokens. "linear" is one layer from a token to logits, spread
    over the mask by bilinear interpolation. "decoder" is a 1x1 convolution to `width` channels,
    GELU, then twice [2x2 transposed convolution of stride 2 (the second halves the channels),
    group norm of 8 groups, GELU], a 1x1 convolution to logits, spread likewise. Cross-entropy
    over labelled pixels (a negative mask value is none), AdamW; within a run the weights of least
    valid loss, between learning rates the best valid mIoU. Memory is bounded by batches: grids
    may be `np.memmap`. One seed gives one head, on one machine with one number of threads; draws
    are made on the CPU, so that another `device` fits the same weights within rounding.

    Raises:
        ValueError: if a split is empty, tokens are not finite, shapes disagree, a mask's class is
            not below n_classes, no pixel is labelled, or every candidate diverges.
    """
    if kind not in LAYERS:
        raise ValueError(f"kind must be one of {tuple(LAYERS)}, got {kind!r}")
    chosen = sweep or SegmentationSweep()
    _check("train", train, train_masks, n_classes)
    _check("valid", valid, valid_masks, n_classes)
    if train.shape[1:] != valid.shape[1:]:
        raise ValueError(f"grids must have one shape, got {train.shape[1:]}, {valid.shape[1:]}")
    mean, deviation = (moment.to(device) for moment in _moments(train))
    head = SegmentationHead(kind, mean, deviation, (), 0.0, 0.0, chosen.batch)
    data = (train, train_masks, valid, valid_masks)
    candidates = []
    for rate in chosen.learning_rates:
        fit = _fit(head, data, n_classes, chosen, learning_rate=rate, seed=seed)
        if fit is None:
            continue
        fitted = head._replace(weights=fit.weights, learning_rate=rate)
        counts = segmentation_counts(fitted, valid, valid_masks, n_classes=n_classes)
        score = float(mean_iou(counts.sum(0)))
        candidates.append((score, -fit.loss, fitted._replace(valid_mean_iou=score)))
    if not candidates:
        raise ValueError(
            f"learning_rates must hold one that converges, got {chosen.learning_rates}: add lower"
        )
    return max(candidates, key=lambda candidate: candidate[:2])[2]


def segment(head: SegmentationHead, grids: Grids, size: Size) -> UInt8[np.ndarray, "items _ _"]:
    """Class of each pixel of masks of `size` (height, width).

    Raises:
        ValueError: if tokens are not finite or of another width than the head's.
    """
    if grids.shape[-1] != len(head.mean):
        raise ValueError(f"tokens must have width {len(head.mean)}, got {grids.shape[-1]}")
    parts = [
        logits.argmax(1).to(torch.uint8).cpu().numpy() for logits in _predict(head, grids, size)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, *size), np.uint8)


def segmentation_counts(
    head: SegmentationHead, grids: Grids, masks: Masks, *, n_classes: int
) -> Int64[np.ndarray, "items classes classes"]:
    """Confusion of each image (`mask_counts`), whose sum over images `mean_iou` scores.

    Raises:
        ValueError: if the split is empty, tokens are not finite, shapes disagree, or a mask's
            class is not below n_classes.
    """
    _check("test", grids, masks, n_classes)
    size = (masks.shape[1], masks.shape[2])
    parts = []
    for start in range(0, len(grids), head.batch):
        chosen = slice(start, start + head.batch)
        parts.append(mask_counts(segment(head, grids[chosen], size), masks[chosen], n_classes))
    return np.concatenate(parts)


def _fit(
    head: SegmentationHead,
    data: tuple[Grids, Masks, Grids, Masks],
    n_classes: int,
    sweep: SegmentationSweep,
    *,
    learning_rate: float,
    seed: int,
) -> Fit | None:
    grids, masks, valid, valid_masks = data
    generator = torch.Generator().manual_seed(seed)
    drawn = initial(head.kind, grids.shape[-1], sweep.width, n_classes, generator)
    weights = tuple(weight.to(head.mean.device).requires_grad_() for weight in drawn)
    optimiser = torch.optim.AdamW(
        weights, lr=learning_rate, weight_decay=sweep.weight_decay, foreach=False, fused=True
    )
    head, size = head._replace(weights=weights), (masks.shape[1], masks.shape[2])
    best, waited = None, 0
    for _ in range(sweep.epochs):
        for chosen in torch.randperm(len(grids), generator=generator).split(sweep.batch):
            order = chosen.sort().values.numpy()
            optimiser.zero_grad()
            loss, pixels = _loss(_logits(head, grids[order], size), masks[order])
            (loss / max(pixels, 1)).backward()
            optimiser.step()
        loss = _mean_loss(head, valid, valid_masks)
        waited += 1
        if not math.isfinite(loss):
            break
        if best is None or loss < best.loss:
            best = Fit(tuple(weight.detach().clone() for weight in weights), loss)
            waited = 0
        if waited >= sweep.patience:
            break
    return best


def _mean_loss(head: SegmentationHead, grids: Grids, masks: Masks) -> float:
    """Cross-entropy a labelled pixel."""
    total, labelled, start = 0.0, 0, 0
    for logits in _predict(head, grids, (masks.shape[1], masks.shape[2])):
        loss, pixels = _loss(logits, masks[start : start + len(logits)])
        total, labelled, start = total + loss.item(), labelled + pixels, start + len(logits)
    return total / labelled


def _loss(logits: Tensor, masks: Masks) -> tuple[Tensor, int]:
    """Cross-entropy summed over labelled pixels, and their number."""
    truth = torch.from_numpy(np.ascontiguousarray(masks)).to(logits.device).clamp(min=UNLABELLED)
    loss = F.cross_entropy(logits, truth, ignore_index=UNLABELLED, reduction="sum")
    return loss, int((truth >= 0).sum())


def _predict(head: SegmentationHead, grids: Grids, size: Size) -> Iterator[Tensor]:
    for start in range(0, len(grids), head.batch):
        with torch.inference_mode():
            yield _logits(head, grids[start : start + head.batch], size)


def _logits(head: SegmentationHead, grids: Grids, size: Size) -> Float[Tensor, "batch classes _ _"]:
    tokens = torch.from_numpy(np.ascontiguousarray(grids)).to(head.mean.device)
    tokens = (tokens - head.mean) / head.deviation
    coarse = LAYERS[head.kind](tokens.permute(0, 3, 1, 2).contiguous(), head.weights)
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _moments(grids: Grids) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over all tokens; a constant channel's deviation is 1."""
    dim, number = grids.shape[-1], grids[..., 0].size
    means = [grid.reshape(-1, dim).mean(0, dtype=np.float64) for grid in grids]
    mean = np.mean(means, axis=0)
    squares = np.zeros(dim)
    for grid in grids:
        squares += ((grid.reshape(-1, dim) - mean) ** 2).sum(0)
    deviation = np.sqrt(squares / number)
    deviation[deviation <= 1e-7 * np.abs(mean)] = 1
    deviation[deviation == 0] = 1
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))


def _check(split: str, grids: Grids, masks: Masks, n_classes: int) -> None:
    if not grids.size or not masks.size:
        raise ValueError(f"{split} must hold images, got grids {grids.shape}, masks {masks.shape}")
    if len(grids) != len(masks):
        raise ValueError(f"{split} must have a mask a grid, got {len(grids)} and {len(masks)}")
    if not all(np.isfinite(grid).all() for grid in grids):
        raise ValueError(f"{split} tokens must be finite, got NaN or infinity")
    top = max(int(mask.max()) for mask in masks)
    if top >= n_classes:
        raise ValueError(f"{split} masks must hold classes below {n_classes}, got {top}")
    if top < 0:
        raise ValueError(f"{split} masks must hold a labelled pixel, got none")
