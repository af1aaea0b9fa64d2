"""CROMA's own weights in our model: the layout of its published files."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from salib.config import ModelConfig
from salib.files.checksum import check_zip
from salib.model.fusion import ScaleAlibi, build_model
from salib.model.store import check_weights

PATCH_PX = 8
_OTHER_NAMES = {"GAP_FFN_s1": "s1_GAP_FFN", "GAP_FFN_s2": "s2_GAP_FFN"}
_OTHER_NAMES |= {"cross_encoder": "joint_encoder"}
"""Of the parts, in the published code's own modules."""
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARTS = {"s1_encoder": "encoders.radar", "s2_encoder": "encoders.s2"}
_PARTS |= {"s1_GAP_FFN": "pool_heads.radar", "s2_GAP_FFN": "pool_heads.s2"}
_PARTS |= {"joint_encoder": "cross_encoders.s2"}
_RULES = (
    (r"\.linear_input\.", ".patch_embed."),
    (r"(layers\.\d+)\.0\.", r"\1.self_attention."),
    (r"^(cross_encoders\..*layers\.\d+)\.1\.", r"\1.cross_attention."),
    (r"(layers\.\d+)\.[12]\.", r"\1.feed_forward."),
    (r"feed_forward\.input_norm", "feed_forward.0"),
    (r"\.net\.0\.", ".1."),
    (r"\.net\.3\.", ".3."),
    (r"\.input_norm\.|\.norm_out\.", ".norm."),
    (r"_attention\.to_", "_attention."),
)


def load_croma(path: str | Path) -> ScaleAlibi:
    """Read CROMA's published weights: a dict of state dicts such as CROMA_base.pt, or a flat one.

    A flat one may have the names of the published modules (`cross_encoder`), stand under
    "state_dict" or "model", begin each name by "module." and hold the buffers `attn_bias`, which
    are computed anew. The file is read with torch's weights-only loader, which runs no code. The
    model takes 2 radar bands and the 12 Sentinel-2 bands of "s2", both standardised by the caller;
    its decoder and contrastive projections were not published and stay at their initial values.

    Raises:
        ValueError: if the file is missing, damaged or of another layout, or a weight is not
            finite.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path must be CROMA's weights, got no file {path}")
    try:
        if zipfile.is_zipfile(path):
            check_zip(path)
        flat = _flat(torch.load(path, map_location="cpu", weights_only=True))
        if sum(value.nbytes for value in flat.values()) > path.stat().st_size:
            raise ValueError("more weights than bytes")
    except Exception as error:  # torch names no common ancestor for what a damaged file raises
        raise ValueError(
            f"path must be a whole file of CROMA's weights, got {path} ({_line(error)}): download "
            "it again"
        ) from error
    check_weights(flat, path)
    return from_published(flat)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _flat(stored: Any) -> dict[str, Tensor]:
    """Weights by `<part>.<parameter>`, from whichever wrapping they come in."""
    for name in 2 * _WRAPPERS:  # one may stand within another
        if isinstance(stored.get(name), Mapping):
            stored = stored[name]
    flat = {}
    for name, value in stored.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for rest, weight in inner:
            part, _, parameter = f"{name}.{rest}".strip(".").removeprefix("module.").partition(".")
            if (parameter or part).split(".")[-1] == "attn_bias":
                continue
            if not isinstance(weight, Tensor) or not weight.is_floating_point():
                raise ValueError(f"{name} holds {type(weight).__name__}, not weights")
            flat[f"{_OTHER_NAMES.get(part, part)}.{parameter}"] = weight
    return flat


def from_published(weights: Mapping[str, Tensor], *, heads: int = 16) -> ScaleAlibi:
    """Build CROMA from flat names `<part>.<parameter>`; both published sizes have 16 heads.

    Raises:
        ValueError: if the parameters are not those of CROMA.
    """
    try:
        renamed = _rename(weights)
        config = _config(renamed, heads)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"weights must have CROMA's layout, got none: {_line(error)}") from error
    model = build_model(config, seed=0)
    expected = model.state_dict()
    strange = [n for n, v in renamed.items() if n not in expected or v.shape != expected[n].shape]
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
        part = name.split(".")[0]
        name = name.replace(part, _PARTS.get(part, part), 1)
        for pattern, ours in _RULES:
            name = re.sub(pattern, ours, name)
        renamed[name] = value
    for name in [name for name in renamed if name.endswith(("qkv.weight", ".q.weight"))]:
        stem, value = name.rpartition("q")[0], renamed.pop(name)
        if name.endswith("qkv.weight"):
            queries, keys, values = value.chunk(3)
        else:
            queries, keys, values = (
                value,
                renamed.pop(f"{stem}k.weight"),
                renamed.pop(f"{stem}v.weight"),
            )
        renamed[f"{stem}queries.weight"] = queries
        renamed[f"{stem}keys_values.weight"] = torch.cat([keys, values])
    return renamed


def _config(weights: dict[str, Tensor], heads: int) -> ModelConfig:
    layers = (re.match(r"encoders\.s2\.transformer\.layers\.(\d+)", name) for name in weights)
    return ModelConfig(
        sensors=("radar", "s2"),
        position="patches",
        dim=len(weights["encoders.s2.transformer.norm.weight"]),
        depth=len({match[1] for match in layers if match}),
        heads=heads,
        patch_px=PATCH_PX,
        decoder_dim=len(weights.get("decoder.mask_token", torch.empty(512))),
        decoder_depth=1,
        decoder_heads=8,
        mask_ratio=0.75,
        hires_mask_ratio=0.75,
        joint_target=True,
    )
