"""Attention: the one place where Eq. (1) and Eq. (2) meet."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from salib.bias import scale_alibi_bias

IMPLEMENTATIONS = ("reference", "sdpa")
SMALL_KEYS = 128


def attend(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    q_xy: Float[Tensor, "*#batch queries 2"],
    k_xy: Float[Tensor, "*#batch keys 2"],
    slopes: Float[Tensor, " heads"],
    reference_m: float,
    *,
    impl: str = "auto",
) -> Float[Tensor, "batch heads queries dim"]:
    """Scale-ALiBi attention, Eqs. (1)-(2): self-, cross- and masked attention alike.

    Args:
        q: queries.
        k: keys.
        v: values.
        q_xy: centres of the query patches in metres east and south; shared by the batch or
            one set a sample.
        k_xy: centres of the key patches, from the same origin.
        slopes: m(h), positive, one a head.
        reference_m: ground distance that counts as one step of bias.
        impl: "reference", "sdpa", or "auto" (see `resolve`).

    Raises:
        ValueError: if reference_m is not positive or impl is unknown.
    """
    bias = scale_alibi_bias(q_xy, k_xy, slopes, reference_m)
    return attend_biased(q, k, v, bias, impl=impl)


def attend_biased(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    bias: Float[Tensor, "*#batch heads queries keys"] | None,
    *,
    impl: str = "auto",
) -> Float[Tensor, "batch heads queries dim"]:
    """Eq. (1) with a bias that is already built, so that the layers of a stream share it.

    Raises:
        ValueError: if impl is unknown.
    """
    if resolve(impl, q, k) == "reference":
        return reference(q, k, v, bias)
    mask = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


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


def resolve(impl: str, q: Tensor, k: Tensor) -> str:
    """The implementation that `impl` stands for with these tensors.

    "auto" is "sdpa" (PyTorch's fused kernels), except for bfloat16 on a CPU with fewer than 128
    keys, where plain matrix products were five to seven times faster.

    Raises:
        ValueError: if impl is unknown.
    """
    if impl == "auto":
        small = q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] < SMALL_KEYS
        return "reference" if small else "sdpa"
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be auto or one of {IMPLEMENTATIONS}, got {impl!r}")
    return impl
