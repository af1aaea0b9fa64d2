"""Tables that a command writes: of what is at their place, only its own is replaced."""

import tempfile
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq


def check_table(path: str | Path, columns: Collection[str]) -> Path:
    """Make sure, before any work, that a table may and can be written.

    Args:
        path: `.csv` or Parquet; need not exist yet.
        columns: of such a table, at least.

    Raises:
        ValueError: if there is something else at `path`.
        OSError: if its folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not (set(columns) <= _columns_of(path))):
        raise ValueError(
            f"out must not exist or be a table by the same command, got {path}: choose another "
            "name, or delete it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        return path


def _columns_of(path: Path) -> set[str]:
    try:
        if path.suffix == ".csv":
            return {*pd.read_csv(path, nrows=0).columns}
        return {*pq.read_schema(path).names}
    except (OSError, ValueError):
        return set()
