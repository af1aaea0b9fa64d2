"""Scores published elsewhere beside ours and the paper's, and how each of them was made."""

import pandas as pd

from exhibits.tables.printed import with_cells
from exhibits.tables.rows import MODELS, Rows, Table, read_rows, spread
from salib.evaluate.probes.neighbours import FIVE

SOURCES = ("ours", "the paper", "torchgeo-bench")
METHODS = {"knn5": "knn", "linear": "linear"}
NAMES = {
    "imagestats": "image statistics",
    "rcf": "random convolution",
    "tgeo_croma_base": "CROMA published",
}
"""Published models that are set beside ours, under the names of our columns."""
LOOKALIKES = {"eurosat": "m-eurosat"}
"""Real images of another choice that stand in for a task that was not run."""


def published_scores(rows: Rows, published: Rows, paper: Rows) -> Table:
    """Scores of the published tasks from all sources in one form; of the paper, nearest neighbours.

    Ours are those under torchgeo-bench's own probes, which our protocol runs beside its own. A
    procedural score of ours never enters: it is of another task, whatever its name.

    Args:
        rows: of `salib.evaluate.evaluate`.
        published: paper/anchors.csv.
        paper: paper/table2.csv.

    Returns:
        source, task, images (their name: "eurosat" where those stand in for m-eurosat), probe,
        model, value (a fraction), cell (percent, with the interval where there is one), and for
        ours n_train, n_test, image_px and protocol.
    """
    known = with_cells(read_rows(published)).rename(columns={"method": "probe"})
    known = known.replace({"probe": METHODS, "model": NAMES})
    printed = read_rows(paper).query("probe == 'knn'")
    printed = printed.melt(["task", "probe"], MODELS, "model")
    cells = printed["value"].map("{:.2f}".format)
    printed = printed.assign(cell=cells, value=printed["value"] / 100)
    ours = with_cells(read_rows(rows).query("not procedural and probe in @METHODS"))
    ours["probe"], ours["images"] = ours["probe"].replace(METHODS), ours["task"]
    absent = {other: task for other, task in LOOKALIKES.items() if task not in set(ours["task"])}
    ours["task"] = ours["task"].replace(absent)
    ours = ours.merge(known[["task", "probe", "metric"]].drop_duplicates())
    parts = {"torchgeo-bench": known, "the paper": printed, "ours": ours}
    scores: Table = pd.concat([part.assign(source=source) for source, part in parts.items()])
    return scores.assign(images=scores["images"].fillna(scores["task"])).reset_index(drop=True)


def anchors(scores: Table) -> pd.DataFrame:
    """Scores in percent by task of the paper or of ours, probe and model, a column for each source.

    Args:
        scores: of `published_scores`.

    Raises:
        ValueError: if a cell has several rows.
    """
    tasks = scores.loc[scores["source"] != "torchgeo-bench", "task"]
    shown = scores[scores["model"].isin([*MODELS, *NAMES.values()]) & scores["task"].isin(tasks)]
    table = spread(shown, ["task", "probe", "model"], "source", "cell").sort_index()
    table = table.reindex(columns=SOURCES).astype(object)
    return table.fillna({"ours": "not run"}).fillna("")


def conditions(scores: Table) -> pd.DataFrame:
    """What the sources of `anchors` differ in, a line for each choice, and items by task of ours.

    Args:
        scores: of `published_scores`.
    """
    ours = scores[scores["source"] == "ours"]
    sizes = ", ".join(f"{px:.0f}" for px in sorted(set(ours["image_px"]))) or "not run"
    lines = {
        "neighbours": (FIVE, 20, 5),
        "distance": ("L2", "not stated", "L2"),
        "features": ("raw", "not stated", "raw"),
        "features, linear": ("z-scored", "", "raw"),
        "fitted on, linear": ("train", "", "train + valid"),
        "side of the image, px": (sizes, "256; SA-high 512", 224),
        "weights": ("trained here", "trained by the authors", "published"),
    }
    items = "{images}: {n_train:,.0f} + {n_test:,.0f}"
    for task, each in scores.groupby("task", sort=False):
        own, published = (each[each["source"] == name] for name in ("ours", "torchgeo-bench"))
        texts = [items.format(**part.iloc[0]) for part in (own, published) if len(part)]
        if len(own):
            lines[f"items of {task}, train + test"] = (texts[0], "not stated", texts[-1])
    return pd.DataFrame.from_dict(lines, orient="index", columns=[*SOURCES])


def below(scores: Table, model: str) -> int:
    """How many of the paper's scores lie below that of a published model on their task."""
    published = scores.query("source == 'torchgeo-bench' and probe == 'knn' and model == @model")
    printed = scores.query("source == 'the paper'")
    bars = published.set_index("task")["value"].loc[printed["task"]]
    return int((printed["value"].to_numpy() < bars.to_numpy()).sum())


def not_run(scores: Table) -> list[str]:
    """Tasks of the paper without a score of ours on their own real images."""
    printed, ours = (scores[scores["source"] == source] for source in ("the paper", "ours"))
    return [task for task in printed["task"].unique() if task not in set(ours["images"])]
