"""One optimiser step: the losses of a batch, their weighted sum, the clipped gradient, AdamW."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from salib.config import ModelConfig, TrainConfig
from salib.losses import contrastive_loss, normalise_targets, reconstruction_loss, views_loss
from salib.model import Mask, Pretraining, ScaleAlibi, draw_masks
from salib.model.precision import autocast
from salib.model.subsets import pass_subsets
from salib.training.batches import Batch, draw_batch
from salib.training.data import Samples
from salib.training.ranks import average_gradients, rank_device
from salib.training.sampling import stream

View = tuple[Batch, dict[str, Mask]]
"""One view of a step's samples, and what the encoders see of it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one rank needs to know of a run; `steps` in all."""

    config: TrainConfig
    steps: int
    seed: int
    rank: int
    ranks: int


def draw_step(samples: Samples, model: ScaleAlibi, run: Run, step: int) -> list[View]:
    """This rank's share of a step, on its device: each view (see `draw_batch`) and its masks."""
    return [_draw_view(samples, model.config, run, step, view) for view in range(run.config.views)]


def _draw_view(samples: Samples, model: ModelConfig, run: Run, step: int, view: int) -> View:
    config, device = run.config, rank_device()
    share = {"seed": run.seed, "step": step, "view": view, "rank": run.rank, "ranks": run.ranks}
    batch = draw_batch(samples, config, sensors=model.sensors, **share)
    grid = config.image_px // model.patch_px
    generator = stream(run.seed, f"masks{view or ''}", step)
    masks = draw_masks(model, config.batch, rows=grid, cols=grid, generator=generator)
    mine = slice(run.rank, None, run.ranks)
    return batch.each(lambda value: value.to(device)), {
        name: Mask(mask.keep[mine].to(device), mask.hidden[mine].to(device))
        for name, mask in masks.items()
    }


def outputs(model: Any, views: Sequence[View], config: TrainConfig) -> list[Pretraining]:
    """What the model returns of each view; of those that the objective looks at, reconstructions.

    Eq. (4) is of the first view alone. Autocast is here, once; losses and gradients are without.
    """
    found = []
    with autocast(config.precision, next(model.parameters()).device):
        for number, (batch, masks) in enumerate(views):
            asked = callable(config.objective) or (
                "reconstruction" in config.objective and not number
            )
            given = (batch.images, batch.gsd_m, masks)
            if batch.present is None:
                found.append(model(*given, reconstruct=asked))
            else:
                how = {"present": batch.present, "reconstruct": asked}
                found.append(pass_subsets(model, model.config, *given, **how))
    return found


def losses_of(
    outs: Sequence[Pretraining],
    config: TrainConfig,
    *,
    joint_target: bool = False,
    all_ranks: bool = True,
) -> dict[str, Tensor]:
    """The losses of a step by name, each without its weight, of what the model returns.

    Eq. (3) is the mean over the views.

    Args:
        outs: see `outputs`.
        config: its objective counts.
        joint_target: see `ModelConfig`.
        all_ranks: take negatives from all ranks.
    """
    if callable(config.objective):
        return config.objective(outs)
    first, found = outs[0], {}
    how = {"present": first.present, "all_ranks": all_ranks}
    if "contrastive" in config.objective:
        each = [contrastive_loss(out.projections, out.temperature, **how) for out in outs]
        found["contrastive"] = torch.stack(each).mean()
    if "reconstruction" in config.objective:
        target = normalise_targets(first.target, joint=joint_target)
        parts = (first.predicted, target, first.hidden)
        found["reconstruction"] = reconstruction_loss(*parts, present=first.present)
    if "views" in config.objective:
        found["views"] = views_loss([out.projections for out in outs], first.temperature, **how)
    return found


def weighted_sum(losses: Mapping[str, Tensor], config: TrainConfig) -> Tensor:
    """What is learnt: Eq. (6), where both weights are 1; the plain sum of a user's losses."""
    weights = {} if callable(config.objective) else config.objective
    return torch.stack([losses[name] * weights.get(name, 1.0) for name in losses]).sum()


