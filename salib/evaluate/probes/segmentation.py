"""Segmentation heads on a grid of tokens: one linear layer, or a small convolutional decoder."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from salib.evaluate.probes.fitting import Examples, fit_best, outputs
from salib.evaluate.protocol import PROTOCOLS, Protocol
from salib.evaluate.scores.metrics import mask_counts, mean_iou
from salib.evaluate.tasks.geobench_reader import UNLABELLED

SCHEDULE = replace(PROTOCOLS["default"], learning_rates=(1e-3, 1e-2), batch=16)
WIDTH, GROUPS = 128, 8
"""Channels of the decoder, and groups in which they are normalised."""
Grids = Float32[np.ndarray, "_ _ _ _"]  # images, rows, cols, dim


def linear_head(dim: int, n_classes: int) -> nn.Module:
    """One linear layer from a token to logits."""
    return nn.Conv2d(dim, n_classes, 1)


def decoder_head(dim: int, n_classes: int) -> nn.Module:
    """Two transposed convolutions to logits on a grid four times as fine."""
    return nn.Sequential(
        nn.Conv2d(dim, WIDTH, 1),
        nn.GELU(),
        nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2),
        nn.GroupNorm(GROUPS, WIDTH, affine=False),
        nn.GELU(),
        nn.ConvTranspose2d(WIDTH, WIDTH // 2, 2, stride=2),
        nn.GroupNorm(GROUPS, WIDTH // 2, affine=False),
        nn.GELU(),
        nn.Conv2d(WIDTH // 2, n_classes, 1),
    )


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"linear": linear_head, "decoder": decoder_head}
"""Heads by the name of the probe, of (dim, classes)."""


class Standardise(nn.Module):
    """Z-scores of the channels by the train tokens, channels first."""

    def __init__(self, tokens: Grids) -> None:
        """Take mean and deviation over all tokens, image by image: they may be a memory map."""
        super().__init__()
        scaler = StandardScaler()
        for grid in tokens:
            scaler.partial_fit(grid.reshape(-1, grid.shape[-1]).astype(np.float64))
        self.mean = nn.Buffer(torch.tensor(scaler.mean_, dtype=torch.float32))
        self.scale = nn.Buffer(torch.tensor(scaler.scale_, dtype=torch.float32))

    def forward(
        self, tokens: Float[Tensor, "batch rows cols dim"]
    ) -> Float[Tensor, "batch dim rows cols"]:
        """Subtract the mean, divide by the deviation."""
        return ((tokens - self.mean) / self.scale).permute(0, 3, 1, 2).contiguous()


def fit_segmentation(
    train: Examples,
    valid: Examples,
    *,
    kind: str,
    n_classes: int,
    seed: int,
    schedule: Protocol | None = None,
    device: str = "cpu",
) -> nn.Module:
    """Fit a head that predicts the class of each pixel from the tokens; one of `HEADS`.

    Its logits are spread over the mask by bilinear interpolation. Cross-entropy over labelled
    pixels (a negative mask value is none); between learning rates the best valid mIoU. Memory is
    bounded by batches. One seed gives one head, on one machine with one number of threads.

    Raises:
        ValueError: if every candidate diverges.
    """
    standardised = Standardise(train.inputs)

    def score(head: nn.Module) -> float:
        predicted = segment(head, valid.inputs, valid.targets.shape[1:])
        return mean_iou(mask_counts(predicted, valid.targets, n_classes).sum(0)).item()

    return fit_best(
        lambda: nn.Sequential(standardised, HEADS[kind](train.inputs.shape[-1], n_classes)),
        train,
        valid,
        loss=_pixel_loss,
        score=score,
        protocol=schedule or SCHEDULE,
        seed=seed,
        device=device,
    )


def segment(head: nn.Module, grids: Grids, size: tuple[int, ...]) -> UInt8[np.ndarray, "items _ _"]:
    """Class of each pixel of masks of `size` (height, width)."""
    parts = [
        _spread(coarse, size).argmax(1).to(torch.uint8).cpu().numpy()
        for coarse in outputs(head, grids, SCHEDULE.batch)
    ]
    return np.concatenate(parts)


def _pixel_loss(coarse: Tensor, masks: Tensor) -> tuple[Tensor, int]:
    truth = masks.clamp(min=UNLABELLED)
    logits = _spread(coarse, masks.shape[1:])
    loss = F.cross_entropy(logits, truth, ignore_index=UNLABELLED, reduction="sum")
    return loss, int((truth >= 0).sum())


def _spread(coarse: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(coarse, size=tuple(size), mode="bilinear", align_corners=False)
