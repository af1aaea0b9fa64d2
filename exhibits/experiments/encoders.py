"""What a pretrained model is worth: neighbours of its frozen encoders, and held-out tiles."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from earth.landscape.themes import THEMES
from earth.triples import LORES_M, render_triple, squares
from exhibits.experiments.pretraining import nearest_accuracy, real_chips, resampled
from exhibits.experiments.released import Released, draw_released
from salib.losses import normalise_targets, reconstruction_loss
from salib.model.precision import autocast
from salib.model.tokens import targets
from salib.training.data import Samples
from salib.training.step import Run, outputs
from salib.training.validation import agreement

CLASSES = (*THEMES, "river", "motorway")
NEIGHBOURS = 20
RECALLS = {
    "radar to lores": "recall1_radar_lores",
    "lores to hires": "recall1_lores_hires",
    "hires to lores": "recall1_hires_lores",
}
EXPLAINED = "reconstruction"


@dataclass(frozen=True)
class Chips:
    """Labelled images of 640 m by 640 m, as lores at 10 m and as hires at 5 m per pixel.

    Attributes:
        banked: how many of them, from the first, are the bank; the others are asked for.
    """

    lores: UInt8[np.ndarray, "count rows cols 3"]
    hires: UInt8[np.ndarray, "count finerows finecols 3"]
    labels: Int64[np.ndarray, " count"]
    banked: int

    def accuracy(self, model: Released, sensor: str) -> float:
        """Share of the chips whose class most of their nearest in the bank have.

        By the mean tokens (see `nearest_accuracy`): 20 neighbours, or as many as a class has.
        """
        images, gsd_m = (self.lores, LORES_M) if sensor == "lores" else (self.hires, LORES_M / 2)
        shown = torch.from_numpy(images).permute(0, 3, 1, 2)
        with autocast("auto", torch.device("cpu")):
            features = model.embed(shown, sensor, gsd_m, batch=128).numpy()
        each, labels = np.split(features, [self.banked]), np.split(self.labels, [self.banked])
        k = min(NEIGHBOURS, self.banked // (int(self.labels.max()) + 1))
        return nearest_accuracy(each[0], labels[0], each[1], labels[1], k=k)


def painted_chips(bank: int, tested: int, *, seed: int) -> Chips:
    """Procedural chips of a world of their own, so many of each of 15 kinds of ground."""
    images, labels = [], []
    corners = [squares(seed, name, bank + tested) for name in CLASSES]
    for part in (slice(0, bank), slice(bank, bank + tested)):
        for number, own in enumerate(corners):
            images += [render_triple(seed, *corner) for corner in own[part]]
            labels += [number] * len(own[part])
    lores, hires = (np.stack([getattr(one, name) for one in images]) for name in ("lores", "hires"))
    return Chips(lores, hires, np.array(labels), bank * len(CLASSES))


def eurosat_chips(bank: int, tested: int) -> Chips | None:
    """Real chips, so many of each class of EuroSAT for the bank and to ask; hires is interpolated.

    None without SALIB_DATA_DIR, or where it does not hold the zip.
    """
    parts = real_chips("eurosat", (0, bank, 300, 300 + tested))
    if not parts:
        return None
    images, names = map(np.concatenate, zip(*parts, strict=True))
    finer = resampled(images, 2 * images.shape[1])
    return Chips(images, finer, np.unique(names, return_inverse=True)[1], len(parts[0][0]))


@torch.no_grad()
def held_out(
    model: Released, seen: Samples, true: Samples, run: Run, batches: int
) -> dict[str, float]:
    """Retrieval across sensors and reconstruction, the same for every arm, on unseen samples.

    Args:
        model: of any arm; masks and loss are ours, its faulty fusion and inputs its own.
        seen: what its encoders are shown.
        true: the same samples as they are, which it is to reconstruct.
        run: whose crops and radiometry are drawn; its batch must not exceed the samples.
        batches: of crops.

    Returns:
        Recall at 1 by pair of sensors, and the share of the variance of masked patches that is
        explained: 1 minus the mean of the sensors' errors.
    """
    found: dict[str, list[float]] = {name: [] for name in (*RECALLS, EXPLAINED)}
    for step in range(batches):
        [view], [(actual, _)] = (draw_released(own, model, run, step) for own in (seen, true))
        [out] = outputs(model, [view], run.config)
        names = model.config.sensors
        pixels = {n: model.encoder(n).standardise[n](actual.images[n]) for n in names}
        target = normalise_targets(targets(model.config, pixels))
        error = reconstruction_loss(out.predicted, target, out.hidden) / len(target)
        found[EXPLAINED].append(1 - float(error))
        told = agreement(out)
        for name, key in RECALLS.items():
            found[name].append(float(told[key]))
    return {name: float(np.mean(values)) for name, values in found.items()}
