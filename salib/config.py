"""Sensors, frozen configurations and presets; the only place where sizes are written."""

from dataclasses import dataclass, field

SCHEMA = 1
SENSOR_NAMES = ("radar", "lores", "hires")


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What an encoder looks at: band names, and the sensor's own ground sample distance.

    The value `gsd_m` of an image (metres of ground a pixel as sampled) belongs to the sample;
    `native_gsd_m` is what the instrument resolves. Images are 8-bit levels, 0..255.
    """

    name: str
    bands: tuple[str, ...]
    native_gsd_m: float


SENSORS = {
    "radar": Sensor(name="radar", bands=("VV", "VH"), native_gsd_m=10.0),
    "lores": Sensor(name="lores", bands=("red", "green", "blue"), native_gsd_m=10.0),
    "hires": Sensor(name="hires", bands=("red", "green", "blue"), native_gsd_m=0.6),
}
