"""What pretraining masks and reconstructs: masks, targets and positions of the decoder."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from salib.bias import patch_centres
from salib.config import SENSORS, ModelConfig
from salib.model.tokens import Mask, draw_mask, patchify, sincos


@dataclass(frozen=True)
class Pretraining:
    """What the losses need of one pass: by sensor, and the temperature."""

    projections: dict[str, Tensor]
    predicted: dict[str, Tensor]
    target: dict[str, Tensor]
    hidden: dict[str, Tensor]
    temperature: Tensor


def targets(config: ModelConfig, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Patches to reconstruct, all on the coarse grid (D5), before normalisation of Eq. (5)."""
    shape, patches = pixels[config.sensors[0]].shape[-2:], {}
    on_grid = [name for name in config.sensors if SENSORS[name].factor == 1]
    for name in (*on_grid, *(name for name in config.sensors if name not in on_grid)):
        image, factor = pixels[name], SENSORS[name].factor
        if factor > 1 and config.hires_target == "area":
            image, factor = F.interpolate(image, shape, mode="area"), 1
        patches[name] = patchify(image, factor * config.patch_px)
    return patches


def target_values(config: ModelConfig) -> dict[str, int]:
    """Numbers per coarse patch that the decoder predicts of each sensor."""
    values = {}
    for name, stats in config.stats.items():
        side = SENSORS[name].factor if config.hires_target == "full" else 1
        values[name] = len(stats.mean) * (config.patch_px * side) ** 2
    return values


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
    config: ModelConfig, coarse: Float[Tensor, "batch bands height width"]
) -> Float[Tensor, "batch tokens decoder_dim"]:
    """Sine-cosine positions of the coarse grid's patches."""
    rows, cols = (side // config.patch_px for side in coarse.shape[-2:])
    steps = patch_centres(rows, cols, torch.ones(1, device=coarse.device)) - 0.5
    return sincos(steps, config.decoder_dim).expand(len(coarse), -1, -1)
