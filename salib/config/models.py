"""What a model is: sizes, sensors, positions; stored beside its weights."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from salib.config.sensors import SENSOR_NAMES, SENSORS, check_sensors

SCHEMA = 3
BIASES = ("ground", "patches")
"""Positions that enter as a bias of attention."""
POSITIONS = (*BIASES, "rotary", "sincos", "gsd_sincos", "none")
KINDS: dict[str, dict[str, Any]] = {
    "scale_alibi": {"sensors": SENSOR_NAMES, "position": "ground"},
    "croma": {"sensors": ("radar", "lores"), "position": "patches"},
}


@dataclass(frozen=True, kw_only=True)
class BandStats:
    """Mean and standard deviation of a sensor's pixel values, one per band (D13)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check that the two describe the same bands."""
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"band_stats must hold a mean and a std for each band, got {self}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")


def plain_stats(*, bands: int) -> BandStats:
    """Statistics that leave the input as it is: mean 0, standard deviation 1."""
    return BandStats(mean=(0.0,) * bands, std=(1.0,) * bands)


def check_whole(config: object, *names: str) -> None:
    """Refuse what is no positive whole number."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and readings of one model, by default the paper's; stored beside its weights.

    Attributes:
        sensors: what the model encodes, in fusion order: radar, whose tokens are the first queries,
            then one on the same grid (lores or s2), then others such as hires.
        position: how positions enter attention. "ground": distance in metres on the ground (D2).
            "patches": a step per patch of the lores grid, whatever it measures, as CROMA's
            2D-ALiBi and X-ALiBi (a hires patch, half as large in a sample, is half a step). Or a
            function of two lists of positions in metres, (queries 2) and (keys 2), that returns
            their distances (queries keys), in place of the Euclidean one. Without a bias: "rotary"
            turns queries and keys by their ground position (GeoRoPE, arXiv 2606.14760);
            "gsd_sincos" adds sines and cosines of it to the tokens (Scale-MAE, arXiv 2212.14532);
            "sincos" adds them of the number of the patch (ViT); "none" tells no position.
        depth: layers of the optical encoders; the radar encoder and each cross-encoder have half.
        patch_px: side of a patch in pixels.
        stem: "linear" embeds each patch alone, as in the paper; "conv" by convolutions of stride 2,
            which see a few pixels of the neighbours, masked ones too. patch_px is then a power of
            two.
        shared_optical: one encoder for the optical sensors of the same bands, lores and hires, in
            place of one each; band statistics and all that follows stay each sensor's own.
        partial: trained with samples that lack sensors: any of them can be fused.
        reference_m: ground distance that counts as one step of bias (D2).
        slopes: m(h) of each head, or empty for ALiBi's.
        learn_slopes: train the slopes with the rest, starting from `slopes`; the paper's are fixed.
        sink: give attention a key that no patch owns (see `salib.attention.Geometry`); the paper
            has none.
        mask_ratio: fraction of patches masked in pretraining, of sensors on the lores grid.
        hires_mask_ratio: the same for finer sensors, drawn in blocks on the ground (D6).
        hires_target: "area" averages the hires patch down to the lores grid, "full" keeps all its
            sub-pixels as channels (D5).
        joint_target: normalise all sensors' channels of a patch together, as CROMA's code does,
            instead of each sensor's own (D4).
        whiten: after training, fit a linear map after which embeddings of the training images have
            no correlation (`salib.model.whitening`); `embed` applies it. The paper has none.
        band_stats: standardisation of each sensor, in the order of the sensors.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 16
    patch_px: int = 16
    stem: str = "linear"
    shared_optical: bool = False
    partial: bool = False
    decoder_dim: int = 512
    decoder_depth: int = 1
    decoder_heads: int = 8
    mask_ratio: float = 0.4
    hires_mask_ratio: float = 0.4
    sensors: tuple[str, ...] = SENSOR_NAMES
    position: str | Callable[..., Any] = "ground"
    reference_m: float = 64.0
    slopes: tuple[float, ...] = ()
    learn_slopes: bool = False
    sink: bool = False
    hires_target: str = "area"
    joint_target: bool = False
    whiten: bool = False
    band_stats: tuple[BandStats, ...] = ()

    def __post_init__(self) -> None:
        """Check the rules that the model relies on."""
        check_sensors(self.sensors)
        check_whole(self, "dim", "depth", "heads", "patch_px")
        check_whole(self, "decoder_dim", "decoder_depth", "decoder_heads")
        for dim, heads in ((self.dim, self.heads), (self.decoder_dim, self.decoder_heads)):
            if dim % heads:
                raise ValueError(f"heads must divide the width, got {heads} heads and {dim}")
        if self.decoder_dim % 4:
            raise ValueError(f"decoder_dim must be a multiple of 4, got {self.decoder_dim}")
        self._check_position()
        self._check_shared()
        if self.stem not in ("linear", "conv"):
            raise ValueError(f"stem must be linear or conv, got {self.stem!r}")
        if self.stem == "conv" and (self.patch_px < 2 or self.patch_px & (self.patch_px - 1)):
            raise ValueError(f"patch_px must be a power of two for stem conv, got {self.patch_px}")
        for ratio in (self.mask_ratio, self.hires_mask_ratio):
            if not 0 < ratio < 1:
                raise ValueError(f"mask_ratio must lie between 0 and 1, got {ratio}")
        if not 0 < self.reference_m < math.inf:
            raise ValueError(f"reference_m must be positive, got {self.reference_m}")
        if self.slopes and (len(self.slopes) != self.heads or min(self.slopes) <= 0):
            raise ValueError(f"slopes must be {self.heads} positive values, got {self.slopes}")
        if self.hires_target not in ("area", "full"):
            raise ValueError(f"hires_target must be area or full, got {self.hires_target!r}")
        if self.band_stats and len(self.band_stats) != len(self.sensors):
            raise ValueError(
                f"band_stats must be one per sensor {self.sensors}, got {len(self.band_stats)}"
            )

    def _check_position(self) -> None:
        if not callable(self.position) and self.position not in POSITIONS:
            raise ValueError(
                f"position must be one of {POSITIONS} or a function of two lists of positions, got "
                f"{self.position!r}"
            )
        for name in ("slopes", "learn_slopes", "sink"):
            if getattr(self, name) and not self.has_bias:
                raise ValueError(f"{name} must not be given with position {self.position!r}")
        width = self.dim // self.heads if self.position == "rotary" else self.dim
        if not self.has_bias and width % 4 and self.position != "none":
            raise ValueError(
                f"width must be a multiple of 4 for position {self.position!r}, got {width}"
            )

    def _check_shared(self) -> None:
        kinds = [SENSORS[name].bands for name in self._optical]
        if self.shared_optical and (len(kinds) < 2 or len(set(kinds)) > 1):
            raise ValueError(
                "shared_optical must join two optical sensors or more, all of the same bands, such "
                f"as lores and hires, got {', '.join(self._optical) or 'none'} of {self.sensors}"
            )

    @property
    def _optical(self) -> list[str]:
        return [name for name in self.sensors if SENSORS[name].modality == "optical"]

    @property
    def encoder_of(self) -> dict[str, str]:
        """By sensor, that whose encoder it passes: its own, or the first optical one's."""
        shared = self._optical if self.shared_optical else []
        return {name: shared[0] if name in shared else name for name in self.sensors}

    @property
    def has_bias(self) -> bool:
        """Whether positions enter as a bias of attention, Eq. (2)."""
        return callable(self.position) or self.position in BIASES

    @property
    def kind(self) -> str:
        """The name in `KINDS` of these sensors and this position, or both spelled out."""
        for name, kind in KINDS.items():
            if kind == {"sensors": self.sensors, "position": self.position}:
                return name
        return f"{'+'.join(self.sensors)}, {self.position_name}"

    @property
    def position_name(self) -> str:
        """The strategy's name, or the module and name of a function."""
        if not callable(self.position):
            return self.position
        named = getattr(self.position, "__qualname__", type(self.position).__qualname__)
        return f"{getattr(self.position, '__module__', '')}.{named}"

    @property
    def stats(self) -> dict[str, BandStats]:
        """Standardisation by sensor."""
        plain = tuple(plain_stats(bands=len(SENSORS[name].bands)) for name in self.sensors)
        return dict(zip(self.sensors, self.band_stats or plain, strict=True))

    def to_json(self) -> dict:
        """Plain values, with the version of the layout; `shared_optical` where it is on alone.

        So a run of a model that is older than the option is known again.
        """
        values = {"schema": SCHEMA, **asdict(replace(self, position="ground"))}
        if not self.shared_optical:
            del values["shared_optical"]
        return values | {"position": self.position_name}

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
        if (schema := values.pop("schema", None)) != SCHEMA:
            raise ValueError(
                f"schema of a model's config.json must be {SCHEMA}, got {schema}: "
                "the folder was written by another version of salib; pretrain it again"
            )
        try:
            named = values.pop("position")
            values |= {name: tuple(values[name]) for name in ("slopes", "sensors")}
            values["band_stats"] = tuple(
                BandStats(mean=tuple(each["mean"]), std=tuple(each["std"]))
                for each in values["band_stats"]
            )
            config = cls(position=position or (named if named in POSITIONS else "ground"), **values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.json must hold the fields of ModelConfig: {error}") from error
        if config.position_name != named:
            raise ValueError(
                f"position must be the function that the model was trained with, {named}, got "
                f"{config.position_name if position else 'none'}: load_model(folder, position=...)"
            )
        return config
