"""The three-way contrastive loss and the masked reconstruction loss, Eqs. (3)-(6)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributed import get_rank, get_world_size, is_initialized
from torch.distributed.nn.functional import all_gather
from torch.utils.checkpoint import checkpoint

BLOCK = 2**24
"""Logits at once: more are computed in blocks of rows, and again in the backward pass."""


def contrastive_loss(
    projections: Mapping[str, Float[Tensor, "batch dim"]],
    temperature: Float[Tensor, ""],
    *,
    present: Mapping[str, Bool[Tensor, " batch"]] | None = None,
    all_ranks: bool = True,
) -> Float[Tensor, ""]:
    """Eq. (3) as read in D3: InfoNCE over every unordered pair of sensors, in both directions.

    The negatives of a sample are the other samples of the batch, on all ranks, with gradients. With
    two sensors this is CROMA's loss; with equal logits it is ln(batch). A pair of sensors is
    compared over the samples that have both.

    Args:
        projections: one vector per sample from each sensor; normalised here.
        temperature: sigma of Eq. (3), positive.
        present: which samples have the sensor; by default all.
        all_ranks: take negatives from all ranks; otherwise this one has the whole batch.

    Raises:
        ValueError: if there are fewer than two sensors.
    """
    if len(projections) < 2:
        raise ValueError(f"projections must hold two or more sensors, got {list(projections)}")
    ranks = get_world_size() if all_ranks and is_initialized() else 1
    z = {name: F.normalize(_wide(value), dim=-1) for name, value in projections.items()}
    everywhere = {name: _gathered(own, ranks) for name, own in z.items()}
    rows = torch.arange(len(next(iter(z.values()))), device=temperature.device)
    own = rows + len(rows) * (get_rank() if ranks > 1 else 0)
    if present is None:
        return torch.stack(
            [_info_nce(z[a], everywhere[b], own, temperature) for a, b in _directions(z)]
        ).mean()
    held, terms = {name: _gathered(present[name], ranks) for name in z}, []
    for a, b in _directions(z):
        both = held[a] & held[b]
        if count := int(both.sum()):
            mine = rows[both[own]]
            labels = both.cumsum(0)[own[mine]] - 1
            mean = _info_nce(z[a][mine], everywhere[b][both], labels, temperature)
            terms.append(mean * len(mine) * ranks / count)
    return torch.stack(terms).mean() if terms else temperature * 0


def _directions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every unordered pair, in both directions."""
    for one, other in combinations(names, 2):
        yield one, other
        yield other, one


def _gathered(own: Tensor, ranks: int) -> Tensor:
    """Rows of all ranks, with gradients."""
    return torch.cat(list(all_gather(own))) if ranks > 1 else own


def _info_nce(
    queries: Float[Tensor, "rows dim"],
    keys: Float[Tensor, "columns dim"],
    labels: Int[Tensor, " rows"],
    temperature: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy of each row's product with its own key among all, the mean over the rows."""
    step = max(1, BLOCK // max(1, len(keys)))
    with torch.autocast(queries.device.type, enabled=False):  # logits keep float32
        if 0 < len(queries) <= step:
            return F.cross_entropy(queries @ keys.T / temperature, labels)
        blocks = [
            checkpoint(_info_nce, part, keys, label, temperature, use_reentrant=False) * len(part)
            for part, label in zip(queries.split(step), labels.split(step), strict=True)
            if len(part)
        ]
        none = (queries.sum() + keys.sum() + temperature) * 0
        return torch.stack([none, *blocks]).sum() / max(1, len(queries))


def views_loss(
    views: Sequence[Mapping[str, Float[Tensor, "batch dim"]]],
    temperature: Float[Tensor, ""],
    *,
    present: Mapping[str, Bool[Tensor, " batch"]] | None = None,
    all_ranks: bool = True,
) -> Float[Tensor, ""]:
    """Eq. (3) between views of one sensor, the mean over sensors (SimCLR; Chen et al. 2020).

    Args:
        views: of the same samples, the projections of each sensor's image.
        temperature: as of `contrastive_loss`.
        present: which samples have the sensor; by default all.
        all_ranks: take negatives from all ranks.
    """
    losses = []
    for name in views[0]:
        each = {str(number): view[name] for number, view in enumerate(views)}
        held = None if present is None else dict.fromkeys(each, present[name])
        losses.append(contrastive_loss(each, temperature, present=held, all_ranks=all_ranks))
    return torch.stack(losses).mean()


def normalise_patches(
    patches: Float[Tensor, "batch tokens values"],
) -> Float[Tensor, "batch tokens values"]:
    """Target of Eq. (5): each patch to mean 0 and standard deviation 1 (D4: the target's own)."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def normalise_targets(
    target: Mapping[str, Float[Tensor, "..."]], *, joint: bool = False
) -> dict[str, Tensor]:
    """Targets of Eq. (5) for every sensor.

    Args:
        target: patches by sensor, (batch, tokens, values).
        joint: one mean and deviation for all sensors' values of a patch, as in CROMA's code.
    """
    if not joint:
        return {name: normalise_patches(_wide(patches)) for name, patches in target.items()}
    widths = [patches.shape[-1] for patches in target.values()]
    together = normalise_patches(_wide(torch.cat(list(target.values()), dim=-1)))
    return dict(zip(target, together.split(widths, dim=-1), strict=True))


def sensor_error(
    predicted: Float[Tensor, "batch tokens values"],
    target: Float[Tensor, "batch tokens values"],
    hidden: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """R(t) / M of Eqs. (4)-(5) as read in D4: mean squared error over one sensor's hidden patches.

    Args:
        predicted: decoded values of the sensor's channels, one row per patch.
        target: normalised patches.
        hidden: True where the encoder did not see the patch; the others do not count.

    Raises:
        ValueError: if nothing is hidden, for then there is nothing to reconstruct.
    """
    if not hidden.any():
        raise ValueError("hidden must mark one patch or more, got none: raise mask_ratio")
    error = (_wide(predicted) - _wide(target)).square().mean(dim=-1)
    return (error * hidden).sum() / hidden.sum()


def reconstruction_loss(
    predicted: Mapping[str, Float[Tensor, "..."]],
    target: Mapping[str, Float[Tensor, "..."]],
    hidden: Mapping[str, Bool[Tensor, "batch tokens"]],
    *,
    present: Mapping[str, Bool[Tensor, " batch"]] | None = None,
) -> Float[Tensor, ""]:
    """Eq. (4): the sum over sensors of their error on hidden patches.

    Args:
        predicted: by sensor, see `sensor_error`.
        target: normalised patches.
        hidden: where to reconstruct.
        present: which samples have the sensor; by default all. One that none has adds nothing.
    """
    here = [name for name in predicted if present is None or bool(present[name].any())]
    errors = [sensor_error(predicted[name], target[name], hidden[name]) for name in here]
    return torch.stack(errors).sum()


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
