"""What a pretraining run is, and the named presets of models and runs."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from salib.config.models import KINDS, ModelConfig, check_whole
from salib.config.sensors import TILE_PX

Precision = Literal["float32", "bf16", "auto"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One pretraining run.

    Attributes:
        steps: optimiser steps; None if `epochs` is given.
        epochs: passes through the training samples; None if `steps` is given.
        batch: samples per step, over all ranks.
        learning_rate: peak of a linear warm-up and cosine decay (D14).
        weight_decay: of AdamW, on matrices only.
        crop_px: side of the lores crop that becomes an input, smallest and largest; drawn for each
            sample, so every encoder sees a range of ground sample distances (D18).
        image_px: side of the lores and radar input; hires has twice as many pixels.
        jitter: standard deviation of the logarithm of the gain drawn for each image, and 0.3 of it
            for each of its bands.
        precision: "float32", "bf16", or "auto": "bf16" where the device multiplies it itself
            (`salib.model.precision`).
    """

    steps: int | None = None
    epochs: int | None = None
    batch: int
    learning_rate: float
    weight_decay: float = 0.05
    warmup: float = 0.1
    crop_px: tuple[int, int]
    image_px: int
    jitter: float = 0.1
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check the rules that the loop relies on."""
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps or epochs must be given, the other None, got steps={self.steps} and "
                f"epochs={self.epochs}"
            )
        check_whole(self, "epochs" if self.steps is None else "steps", "batch", "image_px")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("weight_decay", "warmup", "jitter"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if not 0 < self.crop_px[0] <= self.crop_px[1] <= TILE_PX:
            raise ValueError(
                f"crop_px must be (smallest, largest) within a tile of {TILE_PX} px, got "
                f"{self.crop_px}"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")

    def steps_for(self, samples: int) -> int:
        """Optimiser steps on `samples` training samples: as given, or the batches of `epochs`.

        Those are epochs * samples // batch, at least 1: an epoch's remainder is drawn with the
        next, and only the last leaves one, smaller than a batch.
        """
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, self.epochs * samples // self.batch)


PRESETS = {
    "tiny": ModelConfig(
        dim=128,
        depth=4,
        heads=4,
        patch_px=8,
        decoder_dim=64,
        decoder_heads=4,
        mask_ratio=0.5,
        hires_mask_ratio=0.75,
    ),
    "small": ModelConfig(dim=384, depth=6, heads=6, decoder_dim=256, patch_px=8),
    "base": ModelConfig(),
}


def preset(name: str, *, kind: str = "scale_alibi") -> ModelConfig:
    """Configuration of a preset, for Scale-ALiBi or for the CROMA it is compared with.

    Raises:
        ValueError: if there is no such preset or kind.
    """
    for given, value, known in (("preset", name, PRESETS), ("kind", kind, KINDS)):
        if value not in known:
            raise ValueError(f"{given} must be one of {tuple(known)}, got {value!r}")
    return replace(PRESETS[name], **KINDS[kind])


TRAINING = {
    "tiny": TrainConfig(steps=240, batch=128, learning_rate=1e-3, crop_px=(48, 96), image_px=64),
    "small": TrainConfig(
        steps=20_000, batch=64, learning_rate=5e-4, crop_px=(96, 256), image_px=128
    ),
    "base": TrainConfig(
        epochs=50, batch=32, learning_rate=1e-4, crop_px=(256, 256), image_px=256, jitter=0.0
    ),
}
