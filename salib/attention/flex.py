"""FlexAttention: the distance is computed inside the kernel, from the two coordinate tensors."""

import functools
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from salib.attention.geometry import Geometry

KERNELS = 256
LEAST_SQUARE_M2 = 1e-20


def flex(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """One compiled kernel that never writes a bias; on a CPU it has no backward pass."""
    q_east, q_south, k_east, k_south = geometry.coordinates(len(q))
    per_metre = geometry.slopes.float() / geometry.reference_m
    sink_at = geometry.keys - geometry.sink

    @no_type_check  # what follows is compiled, which a run-time type checker around it prevents
    def less_distance(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor):
        east = q_east[batch, query] - k_east[batch, key]
        south = q_south[batch, query] - k_south[batch, key]
        # A root is one instruction as 1 / sqrt(x), which is infinite at 0, and many as sqrt(x).
        square = east * east + south * south + LEAST_SQUARE_M2
        bias = per_metre[head] * (square * square.rsqrt())
        return score - (torch.where(key == sink_at, 0.0, bias) if geometry.sink else bias)

    if q.device.type != "cuda" or torch.compiler.is_compiling():
        mixed: Any = flex_attention(q, k, v, score_mod=less_distance)
        return mixed
    for tensor in (q, k, v, q_east, q_south, k_east, k_south):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    return compiled()(q, k, v, score_mod=less_distance)


@functools.cache
def compiled():
    """FlexAttention as one fused kernel, compiled at first use of each kind of call.

    Kinds differ by numbers of tokens and heads, by width and type, by gradients or none, and one
    sample is another kind than many. A kernel for any number of tokens would be up to 1.6 times as
    slow. torch by itself stops at 8 kinds, which one notebook exceeds. `fullgraph`: past the limit
    comes torch's error, not silently the dense form.
    """
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "recompile_limit": KERNELS}
    return torch.compile(flex_attention, **options)
