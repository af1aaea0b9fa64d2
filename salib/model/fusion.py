"""The models of Fig. 1: one encoder a sensor, cross-encoders that fuse them, one decoder."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from salib.attention import Geometry
from salib.bias import alibi_slopes, patch_centres
from salib.config import Levels, ModelConfig
from salib.model.layers import Decoder, FeedForward, Transformer
from salib.model.tokens import Mask, Tokens, draw_mask, patchify, sincos

MAX_SCALE = 100.0


@dataclass(frozen=True)
class Pretraining:
    """What the losses need of one pass: by sensor, and the temperature."""

    projections: dict[str, Tensor]
    predicted: dict[str, Tensor]
    target: dict[str, Tensor]
    hidden: dict[str, Tensor]
    temperature: Tensor


class Encoder(nn.Module):
    """Standardise, cut into patches, embed, attend with the bias of their ground distance."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, levels: Levels, depth: int) -> None:
        """One sensor's encoder."""
        super().__init__()
        self.patch_px = config.patch_px
        bands = len(levels.mean)
        self.register_buffer("mean", torch.tensor(levels.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(levels.std).view(-1, 1, 1), persistent=False)
        self.enter = nn.Linear(bands * config.patch_px**2, config.dim)
        self.transformer = Transformer(config.dim, config.heads, depth)

    def standardise(
        self, images: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch bands height width"]:
        """Levels to mean 0 and standard deviation 1 over the training data (D13).

        Raises:
            ValueError: if the image has another number of bands than the encoder.
        """
        if images.shape[1] != len(self.mean):
            raise ValueError(
                f"images must have {len(self.mean)} bands for this sensor, got {images.shape[1]}"
            )
        return (images - self.mean) / self.std


class Fusion(nn.Module):
    """What Scale-ALiBi and CROMA share; the sensors and the unit of distance set them apart."""

    impl = "auto"  # of attention in all layers, see `salib.attention.resolve`
    fixed_slopes: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Build from a configuration; weights come from torch's global generator."""
        super().__init__()
        self.config = config
        dim, heads, half = config.dim, config.heads, config.depth // 2
        levels = config.sensor_levels
        slopes = torch.tensor(config.slopes) if config.slopes else alibi_slopes(heads)
        self.register_buffer("fixed_slopes", slopes, persistent=False)
        if config.learn_slopes:
            self.log_slopes = nn.Parameter(slopes.log())
        self.encoders = nn.ModuleDict(
            {n: Encoder(config, levels[n], half if n == "radar" else config.depth) for n in levels}
        )
        self.cross_encoders = nn.ModuleDict(
            {n: Transformer(dim, heads, half, cross=True) for n in config.sensors[1:]}
        )
        self.pool_heads = nn.ModuleDict({n: FeedForward(dim) for n in levels})
        self.projections = nn.ModuleDict({n: nn.Linear(dim, dim) for n in levels})
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.target_values = {n: self._target_values(n, levels[n]) for n in levels}
        self.decoder = Decoder(
            dim,
            config.decoder_dim,
            config.decoder_heads,
            config.decoder_depth,
            sum(self.target_values.values()),
        )

    def forward(
        self,
        images: Mapping[str, Float[Tensor, "batch bands height width"]],
        gsd_m: Mapping[str, Float[Tensor, " batch"]],
        masks: Mapping[str, Mask],
    ) -> Pretraining:
        """Fig. 1 from images to projections and reconstructions."""
        pixels = {n: self.encoder(n).standardise(images[n]) for n in self.config.sensors}
        whole = {n: self.tokenize(n, pixels[n], gsd_m[n]) for n in pixels}
        encoded = {n: self.encode(n, whole[n].take(masks[n].keep)) for n in whole}
        pooled = {n: self.pool(n, encoded[n]) for n in encoded}
        joint = self.fuse(encoded)
        target = self.target(pixels)
        predicted = self.decoder(joint.x, masks["radar"].keep, self._decoder_place(pixels))
        return Pretraining(
            projections={n: self.projections[n](pooled[n]) for n in pooled},
            predicted=dict(zip(target, predicted.split(self._widths(target), -1), strict=True)),
            target=target,
            hidden={n: masks[n].hidden for n in target},
            temperature=1 / self.log_scale.exp().clamp(max=MAX_SCALE),
        )

    def encoder(self, sensor: str) -> Encoder:
        """The encoder of one sensor."""
        found = self.encoders[sensor]
        assert isinstance(found, Encoder)
        return found

    def tokenize(
        self,
        sensor: str,
        pixels: Float[Tensor, "batch bands height width"],
        gsd_m: Float[Tensor, " #batch"],
    ) -> Tokens:
        """Embed the patches of standardised images and note where they lie.

        Args:
            gsd_m: metres a pixel, one an image, or a single one for all.
        """
        patch_px = self.config.patch_px
        x = self.encoder(sensor).enter(patchify(pixels, patch_px))
        rows, cols = pixels.shape[-2] // patch_px, pixels.shape[-1] // patch_px
        return Tokens(x, patch_centres(rows, cols, self.patch_m(gsd_m)))

    def patch_m(self, gsd_m: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Side of a patch in metres on the ground."""
        return gsd_m * self.config.patch_px

    @property
    def slopes(self) -> Float[Tensor, " heads"]:
        """m(h) of each head."""
        return self.log_slopes.exp() if self.config.learn_slopes else self.fixed_slopes

    def geometry(self, queries: Tokens, keys: Tokens) -> Geometry:
        """What distance between two streams costs, Eq. (2); made once, shared by their layers."""
        config = self.config
        places = (queries.xy, keys.xy, self.slopes, config.reference_m)
        return Geometry(*places, impl=self.impl, sink=config.sink)

    def encode(self, sensor: str, tokens: Tokens) -> Tokens:
        """One sensor's encodings of the tokens that it is shown."""
        transformer = self.encoder(sensor).transformer
        return Tokens(transformer(tokens.x, self.geometry(tokens, tokens)), tokens.xy)

    def pool(self, sensor: str, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """One vector an image: mean of the tokens, then a feed-forward."""
        return self.pool_heads[sensor](tokens.x.mean(dim=1))

    def fuse(self, encoded: Mapping[str, Tokens]) -> Tokens:
        """Joint encoding at the radar tokens' places (D7, D8, D9, D17)."""
        joint = encoded["radar"]
        own = self.geometry(joint, joint)
        for name in self.config.sensors[1:]:
            context = encoded[name]
            cross = self.cross_encoders[name]
            x = cross(joint.x, own, context.x, self.geometry(joint, context))
            joint = Tokens(x, joint.xy)
        return joint

    def target(self, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Patches to reconstruct, all on the coarse grid (D5), before normalisation of Eq. (5)."""
        patch_px = self.config.patch_px
        patches = {n: patchify(pixels[n], patch_px) for n in self.config.sensors if n != "hires"}
        if "hires" in pixels:
            if self.config.hires_target == "area":
                coarse = F.interpolate(pixels["hires"], pixels["lores"].shape[-2:], mode="area")
                patches["hires"] = patchify(coarse, patch_px)
            else:
                patches["hires"] = patchify(pixels["hires"], 2 * patch_px)
        return patches

    def draw_masks(
        self, batch: int, *, rows: int, cols: int, generator: torch.Generator
    ) -> dict[str, Mask]:
        """An independent mask for each sensor, on the ground of `rows` x `cols` coarse patches."""
        masks = {}
        for name in self.config.sensors:
            fine = name == "hires"
            ratio = self.config.hires_mask_ratio if fine else self.config.mask_ratio
            masks[name] = draw_mask(
                batch,
                rows=rows,
                cols=cols,
                mask_ratio=ratio,
                factor=2 if fine else 1,
                generator=generator,
            )
        return masks

    @torch.inference_mode()
    def embed(
        self,
        images: Tensor | np.ndarray,
        sensor: str,
        gsd_m: float | Tensor,
        *,
        tokens: bool = False,
    ) -> Tensor:
        """Represent images of one sensor, of any size and ground sample distance.

        Args:
            images: (batch, bands, height, width), 8-bit levels 0..255 in any dtype; height and
                width multiples of patch_px.
            sensor: "radar" (VV, VH), "lores" or "hires" (red, green, blue).
            gsd_m: metres of ground a pixel, one number or one an image.
            tokens: return one vector a patch instead of their mean.

        Returns:
            (batch, dim), or (batch, tokens, dim) with `tokens`.

        Raises:
            ValueError: if the sensor is unknown, gsd_m is not positive and finite, or the images'
                shape does not fit.
        """
        if sensor not in self.config.sensors:
            raise ValueError(f"sensor must be one of {self.config.sensors}, got {sensor!r}")
        images = torch.as_tensor(images)
        if images.ndim != 4 or min(images.shape[1:]) < 1:
            raise ValueError(
                f"images must be (batch, bands, height, width), got {tuple(images.shape)}"
            )
        device = self.log_scale.device
        try:
            metres = torch.as_tensor(gsd_m, dtype=torch.float32, device=device).expand(len(images))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"gsd_m must be one number, or one an image of {len(images)}, got {gsd_m!r}"
            ) from error
        if len(images) and bool((metres == metres[0]).all()):
            metres = metres[:1]  # one bias serves the batch
        if not bool((metres.isfinite() & (metres > 0)).all()):
            raise ValueError(f"gsd_m must be positive metres a pixel, got {gsd_m}")
        pixels = self.encoder(sensor).standardise(images.to(device).float())
        if not bool(pixels.isfinite().all()):
            raise ValueError("images must be finite levels, got NaN or infinity")
        encoded = self.encode(sensor, self.tokenize(sensor, pixels, metres)).x.float()
        return encoded if tokens else encoded.mean(dim=1)

    def _target_values(self, sensor: str, levels: Levels) -> int:
        side = 2 if sensor == "hires" and self.config.hires_target == "full" else 1
        return len(levels.mean) * (self.config.patch_px * side) ** 2

    def _widths(self, names: Mapping[str, Tensor]) -> list[int]:
        return [self.target_values[name] for name in names]

    def _decoder_place(self, pixels: Mapping[str, Tensor]) -> Tensor:
        lores = pixels["lores"]
        rows, cols = (side // self.config.patch_px for side in lores.shape[-2:])
        steps = patch_centres(rows, cols, torch.ones(1, device=lores.device)) - 0.5
        return sincos(steps, self.config.decoder_dim).expand(len(lores), -1, -1)


class ScaleAlibi(Fusion):
    """Radar, lores and hires; two cross-encoders; distance in metres on the ground."""


class Croma(Fusion):
    """Radar and lores; one cross-encoder; distance in patches whatever they measure."""

    def patch_m(self, gsd_m: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """One step a patch: 2D-ALiBi and X-ALiBi."""
        return torch.full_like(gsd_m, self.config.reference_m)


MODELS: dict[str, type[Fusion]] = {"scale_alibi": ScaleAlibi, "croma": Croma}


def build_model(config: ModelConfig, seed: int) -> Fusion:
    """A freshly initialised model; the same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[config.kind](config)
