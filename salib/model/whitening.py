"""A last linear map, after which embeddings of the training images have no correlation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salib.config import ModelConfig

LEAST = 0.01
"""Of the mean variance, added to that of each direction."""
JOINT = "joint"


class Whitening(nn.ModuleDict):
    """By sensor, and for the joint encoding: principal axes of the mean tokens, each of variance 1.

    It is linear, so that the mean of the tokens of an image is the image's vector. No loss sees it.
    Without `ModelConfig.whiten` it changes nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Maps that change nothing yet."""
        names = (*config.sensors, JOINT) if config.whiten else ()
        super().__init__({name: Axes(config.dim) for name in names})

    def forward(self, name: str, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Tokens of a sensor or joint ones, or means of them."""
        return self[name](x) if name in self else x

    def fit(self, means: dict[str, Float[Tensor, "images dim"]]) -> None:
        """Measure the axes on the mean tokens of images, as they are without this map."""
        for name, axes in self.items():
            assert isinstance(axes, Axes)
            axes.fit(means[name])


class Axes(nn.Module):
    """One map: subtract a mean, multiply by a matrix."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, dim: int) -> None:
        """The map that changes nothing."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Coordinates along the axes, the one of most variance first."""
        return (x - self.mean.to(x.dtype)) @ self.matrix.to(x.dtype)

    def fit(self, x: Float[Tensor, "images dim"]) -> None:
        """Principal axes of these vectors; the largest part of each is positive."""
        x = x.double().cpu()
        values, axes = torch.linalg.eigh(torch.cov(x.T))
        axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
        matrix = axes / (values + LEAST * values.mean()).sqrt()
        self.mean.copy_(x.mean(dim=0))
        self.matrix.copy_(matrix.flip(1))
