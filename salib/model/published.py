"""CROMA's own weights in our model: the layouts of its published files."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from salib.config import ModelConfig, plain_stats
from salib.model.fusion import ScaleAlibi, build_model

HEADS = {768: 16, 1024: 16}
PATCH_PX = 8
RADAR_VALUES = 2 * PATCH_PX**2
_RULES = (
    (r"^s1_", "radar_"),
    (r"^s2_", "optical_"),
    (r"^(radar|optical)_encoder\.linear_input", r"encoders.\1.patch_embed"),
    (r"^(radar|optical)_encoder\.transformer", r"encoders.\1.transformer"),
    (r"^(?:joint|cross)_encoder", "cross_encoders.optical"),
    (r"^(?:GAP_FFN_)?(radar|optical)(?:_GAP_FFN)?\b", r"pool_heads.\1"),
    (r"^global_contrast_loss\.(radar|optical)_proj", r"projections.\1"),
    (r"^global_contrast_loss\.logit_scale", "log_scale"),
    (r"^decoder\.encoder_to_decoder", "decoder.decoder_embed"),
    (r"^decoder\.linear_output", "decoder.decoder_pred"),
    (r"^decoder\.decoder\.", "decoder.transformer."),
    (r"\.optical\.", ".s2."),
    (r"(layers\.\d+)\.0\.", r"\1.self_attention."),
    (r"^(cross_encoders\..*layers\.\d+)\.1\.", r"\1.cross_attention."),
    (r"(layers\.\d+)\.[12]\.", r"\1.feed_forward."),
    (r"feed_forward\.input_norm", "feed_forward.0"),
    (r"\.net\.0\.", ".1."),
    (r"\.net\.[23]\.", ".3."),
    (r"\.input_norm\.|\.norm_out\.", ".norm."),
    (r"_attention\.(?:create|to)_", "_attention."),
)


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
        raise ValueError(f"path must be CROMA's weights, got no file {path}")
    try:
        parts = torch.load(path, map_location="cpu", weights_only=True)
        flat = {f"{part}.{name}": v for part, state in parts.items() for name, v in state.items()}
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
    try:
        renamed = _rename(weights)
        config = _config(renamed, heads)
    except KeyError as error:
        raise ValueError(f"weights must have CROMA's layout, got none of {error}") from error
    model = build_model(config, seed=0)
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
    """The parameters by our names: queries apart, keys and values together."""
    renamed = {}
    for name, value in weights.items():
        for pattern, ours in _RULES:
            name = re.sub(pattern, ours, name)
        stem = name.removesuffix("qkv.weight")
        parts = zip("qkv", value.chunk(3), strict=True) if stem != name else ()
        renamed |= {f"{stem}{part}.weight": rows for part, rows in parts} or {name: value}
    for stem in [name.removesuffix("q.weight") for name in renamed if name.endswith(".q.weight")]:
        renamed[f"{stem}queries.weight"] = renamed.pop(f"{stem}q.weight")
        keys_values = [renamed.pop(f"{stem}{part}.weight") for part in "kv"]
        renamed[f"{stem}keys_values.weight"] = torch.cat(keys_values)
    renamed.pop("decoder.decoder_pos_embed", None)
    for name, value in renamed.items():
        if name.startswith("decoder.decoder_pred"):  # published: optical channels, then radar
            renamed[name] = value.roll(RADAR_VALUES, dims=0)
        elif name == "decoder.mask_token":
            renamed[name] = value.flatten()
    return renamed


def _config(weights: dict[str, Tensor], heads: int | None) -> ModelConfig:
    dim = len(weights["encoders.s2.transformer.norm.weight"])
    layers = (re.match(r"encoders\.s2\.transformer\.layers\.(\d+)", name) for name in weights)
    bands = [
        weights[f"encoders.{name}.patch_embed.weight"].shape[1] // PATCH_PX**2
        for name in ("radar", "s2")
    ]
    heads = heads or HEADS.get(dim)
    if heads is None:
        raise ValueError(f"heads must be given for a width of {dim}, which CROMA did not publish")
    return ModelConfig(
        sensors=("radar", "s2"),
        position="patches",
        dim=dim,
        depth=len({match[1] for match in layers if match}),
        heads=heads,
        patch_px=PATCH_PX,
        decoder_dim=len(weights.get("decoder.mask_token", torch.empty(512))),
        decoder_depth=1,
        decoder_heads=8,
        mask_ratio=0.75,
        hires_mask_ratio=0.75,
        joint_target=True,
        band_stats=tuple(plain_stats(bands=each) for each in bands),
    )
