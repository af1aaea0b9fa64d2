"""PyTorch's fused kernels under the bias of the ground, in memory linear in the tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from salib.attention.geometry import Geometry

BIAS_BYTES = 64 * 2**20
BIAS_BYTES_GPU = 2**30


def sdpa(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """Fused attention; a bias of at most 64 MiB is built once and kept.

    On a GPU it may take 1 GiB, unless slopes are learnt: then every layer has its own. Making one
    in bfloat16 takes three times its size for a moment.

    A larger one is made for as many queries at a time as take that much, and again in the backward
    pass, so that memory grows with the tokens and not with their square.
    """
    once = q.device.type == "cuda" and not geometry.slopes.requires_grad
    most, size = BIAS_BYTES_GPU if once else BIAS_BYTES, bias_bytes(q, geometry)
    if size <= most:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=geometry.dense(q.dtype))
    step = max(1, most * q.shape[2] // size)
    pieces = [slice(at, at + step) for at in range(0, q.shape[2], step)]
    mixed = [
        checkpoint(_piece, q[:, :, rows], k, v, geometry, rows, use_reentrant=False)
        for rows in pieces
    ]
    return torch.cat(mixed, dim=2)


def bias_bytes(q: Tensor, geometry: Geometry) -> int:
    """Size of the whole bias of these queries, all samples and heads together."""
    return geometry.samples * q.shape[1] * q.shape[2] * geometry.keys * q.element_size()


def _piece(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry, rows: slice) -> Tensor:
    bias = geometry.bias(rows).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
