"""Rows of the evaluation, read from wherever they lie."""

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


def read_rows(source: Rows) -> list[Row]:
    """Rows as dictionaries, of a table or of a .csv or .parquet file."""
    if not isinstance(source, pd.DataFrame):
        path = Path(source)
        source = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    names = [str(name) for name in source.columns]
    return [dict(zip(names, values, strict=True)) for values in source.itertuples(index=False)]


def one_a_cell(rows: list[Row]) -> dict[str, Row]:
    """Rows by model.

    Raises:
        ValueError: if a model has several.
    """
    found = {row["model"]: row for row in rows}
    if len(found) < len(rows):
        raise ValueError("rows must hold one row a cell, got several; pick one seed and protocol")
    return found
