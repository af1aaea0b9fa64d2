"""Attention by name: the definition, and what computes it faster."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from salib.attention.flex import flex
from salib.attention.fused import fused, unsupported_reason
from salib.attention.geometry import Geometry
from salib.attention.sdpa import bias_bytes, sdpa
from salib.bias import is_euclidean, rotated

IMPLEMENTATIONS = ("reference", "sdpa", "fused", "flex")
SMALL_KEYS = 128
FLEX_WIDTH, FLEX_BIAS_BYTES = 16, 128 * 2**20


def attend(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry | None) -> Tensor:
    """Scale-ALiBi attention, Eqs. (1)-(2): self-, cross- and masked attention alike.

    Gradients reach q, k, v, and slopes where these require one.

    Args:
        q: queries, (batch, heads, queries, dim).
        k: keys, (batch, heads, keys, dim).
        v: values, as keys.
        geometry: where queries and keys lie, and what distance costs; None if it costs nothing.

    Raises:
        ValueError: if shapes do not belong together, or impl is unknown or does not serve these
            tensors (`resolve`).
    """
    if geometry is None and _is_small(q, k):
        return reference(q, k, v, None)
    if geometry is None:
        return F.scaled_dot_product_attention(q, k, v)
    if not torch.compiler.is_compiling():
        geometry.check(q, k, v)
    if geometry.rotary:
        places = zip((q, k), geometry.batched_positions(), strict=True)
        q, k = (rotated(tokens, xy, geometry.reference_m) for tokens, xy in places)
        return attend(q, k, v, None)
    chosen = resolve(geometry.impl, q, k, v, geometry)
    if not torch.compiler.is_compiling():
        geometry.used.add(chosen)
    if geometry.sink:
        k, v = (F.pad(tokens, (0, 0, 0, 1)) for tokens in (k, v))
    if chosen == "reference":
        return reference(q, k, v, geometry.dense(geometry.slopes.dtype))
    return {"sdpa": sdpa, "fused": fused, "flex": flex}[chosen](q, k, v, geometry)


def reference(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    bias: Float[Tensor, "*#batch heads queries keys"] | None,
) -> Float[Tensor, "batch heads queries dim"]:
    """Eq. (1) as read in D1 (divided by sqrt(d)), softmax over keys, weighted mean of values."""
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    logits = logits if bias is None else logits + bias
    weights = logits.softmax(dim=-1).to(v.dtype)
    return weights @ v


def resolve(impl: str, q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> str:
    """The implementation that `impl` stands for with these tensors.

    "flex" and "fused" compute Euclidean distances themselves and serve no other function of
    positions; the others add whatever bias the geometry gives.

    On a GPU "auto" is "flex" for 16-bit numbers in heads of 16 or more, where their bias would take
    more than 128 MiB or the caller is being compiled by torch; else "sdpa", as starting "flex"
    takes longer than its work, and wider numbers several times as long. On a CPU it is "fused" from
    128 keys on. Below, and where that kernel does not serve (`fused.unsupported_reason`), it is
    "sdpa"; but "reference" below 128 keys in bfloat16, where PyTorch's kernels are the slowest.

    Raises:
        ValueError: if impl is unknown, or "flex" or "fused" does not serve these tensors, this
            function of positions or this machine.
    """
    if impl not in ("auto", *IMPLEMENTATIONS):
        raise ValueError(f"impl must be auto or one of {IMPLEMENTATIONS}, got {impl!r}")
    learns = geometry.slopes.requires_grad and torch.is_grad_enabled()
    euclidean = is_euclidean(geometry.distance)
    if impl in ("flex", "fused") and not euclidean:
        raise ValueError(
            f"impl={impl!r} serves Euclidean distance only, got another function of positions: use "
            "auto, sdpa or reference"
        )
    gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    if impl == "flex" and (learns or (gradient and q.device.type == "cpu")):
        raise ValueError(
            "impl='flex' has no backward pass on a CPU, and none for slopes anywhere: got "
            f"q {tuple(q.shape)} on {q.device}, slopes with requires_grad={learns}; use 'sdpa'"
        )
    if impl == "fused" and (reason := unsupported_reason(q, geometry)):
        raise ValueError(reason)
    if impl != "auto":
        return impl
    if q.device.type == "cuda":
        serves = q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] >= FLEX_WIDTH
        pays = torch.compiler.is_compiling() or bias_bytes(q, geometry) > FLEX_BIAS_BYTES
        return "flex" if serves and pays and not learns and euclidean else "sdpa"
    if euclidean and k.shape[-2] >= SMALL_KEYS and unsupported_reason(q, geometry) is None:
        return "fused"
    return "reference" if _is_small(q, k) else "sdpa"


def _is_small(q: Tensor, k: Tensor) -> bool:
    """Few enough keys that the definition is the fastest, for bfloat16 on a CPU."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] < SMALL_KEYS
