"""All of Scale-ALiBi attention that does not depend on queries, keys and values."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from salib import bias
from salib.bias import Distance

EVERY_ROW = slice(None)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where queries and keys lie, and what distance costs; the layers of a stream share one.

    It keeps coordinates, a few bytes per token. The bias of Eq. (2) is computed from them where it
    is needed: by rows, or whole and then kept (`dense`) where that is small.

    Args:
        q_xy: centres of the query patches in metres east and south; shared by the batch or one
            set per sample.
        k_xy: centres of the key patches, from the same origin.
        slopes: m(h), positive, one per head.
        reference_m: ground distance that counts as one step of bias.
        impl: "reference", "sdpa", "fused", "flex" or "auto" (see `salib.attention.resolve`).
        sink: add a key that no patch owns, with logit 0 and value 0, after all others. Attention
            then sums to less than one, by an amount that depends on ground distance, so that even
            a flat picture tells its scale. An extension; the paper has none.
        function: distance of two lists of positions, instead of `salib.bias.ground_distance`.
        rotary: turn queries and keys by their positions (`salib.bias.rotated`), without a bias.
        used: collects the names of the implementations that served.
    """

    q_xy: Float[Tensor, "*#batch queries 2"]
    k_xy: Float[Tensor, "*#batch keys 2"]
    slopes: Float[Tensor, " heads"]
    reference_m: float
    impl: str = "auto"
    sink: bool = False
    function: Distance | None = None
    rotary: bool = False
    used: set[str] = field(default_factory=set)
    _dense: dict[torch.dtype, Tensor] = field(default_factory=dict, init=False, repr=False)
    _axes: dict[int, tuple[Tensor, ...]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check what would otherwise turn into NaN far from here.

        Raises:
            ValueError: if a coordinate is not finite, or reference_m or a slope not positive.
        """
        if torch.compiler.is_compiling():
            return  # values are not known then
        if not 0 < self.reference_m < math.inf:
            raise ValueError(f"reference_m must be positive and finite, got {self.reference_m}")
        if not bool(((self.slopes > 0) & self.slopes.isfinite()).all()):
            raise ValueError(f"slopes must be positive and finite, got {self.slopes.tolist()}")
        for name, xy in (("q_xy", self.q_xy), ("k_xy", self.k_xy)):
            if not (xy.is_floating_point() and bool(xy.isfinite().all())):
                got = f"NaN, infinity or whole numbers in {tuple(xy.shape)} {xy.dtype}"
                raise ValueError(f"{name} must be finite metres as floating point, got {got}")

    def check(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Refuse queries, keys and values that these positions do not belong to.

        Raises:
            ValueError: if tokens, batch or heads differ, or there is no key.
        """
        batch, shapes = len(q), {"q": tuple(q.shape), "k": tuple(k.shape), "v": tuple(v.shape)}
        fit = q.ndim == k.ndim == 4 and k.shape == v.shape and q.shape[:2] == k.shape[:2]
        if not fit or q.shape[3] != k.shape[3] or not q.dtype == k.dtype == v.dtype:
            raise ValueError(
                "q, k, v must be (batch, heads, tokens, dim) of one batch, width and dtype, got "
                f"{shapes} in {q.dtype}, {k.dtype}, {v.dtype}"
            )
        if not k.shape[2]:
            raise ValueError(f"k must hold a token to attend to, got {shapes}")
        if q.shape[1] != len(self.slopes):
            got = f"{len(self.slopes)} for {q.shape[1]} heads"
            raise ValueError(f"slopes must be one per head, got {got}")
        devices = {str(t.device) for t in (q, k, v, self.q_xy, self.k_xy, self.slopes)}
        if len(devices) > 1:
            raise ValueError(f"q, k, v, positions and slopes must lie on one device, got {devices}")
        for name, tokens, xy in (("q", q.shape[2], self.q_xy), ("k", k.shape[2], self.k_xy)):
            if tuple(xy.shape) not in ((tokens, 2), (1, tokens, 2), (batch, tokens, 2)):
                rule = f"({tokens}, 2) or ({batch}, {tokens}, 2) for {name} {shapes[name]}"
                raise ValueError(f"{name}_xy must be {rule}, got {tuple(xy.shape)}")

    @property
    def distance(self) -> Distance:
        """The distance of Eq. (2), as defined at the time of the call."""
        return self.function or bias.ground_distance

    @property
    def keys(self) -> int:
        """Keys that softmax runs over, the sink included."""
        return self.k_xy.shape[-2] + self.sink

    @property
    def samples(self) -> int:
        """1 where the batch shares its positions, else the batch."""
        return max(xy.shape[0] if xy.ndim == 3 else 1 for xy in (self.q_xy, self.k_xy))

    def bias(self, rows: slice = EVERY_ROW) -> Float[Tensor, "samples heads queries keys"]:
        """-m(h) g(i, j) of Eqs. (1)-(2) for some queries; 0 to the sink."""
        q_xy, k_xy = self.batched_positions()
        cost = (self.slopes, self.reference_m, self.distance)
        added = bias.scale_alibi_bias(q_xy[:, rows], k_xy, *cost)
        return F.pad(added, (0, 1)) if self.sink else added

    def dense(self, dtype: torch.dtype) -> Float[Tensor, "samples heads queries keys"]:
        """The whole bias, built once in a dtype and stored; built anew where slopes learn."""
        if self.slopes.requires_grad:
            return self.bias().to(dtype)
        if dtype not in self._dense:
            with torch.inference_mode(False):
                self._dense[dtype] = self.bias().to(dtype)
        return self._dense[dtype]

    def coordinates(self, batch: int) -> tuple[Tensor, ...]:
        """Metres east and south of queries, then of keys: four of (batch, tokens), kept.

        A sink has no position; it is at the origin here.
        """
        if batch not in self._axes:
            with torch.inference_mode(False):
                q_xy, k_xy = (xy.expand(batch, -1, -1).float() for xy in self.batched_positions())
                k_xy = F.pad(k_xy, (0, 0, 0, 1)) if self.sink else k_xy
                self._axes[batch] = tuple(
                    xy[..., axis].clone(memory_format=torch.contiguous_format)
                    for xy in (q_xy, k_xy)
                    for axis in (0, 1)
                )
        return self._axes[batch]

    def batched_positions(self) -> tuple[Tensor, Tensor]:
        """Positions of queries and keys with an axis for the batch, of length 1 where it shares."""
        q_xy, k_xy = (xy if xy.ndim == 3 else xy[None] for xy in (self.q_xy, self.k_xy))
        return q_xy, k_xy
