"""GEO-Bench's score over tasks: normalised, interquartile mean, bootstrap over seeds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.stats import trim_mean

from salib.evaluate.scores.statistics import Interval

Range = tuple[float, float]
RESAMPLES = 1000
METRICS = {"classification": ("accuracy", "micro F1"), "segmentation": ("mIoU",)}
RANGES: dict[str, dict[str, Range]] = {
    # normalizer.json of classification_v1.0 as published in the data set recursix/geo-bench-1.0:
    # the worst and best of GEO-Bench's own fine-tuned baselines. Accuracy; micro F1 of bigearthnet.
    "classification": {
        "m-bigearthnet": (0.60237, 0.70556),
        "m-brick-kiln": (0.97397, 0.99099),
        "m-eurosat": (0.907, 0.985),
        "m-forestnet": (0.46224, 0.62638),
        "m-pv4ger": (0.96096, 0.98498),
        "m-so2sat": (0.44929, 0.60953),
    },
    # Least and greatest test mIoU at the full train split in GEO-Bench's released table of
    # segmentation runs (benchmark v0.4; names of v1.0): not a published normalizer.json.
    "segmentation": {
        "m-NeonTree": (0.4504, 0.5858),
        "m-SA-crop-type": (0.264, 0.3114),
        "m-cashew-plant": (0.3725, 0.4982),
        "m-chesapeake": (0.5588, 0.717),
        "m-nz-cattle": (0.6541, 0.8138),
        "m-pv4ger-seg": (0.9306, 0.9428),
    },
}


def geobench_score(rows: pd.DataFrame, folder: str | Path | None = None) -> pd.DataFrame:
    """GEO-Bench's score of each model: IQM of its normalised scores, by benchmark and probe.

    Accuracy, micro F1 and mIoU count, of real tasks alone, for the ranges are those of real tasks.
    `tasks` says how many of a benchmark's six there are; models are comparable at the same ones.

    Args:
        rows: of `evaluate`, of one seed or several (`interquartile_mean`).
        folder: GEO-Bench's, whose normalizer.json is read where it is there.

    Returns:
        Indexed by benchmark, probe, model: value, low, high, tasks, seeds.

    Raises:
        ValueError: if there is no row of a real GEO-Bench task, or normalizer.json is damaged.
    """
    real = rows.query("source == 'geobench' and not procedural")
    if real.empty:
        raise ValueError("rows must hold real GEO-Bench tasks, got none (`salib fetch geobench`)")
    lines = []
    for benchmark, metrics in METRICS.items():
        counted = real.loc[real["metric"].isin(metrics)]
        ranges = normaliser(benchmark, folder)
        for (probe, model), cells in counted.groupby(["probe", "model"], sort=False):
            tasks = cells.groupby("task", sort=False)["value"]
            scores = [normalise(str(t), v.to_numpy(), ranges) for t, v in tasks]
            score = interquartile_mean(scores, np.random.default_rng(0))
            about = {"benchmark": benchmark, "probe": probe, "model": model, **score._asdict()}
            lines.append(about | {"tasks": len(scores), "seeds": cells["seed"].nunique()})
    return pd.DataFrame(lines).set_index(["benchmark", "probe", "model"])


def normaliser(benchmark: str, folder: str | Path | None = None) -> dict[str, Range]:
    """Lowest and highest score of each task, from GEO-Bench's folder where normalizer.json is.

    Raises:
        ValueError: if the file is not {task: [lowest, highest]}.
    """
    path = Path(folder or "") / f"{benchmark}_v1.0" / "normalizer.json"
    if folder is None or not path.is_file():
        return RANGES[benchmark]
    try:
        ranges = {task: (low, high) for task, (low, high) in json.loads(path.read_text()).items()}
        if not ranges or not all(low < high for low, high in ranges.values()):
            raise ValueError("a highest score is not above its lowest")
    except (ValueError, TypeError, AttributeError) as error:
        form = f"{path} must hold {{task: [lowest, highest]}}"
        raise ValueError(f"{form}, got {error}: download it again") from error
    return ranges


def normalise(
    task: str, scores: Float64[np.ndarray, " seeds"], ranges: Mapping[str, Range]
) -> Float64[np.ndarray, " seeds"]:
    """Scores on the scale where a task's lowest is 0 and its highest 1; it may lie outside.

    Raises:
        ValueError: if the task has no range, or a score is not finite.
    """
    if task not in ranges:
        raise ValueError(f"ranges must hold every task, got none for {task}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{task} must have finite scores, got {scores.tolist()}")
    low, high = ranges[task]
    return (scores - low) / (high - low)


def interquartile_mean(
    parts: Sequence[Float64[np.ndarray, " _"]], rng: np.random.Generator
) -> Interval:
    """Mean of the middle half of the scores of all tasks and seeds, with its 95 % interval.

    As GEO-Bench does: normalised scores are pooled and a quarter cut off at each end; the bootstrap
    draws seeds anew within each task, so the interval has no width with one seed per task.
    """
    drawn = [values[rng.integers(len(values), size=(RESAMPLES, len(values)))] for values in parts]
    means = trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(trim_mean(np.concatenate(parts), 0.25)), float(low), float(high))
