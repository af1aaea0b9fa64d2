"""Both losses on samples that no step learns from."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from salib.files.tables import read_table
from salib.model import Mask, ScaleAlibi
from salib.model.precision import autocast
from salib.training.data import Batch, Samples, stream
from salib.training.ranks import mean_over_ranks, rank_device
from salib.training.step import LOSSES, Run, draw_step, step_losses

MEASUREMENTS, BATCHES = 20, 4


@dataclass(frozen=True)
class Validation:
    """Batches and masks of this rank that no step learns from, the same at each measurement."""

    batches: list[tuple[Batch, dict[str, Mask]]]
    of_all_ranks: int
    every: int

    @classmethod
    def of(cls, tiles: Path, run: Run, model: ScaleAlibi) -> "Validation | None":
        """Draw them from the validation split; None if it has fewer than two samples."""
        splits = read_table(tiles / "index.parquet", ["split"], only=["split"])["split"]
        if splits.tolist().count("valid") < 2:
            return None
        samples = Samples(tiles, split="valid")
        config = replace(run.config, batch=min(run.config.batch, len(samples)))
        count = min(BATCHES, len(samples) // config.batch)
        seed = stream(run.seed, "valid", 0).initial_seed()
        whole = replace(run, config=config, seed=seed, rank=0, ranks=1)
        steps = range(run.rank, count, run.ranks)
        drawn = [draw_step(samples, model, whole, step) for step in steps]
        return cls(drawn, count, max(1, run.steps // MEASUREMENTS))

    def losses(self, run: Run, model: ScaleAlibi) -> dict[str, float]:
        """Both losses, a mean over the batches of all ranks; changes no weight."""
        device, joint = rank_device(), model.config.joint_target
        sums = torch.zeros(len(LOSSES), dtype=torch.float64, device=device)
        model.eval()
        with torch.no_grad(), autocast(run.config.precision, device):
            for batch, masks in self.batches:
                both = step_losses(model, batch, masks, joint_target=joint, all_ranks=False)
                sums += torch.stack(both)
        model.train()
        means = mean_over_ranks(sums, run.ranks) * run.ranks / self.of_all_ranks
        return dict(zip(LOSSES, means.tolist(), strict=True))
