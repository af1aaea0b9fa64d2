"""What is measured on samples that no step learns from: the losses, and retrieval."""

from dataclasses import dataclass, replace
from itertools import combinations, permutations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from salib.files.tables import read_table
from salib.model import Pretraining, ScaleAlibi
from salib.training.data import Samples
from salib.training.ranks import mean_over_ranks
from salib.training.sampling import stream
from salib.training.step import Run, View, draw_step, losses_of, outputs

MEASUREMENTS, BATCHES = 20, 4
NEAREST = (1, 5)


@dataclass(frozen=True)
class Validation:
    """Batches and masks of this rank that no step learns from, the same at each measurement.

    Attributes:
        batches: views and masks of each, drawn once.
        share: what each adds to the mean over all ranks; 0 on ranks without one of their own.
        every: steps from one measurement to the next.
    """

    batches: list[list[View]]
    share: float
    every: int

    @classmethod
    def of(cls, tiles: Path, run: Run, model: ScaleAlibi) -> "Validation | None":
        """Draw them from the validation split; None if it has fewer than two samples."""
        splits = read_table(tiles / "index.parquet", ["split"], only=["split"])["split"]
        if splits.tolist().count("valid") < 2:
            return None
        samples = Samples(tiles, split="valid", sensors=model.config.sensors)
        config = replace(run.config, batch=min(run.config.batch, len(samples)))
        count = min(BATCHES, len(samples) // config.batch)
        seed = stream(run.seed, "valid", 0).initial_seed()
        whole = replace(run, config=config, seed=seed, rank=0, ranks=1)
        steps = range(run.rank, count, run.ranks)
        drawn = [draw_step(samples, model, whole, step) for step in steps or [0]]
        share = run.ranks / count if steps else 0.0
        return cls(drawn, share, max(1, run.steps // MEASUREMENTS))

    def measure(self, run: Run, model: ScaleAlibi) -> tuple[dict[str, float], dict[str, float]]:
        """The losses, and what `agreement` tells: means over the batches of all ranks.

        Changes no weight.
        """
        how = {"joint_target": model.config.joint_target, "all_ranks": False}
        losses, told = [], []
        model.eval()
        with torch.no_grad():
            for views in self.batches:
                outs = outputs(model, views, run.config)
                losses.append(losses_of(outs, run.config, **how))
                told.append(agreement(outs[0]))
        model.train()
        return self._means(losses, run), self._means(told, run)

    def _means(self, rows: list[dict[str, Tensor]], run: Run) -> dict[str, float]:
        sums = [sum(row[name].double() for row in rows) * self.share for name in rows[0]]
        means = mean_over_ranks(torch.stack([torch.as_tensor(each) for each in sums]), run.ranks)
        return dict(zip(rows[0], means.tolist(), strict=True))


def agreement(out: Pretraining) -> dict[str, Tensor]:
    """How well sensors find each other's image of the same ground, over complete samples.

    Returns:
        "recall1_radar_lores" and so on: share of samples for which the nearest of the other
        sensor's images, or one of the five nearest, shows the same ground, where an image that is
        as near as another is not found; "chance1" and "chance5", what guessing finds. "alignment",
        the mean squared distance of a sample's vectors of two sensors, and "uniformity", the
        logarithm of the mean of exp(-2 d^2) over pairs of samples of one sensor (Wang & Isola
        2020); less is better for both. NaN with fewer than two complete samples.
    """
    z = {name: F.normalize(value.float(), dim=-1) for name, value in out.projections.items()}
    if out.present is not None:
        complete = torch.stack([*out.present.values()]).all(dim=0)
        z = {name: value[complete] for name, value in z.items()}
    found = {}
    for one, other in permutations(z, 2):
        similar = z[one] @ z[other].T
        better = (similar >= similar.diagonal()[:, None]).sum(dim=1) - 1  # not itself
        for nearest in NEAREST:
            found[f"recall{nearest}_{one}_{other}"] = (better < nearest).float().mean()
    count = len(next(iter(z.values())))
    for nearest in NEAREST:
        found[f"chance{nearest}"] = out.temperature.new_tensor(nearest / max(nearest, count))
    apart = [(z[one] - z[other]).square().sum(-1).mean() for one, other in combinations(z, 2)]
    spread = [torch.pdist(value).square().mul(-2).exp().mean().log() for value in z.values()]
    return found | {
        "alignment": torch.stack(apart).mean(),
        "uniformity": torch.stack(spread).mean(),
    }
