"""Which bands of a file or an array are a sensor's: by their names, their colours, the product."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
MANY = 10
"""Bands of Sentinel-2 that must be named for a file to be taken for Sentinel-2's."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a file or an array says of its bands: one entry per band, empty where it says none.

    Attributes:
        name: of the file, for messages and for products that are known by it.
        dtypes: as numpy names them.
        names: such as "B04", "red" or "VV".
        colours: "red", "green", "blue", "alpha" or others.
        scales: value = stored x scale + offset; 1 where it states none.
        offsets: 0 where it states none.
        units: such as "dB".
    """

    name: str
    dtypes: tuple[str, ...]
    names: tuple[str, ...]
    colours: tuple[str, ...]
    scales: tuple[float | int, ...]
    offsets: tuple[float | int, ...]
    units: tuple[str, ...]

    @property
    def is_naip(self) -> bool:
        """Whether it is a NAIP file with near infrared, which GDAL may call an alpha band."""
        return len(self.dtypes) == 4 and bool(NAIP.search(self.name))


def told_of(file: Any, name: str) -> Told:
    """What an open rasterio file says of its bands."""
    return Told(
        name=name,
        dtypes=tuple(file.dtypes),
        names=tuple(each or "" for each in file.descriptions),
        colours=tuple(colour.name for colour in file.colorinterp),
        scales=tuple(file.scales),
        offsets=tuple(file.offsets),
        units=tuple(each or "" for each in file.units),
    )


def picture(name: str) -> Told:
    """What a PNG, JPEG or WebP says of its bands: red, green and blue in 8 bits."""
    ones, nil, none = (1.0,) * 3, (0.0,) * 3, ("",) * 3
    kinds, colours = ("uint8",) * 3, ("red", "green", "blue")
    return Told(
        name=name, dtypes=kinds, names=none, colours=colours, scales=ones, offsets=nil, units=none
    )


def together(parts: Sequence[Told], name: str) -> Told:
    """What several files say, whose bands are counted one after another.

    A band without a name, alone in its file, is called as the file.
    """
    if len(parts) == 1:
        return parts[0]
    names = [part.names if any(part.names) else (part.name,) for part in parts]
    fields = ("dtypes", "scales", "offsets", "units")
    joined = {field: sum((getattr(part, field) for part in parts), ()) for field in fields}
    return Told(name=name, names=sum(names, ()), colours=("",) * len(joined["dtypes"]), **joined)


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
    names, count = named_bands(told.names), len(told.dtypes)
    many = len(SENTINEL2.intersection(names)) >= MANY
    numbered = any(map(_number, told.names))
    wanted = [WORDS.get(band.lower(), band) for band in sensor.bands]
    rule = f"{told.name} must have {len(wanted)} bands ({', '.join(sensor.bands)}) for sensor "
    rule += sensor.name
    if stated is not None:
        if len(stated) != len(wanted):
            listed = ",".join(map(str, stated))
            raise ValueError(f"{rule}, got --bands {listed}: name one for each")
        if not all(1 <= number <= count for number in stated):
            raise ValueError(f"bands must lie in 1..{count} of {told.name}, got {tuple(stated)}")
        ours = all(names[number - 1] in SENTINEL2 for number in stated) and (many or numbered)
        return tuple(stated), ours
    if all(names.count(band) == 1 for band in wanted):
        return tuple(names.index(band) + 1 for band in wanted), many or numbered
    colours = told.colours
    colourful = all(colours.count(colour) == 1 for colour in ("red", "green", "blue"))
    opaque = [n for n, colour in enumerate(colours, start=1) if colour != "alpha"]
    opaque += range(len(colours) + 1, count + 1)
    if not any(names) and not numbered:
        if colourful and sensor.modality == "optical":
            return tuple(colours.index(colour) + 1 for colour in sensor.bands), False
        if colourful and sensor.radar:  # a tile's picture
            return tuple(channel + 1 for channel in sensor.channels), False
        if told.is_naip and sensor.modality == "optical":
            return (1, 2, 3), False
        if len(opaque) == len(wanted):
            return tuple(opaque), False
    said = f"{len(opaque)}"
    if any(names) or numbered:
        said = ", ".join(name or "?" for name in told.names)
    remedy = "name them in that order with --bands"
    if told.colours == ("palette",):
        said, remedy = "a palette", "resolve it (gdal_translate -expand rgb)"
    raise ValueError(f"{rule}, got {said}: {remedy}")
