"""The models of Fig. 1: one encoder per sensor, cross-encoders that fuse them, one decoder."""

from collections.abc import Mapping
from typing import Unpack, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salib.attention import Geometry
from salib.bias import alibi_slopes, patch_centres, sincos
from salib.config import SENSORS, ModelConfig
from salib.model.layers import Decoder, Encoder, FeedForward, Transformer
from salib.model.precision import resolve_device
from salib.model.tokens import Mask, Pretraining, Tokens, decoder_positions, kept, targets
from salib.model.views import Options, View, checked_views, in_parts
from salib.model.whitening import JOINT, Whitening

MAX_SCALE = 100.0


class ScaleAlibi(nn.Module):
    """Fig. 1. With radar and lores alone, and distance counted in patches, it is CROMA.

    Attributes:
        impl: of attention in all layers, see `salib.attention.resolve`.
        attention_used: names of the implementations that have served so far.
    """

    impl = "auto"
    fixed_slopes: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Build from a configuration; weights come from torch's global generator."""
        super().__init__()
        self.config = config
        self.attention_used: set[str] = set()
        dim, heads, half, stats = config.dim, config.heads, config.depth // 2, config.stats
        slopes = torch.tensor(config.slopes) if config.slopes else alibi_slopes(heads)
        self.register_buffer("fixed_slopes", slopes, persistent=False)
        if config.learn_slopes:
            self.log_slopes = nn.Parameter(slopes.log())
        depths = {n: half if SENSORS[n].radar else config.depth for n in config.encoder_of.values()}
        self.encoders = nn.ModuleDict({n: Encoder(config, n, own) for n, own in depths.items()})
        self.cross_encoders = nn.ModuleDict(
            {n: Transformer(dim, heads, half, cross=True) for n in config.sensors[1:]}
        )
        self.pool_heads = nn.ModuleDict({n: FeedForward(dim) for n in stats})
        self.projections = nn.ModuleDict({n: nn.Linear(dim, dim) for n in stats})
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.decoder = Decoder(config)
        self.whitening = Whitening(config)

    def forward(
        self,
        images: Mapping[str, Float[Tensor, "batch bands height width"]],
        gsd_m: Mapping[str, Float[Tensor, " batch"]],
        masks: Mapping[str, Mask],
        *,
        reconstruct: bool = True,
    ) -> Pretraining:
        """Fig. 1 from images to projections and reconstructions.

        Args:
            images: of every sensor, or of those that all these samples have.
            gsd_m: metres per pixel.
            masks: what each encoder sees.
            reconstruct: fuse and decode too; otherwise there are projections alone.
        """
        first, *_ = names = [n for n in self.config.sensors if n in images]
        pixels = {n: self.encoder(n).standardise[n](images[n]) for n in names}
        shown = {n: self.tokenize(n, pixels[n], gsd_m[n], masks[n].keep) for n in names}
        encoded = {n: self.encode(n, shown[n]) for n in names}
        projections = {n: self.projections[n](self.pool(n, encoded[n])) for n in names}
        if not reconstruct:
            return Pretraining(projections, {}, {}, {}, self.temperature)
        factor = SENSORS[first].factor
        joint = self.fuse(encoded).blocks(factor)
        target = targets(self.config, pixels)
        positions = decoder_positions(self.config, pixels[first], factor)
        decoded = self.decoder(joint, masks[first].coarse(factor), positions)
        predicted, hidden = {n: decoded[n] for n in target}, {n: masks[n].hidden for n in target}
        return Pretraining(projections, predicted, target, hidden, self.temperature)

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """Sigma of Eq. (3), learnt and clamped (D3)."""
        return 1 / self.log_scale.exp().clamp(max=MAX_SCALE)

    def encoder(self, sensor: str) -> Encoder:
        """The encoder of one sensor, or the one that optical sensors share."""
        encoder = self.encoders[self.config.encoder_of[sensor]]
        assert isinstance(encoder, Encoder)
        return encoder

    def tokenize(
        self,
        sensor: str,
        pixels: Float[Tensor, "batch bands height width"],
        gsd_m: Float[Tensor, " #batch"],
        keep: Int[Tensor, "batch kept"] | None = None,
    ) -> Tokens:
        """Embed the patches of standardised images and note where they lie.

        Args:
            gsd_m: metres per pixel, one per image, or a single one for all.
            keep: which patches, by default all.
        """
        x = self.encoder(sensor).embed(pixels, keep)
        rows, cols = (side // self.config.patch_px for side in pixels.shape[-2:])
        xy = kept(patch_centres(rows, cols, self.patch_m(sensor, gsd_m)), keep)
        if self.config.position in ("sincos", "gsd_sincos"):
            x = x + sincos(xy / self.config.reference_m, self.config.dim).to(x.dtype)
        return Tokens(x, xy)

    def patch_m(self, sensor: str, gsd_m: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Side of a patch in metres; with "patches" or "sincos" a lores patch is one step."""
        if self.config.position in ("patches", "sincos"):
            return torch.full_like(gsd_m, self.config.reference_m / SENSORS[sensor].factor)
        return gsd_m * self.config.patch_px

    @property
    def slopes(self) -> Float[Tensor, " heads"]:
        """m(h) of each head."""
        return self.log_slopes.exp() if self.config.learn_slopes else self.fixed_slopes

    def geometry(self, queries: Tokens, keys: Tokens) -> Geometry | None:
        """What distance between two streams costs, Eq. (2); None if nothing. Layers share it."""
        position, rotary = self.config.position, self.config.position == "rotary"
        if not (rotary or self.config.has_bias):
            return None
        where = (queries.xy, keys.xy, self.slopes, self.config.reference_m)
        how = {"impl": self.impl, "sink": self.config.sink, "rotary": rotary}
        function = position if callable(position) else None
        return Geometry(*where, **how, function=function, used=self.attention_used)

    def encode(self, sensor: str, tokens: Tokens) -> Tokens:
        """One sensor's encodings of the tokens that it is shown."""
        transformer = self.encoder(sensor).transformer
        return Tokens(transformer(tokens.x, self.geometry(tokens, tokens)), tokens.xy)

    def encode_view(
        self, sensor: str, view: View, keep: Int[Tensor, "batch kept"] | None = None
    ) -> Tokens:
        """One sensor's encodings of images, of all patches or those that its encoder is shown."""
        standardise = self.encoder(sensor).standardise[sensor]
        pixels, gsd_m = view.standardised(standardise, self.log_scale.device)
        keep = None if keep is None else keep.to(pixels.device)
        return self.encode(sensor, self.tokenize(sensor, pixels, gsd_m, keep))

    def pool(self, sensor: str, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """One vector per image: mean of the tokens, then a feed-forward."""
        return self.pool_heads[sensor](tokens.x.mean(dim=1))

    def fuse(self, encoded: Mapping[str, Tokens]) -> Tokens:
        """Joint encoding at the radar tokens' positions (D7, D8, D9, D17).

        Args:
            encoded: tokens of radar and of the sensors fused into it; or of one alone, as it is.
                Without radar the tokens of the first sensor that is there stand for its.
        """
        first, *others = (name for name in self.config.sensors if name in encoded)
        joint = encoded[first]
        here = self.geometry(joint, joint)
        for name in others:
            cross, context = self.cross_encoders[name], encoded[name]
            x = cross(joint.x, here, context.x, self.geometry(joint, context))
            joint = Tokens(x, joint.xy)
        return joint

    @overload
    def embed(
        self,
        images: Tensor | np.ndarray,
        sensor: str | None = None,
        gsd_m: float | Tensor | None = None,
        **options: Unpack[Options],
    ) -> Tensor: ...

    @overload
    def embed(
        self,
        images: Mapping[str, Tensor | np.ndarray],
        sensor: None = None,
        gsd_m: Mapping[str, float | Tensor] | None = None,
        **options: Unpack[Options],
    ) -> Tensor | Tokens: ...

    @torch.no_grad()
    def embed(
        self,
        images: Tensor | np.ndarray | Mapping[str, Tensor | np.ndarray],
        sensor: str | None = None,
        gsd_m: float | Tensor | Mapping[str, float | Tensor] | None = None,
        *,
        tokens: bool = False,
        pooled: bool = False,
        batch: int | None = None,
        device: str | torch.device | None = None,
    ) -> Tensor | Tokens:
        """Represent images of one sensor, or of several that show the same ground, together.

        Images may have any size and GSD. The result needs no gradient and may be trained on.

        Args:
            images: (batch, bands, height, width), pixel values of tiles in any dtype (0..255; of s2
                reflectance x 10,000); height and width multiples of patch_px. Or such images by
                sensor, of the same ground: the first two of the model's sensors, or more.
            sensor: which sensor the images are of, where they are not given by sensor.
            gsd_m: metres of ground per pixel, one number or one per image; by sensor as images.
            tokens: return one vector per patch instead of their mean. Of several sensors these are
                `Tokens`, at the radar patches' positions.
            pooled: return what the trained pooling head makes of the mean, as CROMA's GAP. The
                joint encoding has no head: there it is the plain mean, in CROMA too.
            batch: images at once; by default as many as take about 1 GiB.
            device: move the model there first, such as "cuda"; "auto" takes a GPU if there is one.

        Returns:
            (batch, dim), or (batch, tokens, dim) with `tokens`, in float32 on the model's device.

        Raises:
            ValueError: if a sensor is unknown or cannot be fused, gsd_m is not positive and finite,
                the images' shape does not fit, or they do not show the same ground to within half
                a patch.
        """
        if device is not None:
            self.to(resolve_device(str(device)))
        if tokens and pooled:
            raise ValueError("pooled must not be given with tokens: it makes one vector per image")
        views = checked_views(images, sensor, gsd_m, self.config)
        several, results = len(views) > 1, []
        for part in in_parts(views, self.config, batch):
            seen = self.fuse({name: self.encode_view(name, view) for name, view in part.items()})
            x = self.whitening(JOINT if several else next(iter(views)), seen.x.float())
            if tokens:
                results.append((x, seen.xy.expand(len(x), -1, -1)))
            elif pooled and not several:
                results.append((self.pool(next(iter(views)), seen).float(),))
            else:
                results.append((x.mean(dim=1),))
        x, *xy = (torch.cat(each) for each in zip(*results, strict=True))
        return Tokens(x, *xy) if tokens and several else x


def build_model(config: ModelConfig, seed: int) -> ScaleAlibi:
    """A freshly initialised model; the same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ScaleAlibi(config)
