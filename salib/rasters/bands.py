"""Which bands of a file or an array are a sensor's: by their names, their colours, the product."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from salib.config import SENSORS, Sensor

NAIP = re.compile(r"\bm_\d{7}_(?:ne|nw|se|sw)_\d", re.IGNORECASE)
"""A file of NAIP by name: red, green, blue and near infrared, in this order."""
WORDS = dict(zip(SENSORS["s2"].assets[0], SENSORS["s2"].bands, strict=True))
WORDS |= {"rededge071": "B05", "rededge075": "B06", "rededge078": "B07", "cirrus": "B10"}
WORDS |= {"vv": "VV", "vh": "VH", "hh": "HH", "hv": "HV"}
"""Names that catalogues give to bands, in lower case."""
NUMBERED = re.compile(r"(b0?\d|b1\d|b0?8a)(?:_\d+m)?")
SENTINEL2 = {*SENSORS["s2"].bands, "B10"}
TEN_METRES = {"B02", "B03", "B04", "B08"}
COLOURS = ("red", "green", "blue")
PLAIN = {"", "gray", "undefined", "alpha"}
"""Colours of bands that may be anything."""
MANY = 10
"""Bands of Sentinel-2 that must be named for a file to be taken for Sentinel-2's."""


class Band(NamedTuple):
    """What a file or an array says of one band: empty, 1 and 0 where it says nothing.

    Attributes:
        dtype: as numpy names it.
        name: such as "B04", "red" or "VV".
        colour: "red", "green", "blue", "alpha" or others.
        scale: value = stored x scale + offset.
        offset: see `scale`.
        unit: such as "dB".
    """

    dtype: str
    name: str = ""
    colour: str = ""
    scale: float | int = 1.0
    offset: float | int = 0.0
    unit: str = ""

    @property
    def scaled(self) -> bool:
        """Whether its numbers mean others than are stored."""
        return self.scale != 1 or self.offset != 0


class Told(NamedTuple):
    """What a file or an array says of its bands; `name` is for messages and known products."""

    name: str
    bands: tuple[Band, ...]

    @property
    def is_naip(self) -> bool:
        """Whether it is a NAIP file with near infrared, which GDAL may call an alpha band."""
        return len(self.bands) == 4 and bool(NAIP.search(self.name))

    @property
    def opaque(self) -> tuple[int, ...]:
        """Numbers of the bands that are no opacity, from 1."""
        return tuple(n for n, band in enumerate(self.bands, start=1) if band.colour != "alpha")


def told_of(file: Any, name: str) -> Told:
    """What an open rasterio file says of its bands."""
    names, units = ([each or "" for each in said] for said in (file.descriptions, file.units))
    colours = [colour.name for colour in file.colorinterp]
    each = zip(file.dtypes, names, colours, file.scales, file.offsets, units, strict=True)
    return Told(name, tuple(Band(*band) for band in each))


def picture(name: str) -> Told:
    """What a PNG, JPEG or WebP says of its bands: red, green and blue in 8 bits."""
    return Told(name, tuple(Band("uint8", colour=colour) for colour in COLOURS))


def together(parts: Sequence[Told], name: str) -> Told:
    """What several files say, whose bands are counted one after another.

    A band without a name, alone in its file, is called as the file.
    """
    if len(parts) == 1:
        return parts[0]
    bands = [band._replace(colour="") for part in parts for band in part.bands]
    names = [
        band.name or (part.name if len(part.bands) == 1 else "")
        for part in parts
        for band in part.bands
    ]
    renamed = zip(bands, names, strict=True)
    return Told(name, tuple(band._replace(name=called) for band, called in renamed))


def named_bands(names: Sequence[str]) -> list[str]:
    """Each band by its Sentinel-2 number (colours too: red is B04) or polarisation; "" if unknown.

    Other satellites number theirs too: B4 is red of one and near infrared of another. Numbers count
    where B8A or ten bands of Sentinel-2 are there, or B02, B03, B04 and B08 alone, with the 0.
    """
    parts, numbers = [_parts(name) for name in names], [_number(name) for name in names]
    bare = {number.upper() if len(number) > 2 else f"B0{number[1]}" for number in numbers if number}
    full = {"B8A" if band == "B08A" else band for band in bare}
    ours = full <= SENTINEL2 and ("B8A" in full or len(full) >= MANY)
    ours |= full <= TEN_METRES and all(len(number) != 2 for number in numbers)
    found = []
    for number, each in zip(numbers, parts, strict=True):
        band = f"B0{number[1]}" if len(number) == 2 else number.upper().replace("08A", "8A")
        word = next((WORDS[part] for part in each if part in WORDS), "")
        found.append((band if ours else "") if number else word)
    return found


def _parts(name: str) -> list[str]:
    return [name.lower(), *re.split(r"[^a-z0-9]+", name.lower())]


def _number(name: str) -> str:
    """A band's number as it is spelt, such as b4 or b04; "" where it has none."""
    return next((m[1] for part in _parts(name) if (m := NUMBERED.fullmatch(part))), "")


def choose_bands(
    told: Told, sensor: Sensor, stated: Sequence[int] | None = None
) -> tuple[tuple[int, ...], bool]:
    """Numbers of a sensor's bands, from 1, and whether names say that they are Sentinel-2's.

    The caller's word counts first, then the names of the bands, then their colours, then the order
    of a product that is known by its file's name, then that there are no others.

    Raises:
        ValueError: if none of these tells, or the caller names bands that are not there.
    """
    named, colours = named_bands([band.name for band in told.bands]), [b.colour for b in told.bands]
    many = len(SENTINEL2.intersection(named)) >= MANY
    numbered = any(_number(band.name) for band in told.bands)
    wanted = [WORDS.get(band.lower(), band) for band in sensor.bands]
    rule = f"{told.name} must have {len(wanted)} bands ({', '.join(sensor.bands)}) for sensor "
    rule += sensor.name
    if stated is not None:
        if len(stated) != len(wanted):
            listed = ",".join(map(str, stated))
            raise ValueError(f"{rule}, got --bands {listed}: name one for each")
        count = len(told.bands)
        if not all(1 <= number <= count for number in stated):
            raise ValueError(f"bands must lie in 1..{count} of {told.name}, got {tuple(stated)}")
        ours = all(named[number - 1] in SENTINEL2 for number in stated) and (many or numbered)
        return tuple(stated), ours
    if all(named.count(band) == 1 for band in wanted):
        return tuple(named.index(band) + 1 for band in wanted), many or numbered
    colourful = all(colours.count(colour) == 1 for colour in COLOURS)
    others = sensor.modality == "optical" and not {*colours} <= PLAIN
    if not any(named) and not numbered:
        if colourful and sensor.modality == "optical":
            return tuple(colours.index(colour) + 1 for colour in sensor.bands), False
        if colourful and sensor.radar:  # a tile's picture
            return tuple(channel + 1 for channel in sensor.channels), False
        if told.is_naip and sensor.modality == "optical":
            return (1, 2, 3), False
        if len(told.opaque) == len(wanted) and not others:
            return told.opaque, False
    said, remedy = f"{len(told.opaque)}", "name them in that order with --bands"
    if any(named) or numbered:
        said = ", ".join(name or "?" for name in named)
    elif others or colours == ["gray", "alpha"]:
        said += f" ({', '.join(colours)})"
    if colours == ["palette"]:
        remedy = "expand it (gdal_translate -expand rgb)"
    raise ValueError(f"{rule}, got {said}: {remedy}")
