"""Parquet files that are whole, unchanged and hold the columns asked for."""

import tempfile
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from salib.files.artifact import atomic_file
from salib.files.checksum import CHECKSUM, check_checksum, write_checksum


def write_table(path: str | Path, rows: pd.DataFrame) -> None:
    """Write a Parquet file with its checksum, whole or not at all; of geometries GeoParquet."""
    with atomic_file(path) as part:
        rows.to_parquet(part)
        table = parquet.read_table(part)
        told = {**(table.schema.metadata or {}), **CHECKSUM}
        parquet.write_table(table.replace_schema_metadata(told), part)
        write_checksum(part)


def read_table(
    path: str | Path,
    needed: list[str],
    *,
    only: list[str] | None = None,
    filters: list[tuple[str, str, str]] | None = None,
) -> pd.DataFrame:
    """Read a Parquet file that holds certain columns, among others.

    Args:
        needed: columns that it must hold.
        only: columns to read, of those that it holds; by default all.
        filters: as `pandas.read_parquet` takes them.

    Raises:
        ValueError: if it is damaged, no Parquet file, changed since it was written, or lacks a
            column.
    """
    check_checksum(path)
    try:
        held = parquet.read_schema(path).names
        if absent := sorted({*needed} - {*held}):
            raise ValueError(f"{path} must have the columns {absent}, got {held}: make it again")
        columns = None if only is None else [name for name in only if name in held]
        return pd.read_parquet(path, columns=columns, filters=filters)
    except (pa.ArrowException, OSError, KeyError, TypeError, OverflowError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"Could not read {path} ({reason}): copy it again or make it again"
        ) from error


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
        return {*parquet.read_schema(path).names}
    except (OSError, ValueError):
        return set()
