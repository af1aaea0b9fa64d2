"""One optimiser step: both losses of a batch, their sum, the clipped gradient, AdamW."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salib.config import TrainConfig
from salib.losses import contrastive_loss, normalise_targets, reconstruction_loss, total_loss
from salib.model import Mask, ScaleAlibi, draw_masks
from salib.model.precision import autocast
from salib.training.data import Batch, Samples, draw_batch, stream
from salib.training.ranks import rank_device

LOSSES = ("contrastive", "reconstruction")
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one rank needs to know of a run; `steps` in all."""

    config: TrainConfig
    steps: int
    seed: int
    rank: int
    ranks: int


def draw_step(
    samples: Samples, model: ScaleAlibi, run: Run, step: int
) -> tuple[Batch, dict[str, Mask]]:
    """This rank's share of a step, on its device: a batch (see `draw_batch`) and its masks."""
    config, device = run.config, rank_device()
    share = {"seed": run.seed, "step": step, "rank": run.rank, "ranks": run.ranks}
    batch = draw_batch(samples, config, sensors=model.config.sensors, **share)
    grid = config.image_px // model.config.patch_px
    generator = stream(run.seed, "masks", step)
    masks = draw_masks(model.config, config.batch, rows=grid, cols=grid, generator=generator)
    mine = slice(run.rank, None, run.ranks)
    return batch.to(device), {
        name: Mask(mask.keep[mine].to(device), mask.hidden[mine].to(device))
        for name, mask in masks.items()
    }


def step_losses(
    model: nn.Module,
    batch: Batch,
    masks: dict[str, Mask],
    *,
    joint_target: bool,
    all_ranks: bool = True,
) -> tuple[Tensor, Tensor]:
    """Contrastive and reconstruction loss of one batch, Eqs. (3) and (4)."""
    out = model(batch.images, batch.gsd_m, masks)
    target = normalise_targets(out.target, joint=joint_target)
    return (
        contrastive_loss(out.projections, out.temperature, all_ranks=all_ranks),
        reconstruction_loss(out.predicted, target, out.hidden),
    )


def learn(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    masks: dict[str, Mask],
    *,
    rate: float,
    joint_target: bool,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Take one step of the optimiser at a learning rate; both losses before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with autocast(precision, next(model.parameters()).device):
        contrastive, reconstruction = step_losses(model, batch, masks, joint_target=joint_target)
    optimizer.zero_grad(set_to_none=True)
    total_loss(contrastive, reconstruction).backward()
    nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
    optimizer.step()
    return contrastive.detach(), reconstruction.detach()


def learning_rate(config: TrainConfig, step: int, *, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero, over all steps of a run."""
    warm = max(1, round(config.warmup * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices, and none on biases, gains and single numbers."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
