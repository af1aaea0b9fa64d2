"""Eqs. (1) and (2) as printed, the released code's biases, and what heads can see of scale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import sqrt

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salib.bias import ground_distance, patch_centres, scale_alibi_bias
from salib.config import PRESETS
from salib.model import build_model

GSDS_M = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 30.0, 50.0)


def effective_tokens(
    logits: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries"]:
    """How many keys each query attends to: the exponential of the entropy of its softmax.

    It is the number of keys when all logits of a row are equal, and 1 when one of them swamps the
    others. Given a bias, it is what a head sees by distance alone.
    """
    log_weights = logits.log_softmax(dim=-1)
    return (-(log_weights.exp() * log_weights).sum(dim=-1)).exp()


def d1_attended_keys(
    *, draws: int, keys: int, dim: int, generator: torch.Generator
) -> dict[str, Float[Tensor, " queries"]]:
    """Effective number of keys of each query, for unit normal queries and keys without a bias.

    Args:
        draws: independent sets of as many queries as keys.

    Returns:
        "product", where q.k is multiplied by sqrt(dim) as Eq. (1) is printed, and "quotient".
    """
    q, k = torch.randn(2, draws, keys, dim, generator=generator)
    scales = {"product": sqrt(dim), "quotient": 1 / sqrt(dim)}
    return {name: effective_tokens(q @ k.mT * scale).flatten() for name, scale in scales.items()}


def d2_step_bias(*, gsd_m: float, patch_px: int, slope: float, reference_m: float = 1.0) -> float:
    """Bias between two neighbouring patches; `reference_m` 1 is Eq. (2) in bare metres."""
    patch_m = torch.tensor([gsd_m * patch_px])
    xy = patch_centres(1, 2, patch_m)
    return scale_alibi_bias(xy, xy, torch.tensor([slope]), reference_m)[0, 0, 0, 1].item()


def d2_table(
    gsds_m: Mapping[float | int, float], *, patch_px: int, slope: float, reference_m: float
) -> pd.DataFrame:
    """One step between neighbouring patches at several latitudes, in bare metres and as read.

    Args:
        gsds_m: metres a pixel by latitude.
    """
    rows = {
        lat: {
            "gsd_m": gsd_m,
            "patch_m": patch_px * gsd_m,
            "bare metres": d2_step_bias(gsd_m=gsd_m, patch_px=patch_px, slope=slope),
            f"in steps of {reference_m:g} m": d2_step_bias(
                gsd_m=gsd_m, patch_px=patch_px, slope=slope, reference_m=reference_m
            ),
        }
        for lat, gsd_m in gsds_m.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("latitude")


def d8_released_bias(rows: int, cols: int, slope: float) -> Float[Tensor, "queries keys"]:
    """The released bias between a coarse grid and one twice as fine.

    Every fourth column of the fine grid's own table is kept and what remains is flattened; the
    entry of query q and key k is then read at q x (coarse patches) + k, although a row of queries
    now spans four times as many keys.
    """
    coarse = rows * cols
    xy = patch_centres(2 * rows, 2 * cols, torch.tensor([0.5]))
    table = scale_alibi_bias(xy, xy, torch.tensor([slope]), 1.0)[0, 0]
    flat = table[:, ::4].flatten()
    places = torch.arange(coarse)[:, None] * coarse + torch.arange(4 * coarse)
    return flat[places]


def d8_nearest(
    bias: Float[Tensor, "queries keys"], distance_m: Float[Tensor, "queries keys"]
) -> int:
    """How many queries have their highest bias at a key that is nearest on the ground."""
    chosen = distance_m.gather(1, bias.argmax(dim=1, keepdim=True))
    return int((chosen <= distance_m.amin(dim=1, keepdim=True) + 1e-4).sum())


def correlation(a: Float[Tensor, "rows cols"], b: Float[Tensor, "rows cols"]) -> float:
    """Pearson's correlation over all entries."""
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def d9_released_diagonal(
    batch: int,
    *,
    rows: int,
    cols: int,
    slope: float,
    generator: torch.Generator,
) -> Float[Tensor, "batch kept"]:
    """Bias of each token to itself inside the released cross-encoder.

    Self-attention there takes the table from kept radar to kept lores patches, two draws that have
    nothing to do with each other, where the distance of a token to itself is 0. Half are masked.
    """
    draws = torch.rand(2, batch, rows * cols, generator=generator).argsort(dim=-1)[
        ..., : rows * cols // 2
    ]
    radar, lores = patch_centres(rows, cols, torch.ones(1))[0][draws]
    return -slope * torch.linalg.vector_norm(radar - lores, dim=-1)


