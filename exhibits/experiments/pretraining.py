"""Short pretraining runs that experiments compare, and how well frozen models find neighbours."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float32, UInt8

from exhibits.chips import chips_by_split
from exhibits.experiments.plans import Rows, Verdict
from exhibits.tables.summary import seed_interval
from salib.config.runs import read_run
from salib.evaluate.features import embed
from salib.evaluate.probes.data import standardise
from salib.evaluate.probes.neighbours import votes
from salib.evaluate.scores.statistics import Interval
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.files.artifact import MADE_FROM
from salib.files.images import resize_bands
from salib.model import ScaleAlibi
from salib.training.checkpoint import LOG
from salib.training.train import pretrain

logger = logging.getLogger(__name__)
RATES = (3.5e-4, 7e-4, 1.4e-3)
"""Learning rates from which each arm chooses; the preset's is the middle one."""
TUNING = 1000
"""Seed of the runs by which they choose, which no result uses."""
TUNED = ("arm", "rate", "steps")
TRULY, WRONGLY, NOT_TOLD = "truly", "wrongly", "not told"
"""What a model is told of an image's ground sample distance."""
PLAIN = ("whiten=false",)
"""Features are standardised by the bank instead, which takes no second pass over the tiles."""
Images = UInt8[np.ndarray, "_ _ _ 3"]
Arms = Mapping[str, Sequence[str]]
"""By name, what is changed of the preset, as `salib pretrain --set` takes it."""


def slug(text: str) -> str:
    """A name for a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Pretraining runs of an experiment under a profile, each kept in a folder of its own.

    Attributes:
        name: of the experiment.
        preset: that all arms change.
        steps: of each run.
        tuning: steps of the runs by which an arm chooses its learning rate; 0 takes the middle.
        batch: samples per step, by default the preset's.
    """

    name: str
    profile: str
    preset: str
    steps: int
    tuning: int
    batch: int | None = None
    root: Path = Path("runs")

    @property
    def tiles(self) -> Path:
        """Tiles of the profile.

        Raises:
            ValueError: if there are none yet.
        """
        folder = self.root / self.profile / "tiles"
        if not (folder / MADE_FROM).is_file():
            raise ValueError(
                f"{self.name} must have tiles in {folder}, got none: run .venv/bin/papermill "
                f"notebooks/01_curation.ipynb out.ipynb -f profiles/{self.profile}.yml"
            )
        return folder

    def train(
        self, arm: str, changes: Sequence[str], *, seed: int, rate: float, steps: int | None = None
    ) -> tuple[Path, float]:
        """Pretrain an arm, or take the run that is there; its folder, and its last loss.

        The loss is the weighted objective, mean over the last quarter of the steps.
        """
        wanted = {"steps": steps or self.steps, "batch": self.batch, "learning_rate": rate}
        model, training, _ = read_run(name=self.preset, changes=wanted, texts=[*PLAIN, *changes])
        named = slug(f"{self.name} {arm} {seed} {wanted['steps']} {rate:g}")
        out = self.root / self.profile / "models" / named
        how = {"tiles": self.tiles, "seed": seed, "overwrite": True, "report": logger.info}
        pretrain(model, training, out=out, **how)
        log, weights = pd.read_csv(out / LOG), training.objective
        assert isinstance(weights, Mapping)
        losses = log[[*weights]].to_numpy(float) @ np.array([*weights.values()], float)
        return out, float(losses[-max(1, len(losses) // 4) :].mean())

    def tuned(self, found: Rows, arms: Arms) -> dict[str, float]:
        """The learning rate of each arm: that of the least last loss after `tuning` steps."""
        if not self.tuning:
            return dict.fromkeys(arms, RATES[1])
        for arm, rate in product(arms, RATES):
            at = {"arm": arm, "rate": rate, "steps": self.tuning}
            if at not in found:
                how = {"seed": TUNING, "rate": rate, "steps": self.tuning}
                found.add(at | {"loss": self.train(arm, arms[arm], **how)[1]})
        held = found.current(steps=self.tuning)
        best: Any = held.sort_values("loss").groupby("arm").first()
        return {arm: float(best.loc[arm, "rate"]) for arm in arms}


def resampled(images: Images, side_px: int) -> Images:
    """The same ground in so many pixels: averaged down, interpolated up."""
    if side_px == images.shape[1]:
        return images
    method = cv2.INTER_AREA if side_px < images.shape[1] else cv2.INTER_CUBIC
    return np.stack([resize_bands(image, side_px, method) for image in images])


def described(model: ScaleAlibi, images: Images, gsd_m: float) -> Float32[np.ndarray, "count dim"]:
    """Mean tokens of the lores encoder, told one ground sample distance."""
    metres = {"lores": np.full(len(images), gsd_m)}
    return embed(model, {"lores": images}, gsd_m=metres, sensor="lores", precision="auto")


def nearest_accuracy(
    bank: Float32[np.ndarray, "bank dim"],
    classes: np.ndarray,
    asked: Float32[np.ndarray, "asked dim"],
    truth: np.ndarray,
    *,
    k: int,
) -> float:
    """Share of the asked images whose class the k nearest of the bank name.

    By cosine; votes weigh the more the nearer. Features are standardised by the bank.
    """
    names, numbers = np.unique(classes, return_inverse=True)
    each, one_hot = standardise(bank, asked), np.eye(len(names), dtype=np.float32)[numbers]
    how = {"k": min(k, len(bank)), "metric": "cosine", "temperature": 0.07}
    scores = votes(each[0], one_hot, each[1], **how)
    return float((names[scores.argmax(axis=1)] == truth).mean())


def paired(wide: pd.DataFrame, one: tuple[str, str], other: tuple[str, str]) -> Interval:
    """How far an arm's measure lies above an arm's, paired by seed, with the 95 % interval.

    Args:
        wide: arm, seed and a column per measure.
        one: arm and measure.
        other: arm and measure; the same arm or another.
    """
    by_arm = wide.set_index(["arm", "seed"])
    values = [by_arm[measure].xs(arm, level="arm") for arm, measure in (one, other)]
    return seed_interval((values[0] - values[1]).dropna().to_numpy(float))


def points(less: Mapping[str, Interval]) -> str:
    """Differences by name, as evidence: percentage points, and the interval if there is one."""
    each = []
    for name, (value, low, high) in less.items():
        ends = "" if np.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
        each.append(f"{name} {100 * value:+.1f} points{ends}")
    return "; ".join(each)


def undecided(evidence: str, reason: str) -> Verdict:
    """What a rule says where rows are lacking."""
    return Verdict("cannot be decided here", f"{evidence}; {reason}" if evidence else reason)


def real_chips(
    source: str, bounds: tuple[int, int, int, int], *, side_px: int | None = None
) -> list[tuple[Images, np.ndarray]]:
    """Images and classes of a bank and of what is asked; none where SALIB_DATA_DIR lacks the zip.

    Args:
        source: of `CHIP_ZIPS`.
        bounds: the bank has each class's chips from the first to the second of these, the asked
            ones are those from the third to the fourth.
        side_px: bring them to this size.
    """
    layout = CHIP_ZIPS[source]._replace(bounds=bounds)
    path = Path(os.environ.get("SALIB_DATA_DIR", "")) / layout.file
    if not path.is_file():
        return []
    return [*chips_by_split(path, layout, splits=("train", "test"), side_px=side_px).values()]
