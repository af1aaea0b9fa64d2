"""CROMA's published weights as one more column: red, green and blue in their places."""

from typing import Any

import torch
from torch import Tensor, nn

from salib.config import Levels

OPTICAL_BANDS, RED_GREEN_BLUE = 12, (3, 2, 1)
"""Sentinel-2 bands in the order 1 to 8, 8A, 9, 11, 12."""


class PublishedCroma(nn.Module):
    """Published CROMA looking at 8-bit red, green and blue, as our own columns do.

    Its training mapped each band's mean -+ 2 standard deviations to 0..1 and clipped. Colours are
    mapped so by the levels of another model's training images where there is one, else 0..255 to
    0..1; the nine bands that are not there are 0.5, their mean. With all twelve bands it does
    better than such a row shows.
    """

    levels: Tensor

    def __init__(self, model: nn.Module, colours: Levels | None = None) -> None:
        """Wrap weights read by `load_croma`.

        Args:
            colours: mean and deviation of red, green, blue levels.
        """
        super().__init__()
        self.model = model
        levels = torch.tensor(
            [colours.mean, colours.std] if colours else [[127.5] * 3, [63.75] * 3]
        )
        levels = levels.view(2, 1, 3, 1, 1)
        self.register_buffer("levels", levels, persistent=False)

    def embed(self, images: Tensor, *, sensor: str, gsd_m: Tensor, **options: bool) -> Tensor:
        """Embed (batch 3 height width) levels; sides must be multiples of 8.

        Raises:
            ValueError: if the images are not of three bands, or the model refuses them.
        """
        if images.shape[1] != len(RED_GREEN_BLUE):
            raise ValueError(f"images must be red, green, blue, got {images.shape[1]} bands")
        mean, std = self.levels
        colours = ((images.float() - mean + 2 * std) / (4 * std)).clamp(0, 1)
        bands = torch.full((len(images), OPTICAL_BANDS, *images.shape[2:]), 0.5).to(colours)
        bands[:, RED_GREEN_BLUE] = colours
        model: Any = self.model
        return model.embed(bands, sensor, gsd_m, **options)
