"""Rows of the evaluation: read from wherever they lie, and spread over a table."""

from pathlib import Path
from typing import Any

import pandas as pd

from salib.files.tables import read_table

MODELS = ("SA-high", "SA-low", "CROMA")
BASELINES = ("untrained", "image statistics", "random convolution", "majority class")
PROBE_NAMES = {
    "neural": "Neural",
    "kmeans": "k-Means",
    "kmeans_umap": "k-Means + UMAP",
    "knn": "k-NN",
    "knn_weighted": "k-NN weighted",
    "knn5": "k-NN 5, L2",
    "linear": "Linear",
    "decoder": "Decoder",
}
TABLE2_PROBES = ("neural", "kmeans", "kmeans_umap", "knn")
TABLE2_TASKS = ("m-pv4ger", "m-forestnet", "m-eurosat", "m-brick-kiln")
Rows = pd.DataFrame | str | Path
Table = Any
"""A DataFrame; pandas' annotations cannot tell a selection of one from a Series."""
SEVERAL = "rows must hold one row per cell, got several; pick one seed and protocol"


def read_rows(source: Rows) -> Table:
    """Rows as they are given, or of a .csv or .parquet file."""
    if isinstance(source, pd.DataFrame):
        return source.reset_index(drop=True)
    path = Path(source)
    return read_table(path, []) if path.suffix == ".parquet" else pd.read_csv(path)


def spread(rows: Table, lines: list[str], column: str, value: str) -> Table:
    """One value of each row as a table; lines and columns in the order of the rows.

    Raises:
        ValueError: if a cell has several rows.
    """
    if rows.duplicated([*lines, column]).any():
        raise ValueError(SEVERAL)
    table = rows.pivot(index=lines, columns=column, values=value)
    return table.reindex(rows.set_index(lines).index.unique(), columns=rows[column].unique())
