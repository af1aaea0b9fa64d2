"""Numbers published elsewhere beside ours and the paper's, and what the two of a pair differ in."""

from itertools import product

import pandas as pd

from exhibits.tables.printed import percent_cell
from exhibits.tables.rows import MODELS, Row, Rows, Table, by_model, read_rows, records
from salib.evaluate.protocol import PROTOCOLS

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


PAIRS = (
    (("ours", "image statistics"), ("torchgeo-bench", "imagestats"), ""),
    (("ours", "random convolution"), ("torchgeo-bench", "rcf"), "other filters"),
    (("ours", "CROMA"), ("torchgeo-bench", "tgeo_croma_base"), "other weights"),
    (("ours", OPTIONAL), ("torchgeo-bench", "tgeo_croma_base"), "other missing bands"),
    (("ours", "SA-high"), ("the paper", "SA-high"), "other weights"),
    (("ours", "SA-low"), ("the paper", "SA-low"), "other weights"),
    (("ours", "CROMA"), ("the paper", "CROMA"), "other weights"),
    (("the paper", "CROMA"), ("torchgeo-bench", "tgeo_croma_base"), "other weights"),
    (("the paper", "SA-low"), ("torchgeo-bench", "imagestats"), "another model"),
)
"""Numbers to set side by side, and how the models behind them differ, if they do."""
Conditions = dict[str, str]
"""Under which a number came about, those that are known."""
Numbers = dict[tuple[str, str], tuple[str, Conditions]]


def anchors(rows: Rows, published: Rows, paper: Rows, *, probe: str = "knn") -> pd.DataFrame:
    """Pairs of numbers of one task and probe, in percent, and what the two differ in.

    A procedural row is never shown by its value: it is of another task, whatever its name.

    Args:
        rows: of `salib.evaluate.evaluate`.
        published: paper/anchors.csv.
        paper: paper/table2.csv.
        probe: "knn" or "linear".

    Returns:
        Indexed by task and "number of": "value", "beside", "its value", "differ in". Where ours was
        not run it is not repeated beside the paper's, which Table 2 has.

    Raises:
        ValueError: if the probe or every task has no published counterpart, a cell has several
            rows, or a protocol is unknown.
    """
    if probe not in METHODS:
        raise ValueError(f"probe must be one of {tuple(METHODS)}, got {probe!r}")
    ours, printed, known = (records(read_rows(each)) for each in (rows, paper, published))
    known = [row for row in known if row["method"] == METHODS[probe]]
    metrics = {row["task"]: row["metric"] for row in known}
    tasks = dict.fromkeys(row["task"] for row in (*printed, *ours) if row["task"] in metrics)
    if not tasks:
        raise ValueError("published must hold a task of paper or rows, got none")
    lines = []
    for task in tasks:
        mine = [row for row in ours if row["probe"] == probe and row["metric"] == metrics[task]]
        numbers = _ours(mine, task) | _published([row for row in known if row["task"] == task])
        numbers |= _paper([row for row in printed if (row["probe"], row["task"]) == (probe, task)])
        for left, right, models in PAIRS:
            (value, how), (beside, how_beside) = (
                numbers.get(key, ("", {})) for key in (left, right)
            )
            if value and beside and (how or right[0] == "torchgeo-bench"):
                line = {"task": task, "number of": ": ".join(left), "value": value}
                line |= {"beside": f"{right[0]}: {NAMES.get(right[1], right[1])}"}
                line |= {"its value": beside, "differ in": _differences(how, how_beside, models)}
                lines.append(line)
    return pd.DataFrame(lines).set_index(["task", "number of"])


