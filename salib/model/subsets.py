"""Batches whose samples lack some sensors: those that have the same ones pass together."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salib.config import ModelConfig
from salib.model.tokens import Mask, Pretraining, target_values


def pass_subsets(
    model: Callable[..., Pretraining],
    config: ModelConfig,
    images: Mapping[str, Float[Tensor, "batch bands height width"]],
    gsd_m: Mapping[str, Float[Tensor, " batch"]],
    masks: Mapping[str, Mask],
    present: Mapping[str, Bool[Tensor, " batch"]],
    *,
    reconstruct: bool = True,
) -> Pretraining:
    """As `ScaleAlibi.forward`, of samples of which each has one sensor at least.

    Args:
        model: called with the samples that have the same sensors, and these alone.
        config: of the model.
        images: of every sensor; of samples that lack one, anything.
        gsd_m: metres per pixel.
        masks: what each encoder sees.
        present: which samples have the sensor.
        reconstruct: fuse and decode too.
    """
    parts = []
    for names, rows in subsets(present):
        given = ({n: each[n][rows] for n in names} for each in (images, gsd_m))
        shown = {n: masks[n].rows(rows) for n in names}
        parts.append((rows, model(*given, shown, reconstruct=reconstruct)))
    batch, values = len(next(iter(present.values()))), target_values(config)
    projection = parts[0][1].temperature.new_zeros(batch, config.dim)
    whole = {"projections": {n: projection for n in config.sensors}}
    if reconstruct:
        grid = (batch, next(iter(masks.values())).hidden.shape[1])
        empty = {n: projection.new_zeros(*grid, width) for n, width in values.items()}
        hidden = projection.new_zeros(grid, dtype=torch.bool)
        whole |= {"predicted": empty, "target": empty, "hidden": dict.fromkeys(values, hidden)}
    for kind, zeros in whole.items():
        for rows, out in parts:
            for name, part in getattr(out, kind).items():
                zeros = {**zeros, name: zeros[name].to(part.dtype).index_copy(0, rows, part)}
        whole[kind] = zeros
    return replace(parts[0][1], **whole, present=dict(present))


def subsets(
    present: Mapping[str, Bool[Tensor, " batch"]],
) -> Iterator[tuple[list[str], Tensor]]:
    """Samples that have the same sensors: these, and which rows of the batch they are."""
    names = list(present)
    table = torch.stack([present[n] for n in names], dim=1)
    for kind in table.unique(dim=0):
        held = [n for n, there in zip(names, kind.tolist(), strict=True) if there]
        yield held, (table == kind).all(dim=1).nonzero().squeeze(1)
