"""From stored values of any unit to a sensor's pixel values: the one rule, for files and arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Shaped

from salib.config import SENSORS, Sensor
from salib.rasters.bands import Band, Told, choose_bands
from salib.rasters.radar import amplitude, sar_to_8bit
from salib.rasters.validity import without_data

Bands = Shaped[np.ndarray, "bands height width"]
Valid = Bool[np.ndarray, "height width"]
WHITE = 0.2
"""Reflectance that becomes 255: that of the true-colour image of Sentinel-2 L2A, "the saturation
level of 255 digital counts correspond to a level of 3558 for L1C products or 2000 for L2A products
(0.3558 and 0.2 in reflectance value respectively)", ESA, Sentinel-2 MSI User Guide, Definitions."""
QUANTIFICATION = 10_000.0
"""DN of Sentinel-2 at reflectance 1, above its zero."""
MOST_SCALE = 0.01
"""Below it a file's scale of integers is to reflectance; 1 is of digital numbers."""
BRIGHTEST = 2.0
"""Mean reflectance of an image that no ground or cloud reaches."""
MOST_POWER = 10.0
"""Median backscatter of an image that no ground reaches."""
UNITS = {
    "radar": ("power", "amplitude", "db", "dn"),
    "optical": ("reflectance", "dn"),
    "multispectral": ("reflectance", "dn"),
}
"""Of stored values, by modality of the sensor."""
SAID = {"decibel": "db", "decibels": "db", "intensity": "power", "linear": "power"}
SAID |= {"linear power": "power", "digital number": "dn", "digital numbers": "dn"}
"""Units as files and catalogues spell them."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How stored values of one file or array become pixel values; made by `rule_of`.

    Attributes:
        name: what is read, for messages.
        bands: numbers of the sensor's bands, from 1.
        kind: dtype of the stored values.
        unit: "levels", which stay; one of `UNITS`; or "stated", of a range that the caller states.
        gain: pixel value = stored x gain + bias, by band; of radar that value in its unit.
        bias: see `gain`.
        absent: what stands for no data in a file that states nothing.
    """

    name: str
    sensor: str
    bands: tuple[int, ...]
    kind: str
    unit: str
    gain: tuple[float, ...]
    bias: tuple[float, ...]
    absent: float | int | None

    @property
    def says(self) -> str:
        """The reading, in words."""
        if self.unit == "levels":
            return "8-bit levels as they are"
        row, zero = SENSORS[self.sensor], -self.bias[0] / self.gain[0]
        from_zero = f", from {zero:g} on" if zero else ""
        if self.unit == "stated":
            return f"{zero + 255 / self.gain[0]:g} becomes 255{from_zero}"
        if row.radar:
            return f"{self.unit} of backscatter, to the amplitudes of a GRD product"
        made = "reflectance x 10,000" if row.full_scale else f"reflectance {WHITE:g} becomes 255"
        return f"{'digital numbers' if self.unit == 'dn' else 'reflectance'}{from_zero}, {made}"

    def valid(
        self, stored: Bands, nodata: Sequence[Sequence[float | int]], *, stated: bool
    ) -> Valid:
        """Where the sensor's bands have data.

        A pixel has none where all its 8-bit bands are no data, or one band of other types, or where
        a number is not finite. In a file that states nothing `absent` in all bands is no data; in
        one band too of digital numbers, where 0 is none whatever the file states.

        Args:
            stored: the sensor's bands.
            nodata: values that stand for no data in each band.
            stated: whether the file says where it has data.
        """
        integers, bad = stored.dtype.kind != "f", np.zeros(stored.shape[1:], bool)
        if any(nodata) or not integers:
            found = without_data(stored, nodata)
            bad |= (np.all if stored.dtype == np.uint8 else np.any)(found, axis=0)
        numbers = integers and self.unit == "dn"
        if self.absent is not None and (numbers or not stated):
            bad |= (np.any if numbers else np.all)(stored == self.absent, axis=0)
        return ~bad

    def apply(self, stored: Bands, valid: Valid, *, smooth: bool = False) -> Bands:
        """Pixel values as in a tile of the sensor; of pixels without data, anything.

        Args:
            stored: the sensor's bands.
            valid: where there is data.
            smooth: whether they were interpolated, which overshoots a little.

        Raises:
            ValueError: if the values contradict the unit.
        """
        return self.levels(self.values(stored, valid, smooth=smooth))

    def values(self, stored: Bands, valid: Valid | None = None, *, smooth: bool = False) -> Bands:
        """What may be interpolated before `levels`: levels, radar amplitude, scaled reflectance.

        Args:
            stored: the sensor's bands.
            valid: where there is data; everywhere if None.
            smooth: see `apply`.

        Raises:
            ValueError: if the values contradict the unit.
        """
        if self.unit == "levels":
            return stored
        if valid is not None and not valid.all():
            stored = np.where(valid, stored, 0)
        plain = set(self.gain) == {1.0} and not any(self.bias) and self.unit == "dn"
        if plain and stored.dtype == np.uint16:
            values = stored
        else:
            bias = np.array(self.bias, np.float32)[:, None, None]
            values = stored.astype(np.float32)
            values *= np.array(self.gain, np.float32)[:, None, None]
            values += bias if valid is None else np.where(valid, bias, 0)
        if values.size:
            self._check(values, 1.0 if valid is None else float(valid.mean()), smooth)
        if SENSORS[self.sensor].radar and self.unit not in ("dn", "stated"):
            return amplitude(values, self.unit)
        return values

    def levels(self, values: Shaped[np.ndarray, "*shape"], *, quant: str = "paper") -> np.ndarray:
        """Pixel values of what `values` gives, with bands first or last.

        Args:
            values: of `values`.
            quant: of radar, see `sar_to_8bit`.
        """
        sensor = SENSORS[self.sensor]
        if self.unit == "levels":
            return values
        if sensor.radar and self.unit != "stated":
            return sar_to_8bit(values, quant=quant)
        least = int(sensor.dtype == "uint16")  # 0 is no data there
        values = values.clip(least, sensor.max_value)
        return values if values.dtype == sensor.dtype else np.rint(values).astype(sensor.dtype)

    def _check(self, values: Bands, share: float, smooth: bool) -> None:
        """Refuse values that contradict the unit; `share` of them are data, the others 0."""
        sensor, wrong, state = SENSORS[self.sensor], "", ""
        if sensor.radar and self.unit != "db":
            low, some = float(values.mean() if smooth else values.min()), values.ravel()[::61]
            if self.unit == "amplitude":
                some = some * np.abs(some)
            units, some = self.unit in ("power", "amplitude"), some[some > 0]
            high = float(np.median(some)) if units and some.size else 0.0
            if low < 0:
                what = "values" if self.unit == "stated" else self.unit
                wrong = f"backscatter of 0 or more, got {what} of {low:.4g}"
                state = "decibels, state --unit db"
            elif high > MOST_POWER:
                wrong = f"a power below {MOST_POWER:g} in the median, got {high:.4g}"
                state = "amplitudes or digital numbers, state --unit amplitude or dn"
        elif self.unit in ("reflectance", "dn") and share:
            mean = float(values.mean()) / ((sensor.full_scale or 255 / WHITE) * share)
            if mean > BRIGHTEST:
                wrong = f"reflectance below {BRIGHTEST:g} on average, got {mean:.4g}"
                state = "values below 0 that were stored as large ones, leave it out"
                if self.unit == "reflectance":
                    state = (
                        "digital numbers, state --unit dn and --offset-dn -1000, or 0 before "
                        "processing baseline 04.00"
                    )
        if wrong:
            raise ValueError(f"{self.name} must hold {wrong}: if these are {state}")


