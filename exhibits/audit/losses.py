"""Losses, targets and masks as the text prints them and as the released code computes them."""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from salib.config import SENSOR_NAMES
from salib.losses import contrastive_loss, normalise_patches, sensor_error


def d3_printed_loss(
    projections: Mapping[str, Float[Tensor, "batch dim"]], temperature: float
) -> Float[Tensor, ""]:
    """Eq. (3) to the letter: no logarithm, and a denominator that sums the numerators.

    The fractions of a pair of sensors add up to 1 whatever the vectors are, so this is the
    constant -1 / (pairs x batch).
    """
    z = {name: F.normalize(value, dim=-1) for name, value in projections.items()}
    pairs = list(combinations(z, 2))
    total = torch.zeros(())
    for one, other in pairs:
        scores = ((z[one] * z[other]).sum(dim=-1) / temperature).exp()
        total = total + (scores / scores.sum()).sum()
    batch = len(next(iter(z.values())))
    return -total / (len(pairs) ** 2 * batch)


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

    Re-paired means that each place gets the vector of its neighbour in the batch.
    """
    place = torch.randn(batch, dim, generator=generator)
    aligned: dict[str, Tensor] = {name: place for name in SENSOR_NAMES}
    blank: dict[str, Tensor] = {name: torch.ones_like(place) for name in SENSOR_NAMES}
    cases = {"all vectors equal": blank, "each place agrees": aligned}
    for name in SENSOR_NAMES:
        cases[f"{name} re-paired"] = {**aligned, name: place.roll(1, dims=0)}
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
    variance, mean = torch.var_mean(predicted, dim=-1, keepdim=True)
    return (target - (predicted - mean) / (variance + 1e-6).sqrt()).sum()


def d4_table(tokens: int, values: int, generator: torch.Generator) -> pd.DataFrame:
    """The error of three guesses at a normalised target, all patches hidden: printed and ours."""
    target = normalise_patches(torch.randn(1, tokens, values, generator=generator))
    hidden = torch.ones(1, tokens, dtype=torch.bool)
    guesses = {"the target": target, "its mean, 0": 0 * target, "its negative": -target}
    rows = {
        name: {
            "printed": round(d4_printed_error(guess[0], target[0]).item(), 2),
            "ours": sensor_error(guess, target, hidden).item(),
        }
        for name, guess in guesses.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index") + 0.0


def d5_targets(
    hires: Float[Tensor, "bands height width"],
) -> dict[str, Float[Tensor, "bands rows cols"]]:
    """The hires target on the lores grid: averaged over the ground, and thinned out as released."""
    return {
        "averaged": F.avg_pool2d(hires, 2),
        "every second pixel": hires[:, ::2, ::2],
    }


def d6_pooled_mask(
    batch: int, *, rows: int, cols: int, mask_ratio: float, generator: torch.Generator
) -> tuple[Bool[Tensor, "batch finerows finecols"], Bool[Tensor, "batch rows cols"]]:
    """The released hires mask: drawn on the fine grid, then max-pooled to the coarse one.

    Args:
        rows: of the coarse grid; the fine one has twice as many.
        cols: the same.

    Returns:
        What is hidden on the fine and on the coarse grid.
    """
    fine = 4 * rows * cols
    order = torch.rand(batch, fine, generator=generator).argsort(dim=1)
    hidden = torch.ones(batch, fine).scatter(1, order[:, : int(fine * (1 - mask_ratio))], 0.0)
    grid = hidden.unflatten(1, (2 * rows, 2 * cols))
    return grid.bool(), F.max_pool2d(grid, 2).bool()
