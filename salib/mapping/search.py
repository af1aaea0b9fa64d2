"""Places that look like a place: cosine similarity over an embedding map, tile by tile."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from jaxtyping import Float32, Shaped
from rasterio.errors import RasterioIOError
from rasterio.transform import xy

from salib.mapping.geotiff import blocks
from salib.mapping.ground import from_lonlat, to_lonlat

Query = tuple[float | int, float | int] | Shaped[np.ndarray, " dim"]


@dataclass(frozen=True)
class Similarity:
    """How alike every patch of a map is to one vector.

    Attributes:
        score: cosine, -1 to 1, of each patch; NaN where the map has no data.
        places: the most similar patches, best first: `row`, `col`, `similarity`, and of a map with
            coordinates `lon`, `lat` of the patch's centre in degrees.
        bounds: west, south, east, north of the map in its own coordinates, None for an array.
    """

    score: Float32[np.ndarray, "rows cols"]
    places: pd.DataFrame
    bounds: tuple[float, float, float, float] | None


def similar(
    embeddings: str | Path | Float32[np.ndarray, "dim rows cols"],
    query: Query,
    *,
    top: int = 10,
    apart: int = 1,
) -> Similarity:
    """Compare every patch of an embedding map with one vector; only one tile of it is in memory.

    Args:
        embeddings: a map by `embed_scene`, or an array with dimensions first.
        query: a place (longitude, latitude) in degrees, whose patch is asked for, or a vector.
        top: how many places to list; fewer where the map has no more.
        apart: least distance of listed places from each other in patches, along rows or columns; 1
            lists neighbours too.

    Raises:
        ValueError: if the map cannot be read, the query lies outside it or where it has no data, or
            is no vector of its width, or a number is out of range.
    """
    if top < 1 or apart < 1:
        raise ValueError(f"top and apart must be at least 1, got {top} and {apart}")
    if isinstance(embeddings, np.ndarray):
        if isinstance(query, tuple):
            raise ValueError(
                f"query must be a vector for an array, which has no coordinates, got {query}: take "
                "embeddings[:, row, col]"
            )
        array, unit = embeddings, _unit(query, len(embeddings))
        score = _scores(lambda r, c, h, w: array[:, r : r + h, c : c + w], array.shape[1:], unit)
        return Similarity(score, _best(score, top, apart), None)
    try:
        with rasterio.open(embeddings) as file:
            if file.crs is None:
                raise ValueError(f"embeddings must have coordinates, got none in {embeddings}")
            vector = _at(file, query) if isinstance(query, tuple) else query
            score = _scores(partial(_read, file), file.shape, _unit(vector, file.count))
            places = _with_degrees(_best(score, top, apart), file.crs.to_wkt(), file.transform)
            return Similarity(score, places, tuple(file.bounds))
    except RasterioIOError as error:
        raise ValueError(
            f"embeddings must be a map by `salib embed`, got {embeddings} ({error})"
        ) from error


def _scores(
    read: Callable[[int, int, int, int], np.ndarray],
    shape: tuple[int, ...],
    unit: Float32[np.ndarray, " dim"],
) -> Float32[np.ndarray, "rows cols"]:
    """Cosine of every patch with a unit vector, block by block."""
    score = np.empty(shape, np.float32)
    for top, left, height, width in blocks(*shape):
        block = read(top, left, height, width)
        length = np.sqrt(np.einsum("dij,dij->ij", block, block))
        along = np.einsum("dij,d->ij", block, unit)
        here = np.s_[top : top + height, left : left + width]
        score[here] = np.divide(along, length, out=np.full_like(along, np.nan), where=length > 0)
    return score


def _read(
    file: rasterio.DatasetReader, top: int, left: int, height: int, width: int
) -> Float32[np.ndarray, "dim height width"]:
    """Values of a window with the file's scales, NaN where it has no data."""
    stored = file.read(window=((top, top + height), (left, left + width)))
    values = stored.astype(np.float32) * np.array(file.scales, np.float32)[:, None, None]
    return values if file.nodata is None else np.where(stored == file.nodata, np.nan, values)


def _at(file: rasterio.DatasetReader, place: tuple[float | int, float | int]) -> np.ndarray:
    """The vector of the patch in which a place lies."""
    col, row = ~file.transform * from_lonlat(file.crs.to_wkt(), *place)
    if not (0 <= col < file.width and 0 <= row < file.height):
        west, south, east, north = file.bounds
        corners = to_lonlat(file.crs.to_wkt(), (west, east), (south, north))
        (west, east), (south, north) = corners
        raise ValueError(
            f"query must be (longitude, latitude) within the map, {west:.6f} to {east:.6f} by "
            f"{south:.6f} to {north:.6f} degrees, got {place}"
        )
    vector = _read(file, int(row), int(col), 1, 1)[:, 0, 0]
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


def _best(score: Float32[np.ndarray, "rows cols"], top: int, apart: int) -> pd.DataFrame:
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


def _with_degrees(places: pd.DataFrame, crs: str, transform: Affine) -> pd.DataFrame:
    x, y = xy(transform, places["row"].to_numpy(), places["col"].to_numpy())
    lon, lat = to_lonlat(crs, x, y)
    return places.assign(lon=lon, lat=lat)