def coarse_to_fine_distance(rows: int, cols: int, patch_m: float) -> Float[Tensor, "queries keys"]:
    """True distance in metres between a coarse grid and one twice as fine on the same ground."""
    coarse = patch_centres(rows, cols, torch.tensor([patch_m]))
    fine = patch_centres(2 * rows, 2 * cols, torch.tensor([patch_m / 2]))
    return ground_distance(coarse, fine)[0]


def d18_heads(
    slopes: Float[Tensor, " heads"],
    reference_m: float,
    *,
    gsds_m: Sequence[float] = (8.0,),
    sides: Sequence[int] = (8,),
    patch_px: int = 8,
) -> pd.DataFrame:
    """What each head attends to by the bias alone, in tokens and in metres.

    Args:
        gsds_m: metres a pixel.
        sides: patches along a side of the image.

    Returns:
        A row for each gsd_m, side and head: slope, tokens (effective number a query) and metres
        (mean distance to an attended key), averages over all queries; slope 0 attends to all alike.
    """
    rows = []
    for gsd_m, side in product(gsds_m, sides):
        xy = patch_centres(side, side, torch.tensor([gsd_m * patch_px]))
        distance_m = ground_distance(xy, xy)
        for slope in (*slopes.tolist(), 0.0):
            logits = -slope * distance_m / reference_m
            row = {"gsd_m": gsd_m, "side": side, "slope": slope}
            row["tokens"] = effective_tokens(logits).mean().item()
            row["metres"] = (logits.softmax(-1) * distance_m).sum(-1).mean().item()
            rows.append(row)
    return pd.DataFrame(rows)


def d18_heads_that_see_scale(slopes: Float[Tensor, " heads"], reference_m: float) -> int:
    """Heads whose effective tokens change by more than half between GSDs of 3 and 20 m."""
    fine, coarse = (
        d18_heads(slopes, reference_m, gsds_m=[gsd_m])["tokens"].to_numpy() for gsd_m in (3.0, 20.0)
    )
    return int((fine > 1.5 * coarse).sum())  # slope 0 at the end never changes


def d18_moved(gsds_m: Sequence[float], seed: int, generator: torch.Generator) -> dict[str, float]:
    """How far an untrained encoder's features move when only the stated GSD changes.

    Returns:
        Largest change of a feature, for a "flat" picture and a "mosaic" of random colours, each
        ".plain" and with a ".sink" (`salib.attention.Geometry`).
    """
    colours = torch.randint(0, 256, (1, 3, 8, 8), generator=generator).float()
    mosaic = torch.kron(colours, torch.ones(8, 8))
    pictures = {"flat": torch.full_like(mosaic, 128), "mosaic": mosaic}
    moved = {}
    for (name, picture), sink in product(pictures.items(), (False, True)):
        encoder = build_model(replace(PRESETS["tiny"], sink=sink), seed).eval()
        gsds = torch.tensor(gsds_m)
        features = encoder.embed(picture.expand(len(gsds), -1, -1, -1), "lores", gsds)
        kind = "sink" if sink else "plain"
        moved[f"{name}.{kind}"] = (features - features[:1]).abs().max().item()
    return moved
