"""What the text as printed and the released code compute where this library departs from them.

Each function is named after its row of the table in design.md (a page of the book) and serves the
experiment behind that row. Nothing else uses them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from math import sqrt

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from salib.bias import ground_distance, patch_centres, scale_alibi_bias
from salib.config import PRESETS, SENSOR_NAMES
from salib.losses import contrastive_loss, normalise_patches, sensor_error
from salib.model import build_model

GSDS_M = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 30.0, 50.0)


def effective_tokens(
    logits: Float[Tensor, "*batch queries keys"],
) -> Float[Tensor, "*batch queries"]:
    """How many keys each query attends to: the exponential of the entropy of its softmax.

    From 1, where one logit swamps the others, to the number of keys, where all are equal.
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
    xy = patch_centres(1, 2, torch.tensor([gsd_m * patch_px]))
    return scale_alibi_bias(xy, xy, torch.tensor([slope]), reference_m)[0, 0, 0, 1].item()


def d2_table(
    gsds_m: Mapping[float | int, float], *, patch_px: int, slope: float, reference_m: float
) -> pd.DataFrame:
    """One step between neighbouring patches by latitude, in bare metres and in steps.

    Args:
        gsds_m: metres per pixel by latitude.
    """
    table = pd.DataFrame({"gsd_m": gsds_m}).rename_axis("latitude")
    table["patch_m"] = patch_px * table["gsd_m"]
    for name, unit_m in (("bare metres", 1.0), (f"in steps of {reference_m:g} m", reference_m)):
        how = {"patch_px": patch_px, "slope": slope, "reference_m": unit_m}
        table[name] = [d2_step_bias(gsd_m=gsd_m, **how) for gsd_m in gsds_m.values()]
    return table


def d3_printed_loss(
    projections: Mapping[str, Float[Tensor, "batch dim"]], temperature: float
) -> Float[Tensor, ""]:
    """Eq. (3) to the letter: no logarithm, and a denominator that sums the numerators.

    The fractions of a pair of sensors add up to 1, so this is the constant -1 / (pairs x batch).
    """
    z = {name: F.normalize(value, dim=-1) for name, value in projections.items()}
    pairs = [(z[one] * z[other]).sum(dim=-1) / temperature for one, other in combinations(z, 2)]
    return -torch.stack(pairs).softmax(dim=1).sum() / (len(pairs) ** 2 * len(pairs[0]))


