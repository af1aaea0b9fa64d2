"""Arrays in memory to what a model takes: from numpy, or from xarray as rioxarray fills it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from salib.config import SENSORS
from salib.rasters.bands import Band, Told
from salib.rasters.rules import rule_of

ACROSS, DOWN = ("x", "lon", "longitude"), ("y", "lat", "latitude")
"""Names of the axes of a DataArray."""


class Pixels(NamedTuple):
    """An image as a model takes it: `model.embed(pixels.values[None], sensor, pixels.gsd_m)`.

    Attributes:
        values: (bands, height, width), uint8, or uint16 of s2.
        gsd_m: metres of ground per pixel; None where it is neither told nor stated.
        valid: (height, width), where there is data; elsewhere values mean nothing.
    """

    values: Tensor
    gsd_m: float | None
    valid: Tensor


def pixels(
    values: Any,
    sensor: str,
    *,
    names: Sequence[str] | None = None,
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    offset_dn: float | int | None = None,
    level_255: float | int | None = None,
    nodata: float | int | None = None,
    gsd_m: float | int | None = None,
) -> Pixels:
    """Values of any unit as pixel values of a sensor, by the rule by which files are read.

    Args:
        values: (bands, height, width) or, of one band, (height, width), as numpy array or as
            `xarray.DataArray`. Of the latter count the names of the bands (coordinate `band` or
            attribute `long_name`), `scale_factor`, `add_offset`, `units`, no-data value, CRS and
            coordinates, as rioxarray and stackstac write them; north is turned up.
        sensor: a name of `salib.config.SENSORS`.
        names: of the bands, such as "B04", "red" or "VV".
        bands: numbers of the sensor's bands, from 1, where their names do not tell.
        unit: of the values: of radar "power", "amplitude", "db" or "dn", of other sensors
            "reflectance" or "dn". 8-bit levels have none.
        offset_dn: added to digital numbers: -1000 for Sentinel-2 since processing baseline 04.00,
            0 before.
        level_255: for products that are not known, value above the zero that becomes 255.
        nodata: value that stands for no data, beside NaN.
        gsd_m: metres of ground per pixel; by default measured from coordinates.

    Raises:
        ValueError: if the bands, the unit or the zero are not told, or what is stated does not fit.
    """
    if sensor not in SENSORS:
        raise ValueError(f"sensor must be one of {', '.join(SENSORS)}, got {sensor!r}")
    if gsd_m is not None and not 0 < gsd_m < np.inf:
        raise ValueError(f"gsd_m must be positive and finite, got {gsd_m}")
    said: dict[str, Any] = {}
    if hasattr(values, "dims") and hasattr(values, "attrs"):
        values, said = _from_xarray(values)
    stored = np.asarray(values)
    stored = stored[None] if stored.ndim == 2 else stored
    if stored.ndim != 3 or not stored.size:
        raise ValueError(f"values must be (bands, height, width), got shape {stored.shape}")
    count = len(stored)
    listed = tuple(names or said.get("names") or ("",) * count)
    if len(listed) != count:
        raise ValueError(f"names must be one for each of {count} bands, got {len(listed)}")
    scales, offsets = _each(said.get("scale"), count, 1.0), _each(said.get("offset"), count, 0.0)
    kind, word = str(stored.dtype), str(said.get("unit") or "")
    each = zip(listed, scales, offsets, strict=True)
    told = tuple(Band(kind, called, "", scale, offset, word) for called, scale, offset in each)
    how = {"unit": unit, "offset_dn": offset_dn, "level_255": level_255}
    rule = rule_of(Told("values", told), sensor, bands=bands, **how)
    chosen = stored[[number - 1 for number in rule.bands]]
    empty = said.get("nodata") if nodata is None else nodata
    marks = [() if empty is None else (empty,)] * len(chosen)
    valid = rule.valid(chosen, marks, stated=empty is not None)
    if gsd_m is None and said.get("crs"):
        from salib.rasters.ground import ground_gsd_m  # the raster packages of an extra

        middle = {"col": stored.shape[2] / 2, "row": stored.shape[1] / 2}
        gsd_m = ground_gsd_m(said["crs"], said["transform"], **middle)
    made = torch.from_numpy(np.ascontiguousarray(rule.levels(rule.values(chosen, valid))))
    return Pixels(made, None if gsd_m is None else float(gsd_m), torch.from_numpy(valid))


def _each(value: Any, count: int, absent: float) -> tuple[float, ...]:
    """One number for each band, of one for all or of several."""
    each = np.atleast_1d(absent if value is None else value).astype(float)
    return tuple(np.broadcast_to(each, count).tolist())


def _from_xarray(array: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Values with bands first and north up, and what a DataArray says of them."""
    across = next((name for name in array.dims if str(name).lower() in ACROSS), None)
    down = next((name for name in array.dims if str(name).lower() in DOWN), None)
    others = [name for name in array.dims if name not in (across, down)]
    if across is None or down is None or len(others) > 1:
        raise ValueError(
            f"values must have the dimensions band, y and x, got {array.dims}: choose one time"
        )
    array, attrs = array.transpose(*others, down, across), dict(array.attrs)
    for name, wrong in ((down, 1), (across, -1)):
        places = np.asarray(array[name]) if name in array.coords else np.zeros(1)
        if len(places) > 1 and (places[-1] - places[0]) * wrong > 0:
            array = array.isel({name: slice(None, None, -1)})
    rio = getattr(array, "rio", None)
    marks = (getattr(rio, "nodata", None), attrs.get("_FillValue"), attrs.get("nodata"))
    said = {
        "names": _names(array, others),
        "scale": attrs.get("scale_factor", attrs.get("scales")),
        "offset": attrs.get("add_offset", attrs.get("offsets")),
        "unit": attrs.get("units"),
        "nodata": next((mark for mark in marks if mark is not None and np.isfinite(mark)), None),
    }
    crs: Any = getattr(rio, "crs", None) or attrs.get("crs")
    if crs is None and "spatial_ref" in array.coords:
        crs = array.coords["spatial_ref"].attrs.get("crs_wkt")
    if crs is None and "epsg" in array.coords:
        crs = f"EPSG:{int(np.asarray(array['epsg']))}"
    placed = {across, down} <= {*array.coords}
    x, y = (np.asarray(array[n], float) if placed else np.zeros(1) for n in (across, down))
    if crs is not None and min(len(x), len(y)) > 1:
        from affine import Affine

        wide, high = (x[-1] - x[0]) / (len(x) - 1), (y[-1] - y[0]) / (len(y) - 1)
        said["crs"] = crs.to_wkt() if hasattr(crs, "to_wkt") else str(crs)
        said["transform"] = Affine(wide, 0, x[0] - wide / 2, 0, high, y[0] - high / 2)
    return np.asarray(array.values), said


def _names(array: Any, others: Sequence[Any]) -> tuple[str, ...]:
    """Names of a DataArray's bands, as far as it has any."""
    found = array.coords[others[0]].values if others and others[0] in array.coords else ()
    if len(found) and np.asarray(found).dtype.kind in "UO":
        return tuple(map(str, found))
    said = array.attrs.get("long_name", ())
    if isinstance(said, str):
        said = () if others else (said,)
    return tuple(map(str, said))
