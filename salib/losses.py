"""The three-way contrastive loss and the masked reconstruction loss, Eqs. (3)-(6)."""

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed import get_rank, get_world_size, is_initialized
from torch.distributed.nn.functional import all_gather


def contrastive_loss(
    projections: Mapping[str, Float[Tensor, "batch dim"]],
    temperature: Float[Tensor, ""],
    *,
    all_ranks: bool = True,
) -> Float[Tensor, ""]:
    """Eq. (3) as read in D3: InfoNCE over every unordered pair of sensors, in both directions.

    The negatives of a sample are the other samples of the batch, on all ranks, with gradients. With
    two sensors this is CROMA's loss; with equal logits it is ln(batch).

    Args:
        projections: one vector per sample from each sensor; normalised here.
        temperature: sigma of Eq. (3), positive; it is learned, so a loss in place of this one must
            use it, or several ranks wait for its gradient.
        all_ranks: take negatives from all ranks; otherwise this one has the whole batch.

    Raises:
        ValueError: if there are fewer than two sensors.
    """
    if len(projections) < 2:
        raise ValueError(f"projections must hold two or more sensors, got {list(projections)}")
    z = {name: F.normalize(_wide(value), dim=-1) for name, value in projections.items()}
    ranks = get_world_size() if all_ranks and is_initialized() else 1
    everywhere = {n: torch.cat(list(all_gather(own))) if ranks > 1 else own for n, own in z.items()}
    first = next(iter(z.values()))
    labels = torch.arange(len(first), device=first.device)
    labels += len(first) * (get_rank() if ranks > 1 else 0)
    with torch.autocast(first.device.type, enabled=False):  # logits keep float32
        terms = [
            F.cross_entropy(z[a] @ everywhere[b].T / temperature, labels)
            for one, other in combinations(z, 2)
            for a, b in ((one, other), (other, one))
        ]
    return torch.stack(terms).mean()


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
) -> Float[Tensor, ""]:
    """Eq. (4): the sum over sensors of their error on hidden patches."""
    errors = [sensor_error(predicted[name], target[name], hidden[name]) for name in predicted]
    return torch.stack(errors).sum()


def total_loss(
    contrastive: Float[Tensor, ""], reconstruction: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Eq. (6): the plain sum."""
    return contrastive + reconstruction


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
