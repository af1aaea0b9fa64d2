"""Places that look like a place: cosine similarity over an embedding map, tile by tile."""

from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from jaxtyping import Float32, Shaped
from rasterio.errors import RasterioIOError
from rasterio.transform import xy
from rasterio.windows import Window

from salib.files.checksum import check_appended
from salib.rasters.ground import to_degrees

Query = tuple[float | int, float | int] | Shaped[np.ndarray, " dim"]
Scores = Float32[np.ndarray, "rows cols"]


def similar(
    embeddings: str | Path, query: Query, *, top: int = 10, apart: int = 1
) -> tuple[Scores, pd.DataFrame]:
    """Compare every patch of an embedding map with one vector; only one tile of it is in memory.

    Args:
        embeddings: a map by `embed_scene`.
        query: a place (longitude, latitude) in degrees, whose patch is asked for, or a vector.
        top: how many places to list; fewer where the map has no more.
        apart: least distance of listed places from each other in patches, along rows or columns; 1
            lists neighbours too.

    Returns:
        The cosine, -1 to 1, of each patch, NaN where the map has no data; and the most similar
        patches, best first: `row`, `col`, `similarity`, and `lon`, `lat` of the patch's centre.

    Raises:
        ValueError: if the map cannot be read, was damaged or holds infinite vectors, the query lies
            outside it or where it has no data, or is no vector of its width, or a number is out of
            range.
    """
    if top < 1 or apart < 1:
        raise ValueError(f"top and apart must be at least 1, got {top} and {apart}")
    try:
        with rasterio.open(embeddings) as file:
            if Path(embeddings).is_file():
                check_appended(Path(embeddings), "delete it and write it again by `salib embed`")
            if file.crs is None:
                raise ValueError(f"embeddings must have coordinates, got none in {embeddings}")
            vector = _at(file, query) if isinstance(query, tuple) else query
            unit, score = _unit(vector, file.count), np.empty(file.shape, np.float32)
            for _, window in file.block_windows():
                block = _read(file, window)
                length = np.linalg.norm(block, axis=0)
                if np.isinf(length).any():
                    raise ValueError(
                        f"vectors of {embeddings} must be finite, got infinite ones: write the map "
                        "again by `salib embed --overwrite`"
                    )
                along = np.einsum("dij,d->ij", block, unit)
                score[window.toslices()] = along / np.where(length > 0, length, np.nan)
            places = _best(score, top, apart)
            x, y = xy(file.transform, places["row"].to_numpy(), places["col"].to_numpy())
            lon, lat = to_degrees(file.crs.to_wkt()).transform(x, y)
            return score, places.assign(lon=lon, lat=lat)
    except RasterioIOError as error:
        raise ValueError(
            f"embeddings must be a map by `salib embed`, got {embeddings} ({error})"
        ) from error


def _read(
    file: rasterio.DatasetReader, window: Window | tuple
) -> Float32[np.ndarray, "dim rows cols"]:
    """Values of a window with the file's scales, NaN where it has no data."""
    stored = file.read(window=window)
    values = stored.astype(np.float32) * np.array(file.scales, np.float32)[:, None, None]
    return np.where(stored == file.nodata, np.nan, values)


def _at(file: rasterio.DatasetReader, place: tuple[float | int, float | int]) -> np.ndarray:
    """The vector of the patch in which a place lies."""
    degrees = to_degrees(file.crs.to_wkt())
    col, row = ~file.transform * degrees.transform(*place, direction="INVERSE")
    if not (0 <= col < file.width and 0 <= row < file.height):
        west, south, east, north = degrees.transform_bounds(*file.bounds)
        raise ValueError(
            f"query must be (longitude, latitude) within the map, {west:.6f} to {east:.6f} by "
            f"{south:.6f} to {north:.6f} degrees, got {place}"
        )
    vector = _read(file, ((int(row), int(row) + 1), (int(col), int(col) + 1)))[:, 0, 0]
    if np.isnan(vector).any():
        raise ValueError(f"query must lie where the map has data, got {place}: choose another")
    return vector


def _unit(vector: Shaped[np.ndarray, "..."], dim: int) -> Float32[np.ndarray, " dim"]:
    if vector.shape != (dim,):
        raise ValueError(f"query must be a vector of {dim} numbers, got shape {vector.shape}")
    length = np.linalg.norm(vector.astype(np.float64))
    if not 0 < length < np.inf:
        raise ValueError(f"query must be finite and not zero, got a vector of length {length}")
    return (vector / length).astype(np.float32)


def _best(score: Scores, top: int, apart: int) -> pd.DataFrame:
    """The highest scores, none nearer than `apart` to a higher one that is listed."""
    free = np.isfinite(score)
    places = []
    for number in np.argsort(-score, axis=None, kind="stable"):
        row, col = divmod(int(number), score.shape[1])
        if free[row, col]:
            places.append({"row": row, "col": col, "similarity": float(score[row, col])})
            near = [slice(max(0, at - apart + 1), at + apart) for at in (row, col)]
            free[*near] = False
        if len(places) == top:
            break
    return pd.DataFrame(places, columns=["row", "col", "similarity"])
