"""Faults of the released code, each of which can be switched on alone in our model and its data.

They are rows of the table in design.md (a page of the book), as `exhibits.audit` computes them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from exhibits.audit import d3_released_loss, d6_pooled_mask, d8_released_bias
from salib.attention import Geometry
from salib.config import ModelConfig
from salib.losses import normalise_targets, reconstruction_loss
from salib.model import Mask, Pretraining, ScaleAlibi, Tokens
from salib.model.layers import Standardise
from salib.training.data import Pixels, Samples
from salib.training.sampling import stream
from salib.training.step import Run, View, draw_step

FAULTS = ("D3", "D6", "D7", "D8", "D9", "D12", "D13")
SATURATED = 255
"""Pixel value of radar from DN 997 on. The released code turns DN 1000 and above into 0."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Misread(Geometry):
    """Geometry whose bias is of distances that are given, whatever the positions are (D8)."""

    metres: Float[Tensor, "batch queries keys"]

    def bias(self, rows: slice = slice(None)) -> Float[Tensor, "batch heads queries keys"]:
        """Minus slope times distance, as for true distances."""
        steps = self.metres[:, rows] / self.reference_m
        return -self.slopes[:, None, None] * steps[:, None]


class Released(ScaleAlibi):
    """Our model with faults D7, D8, D9 and D13 of the released one, those that are asked for."""

    def __init__(self, config: ModelConfig, faults: Collection[str]) -> None:
        """The weights are those of our model but for what D7 shares."""
        super().__init__(config)
        self.faults = frozenset(faults)
        self.misread_m: Tensor | None = None
        if "D7" in self.faults:
            for shared in (self.cross_encoders, self.pool_heads):
                shared["hires"] = shared["lores"]

    def forward(
        self,
        images: Mapping[str, Float[Tensor, "batch bands height width"]],
        gsd_m: Mapping[str, Float[Tensor, " batch"]],
        masks: Mapping[str, Mask],
        *,
        reconstruct: bool = True,
    ) -> Pretraining:
        """As ours; D8 notes what it reads instead of distances."""
        if "D8" in self.faults:
            rows, cols = (side // self.config.patch_px for side in images["lores"].shape[-2:])
            keep = masks["lores"].keep, masks["hires"].keep
            patch_m = self.patch_m("lores", gsd_m["lores"])
            self.misread_m = misread_distance(rows, cols, patch_m, *keep)
        out = super().forward(images, gsd_m, masks, reconstruct=reconstruct)
        self.misread_m = None  # `embed` has all patches and no masks: there distances are true
        return out

    def tokenize(
        self,
        sensor: str,
        pixels: Float[Tensor, "batch bands height width"],
        gsd_m: Float[Tensor, " #batch"],
        keep: Int[Tensor, "batch kept"] | None = None,
    ) -> Tokens:
        """As ours; with D13 of pixel values from 0 to 255. Targets stay standardised."""
        if "D13" in self.faults:
            scale = self.encoder(sensor).standardise[sensor]
            assert isinstance(scale, Standardise)
            pixels = pixels * scale.std + scale.mean
        return super().tokenize(sensor, pixels, gsd_m, keep)

    def fuse(self, encoded: Mapping[str, Tokens]) -> Tokens:
        """As ours; D9 biases self-attention by the distance from radar to lores patches."""
        first, *others = (name for name in self.config.sensors if name in encoded)
        joint = encoded[first]
        here = self.geometry(joint, joint)
        for name in others:
            cross, context = self.cross_encoders[name], encoded[name]
            across = self.geometry(joint, context)
            if name == "lores" and "D9" in self.faults:
                here = across  # also of the second cross-encoder
            if name == "hires" and self.misread_m is not None:
                where = (joint.xy, context.xy, self.slopes, self.config.reference_m)
                across = Misread(*where, impl="reference", metres=self.misread_m)
            joint = Tokens(cross(joint.x, here, context.x, across), joint.xy)
        return joint


def build_released(config: ModelConfig, faults: Collection[str], seed: int) -> Released:
    """A freshly initialised model, with the weights that `build_model` gives ours."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Released(config, faults)


def misread_distance(
    rows: int,
    cols: int,
    patch_m: Float[Tensor, " batch"],
    lores: Int[Tensor, "batch queries"],
    hires: Int[Tensor, "batch keys"],
) -> Float[Tensor, "batch queries keys"]:
    """What D8 takes for the distance from joint to hires tokens, in metres.

    Args:
        rows: of lores patches, as cols.
        patch_m: side of a lores patch.
        lores: patches that the lores encoder sees; it is at them that the released code reads,
            although joint tokens lie at those that the radar encoder sees.
        hires: patches that the hires encoder sees.
    """
    steps = -d8_released_bias(rows, cols, 1.0).to(patch_m.device)
    return patch_m[:, None, None] * steps[lores[:, :, None], hires[:, None, :]]


def released_objective(outs: Sequence[Pretraining]) -> dict[str, Tensor]:
    """Eq. (6) with the contrast of D3: radar with lores, and hires with itself."""
    first = outs[0]
    projections = {name: value.float() for name, value in first.projections.items()}
    target = normalise_targets(first.target)
    return {
        "contrastive": d3_released_loss(projections, first.temperature),
        "reconstruction": reconstruction_loss(first.predicted, target, first.hidden),
    }


class Wrapped(Samples):
    """Samples whose saturated radar pixels are black (D12).

    Tiles keep 8 bits, not DN: their 255 is DN 997 and above, of which the released code wraps 1000
    and above. 997 to 999, which it leaves, are wrapped here too.
    """

    def __init__(self, samples: Samples) -> None:
        """Of the same tiles, read and decoded once for both."""
        vars(self).update(vars(samples))

    def image(self, number: int, sensor: str) -> Pixels:
        """A whole tile."""
        image = super().image(number, sensor)
        return np.where(image == SATURATED, np.uint8(0), image) if sensor == "radar" else image


def draw_released(
    samples: Samples, model: Released, run: Run, step: int, faults: Collection[str] = ()
) -> list[View]:
    """A step's images and masks: ours, the lores patches in the order drawn; D6 masks hires anew.

    Our model is indifferent to the order. D8 and D9 are not: they pair the n-th radar patch with
    the n-th lores patch, and the released code does not sort them.
    """
    [(batch, masks)] = draw_step(samples, model, run, step)
    generator = stream(run.seed, "released", step)
    keep, size = masks["lores"].keep, len(masks["lores"].keep)
    order = torch.rand(keep.shape, generator=generator).argsort(dim=1)
    masks["lores"] = replace(masks["lores"], keep=keep.gather(1, order.to(keep.device)))
    if "D6" in faults:
        side, ratio = run.config.image_px // model.config.patch_px, model.config.hires_mask_ratio
        how = {"rows": side, "cols": side, "mask_ratio": ratio, "generator": generator}
        fine, coarse = (hidden.flatten(1).to(keep.device) for hidden in d6_pooled_mask(size, **how))
        shown = (~fine).nonzero()[:, 1].unflatten(0, (size, -1))
        masks["hires"] = Mask(shown, coarse)
    return [(batch, masks)]
