"""What a pretrained model is worth: neighbours of its frozen encoders, and held-out tiles."""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Int64, UInt8

from earth.landscape.themes import THEMES
from earth.triples import LORES_M, render_triple, squares
from exhibits.experiments.released import Released, draw_released
from salib.evaluate.probes.data import standardise
from salib.evaluate.probes.neighbours import votes
from salib.evaluate.tasks.class_folders import CHIP_ZIPS, members, read_rgb
from salib.files.images import resize_bands
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

        Nearest by cosine of the mean tokens, each number standardised by the bank: 20 of them, or
        as many as a class has on average.
        """
        images, gsd_m = (self.lores, LORES_M) if sensor == "lores" else (self.hires, LORES_M / 2)
        shown = torch.from_numpy(images).permute(0, 3, 1, 2)
        with autocast("auto", torch.device("cpu")):
            features = model.embed(shown, sensor, gsd_m, batch=128).numpy()
        bank, asked = standardise(features[: self.banked], features[self.banked :])
        classes = int(self.labels.max()) + 1
        one_hot = np.eye(classes, dtype=np.float32)[self.labels[: self.banked]]
        k = min(NEIGHBOURS, self.banked // classes)
        scores = votes(bank, one_hot, asked, k=k, metric="cosine")
        return float((scores.argmax(axis=1) == self.labels[self.banked :]).mean())


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
    """Real chips, so many of each class of EuroSAT's train and test split; hires is interpolated.

    None without SALIB_DATA_DIR, or where it does not hold the zip.
    """
    layout = CHIP_ZIPS["eurosat"]
    path = Path(os.environ.get("SALIB_DATA_DIR", "")) / layout.file
    if not path.is_file():
        return None
    splits, images, labels, counts = members(path, layout), [], [], []
    for split, count in (("train", bank), ("test", tested)):
        for number, own in enumerate(splits[split].values()):
            images += [read_rgb(one) for one in own[:count]]
            labels += [number] * len(own[:count])
        counts.append(len(labels))
    finer = [resize_bands(image, 2 * image.shape[0], cv2.INTER_CUBIC) for image in images]
    return Chips(np.stack(images), np.stack(finer), np.array(labels), counts[0])


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
