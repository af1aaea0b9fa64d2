"""Transformer layers; attention takes its bias from the positions of its tokens."""

from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from salib.attention import Geometry, attend
from salib.config import BandStats, ModelConfig
from salib.model.tokens import check_divides, kept, patchify, target_values


class Attention(nn.Module):
    """Pre-norm attention of a stream to itself or to a context."""

    def __init__(self, dim: int, heads: int) -> None:
        """Weights without a bias on queries, keys and values, as in CROMA."""
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.queries = nn.Linear(dim, dim, bias=False)
        self.keys_values = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        geometry: Geometry | None,
        context: Float[Tensor, "batch keys dim"] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Eq. (1) for all heads; `context` None means x itself, `geometry` None no distance."""
        x = _to_autocast_dtype(self.norm(x))
        context = x if context is None else self.norm(context)
        q, k, v = (
            rearrange(tokens, "b n (h d) -> b h n d", h=self.heads)
            for tokens in (self.queries(x), *self.keys_values(context).chunk(2, dim=-1))
        )
        mixed = attend(q, k.to(q.dtype), v.to(q.dtype), geometry)
        return self.out(rearrange(mixed, "b h n d -> b n (h d)"))


def _to_autocast_dtype(x: Tensor) -> Tensor:
    """Cast once under autocast, so that three projections need not each cast."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


class FeedForward(nn.Sequential):
    """Norm, one hidden layer of four times the width, GELU."""

    def __init__(self, dim: int) -> None:
        """Four times as wide inside."""
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )


class Layer(nn.Module):
    """Self-attention, attention to a context if there is one, feed-forward."""

    def __init__(self, dim: int, heads: int, *, cross: bool) -> None:
        """`cross` adds the attention to a context."""
        super().__init__()
        self.self_attention = Attention(dim, heads)
        self.cross_attention = Attention(dim, heads) if cross else None
        self.feed_forward = FeedForward(dim)

    def forward(
        self,
        x: Tensor,
        here: Geometry | None,
        context: Tensor | None = None,
        across: Geometry | None = None,
    ) -> Tensor:
        """Each part adds to the stream."""
        x = x + self.self_attention(x, here)
        if self.cross_attention is not None:
            x = x + self.cross_attention(x, across, context)
        return x + self.feed_forward(x)


class Transformer(nn.Module):
    """A stack of layers that share positions, and a last norm.

    Attributes:
        recompute: keep no activations within layers; compute them again in the backward pass.
    """

    recompute = False

    def __init__(self, dim: int, heads: int, depth: int, *, cross: bool = False) -> None:
        """`cross` makes it a cross-encoder."""
        super().__init__()
        self.layers = nn.ModuleList([Layer(dim, heads, cross=cross) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        here: Geometry | None,
        context: Tensor | None = None,
        across: Geometry | None = None,
    ) -> Tensor:
        """Run all layers; `here` lies between tokens of x, `across` from x to its context."""
        for layer in self.layers:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, here, context, across, use_reentrant=False)
            else:
                x = layer(x, here, context, across)
        return self.norm(x)


class ConvStem(nn.Sequential):
    """Convolutions of stride 2, as many as halve a patch to one pixel, and one of 1 x 1."""

    def __init__(self, bands: int, patch_px: int, dim: int) -> None:
        """The width doubles with each, from 32."""
        widths = [bands, *(32 << level for level in range(patch_px.bit_length() - 1))]
        parts = []
        for narrow, wide in pairwise(widths):
            parts += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.GELU()]
        super().__init__(*parts, nn.Conv2d(widths[-1], dim, 1))
        for part in self:
            if isinstance(part, nn.Conv2d):  # torch's default makes tokens that layers drown out
                nn.init.kaiming_normal_(part.weight)

    def forward(
        self, input: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Images to one token per patch, along a row of patches first."""
        return super().forward(input).flatten(2).mT


class Standardise(nn.Module):
    """Pixel values to mean 0 and standard deviation 1 over the training data (D13)."""

    mean: Tensor
    std: Tensor

    def __init__(self, stats: BandStats) -> None:
        """Of one sensor; stored with the configuration, not with the weights."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(stats.mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(stats.std).view(-1, 1, 1), persistent=False)

    def forward(
        self, images: Float[Tensor, "batch bands height width"]
    ) -> Float[Tensor, "batch bands height width"]:
        """Standardised pixels.

        Raises:
            ValueError: if the image has another number of bands than the sensor.
        """
        if images.shape[1] != len(self.mean):
            raise ValueError(
                f"images must have {len(self.mean)} bands for this sensor, got {images.shape[1]}"
            )
        return (images - self.mean) / self.std


class Encoder(nn.Module):
    """Standardise, cut into patches, embed, attend with the bias of their ground distance.

    Attributes:
        standardise: by sensor, of those whose encoder it is.
    """

    def __init__(self, config: ModelConfig, name: str, depth: int) -> None:
        """The encoder of the sensors that pass that of `name` (`ModelConfig.encoder_of`)."""
        super().__init__()
        own = [sensor for sensor, passed in config.encoder_of.items() if passed == name]
        self.standardise = nn.ModuleDict({n: Standardise(config.stats[n]) for n in own})
        bands = len(config.stats[name].mean)
        self.patch_px = config.patch_px
        if config.stem == "conv":
            self.patch_embed = ConvStem(bands, config.patch_px, config.dim)
        else:
            self.patch_embed = nn.Linear(bands * config.patch_px**2, config.dim)
        self.transformer = Transformer(config.dim, config.heads, depth)

    def embed(
        self,
        images: Float[Tensor, "batch bands height width"],
        keep: Int[Tensor, "batch kept"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Standardised images to one token per patch, or per kept patch."""
        check_divides(images, self.patch_px)
        if isinstance(self.patch_embed, ConvStem):
            return kept(self.patch_embed(images), keep)
        return self.patch_embed(kept(patchify(images, self.patch_px), keep))


class Decoder(nn.Module):
    """A small ViT that reconstructs the pixels of every sensor at every coarse patch."""

    def __init__(self, config: ModelConfig) -> None:
        """One decoder for all sensors."""
        super().__init__()
        dim = config.decoder_dim
        self.decoder_embed = nn.Linear(config.dim, dim)
        self.mask_token = nn.Parameter(torch.empty(dim).normal_(std=0.02))
        self.transformer = Transformer(dim, config.decoder_heads, config.decoder_depth)
        self.values = target_values(config)
        self.decoder_pred = nn.Linear(dim, sum(self.values.values()))

    def forward(
        self,
        x: Float[Tensor, "batch kept dim"],
        keep: Tensor,
        positions: Float[Tensor, "batch tokens decoder_dim"],
    ) -> dict[str, Float[Tensor, "batch tokens values"]]:
        """Put tokens where they belong, a mask token elsewhere, and decode without a bias."""
        x = self.decoder_embed(x)
        index = keep.unsqueeze(-1).expand_as(x)
        whole = self.mask_token.to(x.dtype).expand_as(positions).scatter(1, index, x)
        values = self.decoder_pred(self.transformer(whole + positions, None))
        return dict(zip(self.values, values.split([*self.values.values()], -1), strict=True))
