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


def geobench_score(rows: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """GEO-Bench's score of each model: IQM of its normalised scores, by benchmark and probe.

    Accuracy, micro F1 and mIoU count, of real tasks alone, for the ranges are those of real tasks.
    `tasks` says how many of a benchmark's six there are; models are comparable at the same ones.

    Args:
        rows: of `evaluate`, of one seed or several (`interquartile_mean`).
        folder: GEO-Bench's, with the normalizer.json of each benchmark.

    Returns:
        Indexed by benchmark, probe, model: value, low, high, tasks, seeds.

    Raises:
        ValueError: if there is no row of a real GEO-Bench task, or a normalizer.json is missing or
            damaged.
    """
    real = rows.query("source == 'geobench' and not procedural")
    if real.empty:
        raise ValueError("rows must hold real GEO-Bench tasks, got none (`salib fetch geobench`)")
    lines = []
    for benchmark, metrics in METRICS.items():
        counted = real.loc[real["metric"].isin(metrics)]
        if counted.empty:
            continue
        ranges = normaliser(Path(folder) / f"{benchmark}_v1.0" / "normalizer.json")
        for (probe, model), cells in counted.groupby(["probe", "model"], sort=False):
            tasks = cells.groupby("task", sort=False)["value"]
            scores = [normalise(str(t), v.to_numpy(), ranges) for t, v in tasks]
            score = interquartile_mean(scores, np.random.default_rng(0))
            about = {"benchmark": benchmark, "probe": probe, "model": model, **score._asdict()}
            lines.append(about | {"tasks": len(scores), "seeds": cells["seed"].nunique()})
    return pd.DataFrame(lines).set_index(["benchmark", "probe", "model"])


def normaliser(path: Path) -> dict[str, Range]:
    """Worst and best score of GEO-Bench's own fine-tuned baselines, by task.

    Raises:
        ValueError: if there is no such file, or it is not {task: [lowest, highest]}.
    """
    try:
        ranges = {task: (low, high) for task, (low, high) in json.loads(path.read_text()).items()}
        if not ranges or not all(low < high for low, high in ranges.values()):
            raise ValueError("a highest score is not above its lowest")
    except (OSError, ValueError, TypeError, AttributeError) as error:
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
