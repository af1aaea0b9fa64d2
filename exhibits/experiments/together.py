"""Experiment 8: what the sensors of one place tell together, each alone, and with one missing."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from earth.landscape.themes import THEMES
from earth.triples import LORES_M, render_triple, squares
from exhibits.experiments.plans import NOT_RUN, Plan, Verdict, by_seed
from exhibits.figures.style import OTHER, SERIES, panels, seed_dot
from exhibits.tables.summary import INTERVAL, seed_interval
from salib import build_model, load_model, pixels
from salib.config import SENSOR_NAMES, SENSORS
from salib.evaluate.probes.data import standardise
from salib.evaluate.probes.neighbours import votes
from salib.evaluate.scores.statistics import accuracy_interval
from salib.model import ScaleAlibi
from salib.model.views import checked_views
from salib.model.whitening import JOINT

KEYS = ("part", "arm", "weights", "seed", "bank", "asked")
KNN, FOUND, REAL = "k-NN", "retrieval", "retrieval, real"
TRAINED, UNTRAINED = "laptop", "untrained"
SUBSETS = {
    " + ".join(names): list(names)
    for size in (1, 2, 3)
    for names in combinations(SENSOR_NAMES, size)
}
ALL = " + ".join(SENSOR_NAMES)
BESIDE = "three, side by side"
"""Not fused: the standardised vectors of the three encoders, one after another."""
PAIRS = (("radar", "lores"), ("lores", "hires"), ("radar", "hires"))
CHIP_PX, NEIGHBOURS = 60, 10
Images = Mapping[str, Tensor]


def triples(seed: int, *, count: int, salt: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Procedural images of so many squares of each theme, by sensor, and which theme they show."""
    seen = [
        render_triple(seed, *xy)
        for theme in THEMES
        for xy in squares(seed, theme, count, side_m=64 * LORES_M, salt=salt)
    ]
    stacked = {
        name: torch.from_numpy(np.stack([getattr(one, name) for one in seen])).movedim(-1, 1)
        for name in SENSOR_NAMES
    }
    return stacked, np.repeat(np.arange(len(THEMES)), count)


def encoded(
    model: ScaleAlibi, images: Images, *, batch: int = 64
) -> tuple[dict[str, np.ndarray], dict[str, Tensor]]:
    """Vectors of each subset of the sensors, and the projections that the contrast compares.

    `ScaleAlibi.embed` refuses subsets without radar or lores unless the model was pretrained with
    samples that lack some; here they are fused all the same.

    Args:
        images: by sensor, of the same ground; a lores pixel is `LORES_M` wide.
    """
    gsd_m = {name: LORES_M / SENSORS[name].factor for name in images}
    views = checked_views(images, None, gsd_m, model.config)
    vectors: dict[str, list[np.ndarray]] = {}
    projected: dict[str, list[Tensor]] = {}
    for start in range(0, len(next(iter(images.values()))), batch):
        rows = slice(start, start + batch)
        with torch.inference_mode():
            tokens = {
                name: model.encode_view(name, view.part(rows)) for name, view in views.items()
            }
            for name, own in tokens.items():
                z = F.normalize(model.projections[name](model.pool(name, own)), dim=-1)
                projected.setdefault(name, []).append(z)
            for subset, names in SUBSETS.items():
                if set(names) <= set(tokens):
                    fused = model.fuse({name: tokens[name] for name in names}).x.float()
                    x = model.whitening(JOINT if len(names) > 1 else names[0], fused).mean(dim=1)
                    vectors.setdefault(subset, []).append(x.numpy())
    whole = {subset: np.concatenate(parts) for subset, parts in vectors.items()}
    return whole, {name: torch.cat(parts) for name, parts in projected.items()}


def knn_rows(
    bank: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray], labels: Any, answers: Any
) -> Iterator[dict[str, Any]]:
    """Accuracy of each subset, and of the three vectors side by side."""
    one_hot = np.eye(len(THEMES), dtype=np.float32)[labels]
    each = {name: standardise(bank[name], asked[name]) for name in bank}
    alone = [each[name] for name in SENSOR_NAMES]
    each[BESIDE] = tuple(np.concatenate(parts, axis=1) for parts in zip(*alone, strict=True))
    for arm, (known, shown) in each.items():
        scores = votes(known, one_hot, shown, k=NEIGHBOURS, metric="cosine", temperature=0.07)
        right = scores.argmax(axis=1) == answers
        yield {"part": KNN, "arm": arm, "value": float(right.mean()), "n": len(right)}