def learn(
    model: Any,
    optimizer: torch.optim.Optimizer,
    views: Sequence[View],
    run: Run,
    *,
    rate: float,
    stop: bool = False,
) -> tuple[dict[str, float], bool]:
    """Take one step of the optimiser at a learning rate; the losses before it and the gradient.

    Args:
        model: on its device.
        optimizer: of its weights.
        views: of this rank's samples.
        run: what this rank knows of the run.
        rate: learning rate of the step.
        stop: whether this rank was asked to end after it.

    Returns:
        Losses by name, means over the ranks, and "gradient", its norm before it was clipped; and
        whether any rank was asked to end.
    """
    config = run.config
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    rows = len(next(iter(views[0][0].gsd_m.values())))
    if config.micro_batch is None or config.micro_batch >= rows:
        outs = outputs(model, views, config)
        losses = losses_of(outs, config, joint_target=model.config.joint_target)
        weighted_sum(losses, config).backward()
    else:
        losses = _in_parts(model, views, config, rows)
    each = [loss.detach() for loss in losses.values()]
    told = torch.stack([*each, each[0].new_tensor(float(stop))])
    *means, stopping = average_gradients(model, told, run.ranks).tolist()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    found = dict(zip(losses, means, strict=True))
    return found | {"gradient": float(norm)}, bool(stopping)


def _in_parts(
    model: Any, views: Sequence[View], config: TrainConfig, rows: int
) -> dict[str, Tensor]:
    """Gradients of the whole batch, with the activations of `micro_batch` samples in memory.

    Gradient caching (GradCache, arXiv 2101.06983): what the model returns is made without a graph,
    the objective is differentiated in it, and a second pass carries that on to the weights.
    """
    size = config.micro_batch or 1
    parts = [slice(start, start + size) for start in range(0, rows, size)]
    temperature = model.temperature.detach().requires_grad_()
    with torch.no_grad():
        made = [outputs(model, [_rows(v, part) for v in views], config) for part in parts]
    wholes = [replace(_joined(outs), temperature=temperature) for outs in zip(*made, strict=True)]
    losses = losses_of(wholes, config, joint_target=model.config.joint_target)
    weighted_sum(losses, config).backward()
    for part in parts:
        again = outputs(model, [_rows(v, part) for v in views], config)
        pairs = [
            (value, whole.grad[part])
            for out, all_rows in zip(again, wholes, strict=True)
            for value, whole in zip(_differentiable(out), _differentiable(all_rows), strict=True)
            if whole.grad is not None and value.requires_grad
        ]
        if pairs:
            tensors, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(tensors, gradients)
    if temperature.grad is not None:
        model.temperature.backward(temperature.grad)
    return losses


def _rows(view: View, part: slice) -> View:
    batch, masks = view
    return batch.each(lambda v: v[part]), {name: mask.rows(part) for name, mask in masks.items()}


def _differentiable(out: Pretraining) -> list[Tensor]:
    return [*out.projections.values(), *out.predicted.values()]


def _joined(outs: Sequence[Pretraining]) -> Pretraining:
    """What the model returns of a whole batch, of its parts; each a leaf of the graph."""
    joined: dict[str, Any] = vars(outs[0]).copy()
    for kind, first in joined.items():
        if isinstance(first, dict):
            parts = [getattr(out, kind) for out in outs]
            joined[kind] = {name: torch.cat([part[name] for part in parts]) for name in first}
    whole = Pretraining(**joined)
    for value in _differentiable(whole):
        value.requires_grad_()
    return whole


def learning_rate(config: TrainConfig, step: int, *, steps: int) -> float:
    """Linear warm-up, then down to zero: half a cosine, or linearly over the last quarter."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "linear":
        return config.learning_rate * min(1.0, (steps - step) / max(1.0, TAIL * steps))
    done = (step - warm) / max(1, steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


TAIL = 0.25
"""Share of the steps in which a linear schedule goes down."""


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices, and none on biases, gains and single numbers."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)
