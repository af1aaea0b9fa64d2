"""Sensors, frozen configurations and presets: the only place where sizes are written."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

SCHEMA, TILE_PX = 2, 256
SENSOR_NAMES = ("radar", "lores", "hires")
Precision = Literal["float32", "bf16", "auto"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
POSITIONS = ("ground", "patches")
KINDS: dict[str, dict[str, Any]] = {
    "scale_alibi": {"sensors": SENSOR_NAMES, "position": "ground"},
    "croma": {"sensors": ("radar", "lores"), "position": "patches"},
}


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What an encoder looks at: band names, and the sensor's own ground sample distance.

    The value `gsd_m` of an image (metres of ground per pixel as sampled) belongs to the sample;
    `native_gsd_m` is what the instrument resolves. Images are 8-bit levels, 0..255.

    Attributes:
        channels: where a curated tile, red, green, blue and alpha, holds the bands.
        factor: pixels of a sample's image along one lores pixel.
    """

    name: str
    bands: tuple[str, ...]
    native_gsd_m: float
    channels: tuple[int, ...] = (0, 1, 2)
    factor: int = 1


SENSORS = {
    "radar": Sensor(name="radar", bands=("VV", "VH"), native_gsd_m=10.0, channels=(1, 2)),
    "lores": Sensor(name="lores", bands=("red", "green", "blue"), native_gsd_m=10.0),
    "hires": Sensor(name="hires", bands=("red", "green", "blue"), native_gsd_m=0.6, factor=2),
}


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Mean and standard deviation of a sensor's levels, one value a band (D13)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the two describe the same bands."""
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"levels must hold a mean and a std for each band, got {self}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")


def plain_levels(*, bands: int) -> Levels:
    """Levels that leave the input as it is: mean 0, standard deviation 1."""
    return Levels(mean=(0.0,) * bands, std=(1.0,) * bands)