def retrieval_rows(projected: Mapping[str, Tensor], part: str) -> Iterator[dict[str, Any]]:
    """How often an image's nearest of another sensor shows the same ground, and by chance."""
    for one, other in PAIRS:
        if one in projected and other in projected:
            similar = projected[one] @ projected[other].T
            right = (similar.argmax(dim=1) == torch.arange(len(similar))).numpy()
            value, low, _ = accuracy_interval(right)
            told = {"value": value, "ci_low": low, "chance": 1 / len(right), "n": len(right)}
            yield {"part": part, "arm": f"{one} → {other}"} | told


def real_rows(projected: Mapping[str, Tensor], scenes: Any) -> Iterator[dict[str, Any]]:
    """Retrieval among the chips of one scene, so that telling scenes apart finds nothing.

    Value and chance are means over the scenes; the lower end is chance and what Student's interval
    over the scenes leaves above it.
    """
    each = []
    for scene in np.unique(scenes):
        rows = np.flatnonzero(scenes == scene)
        each += retrieval_rows({name: z[rows] for name, z in projected.items()}, REAL)
    found = pd.DataFrame(each)
    for arm, own in found.groupby("arm", sort=False):
        above = seed_interval((own["value"] - own["chance"]).to_numpy(float))
        value, chance = own["value"].mean(), own["chance"].mean()
        told = {"value": value, "ci_low": chance + above.low, "chance": chance, "n": len(own)}
        yield {"part": REAL, "arm": arm} | told


def real_chips(folder: Path) -> tuple[dict[str, Tensor], Any]:
    """Real Sentinel-1 and Sentinel-2 chips of one ground, 10 m, and the scene of each.

    Empty without the folder.
    """
    found: dict[str, list[Tensor]] = {"radar": [], "lores": []}
    scenes: list[int] = []
    places = sorted([*folder.glob("terramesh/*"), *folder.glob("bigearthnet_mm/*")])
    for scene, place in enumerate(places):
        if (place / "S1RTC.tif").is_file():
            radar = _read([place / "S1RTC.tif"])
            colours = torch.from_numpy(_read([place / "S2RGB.tif"]))
        else:
            radar = _read([*place.glob("S1/*_VV.tif"), *place.glob("S1/*_VH.tif")])
            bands = ("B04", "B03", "B02")
            dn = _read([path for band in bands for path in place.glob(f"S2/*_{band}.tif")])
            colours = pixels(dn, "lores", names=bands, offset_dn=0).values
        levels = pixels(radar, "radar", names=("VV", "VH"), unit="db").values
        for name, image in (("radar", levels), ("lores", colours)):
            sides = (range(0, side - CHIP_PX + 1, CHIP_PX) for side in image.shape[1:])
            rows, cols = map(list, sides)
            found[name] += [
                image[:, r : r + CHIP_PX, c : c + CHIP_PX].float() for r in rows for c in cols
            ]
        scenes += [scene] * (len(found["lores"]) - len(scenes))
    return {name: torch.stack(parts) for name, parts in found.items() if parts}, np.array(scenes)


def _read(paths: Sequence[Path]) -> np.ndarray:
    bands = []
    for path in paths:
        with rasterio.open(path) as file:
            bands.append(file.read())
    return np.concatenate(bands)