def d3_released_loss(
    projections: Mapping[str, Float[Tensor, "batch dim"]], temperature: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The released loss: radar with lores in both directions, and hires with itself."""
    hires = F.normalize(projections["hires"], dim=-1)
    itself = F.cross_entropy(hires @ hires.T / temperature, torch.arange(len(hires)))
    coarse = {name: projections[name] for name in ("radar", "lores")}
    return (2 * contrastive_loss(coarse, temperature) + itself) / 3


def d3_cases(
    batch: int, dim: int, generator: torch.Generator
) -> dict[str, dict[str, Float[Tensor, "batch dim"]]]:
    """Worked inputs of Eq. (3): no information, perfect agreement, one sensor re-paired.

    Re-paired means that each location gets the vector of its neighbour in the batch.
    """
    location = torch.randn(batch, dim, generator=generator)
    aligned: dict[str, Tensor] = dict.fromkeys(SENSOR_NAMES, location)
    blank: dict[str, Tensor] = dict.fromkeys(SENSOR_NAMES, torch.ones_like(location))
    cases = {"all vectors equal": blank, "each place agrees": aligned}
    for name in SENSOR_NAMES:
        cases[f"{name} re-paired"] = {**aligned, name: location.roll(1, dims=0)}
    return cases


def d3_table(
    cases: Mapping[str, Mapping[str, Float[Tensor, "batch dim"]]], temperature: float
) -> pd.DataFrame:
    """The contrastive loss of each case in three readings: as printed, as released, ours."""
    sigma = torch.tensor(temperature)
    rows = {
        name: {
            "printed": d3_printed_loss(z, temperature).item(),
            "released": d3_released_loss(z, sigma).item(),
            "ours": contrastive_loss(z, sigma).item(),
        }
        for name, z in cases.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def d4_printed_error(
    predicted: Float[Tensor, "tokens values"], target: Float[Tensor, "tokens values"]
) -> Float[Tensor, ""]:
    """Eq. (5) to the letter: the sum of target minus normalised prediction, signs kept.

    A normalised prediction sums to 0 in each patch, so the prediction drops out.
    """
    return (target - normalise_patches(predicted[None])[0]).sum()


def d4_table(tokens: int, values: int, generator: torch.Generator) -> pd.DataFrame:
    """The error of three predictions of a normalised target, all patches masked: printed, ours."""
    target = normalise_patches(torch.randn(1, tokens, values, generator=generator))
    hidden = torch.ones(1, tokens, dtype=torch.bool)
    predictions = {"the target": target, "its mean, 0": 0 * target, "its negative": -target}
    rows = {
        name: {
            "printed": round(d4_printed_error(predicted[0], target[0]).item(), 2),
            "ours": sensor_error(predicted, target, hidden).item(),
        }
        for name, predicted in predictions.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index") + 0.0


def d5_targets(
    hires: Float[Tensor, "bands height width"],
) -> dict[str, Float[Tensor, "bands rows cols"]]:
    """The hires target on the lores grid: averaged over the ground, and thinned out as released."""
    return {"averaged": F.avg_pool2d(hires, 2), "every second pixel": hires[:, ::2, ::2]}


def d6_pooled_mask(
    batch: int, *, rows: int, cols: int, mask_ratio: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "batch finerows finecols"], Bool[Tensor, "batch rows cols"]]:
    """The released hires mask: drawn on the fine grid, then max-pooled to the coarse one.

    Args:
        rows: of the coarse grid, as cols; the fine one has twice as many of both.

    Returns:
        What is hidden on the fine and on the coarse grid.
    """
    fine = 4 * rows * cols
    order = torch.rand(batch, fine, generator=generator).argsort(dim=1)
    hidden = torch.ones(batch, fine).scatter(1, order[:, : int(fine * (1 - mask_ratio))], 0.0)
    grid = hidden.unflatten(1, (2 * rows, 2 * cols))
    return grid.bool(), F.max_pool2d(grid, 2).bool()


def d8_released_bias(rows: int, cols: int, slope: float) -> Float[Tensor, "queries keys"]:
    """The released bias between a coarse grid and one twice as fine.

    Every fourth column of the fine grid's own table is kept and flattened; the entry of query q and
    key k is read at q x (coarse patches) + k, although a row now spans four times as many keys.
    """
    coarse = rows * cols
    xy = patch_centres(2 * rows, 2 * cols, torch.tensor([0.5]))
    table = scale_alibi_bias(xy, xy, torch.tensor([slope]), 1.0)[0, 0]
    read = torch.arange(coarse)[:, None] * coarse + torch.arange(4 * coarse)
    return table[:, ::4].flatten()[read]


def d8_nearest(
    bias: Float[Tensor, "queries keys"], distance_m: Float[Tensor, "queries keys"]
) -> int:
    """How many queries have their highest bias at a key that is nearest on the ground."""
    chosen = distance_m.gather(1, bias.argmax(dim=1, keepdim=True))
    return int((chosen <= distance_m.amin(dim=1, keepdim=True) + 1e-4).sum())


def correlation(a: Float[Tensor, "rows cols"], b: Float[Tensor, "rows cols"]) -> float:
    """Pearson's correlation over all entries."""
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def coarse_to_fine_distance(rows: int, cols: int, patch_m: float) -> Float[Tensor, "queries keys"]:
    """True distance in metres between a coarse grid and one twice as fine on the same ground."""
    coarse = patch_centres(rows, cols, torch.tensor([patch_m]))
    fine = patch_centres(2 * rows, 2 * cols, torch.tensor([patch_m / 2]))
    return ground_distance(coarse, fine)[0]


def d9_released_diagonal(
    batch: int, *, rows: int, cols: int, slope: float, generator: torch.Generator
) -> Float[Tensor, "batch kept"]:
    """Bias of each token to itself inside the released cross-encoder, which should be 0.

    Self-attention there takes the table from kept radar to kept lores patches, two independent
    draws of half of the patches.
    """
    order = torch.rand(2, batch, rows * cols, generator=generator).argsort(dim=-1)
    radar, lores = patch_centres(rows, cols, torch.ones(1))[0][order[..., : rows * cols // 2]]
    return -slope * torch.linalg.vector_norm(radar - lores, dim=-1)


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
        gsds_m: metres per pixel.
        sides: patches along a side of the image.

    Returns:
        A row for each gsd_m, side and head: slope, tokens (effective number per query) and metres
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
    seen = d18_heads(slopes, reference_m, gsds_m=[3.0, 20.0])["tokens"].to_numpy()
    fine, coarse = seen.reshape(2, -1)
    return int((fine > 1.5 * coarse).sum())  # slope 0 at the end never changes


def d18_moved(gsds_m: Sequence[float], seed: int, generator: torch.Generator) -> dict[str, float]:
    """How far an untrained encoder's features move when only the stated GSD changes.

    Returns:
        Largest change of a feature, for a "flat" picture and a "mosaic" of random colours, each
        ".plain" and with a ".sink" (`salib.attention.Geometry`).
    """
    colours = torch.randint(0, 256, (1, 3, 8, 8), generator=generator).float()
    mosaic = torch.kron(colours, torch.ones(8, 8))
    gsds, moved = torch.tensor(gsds_m), {}
    for sink, kind in ((False, "plain"), (True, "sink")):
        encoder = build_model(replace(PRESETS["tiny"], sink=sink), seed).eval()
        for name, picture in (("flat", torch.full_like(mosaic, 128)), ("mosaic", mosaic)):
            features = encoder.embed(picture.expand(len(gsds), -1, -1, -1), "lores", gsds)
            moved[f"{name}.{kind}"] = (features - features[:1]).abs().max().item()
    return moved
