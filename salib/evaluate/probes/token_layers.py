"""Layers of the segmentation heads: from a grid of tokens to a grid of logits."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GROUPS = 8
Weights = tuple[Tensor, ...]


def linear_layer(
    tokens: Float[Tensor, "batch dim rows cols"], weights: Weights
) -> Float[Tensor, "batch classes rows cols"]:
    """One linear layer from a token to logits."""
    weight, bias = weights
    return F.conv2d(tokens, weight, bias)


def decoder_layers(
    tokens: Float[Tensor, "batch dim rows cols"], weights: Weights
) -> Float[Tensor, "batch classes fine_rows fine_cols"]:
    """Transposed convolutions to logits on a grid four times as fine (see `fit_segmentation`)."""
    first, first_bias, *finer, last, last_bias = weights
    hidden = F.gelu(F.conv2d(tokens, first, first_bias))
    for weight, bias in zip(finer[::2], finer[1::2], strict=True):
        hidden = F.conv_transpose2d(hidden, weight, bias, stride=2)
        hidden = F.gelu(F.group_norm(hidden, GROUPS))
    return F.conv2d(hidden, last, last_bias)


LAYERS: dict[str, Callable[[Tensor, Weights], Tensor]] = {
    "linear": linear_layer,
    "decoder": decoder_layers,
}


def initial(kind: str, dim: int, width: int, n_classes: int, generator: torch.Generator) -> Weights:
    """Weight and bias of each layer in turn, uniform within 1 / sqrt(inputs)."""
    half = width // 2
    layers = [(dim, n_classes, 1)]
    if kind == "decoder":
        layers = [(dim, width, 1), (width, width, 2), (width, half, 2), (half, n_classes, 1)]
    weights = []
    for inputs, outputs, side in layers:
        channels = (inputs, outputs) if side == 2 else (outputs, inputs)  # transposed, or not
        for shape in ((*channels, side, side), (outputs,)):
            drawn = torch.rand(shape, generator=generator) * 2 - 1
            weights.append(inputs**-0.5 * drawn)
    return tuple(weights)