def run(plan: Plan, profile: str) -> pd.DataFrame:
    """Embed places that each seed draws anew, by the shipped model and by an untrained one.

    Real places are looked at once, where `SALIB_DATA_DIR` holds aligned ones.

    Returns:
        part, arm, weights, seed, value, n; of retrieval also chance, and Wilson's lower end.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes, trained = plan.budget[profile], load_model("laptop")
    for seed in range(sizes["seeds"]):
        at = {"seed": seed, "bank": sizes["bank"], "asked": sizes["asked"]}
        if at | {"part": FOUND, "arm": "radar → hires", "weights": UNTRAINED} in found:
            continue
        bank, labels = triples(seed, count=sizes["bank"], salt=0)
        asked, answers = triples(seed, count=sizes["asked"], salt=1)
        for weights, model in (
            (TRAINED, trained),
            (UNTRAINED, build_model(trained.config, seed).eval()),
        ):
            known, (vectors, projected) = encoded(model, bank)[0], encoded(model, asked)
            rows = [*knn_rows(known, vectors, labels, answers), *retrieval_rows(projected, FOUND)]
            found.add(*(row | at | {"weights": weights} for row in rows))
    real, scenes = real_chips(Path(os.environ.get("SALIB_DATA_DIR", "")) / "aligned")
    at = {"seed": 0, "bank": sizes["bank"], "asked": sizes["asked"], "weights": TRAINED}
    if real and at | {"part": REAL, "arm": "radar → lores"} not in found:
        found.add(*(row | at for row in real_rows(encoded(trained, real)[1], scenes)))
    return found.frame


def values_of(rows: pd.DataFrame, part: str, weights: str = TRAINED) -> Any:
    """Values of a part, a line per seed and a column per subset or pair."""
    some: Any = rows[(rows["part"] == part) & (rows["weights"] == weights)]
    return by_seed(some, "value")


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: all three against the best alone, one missing, retrieval against chance."""
    if rows.empty:
        return NOT_RUN
    right = 100 * values_of(rows, KNN)
    best = right[list(SENSOR_NAMES)].mean().idxmax()
    mean, low, _ = seed_interval((right[ALL] - right[best]).to_numpy(float))
    pairs = [" + ".join(pair) for pair in combinations(SENSOR_NAMES, 2)]
    lost = float((right[ALL] - right[pairs].min(axis=1)).mean())
    retrieved, chance = values_of(rows, FOUND).mean(), rows[rows["part"] == FOUND]["chance"].max()
    least = float(retrieved[["radar → lores", "lores → hires"]].min() / chance)
    real: Any = rows[rows["part"] == REAL]
    seen = "".join(
        f"; real radar to lores {one.value:.0%} within {one.n:.0f} scenes, chance {one.chance:.0%}"
        for one in real.itertuples()
    )
    evidence = (
        f"three together {mean:+.1f} points over {best} alone, at least {low:+.1f}; without one "
        f"{-lost:+.1f} at worst; retrieval at least {least:.0f} times chance{seen}"
    )
    if np.isnan(low) or real.empty:
        return Verdict("cannot be decided here", evidence)
    holds = low > 0 and lost <= 5 and least >= 5 and bool((real["ci_low"] > real["chance"]).all())
    return Verdict("holds" if holds else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and retrieval in percent, trained and untrained, means over seeds with intervals."""
    found: dict[str, dict[str, str]] = {}
    for part in (KNN, FOUND, REAL):
        for weights in (TRAINED, UNTRAINED):
            for arm, values in (100 * values_of(rows, part, weights)).items():
                mean, low, high = seed_interval(values.to_numpy(float))
                text = f"{mean:.1f}" if np.isnan(low) else INTERVAL.format(mean, low, high)
                found.setdefault(f"{part}: {arm}", {})[weights] = text
    return pd.DataFrame.from_dict(found, orient="index").fillna("").rename_axis("measure")


def subsets_figure(rows: pd.DataFrame) -> Figure:
    """k-NN accuracy of each subset, trained and untrained; retrieval against chance."""
    figure, axes = panels(1, 2, height_in=2.8, width_ratios=[3, 2])
    for axis, part, order in (
        (axes[0, 0], KNN, [*SUBSETS, BESIDE]),
        (axes[0, 1], FOUND, [f"{one} → {other}" for one, other in PAIRS]),
    ):
        for number, weights in enumerate((TRAINED, UNTRAINED)):
            values = 100 * values_of(rows, part, weights)[order]
            at, colour = np.arange(len(order)), SERIES[0] if weights == TRAINED else OTHER
            for place, arm in zip(at, order, strict=True):
                how = {"color": colour, "label": weights if place == 0 else None}
                own = values[arm].to_numpy(float)
                seed_dot(axis, place + 0.2 * number, own, sideways=True, **how)
        axis.set_yticks(range(len(order)), order)
        axis.invert_yaxis()
        axis.grid(alpha=0.25, axis="x")
    chance = 100 * rows[rows["part"] == FOUND]["chance"].max()
    axes[0, 1].axvline(chance, color=OTHER, ls=":", lw=1)
    axes[0, 0].set_xlabel("themes told apart, %")
    axes[0, 1].set_xlabel("ground found at once, % (dotted: chance)")
    axes[0, 0].legend(fontsize=7, frameon=False, loc="lower left")
    return figure