def as_stored(told: Told, bands: int = 1) -> Rule:
    """The first bands of a file as they are, such as a scene classification.

    Raises:
        ValueError: if it has fewer.
    """
    numbers, ones = told.opaque[:bands], (1.0,) * bands
    if len(numbers) < bands:
        raise ValueError(f"{told.name} must have {bands} bands, got {len(numbers)}")
    kind, nil = _kind(told, numbers), (0.0,) * bands
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
    picked, kind = [told.bands[number - 1] for number in numbers], _kind(told, numbers)
    check_unit(sensor, unit)
    scales, offsets = np.array([(band.scale, band.offset) for band in picked], float).T
    if not (np.isfinite([scales, offsets]).all() and scales.all()):
        raise ValueError(
            f"{told.name} must state a scale, got {scales.tolist()} with offsets {offsets.tolist()}"
        )
    scaled, gain = any(band.scaled for band in picked), np.ones(len(picked))
    zeros = offsets / scales if offset_dn is None else np.full(len(picked), float(offset_dn))
    sentinel2 |= row.full_scale is not None
    stated = {"unit": unit, "offset_dn": offset_dn, "level_255": level_255}
    if row.dtype != "uint8" and level_255 is not None:
        raise ValueError(f"level_255 must not be given for {sensor}, got {level_255}")
    if row.dtype == "uint8" and kind == "uint8" and not scaled and level_255 is None:
        if wrong := [name for name, value in stated.items() if value is not None]:
            raise ValueError(
                f"{wrong[0]} must not be given for 8-bit levels, got {stated[wrong[0]]} for "
                f"{told.name}: these need no conversion"
            )
        how = "levels"
    elif level_255 is not None:
        how, gain = "stated", gain * 255 / level_255
        if sentinel2 and not scaled and "float" not in kind:
            told_offset(told.name, offset_dn)
    elif row.radar:
        how, gain = _radar(told.name, picked, unit, offset_dn), scales
    else:
        known = sentinel2 or unit is not None or offset_dn is not None
        known |= {*scales} == {1 / QUANTIFICATION}
        how = _reflectance(told.name, picked, row, unit, offset_dn, known=known)
        physical = how == "reflectance" or {*scales} != {1.0}
        gain = (row.full_scale or 255 / WHITE) * (scales if physical else gain / QUANTIFICATION)
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


