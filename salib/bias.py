"""Where patches lie on the ground, and the bias that their distance adds to attention."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of two lists of positions, (queries 2) and (keys 2) in metres, the distances (queries keys)."""
ROTARY_BASE = 100.0
PROBES_M = (0.0, 1e-2, 1.0, 37.0, 640.0, 1e4, 1e6)


def patch_centres(
    rows: int, cols: int, patch_m: Float[Tensor, " batch"]
) -> Float[Tensor, "batch tokens 2"]:
    """Centres of a grid of square patches, metres east and south of the image's north-west corner.

    Args:
        rows: patches from north to south.
        cols: patches from west to east; tokens run along a row first.
        patch_m: side of a patch in metres, one value per image.
    """
    south, east = torch.meshgrid(
        torch.arange(rows, device=patch_m.device, dtype=patch_m.dtype),
        torch.arange(cols, device=patch_m.device, dtype=patch_m.dtype),
        indexing="ij",
    )
    steps = torch.stack([east.flatten(), south.flatten()], dim=-1) + 0.5
    return steps * patch_m[:, None, None]


def alibi_slopes(heads: int) -> Float[Tensor, " heads"]:
    """ALiBi's slope m(h) > 0 of each head (Press et al. 2022), as CROMA orders them.

    A power of two gives a geometric series from 2^(-8/heads); any other count takes the series of
    the next lower power and fills up with every second slope of the next higher one.

    Raises:
        ValueError: if heads is not positive.
    """
    if heads < 1:
        raise ValueError(f"heads must be positive, got {heads}")
    lower = 2 ** math.floor(math.log2(heads))
    slopes = _geometric(lower) + _geometric(2 * lower)[0::2][: heads - lower]
    return torch.tensor(slopes)


@torch.no_grad()
def ground_distance(
    query_xy: Float[Tensor, "*#batch queries 2"], key_xy: Float[Tensor, "*#batch keys 2"]
) -> Float[Tensor, "*batch queries keys"]:
    """Euclidean distance in metres between patch centres: the distance of Eq. (2), read as D2.

    Positions are data: no gradient reaches them.
    """
    east, south = (query_xy[..., :, None, i] - key_xy[..., None, :, i] for i in (0, 1))
    return torch.hypot(east, south)


def scale_alibi_bias(
    query_xy: Float[Tensor, "*#batch queries 2"],
    key_xy: Float[Tensor, "*#batch keys 2"],
    slopes: Float[Tensor, " heads"],
    reference_m: float,
    distance: Distance | None = None,
) -> Float[Tensor, "*batch heads queries keys"]:
    """Bias added to attention logits, -m(h) g(i, j) of Eqs. (1)-(2).

    With `reference_m` equal to the side of a patch this is CROMA's 2D-ALiBi, and X-ALiBi where
    queries and keys belong to two images.

    Args:
        query_xy: patch centres in metres, from the same origin as key_xy.
        key_xy: patch centres in metres.
        slopes: m(h), positive.
        reference_m: ground distance that counts as one step.
        distance: of two lists of positions, with any leading axes; by default `ground_distance`.

    Raises:
        ValueError: if reference_m is not positive, or `distance` returns another shape, a negative
            distance or one that is not finite.
    """
    if reference_m <= 0:
        raise ValueError(f"reference_m must be positive, got {reference_m}")
    with torch.no_grad():
        metres = (distance or ground_distance)(query_xy, key_xy)
    if distance is not None and distance is not ground_distance:
        _check_distances(metres, query_xy, key_xy)
    return -slopes[:, None, None] * (metres / reference_m).unsqueeze(-3)


def rotated(
    x: Float[Tensor, "*#batch heads tokens dim"],
    xy: Float[Tensor, "*#batch tokens 2"],
    reference_m: float,
) -> Float[Tensor, "*batch heads tokens dim"]:
    """Queries or keys turned by where they lie, so that products depend on how far they are apart.

    Rotary embedding by ground distance, as in GeoRoPE (arXiv 2606.14760): half of the pairs of
    numbers turn with metres east, half with metres south, by one radian per `reference_m` for the
    first pair, down to one per hundred times as much.

    Args:
        x: dim must be a multiple of 4.
        xy: positions in metres.
        reference_m: ground distance of one radian.
    """
    pairs = x.shape[-1] // 4
    rates = ROTARY_BASE ** -(torch.arange(pairs, device=x.device) / pairs) / reference_m
    angles = (xy.float().unsqueeze(-1) * rates).flatten(-2).unsqueeze(-3)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)


def sincos(steps: Float[Tensor, "batch tokens 2"], dim: int) -> Float[Tensor, "batch tokens dim"]:
    """Sine-cosine embedding of positions in steps, east in the first half, then south."""
    rate = 10000 ** -(torch.arange(dim // 4, device=steps.device) / (dim // 4))
    angle = steps.unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def is_euclidean(distance: Distance) -> bool:
    """Whether a kernel that computes Euclidean distances itself may stand in for `distance`.

    Only for `ground_distance`, and only if it was Euclid's when this module was loaded: whoever
    edits or replaces it changes what every kernel serves.
    """
    return any(distance is known for known in EUCLIDEAN)


def _geometric(heads: int) -> list[float]:
    return [2 ** (-8 * (head + 1) / heads) for head in range(heads)]


def _check_distances(metres: object, query_xy: Tensor, key_xy: Tensor) -> None:
    """Refuse what a user's function returns where it is no distance."""
    shape = torch.broadcast_shapes(query_xy.shape[:-2], key_xy.shape[:-2])
    shape = (*shape, query_xy.shape[-2], key_xy.shape[-2])
    if not isinstance(metres, Tensor) or metres.shape != shape:
        got = tuple(metres.shape) if isinstance(metres, Tensor) else type(metres).__name__
        raise ValueError(f"position must return distances of shape {shape}, got {got}")
    if not bool((metres.isfinite() & (metres >= 0)).all()):
        raise ValueError("position must return finite distances of at least 0, got others")


def _gives_euclid(distance: Distance) -> bool:
    """Whether a function gives Euclid's distances, from a centimetre to 1,000 km."""
    apart = torch.tensor(PROBES_M, dtype=torch.float64)
    angle = torch.arange(len(apart), dtype=torch.float64)
    query_xy = torch.stack([apart * angle.cos(), apart * angle.sin()], dim=-1)
    key_xy = query_xy.flip(-1)[1:]
    expected = (query_xy[:, None] - key_xy).square().sum(-1).sqrt()
    return torch.allclose(distance(query_xy, key_xy), expected, rtol=1e-9, atol=1e-9)


EUCLIDEAN = (ground_distance,) if _gives_euclid(ground_distance) else ()
