"""What runs where: the device, its instructions, and the type that matrices are multiplied in."""

import resource
from typing import Literal

import torch

from salib.config import PRECISIONS

HALF = ("avx512_bf16", "amx_bf16", "bf16")


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
    return any(torch.cpu.get_capabilities().get(name) for name in HALF)


def resolve_device(device: str) -> torch.device:
    """What "auto" stands for: a GPU where there is one.

    Raises:
        ValueError: if there is no such device, or none here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu, cuda or auto, got {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device must exist, got {device} on a machine without a GPU: use cpu")
    return torch.device(device)


def instructions(device: torch.device) -> str:
    """What the device multiplies with: a GPU's name, or the processor's vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capable = torch.cpu.get_capabilities()
    widest = [name for name in ("avx512_f", "avx2", "sve256", "neon") if capable.get(name)][:1]
    half = [name for name in HALF if capable.get(name)]
    return " ".join(widest + half) or str(capable.get("architecture", "cpu"))


def memory(device: torch.device) -> float:
    """Most memory that this process has used so far, of a GPU or of the machine, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in `precision` (see `resolve_precision`)."""
    half = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
