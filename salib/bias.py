"""Where patches lie on the ground, and the bias that their distance adds to attention."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def patch_centres(
    rows: int, cols: int, patch_m: Float[Tensor, " batch"]
) -> Float[Tensor, "batch tokens 2"]:
    """Centres of a grid of square patches, metres east and south of the image's north-west corner.

    Args:
        rows: patches from north to south.
        cols: patches from west to east; tokens run along a row first.
        patch_m: side of a patch in metres, one value an image.
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

    Places are data: no gradient reaches them.
    """
    east, south = (query_xy[..., :, None, i] - key_xy[..., None, :, i] for i in (0, 1))
    return torch.hypot(east, south)


def ground_steps(
    query_xy: Float[Tensor, "*#batch queries 2"],
    key_xy: Float[Tensor, "*#batch keys 2"],
    reference_m: float,
) -> Float[Tensor, "*batch queries keys"]:
    """Distance in steps of `reference_m` metres: g(i, j) of Eq. (2).

    Raises:
        ValueError: if reference_m is not positive.
    """
    if reference_m <= 0:
        raise ValueError(f"reference_m must be positive, got {reference_m}")
    return ground_distance(query_xy, key_xy) / reference_m


def scale_alibi_bias(
    query_xy: Float[Tensor, "*#batch queries 2"],
    key_xy: Float[Tensor, "*#batch keys 2"],
    slopes: Float[Tensor, " heads"],
    reference_m: float,
) -> Float[Tensor, "*batch heads queries keys"]:
    """Bias added to attention logits, -m(h) g(i, j) of Eqs. (1)-(2).

    With `reference_m` equal to the side of a patch this is CROMA's 2D-ALiBi, and X-ALiBi where
    queries and keys belong to two images.

    Args:
        query_xy: patch centres in metres, from the same origin as key_xy.
        key_xy: patch centres in metres.
        slopes: m(h), positive.
        reference_m: ground distance that counts as one step.

    Raises:
        ValueError: if reference_m is not positive.
    """
    return -slopes[:, None, None] * ground_steps(query_xy, key_xy, reference_m).unsqueeze(-3)


def effective_tokens(
    logits: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries"]:
    """How many keys each query attends to: the exponential of the entropy of its softmax.

    It is the number of keys when all logits of a row are equal, and 1 when one of them swamps the
    others. Given a bias, it is what a head sees by distance alone.
    """
    shares = logits.log_softmax(dim=-1)
    return (-(shares.exp() * shares).sum(dim=-1)).exp()


def _geometric(heads: int) -> list[float]:
    return [2 ** (-8 * (head + 1) / heads) for head in range(heads)]
