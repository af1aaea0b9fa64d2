"""How files and arrays are read: from what they say and the caller states to one `Rule`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from salib.config import SENSORS, Sensor
from salib.rasters.bands import Band, Told, choose_bands
from salib.rasters.pixels import WHITE, Rule

QUANTIFICATION = 10_000.0
"""DN of Sentinel-2 at reflectance 1, above its zero."""
MOST_SCALE = 0.01
"""Below it a file's scale of integers is to reflectance; 1 is of digital numbers."""
UNITS = {
    "radar": ("power", "amplitude", "db", "dn"),
    "optical": ("reflectance", "dn"),
    "multispectral": ("reflectance", "dn"),
}
"""Of stored values, by modality of the sensor."""
SAID = {"decibel": "db", "decibels": "db", "intensity": "power", "linear": "power"}
SAID |= {"linear power": "power", "digital number": "dn", "digital numbers": "dn"}
"""Units as files and catalogues spell them."""


def as_stored(told: Told, bands: int = 1) -> Rule:
    """The first bands of a file as they are, such as a scene classification.

    Raises:
        ValueError: if it has fewer.
    """
    numbers, ones = told.opaque[:bands], (1.0,) * bands
    if len(numbers) < bands:
        raise ValueError(f"{told.name} must have {bands} bands, got {len(numbers)}")
    kind, nil = _stored(told, numbers)[0], (0.0,) * bands
    fixed = {"sensor": "", "unit": "levels", "absent": None}
    return Rule(name=told.name, bands=numbers, kind=kind, gain=ones, bias=nil, **fixed)


def rule_of(
    told: Told,
    sensor: str,
    *,
    held: Sequence[str] | None = None,
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    offset_dn: float | int | None = None,
    level_255: float | int | None = None,
) -> Rule:
    """How a file or an array is read, from what it says of itself and what the caller states.

    Args:
        told: what it says.
        sensor: a name of `salib.config.SENSORS`.
        held: those of the sensor's bands that it holds; by default all.
        bands: numbers of the sensor's bands, from 1, in the sensor's order.
        unit: of the stored values, one of `UNITS`; by default what the file says.
        offset_dn: added to digital numbers: -1000 of Sentinel-2 since baseline 04.00, 0 before.
        level_255: stored value, above the zero, that becomes 255 in products that are not known.

    Raises:
        ValueError: if the bands or the unit are not told, or what is stated does not fit.
    """
    if level_255 is not None and not 0 < level_255 < np.inf:
        raise ValueError(f"level_255 must be positive and finite, got {level_255}")
    row = SENSORS[sensor]
    numbers, sentinel2 = choose_bands(told, replace(row, bands=held or row.bands), bands)
    kind, scales, offsets = _stored(told, numbers)
    picked = [told.bands[number - 1] for number in numbers]
    check_unit(sensor, unit)
    scaled, ones = any(band.scaled for band in picked), np.ones(len(picked))
    zeros = offsets / scales if offset_dn is None else offset_dn * ones
    stated = {"unit": unit, "offset_dn": offset_dn, "level_255": level_255}
    sentinel2 |= row.full_scale is not None
    if row.dtype != "uint8" and level_255 is not None:
        raise ValueError(f"level_255 must not be given for {sensor}, got {level_255}")
    if row.dtype == "uint8" and kind == "uint8" and not scaled and level_255 is None:
        if wrong := [name for name, value in stated.items() if value is not None]:
            raise ValueError(
                f"{wrong[0]} must not be given for 8-bit levels, got {stated[wrong[0]]} for "
                f"{told.name}: these need no conversion"
            )
        how, gain = "levels", ones
    elif level_255 is not None:
        how, gain = "stated", ones * 255 / level_255
        if sentinel2 and not scaled and "float" not in kind:
            told_offset(told.name, offset_dn)
    elif row.radar:
        how, gain = _radar(told.name, picked, unit, offset_dn), scales
    else:
        known = sentinel2 or unit or offset_dn is not None or {*scales} == {1 / QUANTIFICATION}
        how = _light(told.name, picked, row, unit, offset_dn) if known else ""
        physical = how == "reflectance" or {*scales} != {1.0}
        gain = (row.full_scale or 255 / WHITE) * (scales if physical else ones / QUANTIFICATION)
    if not how:
        remedy = (
            "which does not say of what: state --unit power, amplitude, db or dn"
            if row.radar
            else "in bands that are not named as Sentinel-2's: state the value that becomes 255 "
            "with --level-255, such as 2000 for Sentinel-2 L2A, a reflectance of 0.2"
        )
        also = " or 16-bit amplitudes" if row.radar else ""
        raise ValueError(f"{told.name} must hold 8-bit levels{also}, got {kind} {remedy}")
    return Rule(
        name=told.name,
        sensor=sensor,
        bands=numbers,
        kind=kind,
        unit=how,
        gain=tuple(gain.tolist()),
        bias=tuple((gain * zeros).tolist()),
        absent=None if how == "db" else row.nodata,
    )