def published_points(rows: Rows, published: Rows, paper: Rows) -> pd.DataFrame:
    """Nearest-neighbour accuracy on the tasks of Table 2 by source, real images only.

    Returns:
        task, source, model, value (a fraction); ours are there for tasks run on real images.
    """
    printed = read_rows(paper).query("probe == 'knn'").set_index("task")[[*MODELS]]
    said = printed.div(100).stack().rename_axis(["task", "model"]).rename("value").reset_index()
    sources = {
        "torchgeo-bench": read_rows(published).query("method == @METHODS['knn']"),
        "the paper": said,
        "ours": read_rows(rows).query("probe == 'knn' and not procedural"),
    }
    points: Table = pd.concat([table.assign(source=name) for name, table in sources.items()])
    columns = ["task", "source", "model", "value"]
    return points.loc[points["task"].isin(printed.index), columns].reset_index(drop=True)


def below(points: pd.DataFrame, model: str) -> int:
    """How many of the paper's numbers lie below that of a published model on their task.

    Args:
        points: of `published_points`.

    Raises:
        ValueError: if the model has no number on a task of the paper.
    """
    published: Table = points.query("source == 'torchgeo-bench' and model == @model")
    printed: Table = points.query("source == 'the paper'")
    bars = printed["task"].map(published.set_index("task")["value"])
    if absent := sorted(set(printed.loc[bars.isna(), "task"])):
        raise ValueError(f"model must have every task, got {model!r} without {', '.join(absent)}")
    return int((printed["value"] < bars).sum())


def not_run(rows: Rows, paper: Rows) -> list[str]:
    """Tasks of the paper without a row of ours on their real images."""
    real = set(read_rows(rows).query("not procedural")["task"])
    return [task for task in read_rows(paper)["task"].unique() if task not in real]


def _differences(left: Conditions, right: Conditions, models: str) -> str:
    if not left:
        return "not compared"
    pairs = {name: (left.get(name), right.get(name)) for name in [*left, *right]}
    apart = [models] if models else []
    apart += [f"{name} {a} / {b}" for name, (a, b) in pairs.items() if a and b and a != b]
    apart += ["rest not stated"] if any(not (a and b) for a, b in pairs.values()) else []
    return "; ".join(apart) or "nothing"


def _ours(rows: list[Row], task: str) -> Numbers:
    real = [row for row in rows if not row["procedural"]]
    chosen = [row for row in real if row["task"] == task]
    chosen = chosen or [row for row in real if row["task"] == LOOKALIKES.get(task)]
    made = any(row["task"] == task and row["procedural"] for row in rows)
    absent = "not run (procedural)" if made and not chosen else "not run"
    names = [name for (source, name), *_ in PAIRS if source == "ours" and name != OPTIONAL]
    numbers: Numbers = {("ours", name): (absent, {}) for name in names}
    for name, row in by_model(chosen).items():
        if row["protocol"] not in PROTOCOLS:
            raise ValueError(f"protocol must be of {tuple(PROTOCOLS)}, got {row['protocol']!r}")
        protocol = PROTOCOLS[row["protocol"]]
        distance = {"l2": "L2", "cosine": "cosine"}[protocol.knn_metric]
        how = {"k": str(protocol.knn_k), "distance": distance} if row["probe"] == "knn" else {}
        how |= {"features": "z-scored" if protocol.standardise else "raw"}
        numbers["ours", name] = percent_cell(row), how | _sizes(row)
    return numbers


def _published(rows: list[Row]) -> Numbers:
    how = {"knn5": {"k": "5", "distance": "L2"}, "linear": {}}
    numbers: Numbers = {}
    for row in rows:
        known = how[row["method"]] | {"features": "raw"}
        known |= _sizes({**row, "image_px": PUBLISHED_PX})
        numbers["torchgeo-bench", row["model"]] = percent_cell(row), known
    return numbers


def _paper(rows: list[Row]) -> Numbers:
    numbers: Numbers = {}
    for row, (model, px) in product(rows, PAPER_PX.items()):
        known = {"task": row["task"], "metric": "accuracy", "k": "20", "px": str(px)}
        numbers["the paper", model] = f"{row[model]:.2f}", known
    return numbers


def _sizes(row: Row) -> Conditions:
    names = {"px": "image_px", "train items": "n_train", "test items": "n_test"}
    names |= {"task": "task", "metric": "metric"}
    return {name: str(row[column]) for name, column in names.items()}
