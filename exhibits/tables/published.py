"""Numbers published elsewhere beside ours and the paper's, and what the two of a pair differ in."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import pandas as pd

from exhibits.tables.printed import percent_cell
from exhibits.tables.rows import MODELS, Row, Rows, one_a_cell, read_rows
from salib.evaluate.protocol import PROTOCOLS, Protocol

Source = Literal["ours", "the paper", "torchgeo-bench"]
METHODS = {"knn": "knn5", "linear": "linear"}
LOOKALIKES = {"m-eurosat": "eurosat"}
"""Real images of another choice that stand in, marked, for a task that was not run."""
PAPER_PX = {"SA-high": 512, "SA-low": 256, "CROMA": 256}
PUBLISHED_PX = 224
NAMES = {
    "imagestats": "image statistics",
    "rcf": "random convolution",
    "tgeo_croma_base": "CROMA-B",
}
OPTIONAL = "CROMA published"
"""The one column of ours that needs a file; its pair is left out without."""


class Pair(NamedTuple):
    """Two numbers to set side by side, and how the models behind them differ, if they do."""

    left: tuple[Source, str]
    right: tuple[Source, str]
    models: str = ""


PAIRS = (
    Pair(("ours", "image statistics"), ("torchgeo-bench", "imagestats")),
    Pair(("ours", "random convolution"), ("torchgeo-bench", "rcf"), "other filters"),
    Pair(("ours", "CROMA"), ("torchgeo-bench", "tgeo_croma_base"), "other weights"),
    Pair(("ours", OPTIONAL), ("torchgeo-bench", "tgeo_croma_base"), "other missing bands"),
    Pair(("ours", "SA-high"), ("the paper", "SA-high"), "other weights"),
    Pair(("ours", "SA-low"), ("the paper", "SA-low"), "other weights"),
    Pair(("ours", "CROMA"), ("the paper", "CROMA"), "other weights"),
    Pair(("the paper", "CROMA"), ("torchgeo-bench", "tgeo_croma_base"), "other weights"),
    Pair(("the paper", "SA-low"), ("torchgeo-bench", "imagestats"), "another model"),
)


class Found(NamedTuple):
    """A number as text, and the conditions under which it came about, those that are known."""

    text: str
    conditions: dict[str, str]


Numbers = dict[tuple[Source, str], Found]


def anchors(
    rows: Rows,
    published: Rows,
    paper: Rows,
    *,
    probe: str = "knn",
    protocols: Mapping[str, Protocol] = PROTOCOLS,
) -> pd.DataFrame:
    """Pairs of numbers of one task and probe, in percent, and what the two differ in.

    A procedural row is never shown by its value: it is of another task, whatever its name.

    Args:
        rows: of `salib.evaluate.evaluate`.
        published: paper/anchors.csv.
        paper: paper/table2.csv.
        probe: "knn" or "linear".
        protocols: what the name of a row's protocol stands for.

    Returns:
        Indexed by task and "number of": "value", "beside", "its value", "differ in". Where ours was
        not run it is not repeated beside the paper's, which Table 2 has.

    Raises:
        ValueError: if the probe or every task has no published counterpart, a cell has several
            rows, or a protocol is unknown.
    """
    if probe not in METHODS:
        raise ValueError(f"probe must be one of {tuple(METHODS)}, got {probe!r}")
    ours, printed = read_rows(rows), read_rows(paper)
    theirs = [row for row in read_rows(published) if row["method"] == METHODS[probe]]
    metrics = {row["task"]: row["metric"] for row in theirs}
    tasks = [
        task for task in dict.fromkeys(r["task"] for r in (*printed, *ours)) if task in metrics
    ]
    if not tasks:
        raise ValueError("published must hold a task of paper or rows, got none")
    lines = []
    for task in tasks:
        own = [row for row in ours if row["probe"] == probe and row["metric"] == metrics[task]]
        found = _ours(own, task, protocols) | _published(theirs, task)
        found |= _paper([row for row in printed if row["probe"] == probe], task)
        lines += [
            {"task": task, **_line(pair, found)}
            for pair in PAIRS
            if {pair.left, pair.right} <= set(found) and _is_shown(pair, found)
        ]
    return pd.DataFrame(lines).set_index(["task", "number of"])


def published_points(rows: Rows, published: Rows, paper: Rows) -> pd.DataFrame:
    """Nearest-neighbour accuracy on the tasks of Table 2 by source, real images only.

    Returns:
        task, source, model, value (a fraction); ours are there for tasks run on real images.
    """
    printed = [row for row in read_rows(paper) if row["probe"] == "knn"]
    tasks = [row["task"] for row in printed]
    points = [
        (row["task"], "torchgeo-bench", row["model"], row["value"])
        for row in read_rows(published)
        if row["task"] in tasks and row["method"] == METHODS["knn"]
    ]
    points += [
        (row["task"], "the paper", model, row[model] / 100) for row in printed for model in MODELS
    ]
    points += [
        (row["task"], "ours", row["model"], row["value"])
        for row in read_rows(rows)
        if row["task"] in tasks and row["probe"] == "knn" and not row["procedural"]
    ]
    return pd.DataFrame(points, columns=["task", "source", "model", "value"])


def below(points: pd.DataFrame, model: str) -> int:
    """How many of the paper's numbers lie below that of a published model on their task.

    Args:
        points: of `published_points`.

    Raises:
        ValueError: if the model has no number on a task of the paper.
    """
    theirs = points.query("source == 'torchgeo-bench' and model == @model")
    bar = dict(zip(theirs["task"], theirs["value"], strict=True))
    printed = points.query("source == 'the paper'")
    if absent := sorted(set(printed["task"]) - set(bar)):
        raise ValueError(f"model must have every task, got {model!r} without {', '.join(absent)}")
    pairs = zip(printed["task"], printed["value"], strict=True)
    return sum(value < bar[task] for task, value in pairs)


def not_run(rows: Rows, paper: Rows) -> list[str]:
    """Tasks of the paper without a row of ours on their real images."""
    real = {row["task"] for row in read_rows(rows) if not row["procedural"]}
    tasks = dict.fromkeys(row["task"] for row in read_rows(paper))
    return [task for task in tasks if task not in real]


def _is_shown(pair: Pair, found: Numbers) -> bool:
    return bool(found[pair.left].conditions) or pair.right[0] == "torchgeo-bench"


def _line(pair: Pair, found: Numbers) -> dict[str, str]:
    left, right = found[pair.left], found[pair.right]
    return {
        "number of": ": ".join(pair.left),
        "value": left.text,
        "beside": f"{pair.right[0]}: {NAMES.get(pair.right[1], pair.right[1])}",
        "its value": right.text,
        "differ in": _differences(left.conditions, right.conditions, pair.models),
    }


def _differences(left: dict[str, str], right: dict[str, str], models: str) -> str:
    if not left:
        return "not compared"
    names = dict.fromkeys([*left, *right])
    pairs = {name: (left.get(name), right.get(name)) for name in names}
    apart = [models] if models else []
    apart += [f"{name} {a} / {b}" for name, (a, b) in pairs.items() if a and b and a != b]
    apart += ["rest not stated"] if any(not (a and b) for a, b in pairs.values()) else []
    return "; ".join(apart) or "nothing"


def _ours(rows: list[Row], task: str, protocols: Mapping[str, Protocol]) -> Numbers:
    real = [row for row in rows if not row["procedural"]]
    own = [row for row in real if row["task"] == task]
    own = own or [row for row in real if row["task"] == LOOKALIKES.get(task)]
    made = any(row["task"] == task and row["procedural"] for row in rows)
    absent = Found("not run (procedural)" if made and not own else "not run", {})
    columns = [name for (source, name), *_ in PAIRS if source == "ours" and name != OPTIONAL]
    found: Numbers = {("ours", name): absent for name in columns}
    for name, row in one_a_cell(own).items():
        if row["protocol"] not in protocols:
            raise ValueError(f"protocols must hold {row['protocol']!r}, got {tuple(protocols)}")
        conditions = _protocol(protocols[row["protocol"]], row["probe"]) | _sizes(row)
        found["ours", name] = Found(percent_cell(row), conditions)
    return found


def _protocol(protocol: Protocol, probe: str) -> dict[str, str]:
    distance = {"l2": "L2", "cosine": "cosine"}[protocol.knn_metric]
    how = {"k": str(protocol.knn_k), "distance": distance} if probe == "knn" else {}
    return how | {"features": "z-scored" if protocol.standardise else "raw"}


def _published(rows: list[Row], task: str) -> Numbers:
    how = {"knn5": {"k": "5", "distance": "L2"}, "linear": {}}
    return {
        ("torchgeo-bench", row["model"]): Found(
            percent_cell(row),
            how[row["method"]] | {"features": "raw"} | _sizes({**row, "image_px": PUBLISHED_PX}),
        )
        for row in rows
        if row["task"] == task
    }


def _paper(rows: list[Row], task: str) -> Numbers:
    return {
        ("the paper", model): Found(
            f"{row[model]:.2f}",
            {"task": task, "metric": "accuracy", "k": "20", "px": str(PAPER_PX[model])},
        )
        for row in rows
        if row["task"] == task
        for model in MODELS
    }


def _sizes(row: Row) -> dict[str, str]:
    names = {"px": "image_px", "train items": "n_train", "test items": "n_test"}
    names |= {"task": "task", "metric": "metric"}
    return {name: str(row[column]) for name, column in names.items()}
