"""Rows of the evaluation: read from wherever they lie, and spread over a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

MODELS = ("SA-high", "SA-low", "CROMA")
BASELINES = ("untrained", "image statistics", "random convolution", "majority class")
PROBE_NAMES = {
    "neural": "Neural",
    "kmeans": "k-Means",
    "kmeans_umap": "k-Means + UMAP",
    "knn": "k-NN",
    "knn_weighted": "k-NN weighted",
    "linear": "Linear",
    "decoder": "Decoder",
}
TABLE2_PROBES = ("neural", "kmeans", "kmeans_umap", "knn")
TABLE2_TASKS = ("m-pv4ger", "m-forestnet", "m-eurosat", "m-brick-kiln")
Rows = pd.DataFrame | str | Path
Row = dict[str, Any]
Table = Any
"""A DataFrame; pandas' annotations cannot tell a selection of one from a Series."""
SEVERAL = "rows must hold one row per cell, got several; pick one seed and protocol"


def read_rows(source: Rows) -> Table:
    """Rows as they are given, or of a .csv or .parquet file."""
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True)
    path = Path(source)
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def records(rows: Table) -> list[Row]:
    """Rows as dictionaries."""
    return rows.to_dict("records")


def by_model(rows: list[Row]) -> dict[str, Row]:
    """Rows of one task and probe by model.

    Raises:
        ValueError: if a model has several.
    """
    models = {row["model"]: row for row in rows}
    if len(models) < len(rows):
        raise ValueError(SEVERAL)
    return models


def spread(rows: Table, lines: list[str], column: str, value: str) -> Table:
    """One value of each row as a table; lines and columns in the order of the rows.

    Raises:
        ValueError: if a cell has several rows.
    """
    if rows.duplicated([*lines, column]).any():
        raise ValueError(SEVERAL)
    table = rows.pivot(index=lines, columns=column, values=value)
    order = pd.MultiIndex.from_frame(rows[lines].drop_duplicates())
    return table.reindex(index=order, columns=rows[column].unique())


def under_each(rows: Table, probes: Iterable[str]) -> Table:
    """Rows under their probes; those that need none stand under every one."""
    every, probes = rows[rows["probe"] == "none"].drop(columns="probe"), list(probes)
    beneath = every.merge(pd.Series(probes, name="probe"), how="cross")
    return pd.concat([rows[rows["probe"].isin(probes)], beneath])
