"""The type that matrices are multiplied in, chosen by what the device can do."""

from typing import Literal

import torch

from salib.config import PRECISIONS


def resolve_precision(precision: str, device: torch.device) -> Literal["float32", "bf16"]:
    """What "auto" stands for: "bf16" where the device multiplies bfloat16 itself.

    Raises:
        ValueError: if there is no such precision.
    """
    if precision in ("float32", "bf16"):
        return precision
    if precision != "auto":
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    return "bf16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16.

    On a processor without them training in bfloat16 takes tens of times as long as in float32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in `precision` (see `resolve_precision`)."""
    half = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
