"""From stored values of any unit to a sensor's pixel values: the one rule, for files and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Shaped

from salib.config import SENSORS, Sensor
from salib.rasters.bands import Told, choose_bands
from salib.rasters.radar import amplitude, sar_to_8bit

Bands = Shaped[np.ndarray, "bands height width"]
Valid = Bool[np.ndarray, "height width"]
WHITE = 0.2
"""Reflectance that becomes 255: that of the true-colour image of Sentinel-2 L2A, "the saturation
level of 255 digital counts correspond to a level of 3558 for L1C products or 2000 for L2A products
(0.3558 and 0.2 in reflectance value respectively)", ESA, Sentinel-2 MSI User Guide, Definitions."""
QUANTIFICATION = 10_000.0
"""DN of Sentinel-2 at reflectance 1, above its zero."""
BRIGHTEST = 2.0
"""Mean reflectance of an image that no ground or cloud reaches."""
UNITS = {
    "radar": ("power", "amplitude", "db", "dn"),
    "optical": ("reflectance", "dn"),
    "multispectral": ("reflectance", "dn"),
}
"""Of stored values, by modality of the sensor."""
SAID = {"decibel": "db", "decibels": "db", "intensity": "power", "linear": "power"}
SAID |= {"linear power": "power", "digital number": "dn", "digital numbers": "dn"}
"""Units as files spell them."""


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
        if any(nodata):
            listed = [np.isin(band, values) for band, values in zip(stored, nodata, strict=True)]
            bad |= (np.all if stored.dtype == np.uint8 else np.any)(listed, axis=0)
        if not integers:
            bad |= ~np.isfinite(stored).all(axis=0)
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
        if self.unit == "levels":
            return stored
        sensor, plain = SENSORS[self.sensor], set(self.gain) == {1.0} and not any(self.bias)
        if plain and stored.dtype == np.uint16 and self.unit == "dn":
            if sensor.radar:
                return sar_to_8bit(stored)
            if sensor.full_scale and valid.all():
                self._check(stored, valid, sensor, smooth)
                return stored
        values = np.where(valid, stored, 0).astype(np.float32)
        values *= np.array(self.gain, np.float32)[:, None, None]
        values += np.where(valid, np.array(self.bias, np.float32)[:, None, None], 0)
        self._check(values, valid, sensor, smooth)
        if sensor.radar and self.unit != "stated":
            power = values * np.abs(values) if self.unit == "amplitude" else values
            dn = values if self.unit == "dn" else amplitude(power, in_db=self.unit == "db")
            return sar_to_8bit(dn)
        least = int(sensor.dtype == "uint16")  # 0 is no data there
        return np.rint(values.clip(least, sensor.max_value)).astype(sensor.dtype)

    def _check(self, values: Bands, valid: Valid, sensor: Sensor, smooth: bool) -> None:
        if sensor.radar and self.unit != "db":
            low = float(values.mean() if smooth else values.min(initial=0))
            if low < 0:
                what = "values" if self.unit == "stated" else self.unit
                raise ValueError(
                    f"{self.name} must hold backscatter of 0 or more, got {what} of {low:.4g}: if "
                    "these are decibels, state --unit db"
                )
        elif self.unit in ("reflectance", "dn") and valid.any():
            white = (sensor.full_scale or 255 / WHITE) * float(valid.mean())
            mean = float(values.mean()) / white
            if mean > BRIGHTEST:
                raise ValueError(
                    f"{self.name} must hold reflectance below {BRIGHTEST:g} on average, got "
                    f"{mean:.4g}: if these are digital numbers, state --unit dn and --offset-dn "
                    "-1000, or 0 before processing baseline 04.00"
                )


