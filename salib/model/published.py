"""CROMA's own weights in our model: the layouts of its published files."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from salib.config import ModelConfig, plain_levels
from salib.model.fusion import ScaleAlibi, build_model

HEADS = {768: 16, 1024: 16}
PATCH_PX = 8
RADAR_VALUES = 2 * PATCH_PX**2
_PARTS = {"s1": "radar", "s2": "s2", "radar": "radar", "optical": "s2"}
_RULES = (
    (r"^(s1|s2|radar|optical)_encoder\.linear_input", r"encoders.{\1}.patch_embed"),
    (r"^(s1|s2|radar|optical)_encoder\.transformer", r"encoders.{\1}.transformer"),
    (r"^(?:joint|cross)_encoder", "cross_encoders.s2"),
    (r"^(s1|s2)_GAP_FFN", r"pool_heads.{\1}"),
    (r"^GAP_FFN_(radar|optical)", r"pool_heads.{\1}"),
    (r"^global_contrast_loss\.(radar|optical)_proj", r"projections.{\1}"),
    (r"^global_contrast_loss\.logit_scale", "log_scale"),
    (r"^decoder\.encoder_to_decoder", "decoder.decoder_embed"),
    (r"^decoder\.linear_output", "decoder.decoder_pred"),
    (r"^decoder\.mask_token", "decoder.mask_token"),
    (r"^decoder\.decoder\.", "decoder.transformer."),
    (r"norm_out", "norm"),
    (r"\.net\.0\.", ".feed_forward.1."),
    (r"\.net\.[23]\.", ".feed_forward.3."),
)
_ATTENTION = {"create_": "", "to_": "", "input_norm": "norm"}


def load_croma(path: str | Path, *, heads: int | None = None) -> ScaleAlibi:
    """Read CROMA's published weights (a dict of state dicts such as CROMA_base.pt).

    The file is read with torch's weights-only loader, which runs no code. The model takes 2 radar
    bands and the 12 Sentinel-2 bands of "s2", both standardised by the caller; its decoder and
    contrastive projections were not published and stay at their initial values.

    Args:
        path: the file.
        heads: attention heads where the width does not tell (16 for the two published sizes).

    Raises:
        ValueError: if the file is missing or of another layout.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path must be CROMA's weights, got {path}, which is not there")
    try:
        parts = torch.load(path, map_location="cpu", weights_only=True)
        flat = {f"{part}.{name}": v for part, found in parts.items() for name, v in found.items()}
    except Exception as error:  # torch names no common ancestor for what a damaged file raises
        raise ValueError(
            f"path must be a whole file of CROMA's weights, got {path}: download it again"
        ) from error
    return from_published(flat, heads)


def from_published(weights: Mapping[str, Tensor], heads: int | None = None) -> ScaleAlibi:
    """Build CROMA from flat names `<part>.<parameter>`, published or pretraining layout.

    Raises:
        ValueError: if the parameters are not those of CROMA.
    """
    renamed = _rename(weights)
    model = build_model(_config(renamed, heads), seed=0)
    expected = model.state_dict()
    strange = [name for name in renamed if name not in expected]
    unpublished = ("decoder.", "projections.", "log_scale")
    missing = [n for n in expected if n not in renamed and not n.startswith(unpublished)]
    if strange or missing:
        raise ValueError(
            "weights must have CROMA's layout, got "
            f"unknown {sorted(strange)[:3]} and missing {sorted(missing)[:3]}"
        )
    model.load_state_dict(expected | renamed)
    return model.eval()


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        if name == "decoder.decoder_pos_embed":
            continue
        for pattern, ours in _RULES:
            name = re.sub(pattern, ours, name)
        name = re.sub(r"\{(\w+)\}", lambda found: _PARTS[found[1]], name)
        renamed |= _layer(name, value)
    return renamed


def _layer(name: str, value: Tensor) -> dict[str, Tensor]:
    """A parameter of a numbered block in our names; fused projections are split."""
    found = re.match(r"(.*\.layers\.\d+)\.(\d)\.(.*)", name)
    if name.startswith("decoder.decoder_pred"):
        return {name: value.roll(RADAR_VALUES, dims=0)}  # published: optical channels, then radar
    if not found:
        return {name: value.flatten() if name == "decoder.mask_token" else value}
    prefix, block, rest = found.groups()
    if "feed_forward" in rest:
        return {f"{prefix}.{rest}": value}
    if block == "2" or (block == "1" and not prefix.startswith("cross_encoders")):
        return {f"{prefix}.feed_forward.{rest.replace('input_norm', '0')}": value}
    return _attention(f"{prefix}.{('self', 'cross')[int(block)]}_attention", rest, value)


def _attention(prefix: str, rest: str, value: Tensor) -> dict[str, Tensor]:
    for published, ours in _ATTENTION.items():
        rest = rest.replace(published, ours)
    part = rest.removesuffix(".weight")
    if part == "qkv":
        q, k, v = value.chunk(3)
        return {
            f"{prefix}.queries.weight": q,
            f"{prefix}.keys_values.weight": torch.cat([k, v]),
        }
    if part in ("q", "k", "v"):
        return {f"{prefix}.{part}.weight": value}
    return {f"{prefix}.{rest}": value}


def _config(weights: dict[str, Tensor], heads: int | None) -> ModelConfig:
    try:
        dim = len(weights["encoders.s2.transformer.norm.weight"])
        depth = 1 + max(_layer_numbers(weights, "encoders.s2"))
        radar, s2 = (weights[f"encoders.{n}.patch_embed.weight"].shape[1] for n in ("radar", "s2"))
    except (KeyError, ValueError) as error:
        raise ValueError(f"weights must have CROMA's layout, got none of {error}") from error
    heads = heads or HEADS.get(dim)
    if heads is None:
        raise ValueError(f"heads must be given for a width of {dim}, which CROMA did not publish")
    decoder_dim = len(weights.get("decoder.mask_token", torch.empty(512)))
    for name in [n for n in weights if n.endswith("cross_attention.k.weight")]:
        stem = name.removesuffix("k.weight")
        weights[f"{stem}keys_values.weight"] = torch.cat(
            [weights.pop(name), weights.pop(f"{stem}v.weight")]
        )
        weights[f"{stem}queries.weight"] = weights.pop(f"{stem}q.weight")
    return replace(
        ModelConfig(
            sensors=("radar", "s2"),
            position="patches",
            dim=dim,
            depth=depth,
            heads=heads,
            patch_px=PATCH_PX,
            decoder_dim=decoder_dim,
            decoder_depth=1,
            decoder_heads=8,
            mask_ratio=0.75,
            hires_mask_ratio=0.75,
            joint_target=True,
        ),
        levels=(plain_levels(bands=radar // PATCH_PX**2), plain_levels(bands=s2 // PATCH_PX**2)),
    )


def _layer_numbers(weights: Mapping[str, Tensor], prefix: str) -> list[int]:
    found = (re.match(rf"{re.escape(prefix)}\.transformer\.layers\.(\d+)", n) for n in weights)
    return [int(match[1]) for match in found if match]
