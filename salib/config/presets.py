"""What a pretraining run is, and the named presets of models and runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from salib.config.models import KINDS, ModelConfig, check_whole
from salib.config.sensors import TILE_PX

Precision = Literal["float32", "bf16", "auto"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
TERMS = ("contrastive", "reconstruction", "views")
"""Of an objective: Eq. (3), Eq. (4), and Eq. (3) between views of one sensor."""
SCHEDULES = ("cosine", "linear")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One pretraining run.

    Attributes:
        steps: optimiser steps; None if `epochs` is given.
        epochs: passes through the training samples; None if `steps` is given.
        batch: samples per step, over all ranks.
        micro_batch: samples that a rank passes through the model at once; gradients of the whole
            batch are the same, at the cost of a second forward pass. By default all.
        learning_rate: peak of a linear warm-up and a decay to zero (D14).
        warmup: share of the steps in which the rate grows.
        schedule: "cosine" decays from then on; "linear" over the last quarter of the steps.
        weight_decay: of AdamW, on matrices only.
        clip: largest norm of the gradient; longer ones are scaled down to it.
        ema: how much of the average of the weights is kept at a step, such as 0.999. The model
            that is written has the average; 0 keeps none.
        objective: weight of each of `TERMS` in the loss, by default those of Eq. (6). Or a function
            of what the model returns for each view (a list of `salib.model.Pretraining`, of the
            whole batch of this rank) that returns named losses, whose sum is learnt.
        views: crops of each sample, each with its own ground sample distance and radiometry.
        sensor_dropout: probability that a sample is shown without one of its sensors.
        crop_px: side of the lores crop that becomes an input, smallest and largest; drawn for each
            sample, so every encoder sees a range of ground sample distances (D18).
        ground_px: side of the square of a sample, in lores pixels, within which all views of a step
            are cut, so that they overlap; drawn for each step. By default the whole tile.
        image_px: side of the lores and radar input; hires has twice as many pixels.
        jitter: standard deviation of the logarithm of the gain drawn for each image, and 0.3 of it
            for each of its bands.
        gamma: the same of the exponent of the pixel values, as shares of the largest.
        haze: probability of a veil over an image, up to half of the largest value.
        noise: standard deviation of noise in pixel values, as a share of the largest, at most.
        compile: pass the model through `torch.compile`.
        recompute: keep no activations of the layers but compute them again in the backward pass.
        precision: "float32", "bf16", or "auto": "bf16" where the device multiplies it itself
            (`salib.model.precision`).
    """

    steps: int | None = None
    epochs: int | None = None
    batch: int
    micro_batch: int | None = None
    learning_rate: float
    warmup: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.0
    objective: Mapping[str, float | int] | Callable[..., Any] = field(
        default_factory=lambda: {"contrastive": 1.0, "reconstruction": 1.0}
    )
    views: int = 1
    sensor_dropout: float = 0.0
    crop_px: tuple[int, int]
    ground_px: int | None = None
    image_px: int
    jitter: float = 0.1
    gamma: float = 0.0
    haze: float = 0.0
    noise: float = 0.0
    compile: bool = False
    recompute: bool = False
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check the rules that the loop relies on."""
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps or epochs must be given, the other None, got steps={self.steps} and "
                f"epochs={self.epochs}"
            )
        counts = ["epochs" if self.steps is None else "steps", "batch", "image_px", "views"]
        check_whole(self, *counts, *(["micro_batch"] if self.micro_batch is not None else []))
        for name in ("learning_rate", "clip"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("weight_decay", "warmup", "jitter", "gamma", "noise"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        for name in ("ema", "haze", "sensor_dropout"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, got {value}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        self._check_objective()
        ground = TILE_PX if self.ground_px is None else self.ground_px
        if not 0 < self.crop_px[0] <= self.crop_px[1] <= ground <= TILE_PX:
            raise ValueError(
                f"crop_px must be (smallest, largest) within ground_px, and that within a tile of "
                f"{TILE_PX} px, got {self.crop_px} and {ground}"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")

    def _check_objective(self) -> None:
        objective = self.objective
        if callable(objective):
            return
        if not isinstance(objective, Mapping):
            raise ValueError(f"objective must give weights by name, got {objective!r}")
        if not objective or not all(0 < weight < math.inf for weight in objective.values()):
            raise ValueError(f"objective must give positive weights, got {dict(objective)}")
        if unknown := sorted({*objective} - {*TERMS}):
            raise ValueError(f"objective must weigh {', '.join(TERMS)}, got {unknown[0]!r}")
        if self.batch < 2 and {"contrastive", "views"} & {*objective}:
            raise ValueError(f"batch must be 2 or more to tell samples apart, got {self.batch}")
        if "views" in objective and self.views < 2:
            raise ValueError(f"views must be 2 or more for this objective, got {self.views}")

    def to_json(self) -> dict[str, Any]:
        """Plain values; of a function its module and name."""
        own = self.objective
        named = f"{own.__module__}.{own.__qualname__}" if callable(own) else dict(own)
        return {**asdict(replace(self, objective={"contrastive": 1.0})), "objective": named}

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
    "laptop": ModelConfig(
        dim=128,
        depth=4,
        heads=4,
        patch_px=4,
        slopes=(1.0, 0.25, 0.0625, 0.015625),
        decoder_dim=64,
        decoder_heads=1,
        mask_ratio=0.875,
        hires_mask_ratio=0.96875,
        whiten=True,
    ),
    "small": ModelConfig(dim=384, depth=6, heads=6, decoder_dim=256, patch_px=8),
    "base": ModelConfig(),
}
"""Sizes. "laptop" is the model that the package ships; what it has that the paper has not (small
patches of which few are seen, steep slopes, views of one sensor) is measured in the book."""


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
    "tiny": TrainConfig(steps=180, batch=128, learning_rate=1e-3, crop_px=(48, 96), image_px=64),
    "laptop": TrainConfig(
        steps=2500,
        batch=128,
        learning_rate=7e-4,
        warmup=0.05,
        schedule="linear",
        objective={"views": 1.0, "contrastive": 0.5, "reconstruction": 0.1},
        views=2,
        crop_px=(60, 120),
        ground_px=128,
        image_px=64,
        jitter=0.12,
        gamma=0.07,
        haze=0.3,
        noise=0.006,
    ),
    "small": TrainConfig(
        steps=20_000, batch=64, learning_rate=5e-4, crop_px=(96, 256), image_px=128
    ),
    "base": TrainConfig(
        epochs=50, batch=32, learning_rate=1e-4, crop_px=(256, 256), image_px=256, jitter=0.0
    ),
}
