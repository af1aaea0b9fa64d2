"""FlexAttention: the distance is computed inside the kernel, from the two coordinate tensors."""

import functools
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from salib.attention.geometry import Geometry


def flex(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """One compiled kernel that never writes a bias; on a CPU it has no backward pass."""
    q_xy, k_xy = (
        (xy if xy.ndim == 3 else xy[None]).expand(len(q), -1, -1).contiguous().float()
        for xy in (geometry.q_xy, geometry.k_xy)
    )
    per_metre = geometry.slopes.float() / geometry.reference_m
    sink_at = k_xy.shape[1]
    if geometry.sink:
        k_xy = torch.nn.functional.pad(k_xy, (0, 0, 0, 1))

    @no_type_check  # what follows is compiled, which a run-time type checker around it prevents
    def less_distance(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor):
        east = q_xy[batch, query, 0] - k_xy[batch, key, 0]
        south = q_xy[batch, query, 1] - k_xy[batch, key, 1]
        bias = per_metre[head] * (east * east + south * south).sqrt()
        return score - (torch.where(key == sink_at, 0.0, bias) if geometry.sink else bias)

    kernel = compiled() if q.device.type == "cuda" else flex_attention
    mixed: Any = kernel(q, k, v, score_mod=less_distance)
    return mixed


@functools.cache
def compiled():
    """FlexAttention as one fused kernel; compiled at first use, and again for other shapes.

    `fullgraph`: too many shapes end in torch's error, not silently in the dense form.
    """
    return torch.compile(flex_attention, fullgraph=True)
