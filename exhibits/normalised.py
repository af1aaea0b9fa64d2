"""GEO-Bench's score over tasks: normalised, interquartile mean, bootstrap over seeds."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.stats import trim_mean

from salib.evaluate.scores.statistics import Interval

Range = tuple[float, float]
Benchmark = Literal["classification", "segmentation"]
BENCHMARK_METRICS: dict[Benchmark, tuple[str, ...]] = {
    "classification": ("accuracy", "micro F1"),
    "segmentation": ("mIoU",),
}

# normalizer.json of classification_v1.0 as published in the data set recursix/geo-bench-1.0:
# the worst and best of GEO-Bench's own fine-tuned baselines. Accuracy; micro F1 of bigearthnet.
CLASSIFICATION: dict[str, Range] = {
    "m-bigearthnet": (0.60237, 0.70556),
    "m-brick-kiln": (0.97397, 0.99099),
    "m-eurosat": (0.907, 0.985),
    "m-forestnet": (0.46224, 0.62638),
    "m-pv4ger": (0.96096, 0.98498),
    "m-so2sat": (0.44929, 0.60953),
}
# Least and greatest test mIoU at the full train split in GEO-Bench's released table of
# segmentation runs (benchmark v0.4; names of v1.0): not a published normalizer.json.
SEGMENTATION: dict[str, Range] = {
    "m-NeonTree": (0.4504, 0.5858),
    "m-SA-crop-type": (0.264, 0.3114),
    "m-cashew-plant": (0.3725, 0.4982),
    "m-chesapeake": (0.5588, 0.717),
    "m-nz-cattle": (0.6541, 0.8138),
    "m-pv4ger-seg": (0.9306, 0.9428),
}


def geobench_score(
    rows: pd.DataFrame, folder: str | Path | None = None, *, seed: int = 0
) -> pd.DataFrame:
    """GEO-Bench's score of each model: IQM of its normalised scores, by benchmark and probe.

    Accuracy, micro F1 and mIoU count, of real tasks alone, for the ranges are those of real tasks.
    `tasks` says how many of a benchmark's six there are; models are comparable at the same ones.

    Args:
        rows: of `evaluate`, of one seed or several (`interquartile_mean`).
        folder: GEO-Bench's, whose normalizer.json is read where it is there.

    Returns:
        Indexed by benchmark, probe, model: value, low, high, tasks, seeds.

    Raises:
        ValueError: if there is no row of a real GEO-Bench task.
    """
    real = rows.query("source == 'geobench' and not procedural")
    if real.empty:
        raise ValueError("rows must hold real GEO-Bench tasks, got none (`salib fetch geobench`)")
    lines = []
    for benchmark, metrics in BENCHMARK_METRICS.items():
        own = real.loc[[metric in metrics for metric in real["metric"]]]
        ranges = normaliser(benchmark, Path(folder) / f"{benchmark}_v1.0" if folder else None)
        for probe, model in own[["probe", "model"]].drop_duplicates().to_numpy().tolist():
            cells = own.query("probe == @probe and model == @model")
            scores = {
                task: cells.query("task == @task")["value"].to_numpy(float)
                for task in cells["task"].unique().tolist()
            }
            found = interquartile_mean(normalise(scores, ranges), np.random.default_rng(seed))
            about = {"benchmark": benchmark, "probe": probe, "model": model}
            counts = {"tasks": len(scores), "seeds": cells["seed"].nunique()}
            lines.append({**about, **found._asdict(), **counts})
    return pd.DataFrame(lines).set_index(["benchmark", "probe", "model"])


def normaliser(benchmark: Benchmark, folder: str | Path | None = None) -> dict[str, Range]:
    """Lowest and highest score of each task, from normalizer.json where it is on disk.

    Args:
        folder: the benchmark's own (classification_v1.0 or segmentation_v1.0), or None.

    Raises:
        ValueError: if the benchmark is neither, or the file is not of the right form.
    """
    if benchmark not in ("classification", "segmentation"):
        raise ValueError(f"benchmark must be classification or segmentation, got {benchmark!r}")
    path = Path(folder) / "normalizer.json" if folder is not None else None
    if path is None or not path.is_file():
        return dict(CLASSIFICATION if benchmark == "classification" else SEGMENTATION)
    return read_normaliser(path)


def read_normaliser(path: str | Path) -> dict[str, Range]:
    """Read a normalizer.json, {task: [lowest, highest]}.

    Raises:
        ValueError: if it is not that, or a task's highest score is not above its lowest.
    """
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, got {error}: download it again") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold {{task: [lowest, highest]}}, got {str(content)[:80]}")
    ranges = {}
    for task, pair in content.items():
        numbers = isinstance(pair, list) and [v for v in pair if _is_finite(v)]
        if not numbers or len(numbers) != 2 or len(pair) != 2 or not pair[0] < pair[1]:
            raise ValueError(f"{task} in {path} must be [lowest, highest], got {str(pair)[:80]}")
        ranges[task] = (float(pair[0]), float(pair[1]))
    return ranges


def normalise(
    scores: Mapping[str, Float64[np.ndarray, " _"]], ranges: Mapping[str, Range]
) -> dict[str, Float64[np.ndarray, " _"]]:
    """Scores on the scale where a task's lowest is 0 and its highest 1; it may lie outside.

    Raises:
        ValueError: if there is no task, a task has no range, or no score or one not finite.
    """
    if not scores:
        raise ValueError("scores must name at least one task, got none")
    missing = sorted(set(scores) - set(ranges))
    if missing:
        raise ValueError(f"ranges must hold every task, got none for {', '.join(missing)}")
    for task, values in scores.items():
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"{task} must have finite scores, got {values.tolist()}")
    return {
        task: (values - ranges[task][0]) / np.diff(ranges[task])[0]
        for task, values in scores.items()
    }


def interquartile_mean(
    scores: Mapping[str, Float64[np.ndarray, " _"]],
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Mean of the middle half of all (task, seed) scores, with its stratified interval.

    As GEO-Bench does: normalised scores of all tasks and seeds are pooled, a quarter of them cut
    off at each end; the bootstrap draws seeds anew within each task. Tasks are taken as given, so
    the interval is one of seeds, and of no width with one seed a task.

    Args:
        scores: normalised scores of the seeds of each task (`normalise`).
    """
    parts = [np.asarray(values) for values in scores.values()]
    drawn = [values[rng.integers(len(values), size=(resamples, len(values)))] for values in parts]
    means = trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(trim_mean(np.concatenate(parts), 0.25)), float(low), float(high))


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