def _check_whole(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and readings of one model; stored beside its weights.

    Attributes:
        sensors: what the model encodes, in fusion order: radar, whose tokens are the first queries,
            then lores, then hires.
        position: how positions enter attention. "ground": distance in metres on the ground (D2).
            "patches": a step per patch of the lores grid, whatever it measures, as CROMA's
            2D-ALiBi and X-ALiBi (a hires patch, half as large in a sample, is half a step). Or a
            function of two lists of positions in metres, (queries 2) and (keys 2), that returns
            their distances (queries keys), in place of the Euclidean one.
        depth: layers of the optical encoders; the radar encoder and each cross-encoder have half.
        patch_px: side of a patch in pixels.
        reference_m: ground distance that counts as one step of bias (D2).
        slopes: m(h) of each head, or empty for ALiBi's.
        learn_slopes: train the slopes with the rest, starting from `slopes`; the paper's are fixed.
        sink: give attention a key that no patch owns (see `salib.attention.Geometry`); the paper
            has none.
        mask_ratio: fraction of patches hidden in pretraining, radar and lores.
        hires_mask_ratio: the same for hires, drawn in blocks on the ground (D6).
        hires_target: "area" averages the hires patch down to the lores grid, "full" keeps all its
            sub-pixels as channels (D5).
        joint_target: normalise all sensors' channels of a patch together, as CROMA's code does,
            instead of each sensor's own (D4).
        levels: standardisation of each sensor, in the order of the sensors.
    """

    dim: int
    depth: int
    heads: int
    patch_px: int
    decoder_dim: int
    decoder_depth: int
    decoder_heads: int
    mask_ratio: float
    hires_mask_ratio: float
    sensors: tuple[str, ...] = SENSOR_NAMES
    position: str | Callable[..., Any] = "ground"
    reference_m: float = 64.0
    slopes: tuple[float, ...] = ()
    learn_slopes: bool = False
    sink: bool = False
    hires_target: str = "area"
    joint_target: bool = False
    levels: tuple[Levels, ...] = ()

    def __post_init__(self) -> None:
        """Check the rules that the model relies on."""
        if len(self.sensors) < 2 or self.sensors != SENSOR_NAMES[: len(self.sensors)]:
            raise ValueError(
                f"sensors must be the first two or all of {SENSOR_NAMES}, got {self.sensors}"
            )
        if not callable(self.position) and self.position not in POSITIONS:
            raise ValueError(
                f"position must be one of {POSITIONS} or a function of two lists of positions, got "
                f"{self.position!r}"
            )
        _check_whole(self, "dim", "depth", "heads", "patch_px")
        _check_whole(self, "decoder_dim", "decoder_depth", "decoder_heads")
        for dim, heads in ((self.dim, self.heads), (self.decoder_dim, self.decoder_heads)):
            if dim % heads:
                raise ValueError(f"heads must divide the width, got {heads} heads and {dim}")
        if self.decoder_dim % 4:
            raise ValueError(f"decoder_dim must be a multiple of 4, got {self.decoder_dim}")
        for ratio in (self.mask_ratio, self.hires_mask_ratio):
            if not 0 < ratio < 1:
                raise ValueError(f"mask_ratio must lie between 0 and 1, got {ratio}")
        if not 0 < self.reference_m < math.inf:
            raise ValueError(f"reference_m must be positive, got {self.reference_m}")
        if self.slopes and (len(self.slopes) != self.heads or min(self.slopes) <= 0):
            raise ValueError(f"slopes must be {self.heads} positive values, got {self.slopes}")
        if self.hires_target not in ("area", "full"):
            raise ValueError(f"hires_target must be area or full, got {self.hires_target!r}")
        if self.levels and len(self.levels) != len(self.sensors):
            raise ValueError(f"levels must be one a sensor {self.sensors}, got {len(self.levels)}")

    @property
    def kind(self) -> str:
        """The name in `KINDS` of these sensors and this position, or both spelled out."""
        own = {"sensors": self.sensors, "position": self.position}
        named = [name for name, kind in KINDS.items() if kind == own]
        return named[0] if named else f"{'+'.join(self.sensors)}, {self.position_name}"

    @property
    def position_name(self) -> str:
        """The strategy's name, or the module and name of a function."""
        if not callable(self.position):
            return self.position
        named = getattr(self.position, "__qualname__", type(self.position).__qualname__)
        return f"{getattr(self.position, '__module__', '')}.{named}"

    @property
    def sensor_levels(self) -> dict[str, Levels]:
        """Standardisation by sensor."""
        plain = tuple(plain_levels(bands=len(SENSORS[name].bands)) for name in self.sensors)
        return dict(zip(self.sensors, self.levels or plain, strict=True))

    def to_json(self) -> dict:
        """Plain values, with the version of the layout."""
        return {"schema": SCHEMA, **asdict(replace(self, position="ground"))} | {
            "position": self.position_name
        }

    @classmethod
    def from_json(
        cls, stored: dict, *, position: Callable[..., Any] | None = None
    ) -> "ModelConfig":
        """Inverse of `to_json`.

        Args:
            position: the function that the model was trained with, where it is not a named one.

        Raises:
            ValueError: if the stored layout is of another version or names other fields, or
                `position` is not the stored one.
        """
        values = dict(stored)
        schema = values.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(
                f"schema of a model's config.json must be {SCHEMA}, got {schema}: "
                "the folder was written by another version of salib; pretrain it again"
            )
        try:
            levels = tuple(
                Levels(mean=tuple(level["mean"]), std=tuple(level["std"]))
                for level in values.pop("levels")
            )
            named = values.pop("position")
            changed: dict[str, Any] = {
                name: tuple(values.pop(name)) for name in ("slopes", "sensors")
            }
            config = cls(**(values | changed), levels=levels, position=position or "ground")
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.json must hold the fields of ModelConfig: {error}") from error
        if position is None and named in POSITIONS:
            return replace(config, position=named)
        if position is None or config.position_name != named:
            raise ValueError(
                f"position must be the function that the model was trained with, {named}, got "
                f"{config.position_name if position else 'none'}: load_model(folder, position=...)"
            )
        return config


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
        _check_whole(self, "epochs" if self.steps is None else "steps", "batch", "image_px")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("weight_decay", "warmup", "jitter"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} must be finite and not negative, got {getattr(self, name)}"
                )
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


_TINY = ModelConfig(
    dim=128,
    depth=4,
    heads=4,
    patch_px=8,
    decoder_dim=64,
    decoder_depth=1,
    decoder_heads=4,
    mask_ratio=0.5,
    hires_mask_ratio=0.75,
)
_BASE = ModelConfig(
    dim=768,
    depth=12,
    heads=16,
    patch_px=16,
    decoder_dim=512,
    decoder_depth=1,
    decoder_heads=8,
    mask_ratio=0.4,
    hires_mask_ratio=0.4,
)
PRESETS = {
    "tiny": _TINY,
    "small": replace(_BASE, dim=384, depth=6, heads=6, decoder_dim=256, patch_px=8),
    "base": _BASE,
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