def rule_of(
    told: Told,
    sensor: str,
    *,
    bands: Sequence[int] | None = None,
    unit: str | None = None,
    offset_dn: float | int | None = None,
    level_255: float | int | None = None,
) -> Rule:
    """How a file or an array is read, from what it says of itself and what the caller states.

    Args:
        told: what it says.
        sensor: a name of `salib.config.SENSORS`.
        bands: numbers of the sensor's bands, from 1, in the sensor's order.
        unit: of the stored values, one of `UNITS`; by default what the file says.
        offset_dn: added to digital numbers: -1000 of Sentinel-2 since baseline 04.00, 0 before.
        level_255: stored value, above the zero, that becomes 255 in products that are not known.

    Raises:
        ValueError: if the bands or the unit are not told, or what is stated does not fit.
    """
    row = SENSORS[sensor]
    numbers, sentinel2 = choose_bands(told, row, bands)
    picked = [number - 1 for number in numbers]
    kinds = sorted({told.dtypes[n] for n in picked})
    if any(np.dtype(kind).kind not in "uif" for kind in kinds):
        raise ValueError(f"{told.name} must hold real numbers, got {' and '.join(kinds)}")
    if unit is not None and unit not in UNITS[row.modality]:
        raise ValueError(
            f"unit must be one of {', '.join(UNITS[row.modality])} for {sensor}, got {unit!r}"
        )
    facts = _Facts(
        name=told.name,
        kind=" and ".join(kinds),
        floats=np.dtype(kinds[0]).kind == "f",
        scales=tuple(float(told.scales[n]) or 1.0 for n in picked),
        offsets=tuple(float(told.offsets[n]) for n in picked),
        sentinel2=sentinel2 or row.full_scale is not None,
    )
    stated = {"unit": unit, "offset_dn": offset_dn, "level_255": level_255}
    if row.dtype != "uint8" and level_255 is not None:
        raise ValueError(f"level_255 must not be given for {sensor}, got {level_255}")
    if row.dtype == "uint8" and facts.kind == "uint8" and not facts.scaled and level_255 is None:
        if wrong := [name for name, value in stated.items() if value is not None]:
            raise ValueError(
                f"{wrong[0]} must not be given for 8-bit levels, got {stated[wrong[0]]} for "
                f"{told.name}: these need no conversion"
            )
        how, affine = "levels", _affine(facts, 1.0)
    elif level_255 is not None:
        if facts.sentinel2:
            facts.check_offset(offset_dn)
        how, affine = "stated", _affine(facts, 255 / level_255, offset_dn, physical=False)
    elif row.radar:
        how, affine = _radar(facts, unit or _unit_said(told, picked), offset_dn)
    else:
        how, affine = _reflectance(facts, row, unit, offset_dn)
    gains, biases = zip(*affine, strict=True)
    return Rule(
        name=told.name,
        sensor=sensor,
        bands=numbers,
        kind=facts.kind,
        unit=how,
        gain=gains,
        bias=biases,
        absent=None if how == "db" else row.nodata,
    )


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """Of the bands that are read."""

    name: str
    kind: str
    floats: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    sentinel2: bool

    @property
    def scaled(self) -> bool:
        """Whether the file states what its numbers mean."""
        return set(self.scales) != {1.0} or any(self.offsets)

    def check_offset(self, stated: float | int | None) -> None:
        """Refuse digital numbers whose zero is not told."""
        if stated is None and not self.scaled and not self.floats:
            raise ValueError(
                f"{self.name} must state the offset of its digital numbers, got none: state "
                "--offset-dn -1000 for Sentinel-2 since processing baseline 04.00 (January 2022), "
                "or 0 before and where a catalogue has harmonised it"
            )


def _affine(
    facts: _Facts, gain: float, offset: float | int | None = None, *, physical: bool = True
) -> list[tuple[float, float]]:
    """Gain and bias of each band, of what it means or else of what is stored above its zero."""
    factors = [gain * scale if physical else gain for scale in facts.scales]
    own = [added / scale for added, scale in zip(facts.offsets, facts.scales, strict=True)]
    zeros = own if offset is None else [float(offset)] * len(own)
    return [(factor, factor * zero) for factor, zero in zip(factors, zeros, strict=True)]


def _unit_said(told: Told, picked: list[int]) -> str | None:
    said = {told.units[n].strip().lower() for n in picked} - {""}
    own = {SAID.get(word, word) for word in said}
    return next(iter(own)) if len(own) == 1 and own <= {*UNITS["radar"]} else None


def _radar(
    facts: _Facts, unit: str | None, offset_dn: float | int | None
) -> tuple[str, list[tuple[float, float]]]:
    if offset_dn is not None:
        raise ValueError(
            f"offset_dn must be given for reflectance alone, got {offset_dn} for radar"
        )
    if unit is None and facts.kind == "uint16" and not facts.scaled:
        unit = "dn"
    if unit is None:
        raise ValueError(
            f"{facts.name} must hold 8-bit levels or 16-bit amplitudes, got {facts.kind}, which "
            "does not say of what: state --unit power, amplitude, db or dn"
        )
    return unit, _affine(facts, 1.0)


def _reflectance(
    facts: _Facts, row: Sensor, unit: str | None, offset_dn: float | int | None
) -> tuple[str, list[tuple[float, float]]]:
    """Of Sentinel-2, or of a file that states a scale as Sentinel-2 files do."""
    white = row.full_scale or 255 / WHITE
    digital = unit == "dn" or offset_dn is not None or not facts.floats
    known = facts.sentinel2 or unit is not None or offset_dn is not None
    if not (known or set(facts.scales) == {1 / QUANTIFICATION}):
        raise ValueError(
            f"{facts.name} must hold 8-bit levels, got {facts.kind} in bands that are not named as "
            "Sentinel-2's: state the value that becomes 255 with --level-255, such as 2000 for "
            "Sentinel-2 L2A, a reflectance of 0.2"
        )
    if facts.kind == "uint8":
        raise ValueError(
            f"{facts.name} must hold reflectance or digital numbers for {row.name}, got uint8: "
            "8-bit levels have lost them, take the bands of the product"
        )
    if unit == "reflectance" and not (facts.floats or facts.scaled):
        raise ValueError(f"unit must be dn for {facts.kind} without a scale, got {unit}")
    if digital and not facts.scaled:
        replace(facts, floats=False).check_offset(offset_dn)
        facts = replace(facts, scales=(1 / QUANTIFICATION,) * len(facts.scales))
    return "dn" if digital else "reflectance", _affine(facts, white, offset_dn)
