"""The paper's k-means rows against what raw cluster ids score by chance (D15)."""

import pandas as pd

from exhibits.tables.rows import MODELS, PROBE_NAMES, Rows, read_rows

KMEANS = ("kmeans", "kmeans_umap")
MIDDLE = 0.95


def kmeans_entries(paper: Rows) -> pd.DataFrame:
    """The printed accuracies of both k-means probes: task, probe, model, value (a fraction).

    Raises:
        ValueError: if there are none.
    """
    printed = read_rows(paper).query("probe in @KMEANS").set_index(["task", "probe"])[[*MODELS]]
    if printed.empty:
        raise ValueError(f"paper must have rows of {' and '.join(KMEANS)}, got none")
    values = printed.div(100).stack().rename_axis(["task", "probe", "model"])
    return values.rename("value").reset_index().replace({"probe": PROBE_NAMES})


def chance(simulated: pd.DataFrame, entries: pd.DataFrame) -> pd.DataFrame:
    """Where the middle 95 % of simulated accuracies lie, in percent, and the entries inside.

    Args:
        simulated: of `exhibits.simulate.paper_kmeans`: task, known, classes, accuracy.
        entries: of `kmeans_entries`.

    Returns:
        A line for each value of known, a column for each task, and "entries inside".

    Raises:
        ValueError: if a task of the entries was not simulated.
    """
    inside, spans, classes = (
        entries_inside(simulated, entries),
        _spans(simulated),
        _classes(simulated),
    )
    lines = []
    for known, count in inside.items():
        ends = {
            f"{task}, {classes[task]} classes": 100 * spans.loc[known, task] for task in classes
        }
        cells = {name: f"{low:.1f} to {high:.1f}" for name, (low, high) in ends.items()}
        inside_of = {"entries inside": f"{count} of {len(entries)}"}
        lines.append({"clusters know": f"{known:.0%}", **cells, **inside_of})
    return pd.DataFrame(lines).set_index("clusters know")


def entries_inside(simulated: pd.DataFrame, entries: pd.DataFrame) -> dict[float, int]:
    """How many entries lie within the middle 95 % of their task's simulations, by known."""
    _check(simulated, entries)
    counts = {}
    for known in simulated["known"].unique():
        ends = _spans(simulated).loc[known].loc[entries["task"]].reset_index(drop=True)
        counts[float(known)] = int(entries["value"].between(ends["low"], ends["high"]).sum())
    return counts


def entries_below(simulated: pd.DataFrame, entries: pd.DataFrame) -> int:
    """How many entries lie below one over the number of classes, as no best match can."""
    return sum(value < 1 / classes for value, classes in _with_classes(simulated, entries))


def best_of_two_classes(simulated: pd.DataFrame, entries: pd.DataFrame) -> float:
    """Highest accuracy of any entry of a two-class task under the better numbering.

    Two clusters have two numberings, and the accuracies under them add up to one.

    Raises:
        ValueError: if no task has two classes.
    """
    two = [value for value, classes in _with_classes(simulated, entries) if classes == 2]
    if not two:
        raise ValueError("entries must hold a task of two classes, got none")
    return max(max(value, 1 - value) for value in two)


def _check(simulated: pd.DataFrame, entries: pd.DataFrame) -> None:
    if absent := sorted(set(entries["task"]) - set(simulated["task"])):
        raise ValueError(f"simulated must hold every task, got none of {', '.join(absent)}")


def _classes(simulated: pd.DataFrame) -> dict[str, int]:
    return simulated.groupby("task", sort=False)["classes"].first().to_dict()


def _with_classes(simulated: pd.DataFrame, entries: pd.DataFrame) -> list[tuple[float, int]]:
    """Each entry's value, and the number of classes of its task."""
    _check(simulated, entries)
    classes = _classes(simulated)
    pairs = zip(entries["task"], entries["value"], strict=True)
    return [(value, classes[task]) for task, value in pairs]


def _spans(simulated: pd.DataFrame) -> pd.DataFrame:
    ends = {"low": (1 - MIDDLE) / 2, "high": (1 + MIDDLE) / 2}
    by_task = simulated.groupby(["known", "task"])["accuracy"]
    return pd.DataFrame({name: by_task.quantile(share) for name, share in ends.items()})