def _kind(told: Told, numbers: Sequence[int]) -> str:
    kinds = sorted({told.bands[number - 1].dtype for number in numbers})
    if len(kinds) > 1 or np.dtype(kinds[0]).kind not in "uif":
        raise ValueError(
            f"{told.name} must hold real numbers of one type, got {' and '.join(kinds)}"
        )
    return kinds[0]


def _radar(
    name: str, picked: Sequence[Band], unit: str | None, offset_dn: float | int | None
) -> str:
    """Unit of backscatter."""
    kind, unit = picked[0].dtype, unit or unit_said(band.unit for band in picked)
    if offset_dn is not None:
        raise ValueError(
            f"offset_dn must be given for reflectance alone, got {offset_dn} for radar"
        )
    if unit is None and kind == "uint16" and not any(band.scaled for band in picked):
        return "dn"
    if unit is None:
        raise ValueError(
            f"{name} must hold 8-bit levels or 16-bit amplitudes, got {kind}, which does not say "
            "of what: state --unit power, amplitude, db or dn"
        )
    return unit


def _reflectance(
    name: str,
    picked: Sequence[Band],
    row: Sensor,
    unit: str | None,
    offset_dn: float | int | None,
    *,
    known: bool,
) -> str:
    """Unit of Sentinel-2, or of a file that states a scale as Sentinel-2 files do."""
    kind, scaled = picked[0].dtype, any(band.scaled for band in picked)
    floats = "float" in kind
    if not known:
        raise ValueError(
            f"{name} must hold 8-bit levels, got {kind} in bands that are not named as "
            "Sentinel-2's: state the value that becomes 255 with --level-255, such as 2000 for "
            "Sentinel-2 L2A, a reflectance of 0.2"
        )
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
