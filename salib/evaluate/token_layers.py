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
    """Convolutions to logits on a grid four times as fine (see `fit_segmentation`)."""
    first, first_bias, *middle, last, last_bias = weights
    hidden = F.gelu(F.conv2d(tokens, first, first_bias))
    for weight, bias in zip(middle[::2], middle[1::2], strict=True):
        finer = F.interpolate(hidden, scale_factor=2, mode="bilinear", align_corners=False)
        hidden = F.gelu(F.group_norm(F.conv2d(finer, weight, bias, padding=1), GROUPS))
    return F.conv2d(hidden, last, last_bias)


LAYERS: dict[str, Callable[[Tensor, Weights], Tensor]] = {
    "linear": linear_layer,
    "decoder": decoder_layers,
}


def initial(kind: str, dim: int, width: int, n_classes: int, generator: torch.Generator) -> Weights:
    """Weight and bias of each layer in turn, uniform within 1 / sqrt(inputs)."""
    half = width // 2
    shapes = [(n_classes, dim, 1)]
    if kind == "decoder":
        shapes = [(width, dim, 1), (width, width, 3), (half, width, 3), (n_classes, half, 1)]
    weights = []
    for out, into, side in shapes:
        bound = (into * side**2) ** -0.5
        for shape in ((out, into, side, side), (out,)):
            drawn = torch.rand(shape, generator=generator) * 2 - 1
            weights.append((bound * drawn).requires_grad_())
    return tuple(weights)