def check_unit(sensor: str, unit: str | None) -> None:
    """Refuse a unit that a sensor's values cannot have.

    Raises:
        ValueError: naming those that they can.
    """
    known = UNITS[SENSORS[sensor].modality]
    if unit is not None and unit not in known:
        raise ValueError(f"unit must be one of {', '.join(known)} for {sensor}, got {unit!r}")


def unit_said(units: Iterable[str]) -> str | None:
    """The unit of backscatter that bands state, one of `UNITS`; None if none, or several."""
    said = {unit.strip().lower() for unit in units} - {""}
    own = {SAID.get(word, word) for word in said}
    return next(iter(own)) if len(own) == 1 and own <= {*UNITS["radar"]} else None


def told_offset(name: str, *told: float | int | None) -> float | int:
    """The offset of digital numbers: of those that may tell it, the first that does.

    Raises:
        ValueError: if none does.
    """
    for each in told:
        if each is not None:
            return each
    raise ValueError(
        f"{name} must state the offset of its digital numbers, got none: state --offset-dn -1000 "
        "of Sentinel-2 since baseline 04.00, or 0 before and where harmonised"
    )


def _stored(told: Told, numbers: Sequence[int]) -> tuple[str, np.ndarray, np.ndarray]:
    """Type, scales and offsets of some bands."""
    picked = [told.bands[number - 1] for number in numbers]
    kinds = sorted({band.dtype for band in picked})
    if len(kinds) > 1 or np.dtype(kinds[0]).kind not in "uif":
        got = " and ".join(kinds)
        raise ValueError(f"{told.name} must hold real numbers of one type, got {got}")
    scales, offsets = np.array([(band.scale, band.offset) for band in picked], float).T
    if not (np.isfinite([scales, offsets]).all() and scales.all()):
        got = f"{scales.tolist()} with offsets {offsets.tolist()}"
        raise ValueError(f"{told.name} must state a scale, got {got}")
    return kinds[0], scales, offsets


def _radar(
    name: str, picked: Sequence[Band], unit: str | None, offset_dn: float | int | None
) -> str:
    """Unit of backscatter; empty if nothing tells."""
    if offset_dn is not None:
        raise ValueError(
            f"offset_dn must be given for reflectance alone, got {offset_dn} for radar: {name}"
        )
    plain = picked[0].dtype == "uint16" and not any(band.scaled for band in picked)
    return unit or unit_said(band.unit for band in picked) or ("dn" if plain else "")


def _light(
    name: str, picked: Sequence[Band], row: Sensor, unit: str | None, offset_dn: float | int | None
) -> str:
    """Unit of Sentinel-2, or of a file that states a scale as Sentinel-2 files do."""
    kind, scaled = picked[0].dtype, any(band.scaled for band in picked)
    floats = "float" in kind
    if kind == "uint8":
        raise ValueError(
            f"{name} must hold reflectance or digital numbers for {row.name}, got uint8: "
            "8-bit levels have lost them, take the bands of the product"
        )
    if unit == "reflectance" and not (floats or scaled):
        raise ValueError(f"unit must be dn for {kind} without a scale, got {unit}")
    if floats and unit != "dn" and offset_dn is None:
        return "reflectance"
    for band in picked:
        if not floats and band.scale > MOST_SCALE and (band.scale != 1 or band.offset % 1):
            raise ValueError(
                f"{name} must scale to reflectance, got a scale of {band.scale:g} and an offset of "
                f"{band.offset:g}"
            )
    if not scaled:
        told_offset(name, offset_dn)
    return "dn"
