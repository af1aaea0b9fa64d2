"""Tokens that carry their position, and the masks that choose among them."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """Features of patches together with where the patches lie.

    Attributes:
        x: features.
        xy: patch centres, metres east and south of the image's north-west corner; one set for all
            images where they share a ground sample distance.
    """

    x: Float[Tensor, "batch tokens dim"]
    xy: Float[Tensor, "#batch tokens 2"]

    def take(self, keep: Int[Tensor, "batch kept"]) -> "Tokens":
        """The kept tokens, features and positions together."""
        index = keep.unsqueeze(-1)
        return Tokens(
            self.x.gather(1, index.expand(-1, -1, self.x.shape[-1])),
            self.xy.expand(len(keep), -1, -1).gather(1, index.expand(-1, -1, 2)),
        )


@dataclass(frozen=True)
class Mask:
    """What one encoder sees of a batch.

    Attributes:
        keep: indices of the patches that the encoder sees, on its own grid.
        hidden: True where the decoder must reconstruct, on the coarse (radar, lores) grid.
    """

    keep: Int[Tensor, "batch kept"]
    hidden: Bool[Tensor, "batch coarse"]


def patchify(
    images: Float[Tensor, "batch bands height width"], patch_px: int
) -> Float[Tensor, "batch tokens values"]:
    """Pixels of each patch in one row, band first; tokens run along a row of patches first.

    Raises:
        ValueError: if the patch does not divide the image.
    """
    height, width = images.shape[-2:]
    if height % patch_px or width % patch_px:
        raise ValueError(
            f"image height and width must be multiples of patch_px={patch_px}, "
            f"got {height}x{width} px: crop or resize the image"
        )
    return rearrange(images, "b c (h i) (w j) -> b (h w) (c i j)", i=patch_px, j=patch_px)


def draw_mask(
    batch: int,
    *,
    rows: int,
    cols: int,
    mask_ratio: float,
    factor: int = 1,
    generator: torch.Generator,
) -> Mask:
    """Hide a fraction of the coarse grid; each coarse patch is `factor` x `factor` patches.

    Drawn on the ground, so a finer grid hides the same share of ground in blocks (D6).
    """
    coarse = rows * cols
    kept = max(1, int(coarse * (1 - mask_ratio)))
    order = torch.rand(batch, coarse, generator=generator).argsort(dim=1)
    hidden = torch.ones(batch, coarse, dtype=torch.bool)
    hidden.scatter_(1, order[:, :kept], False)
    keep = order[:, :kept].sort(dim=1).values[:, :, None, None]
    row, col, within = keep // cols * factor, keep % cols * factor, torch.arange(factor)
    finer = (row + within[:, None]) * cols * factor + (col + within)
    return Mask(finer.flatten(1), hidden)


def sincos(steps: Float[Tensor, "batch tokens 2"], dim: int) -> Float[Tensor, "batch tokens dim"]:
    """Two-dimensional sinusoidal embedding of the decoder, east in the first half, then south."""
    rate = 10000 ** -(torch.arange(dim // 4, device=steps.device) / (dim // 4))
    angle = steps.unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)
