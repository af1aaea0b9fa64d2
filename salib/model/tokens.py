"""Tokens that carry their position; what pretraining masks and reconstructs of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salib.bias import patch_centres, sincos
from salib.config import SENSORS, ModelConfig


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
        return Tokens(kept(self.x, keep), kept(self.xy, keep))

    def blocks(self, factor: int) -> Float[Tensor, "batch coarse dim"]:
        """Features on the coarse grid: of one `factor` times finer the mean of each block (D6)."""
        return self.x if factor == 1 else self.x.unflatten(1, (-1, factor**2)).mean(dim=2)


@dataclass(frozen=True)
class Mask:
    """What one encoder sees of a batch.

    Attributes:
        keep: indices of the patches that the encoder sees, on its own grid.
        hidden: True where the decoder must reconstruct, on the coarse (radar, lores) grid.
    """

    keep: Int[Tensor, "batch kept"]
    hidden: Bool[Tensor, "batch coarse"]

    def rows(self, which: slice | Tensor) -> "Mask":
        """The masks of some of the images."""
        return Mask(self.keep[which], self.hidden[which])

    def coarse(self, factor: int) -> Int[Tensor, "batch seen"]:
        """Coarse patches that the encoder sees, whose own grid is `factor` times finer."""
        if factor == 1:
            return self.keep
        shown = ~self.hidden
        return shown.nonzero()[:, 1].unflatten(0, (len(shown), -1))


def kept(
    values: Float[Tensor, "#batch tokens values"], keep: Int[Tensor, "batch kept"] | None
) -> Float[Tensor, "batch kept values"]:
    """Rows of the kept tokens of each image; all without `keep`."""
    if keep is None:
        return values
    index = keep.unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return values.expand(len(keep), -1, -1).gather(1, index)


def patchify(
    images: Float[Tensor, "batch bands height width"], patch_px: int
) -> Float[Tensor, "batch tokens values"]:
    """Pixels of each patch in one row, band first; tokens run along a row of patches first.

    Raises:
        ValueError: if the patch does not divide the image.
    """
    check_divides(images, patch_px)
    return rearrange(images, "b c (h i) (w j) -> b (h w) (c i j)", i=patch_px, j=patch_px)


def check_divides(images: Float[Tensor, "batch bands height width"], patch_px: int) -> None:
    """Refuse images that patches do not fill.

    Raises:
        ValueError: if one side is no multiple of a patch.
    """
    height, width = images.shape[-2:]
    if height % patch_px or width % patch_px:
        raise ValueError(
            f"image height and width must be multiples of patch_px={patch_px}, "
            f"got {height}x{width} px: crop or resize the image"
        )


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


@dataclass(frozen=True)
class Pretraining:
    """What the losses need of one pass: by sensor, and the temperature.

    Attributes:
        projections: (batch, dim) of each sensor; of samples that lack it, zeros.
        predicted, target: (batch, coarse patches, values); none where nothing is reconstructed.
        hidden: (batch, coarse patches), where the sensor is there and its encoder did not see it.
        temperature: sigma of Eq. (3).
        present: (batch), which samples have the sensor; None if all have all.
    """

    projections: dict[str, Tensor]
    predicted: dict[str, Tensor]
    target: dict[str, Tensor]
    hidden: dict[str, Tensor]
    temperature: Tensor
    present: dict[str, Tensor] | None = None


def targets(config: ModelConfig, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Patches to reconstruct, all on the coarse grid (D5), before normalisation of Eq. (5)."""
    patches = {}
    for name in (name for name in _coarse_first(config) if name in pixels):
        image, factor = pixels[name], SENSORS[name].factor
        if factor > 1 and config.hires_target == "area":
            shape = [side // factor for side in image.shape[-2:]]
            image, factor = F.interpolate(image, shape, mode="area"), 1
        patches[name] = patchify(image, factor * config.patch_px)
    return patches


def target_values(config: ModelConfig) -> dict[str, int]:
    """Numbers per coarse patch that the decoder predicts of each sensor, as in `targets`."""
    sides = {n: SENSORS[n].factor if config.hires_target == "full" else 1 for n in config.sensors}
    bands = {name: len(stats.mean) for name, stats in config.stats.items()}
    return {n: bands[n] * (config.patch_px * sides[n]) ** 2 for n in _coarse_first(config)}


def _coarse_first(config: ModelConfig) -> list[str]:
    """Sensors on the coarse grid, then the finer ones."""
    return sorted(config.sensors, key=lambda name: SENSORS[name].factor > 1)


def draw_masks(
    config: ModelConfig, batch: int, *, rows: int, cols: int, generator: torch.Generator
) -> dict[str, Mask]:
    """An independent mask for each sensor, on the ground of `rows` x `cols` coarse patches."""
    masks = {}
    for name in config.sensors:
        factor = SENSORS[name].factor
        ratio = config.mask_ratio if factor == 1 else config.hires_mask_ratio
        options = {"mask_ratio": ratio, "factor": factor, "generator": generator}
        masks[name] = draw_mask(batch, rows=rows, cols=cols, **options)
    return masks


def decoder_positions(
    config: ModelConfig, images: Float[Tensor, "batch bands height width"], factor: int
) -> Float[Tensor, "batch tokens decoder_dim"]:
    """Sine-cosine positions of the coarse grid's patches, of images `factor` times finer."""
    rows, cols = (side // (factor * config.patch_px) for side in images.shape[-2:])
    steps = patch_centres(rows, cols, torch.ones(1, device=images.device)) - 0.5
    return sincos(steps, config.decoder_dim).expand(len(images), -1, -1)
