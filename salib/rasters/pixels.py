"""From stored values of any unit to a sensor's pixel values: the one rule, for files and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from salib.config import SENSORS
from salib.rasters.radar import amplitude, sar_to_8bit

Bands = Shaped[np.ndarray, "bands height width"]
Valid = Bool[np.ndarray, "height width"]
WHITE = 0.2
"""Reflectance that becomes 255: that of the true-colour image of Sentinel-2 L2A, "the saturation
level of 255 digital counts correspond to a level of 3558 for L1C products or 2000 for L2A products
(0.3558 and 0.2 in reflectance value respectively)", ESA, Sentinel-2 MSI User Guide, Definitions."""
BRIGHTEST = 2.0
"""Mean reflectance of an image that no ground or cloud reaches."""
MOST_POWER = 10.0
"""Median backscatter of an image that no ground reaches."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How stored values of one file or array become pixel values; made by `rules.rule_of`.

    Attributes:
        name: what is read, for messages.
        bands: numbers of the sensor's bands, from 1.
        kind: dtype of the stored values.
        unit: "levels", which stay; one of `rules.UNITS`; or "stated", of a range that is stated.
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
        integers, good = stored.dtype.kind != "f", np.ones(stored.shape[1:], bool)
        if any(nodata) or not integers:
            found = without_data(stored, nodata)
            good = ~(np.all if stored.dtype == np.uint8 else np.any)(found, axis=0)
        numbers = integers and self.unit == "dn"
        if self.absent is not None and (numbers or not stated):
            good &= (np.all if numbers else np.any)(stored != self.absent, axis=0)
        return good

    def values(self, stored: Bands, valid: Valid | None = None, *, smooth: bool = False) -> Bands:
        """What may be interpolated before `levels`: levels, radar amplitude, scaled reflectance.

        Of pixels without data they are anything.

        Args:
            stored: the sensor's bands.
            valid: where there is data; everywhere if None.
            smooth: whether they were interpolated, which overshoots a little.

        Raises:
            ValueError: if the values contradict the unit.
        """
        if self.unit == "levels":
            return stored
        if valid is not None and not valid.all():
            stored = np.where(valid, stored, 0)
        plain = stored.dtype == np.uint16 and self.unit == "dn"
        plain &= set(self.gain) == {1.0} and not any(self.bias)
        if plain:
            values = stored
        else:
            bias = np.array(self.bias, np.float32)[:, None, None]
            values = stored.astype(np.float32)
            values *= np.array(self.gain, np.float32)[:, None, None]
            values += bias if valid is None else np.where(valid, bias, 0)
        if values.size and not (plain and SENSORS[self.sensor].radar):
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


def without_data(
    stored: Bands, values: Sequence[Sequence[float | int]]
) -> Bool[np.ndarray, "bands height width"]:
    """Where each band holds one of its no-data values, or no finite number."""
    bad = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    for band, stated, out in zip(stored, values, bad, strict=True):
        for value in stated:
            out |= band == value
    return bad
