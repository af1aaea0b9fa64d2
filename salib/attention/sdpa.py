"""PyTorch's fused kernels under the bias of the ground, in memory linear in the tokens."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from salib.attention.geometry import Geometry

BIAS_BYTES = 64 * 2**20
BIAS_BYTES_GPU = 2**30
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def sdpa(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """Fused attention; a bias of at most 64 MiB is built once and kept.

    On a GPU it may take 1 GiB, unless slopes are learnt: then every layer has its own. Making one
    in bfloat16 takes three times its size for a moment.

    A larger one is made for as many queries at a time as take that much, and again in the backward
    pass, so that memory grows with the tokens and not with their square.
    """
    if bias_bytes(q, geometry) <= _most_bytes(q, geometry):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=geometry.dense(q.dtype))
    if _has_flash_with_sums(q):
        return _InPieces.apply(q, k, v, geometry.slopes, geometry)
    pieces = [
        checkpoint(_piece, q[:, :, rows], k, v, geometry, rows, use_reentrant=False)
        for rows in _rows(q, geometry)
    ]
    return torch.cat(pieces, dim=2)


def bias_bytes(q: Tensor, geometry: Geometry) -> int:
    """Size of the whole bias of these queries, all samples and heads together."""
    return geometry.samples * q.shape[1] * q.shape[2] * geometry.keys * q.element_size()


def _piece(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry, rows: slice) -> Tensor:
    bias = geometry.bias(rows).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class _InPieces(torch.autograd.Function):
    """The CPU's flash kernel over a few queries at a time; keeps what its backward pass needs."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, geometry: Geometry):
        q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3]).transpose(1, 2)
        total = q.new_empty(q.shape[:3], dtype=_float(q))
        for rows in _rows(q, geometry):
            bias = geometry.bias(rows).to(q.dtype).expand(len(q), -1, -1, -1)
            out[:, :, rows], total[:, :, rows] = _forward(q[:, :, rows], k, v, attn_mask=bias)
        ctx.geometry = geometry
        ctx.save_for_backward(q, k, v, slopes, out, total)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, slopes, out, total = ctx.saved_tensors
        (grad,) = grads
        to_q, to_slopes = torch.empty_like(q), torch.zeros_like(slopes)
        to_k, to_v = (torch.zeros_like(t, dtype=_float(q)) for t in (k, v))
        for rows in _rows(q, ctx.geometry):
            bias = ctx.geometry.bias(rows).detach().to(q.dtype).expand(len(q), -1, -1, -1)
            mine = (grad[:, :, rows], q[:, :, rows], k, v, out[:, :, rows], total[:, :, rows])
            piece = _backward(*mine, 0.0, False, attn_mask=bias)
            to_q[:, :, rows] = piece[0]
            to_k += piece[1]
            to_v += piece[2]
            if ctx.needs_input_grad[3]:
                to_slopes += _slope_gradient(*mine, bias, ctx.geometry.steps(rows))
        return to_q, to_k.to(k.dtype), to_v.to(v.dtype), to_slopes, None


def _slope_gradient(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    total: Tensor,
    bias: Tensor,
    steps: Tensor,
) -> Tensor:
    """The fused kernel gives no gradient of the bias; this is d loss / d logits, summed."""
    shares = (q @ k.mT * q.shape[-1] ** -0.5 + bias - total[..., None]).exp()
    to_logits = shares * (grad @ v.mT - (grad * out).sum(-1, keepdim=True))
    return -(to_logits * steps[:, None]).sum((0, 2, 3))


def _has_flash_with_sums(q: Tensor) -> bool:
    """Whether there is a kernel that returns what its backward pass needs, under any bias."""
    return q.device.type == "cpu"


def _rows(q: Tensor, geometry: Geometry) -> Iterator[slice]:
    """Slices of queries whose bias takes as much as may be."""
    step = max(1, _most_bytes(q, geometry) * q.shape[2] // bias_bytes(q, geometry))
    return (slice(start, start + step) for start in range(0, q.shape[2], step))


def _most_bytes(q: Tensor, geometry: Geometry) -> int:
    kept = q.device.type == "cuda" and not geometry.slopes.requires_grad
    return BIAS_BYTES_GPU if kept else BIAS_BYTES


def _float(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
