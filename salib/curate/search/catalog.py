"""Which scenes may be used, and in which order."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
import pystac
from shapely.geometry.base import BaseGeometry

from salib.config import SENSOR_NAMES, SENSORS, check_sensors
from salib.curate.search.fields import BOA_OFFSET_DN, chosen
from salib.curate.search.items import NAMED, Say, read_each
from salib.curate.search.scenes import RTC, Scene, newest, scene_of, utc
from salib.rasters.rules import check_unit

SARS = ("grd", "rtc")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which scenes may be used.

    Attributes:
        sensors: which ones a sample has, radar first.
        dates: one day, or `first/last` with both days within; `..` leaves an end open. Of
            satellites; None takes any.
        hires_dates: the same for the aerial images, which return every two or three years only; by
            default any year, those nearest to `dates` first.
        max_cloud: highest scene cloud cover in percent; a Sentinel-2 item that does not state its
            own counts as overcast.
        offset_dn: added to pixel values of Sentinel-2 items that do not state their processing
            baseline, 0 or -1000; such items are left out where it is not given.
        units: of pixel values by sensor where the caller knows better than items and files: of
            radar "power", "amplitude", "db" or "dn", of s2 "reflectance" or "dn".
        sar: `grd`, the paper's, placed by ground control points and as wrong as the terrain is
            rough; or `rtc`, terrain corrected.
    """

    sensors: tuple[str, ...] = SENSOR_NAMES
    dates: str | None = None
    hires_dates: str | None = None
    max_cloud: float | int = 10.0
    sar: str = "grd"
    offset_dn: int | None = None
    units: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        check_sensors(self.sensors)
        parse_dates(self.dates)
        parse_dates(self.hires_dates)
        if not 0 <= self.max_cloud <= 100:
            raise ValueError(f"max_cloud must be a percentage, got {self.max_cloud}")
        if self.offset_dn not in (None, 0, BOA_OFFSET_DN):
            raise ValueError(f"offset_dn must be 0 or {BOA_OFFSET_DN}, got {self.offset_dn}")
        for name, unit in (self.units or {}).items():
            if name not in self.sensors or SENSORS[name].modality == "optical":
                raise ValueError(f"units must be of radar or s2 among {self.sensors}, got {name!r}")
            check_unit(name, unit)
        if self.sar not in SARS:
            raise ValueError(f"sar must be one of {', '.join(SARS)}, got {self.sar!r}")

    @property
    def key(self) -> dict[str, Any]:
        """What tells a run from others; `units` only where they are stated."""
        stated = asdict(self)
        return stated if self.units else {n: stated[n] for n in stated if n != "units"}

    def collections(self, sensor: str) -> tuple[str, ...]:
        """Names of the collections that hold a sensor's items."""
        row = SENSORS[sensor]
        return RTC if row.radar and self.sar == "rtc" else row.collections

    def dates_of(self, sensor: str) -> str | None:
        """The interval that a sensor's items must lie in."""
        return self.hires_dates if SENSORS[sensor].rare else self.dates


def search(
    items: Iterable[pystac.Item],
    sensor: str,
    rules: Rules | None = None,
    area: BaseGeometry | None = None,
    report: Say | None = None,
) -> list[Scene]:
    """Usable scenes of a sensor: clearest first, then nearest to the dates, newest, by id.

    Items without the assets that the sensor needs, radar items of another instrument mode, items
    without a geometry, and those whose polygon crosses the antimeridian uncut (RFC 7946, 3.1.9) are
    not usable. An item that is listed twice counts once, and so do versions of one scene: the
    newest processing baseline is taken. Items with an odd field are left out.

    Args:
        items: what `sources.find_items` gives.
        sensor: its name.
        rules: which scenes may be used.
        area: in degrees.
        report: told which items are left out, and of how many scenes older versions.

    Raises:
        ValueError: if nothing is left, saying what took the scenes away.
    """
    rules, say = rules or Rules(), report or (lambda _: None)
    first, last = parse_dates(rules.dates_of(sensor))
    items = list(items)
    mine = [item for item in items if item.collection_id in rules.collections(sensor)]
    total = len({(item.collection_id, item.id) for item in mine})
    how = {"unstated_dn": rules.offset_dn, "stated": (rules.units or {}).get(sensor)}
    scenes, left = read_each(mine, partial(scene_of, sensor=sensor, **how), f"{sensor} items")
    usable = [scene for scene in scenes if scene]
    latest, older = newest(usable)
    inside = [scene for scene in latest if area is None or scene.footprint.intersects(area)]
    timely = [scene for scene in inside if first <= scene.datetime <= last]
    clear = [scene for scene in timely if scene.cloud <= rules.max_cloud]
    if not clear:
        raise ValueError(
            f"{' or '.join(rules.collections(sensor))} search must find a scene: the catalogue has "
            f"{total}, {len(usable)} of them usable, {len(inside)} of those in the area, "
            f"{len(timely)} of those in dates {rules.dates_of(sensor)}, none with at most "
            f"{rules.max_cloud} % cloud; {left or _advice(items, mine, sensor, latest, inside)}"
        )
    if left:
        say(left)
    if older:
        named = ", ".join(scene.id for scene in older[:NAMED])
        say(f"{len(older)} older versions of {sensor} scenes are left out ({named}, ...)")
    begin, end = parse_dates(rules.dates)

    def rank(scene: Scene) -> tuple:
        # hires outside the dates of the other sensors comes after that within
        away = max(begin - scene.datetime, scene.datetime - end, timedelta())
        return scene.cloud, away, -scene.datetime.timestamp(), scene.id

    return sorted(clear, key=rank)


def _advice(
    items: Sequence[pystac.Item],
    mine: Sequence[pystac.Item],
    sensor: str,
    usable: Sequence[Scene],
    inside: Sequence[Scene],
) -> str:
    """What to do where a search ends with nothing."""
    row = SENSORS[sensor]
    if items and not mine:
        names = sorted({str(item.collection_id) for item in items})
        return f"{row.absent}; its items are of {', '.join(names)}"
    if mine and not usable:
        bands = row.classified and chosen(mine[0], SENSORS["s2"])
        other = "; they have Sentinel-2's bands: take --sensors radar,s2" if bands else ""
        keys = " or ".join(" and ".join(keys) for keys in row.assets)
        return f"{row.absent}: their files are {', '.join(mine[0].assets)}, not {keys}{other}"
    if not inside:
        return f"{row.absent}, or not then: move or widen the area, or the dates"
    return "widen the one that takes them away (100 % takes what states no cloud cover)"


def search_all(
    items: Sequence[pystac.Item],
    rules: Rules | None = None,
    area: BaseGeometry | None = None,
    report: Say | None = None,
) -> dict[str, list[Scene]]:
    """Usable scenes of each sensor, see `search`."""
    names = (rules or Rules()).sensors
    return {sensor: search(items, sensor, rules, area, report) for sensor in names}


def parse_dates(dates: str | None) -> tuple[datetime, datetime]:
    """First and last moment of an interval such as `2022-05-01/2022-08-31` or `2022-05/2022-08`.

    Years, months and days count whole, in UTC.

    Raises:
        ValueError: if a part is no ISO date, or the interval ends before it begins.
    """
    first, _, last = (dates or "../..").partition("/")
    try:
        begin, end = _period(first)[0], _period(last or first)[1]
    except ValueError as error:
        raise ValueError(f"dates must be YYYY-MM-DD/YYYY-MM-DD, got {dates!r}") from error
    if end < begin:
        raise ValueError(f"dates must end after they begin, got {dates!r}")
    return begin, end


def _period(text: str) -> tuple[datetime, datetime]:
    """First and last moment of a year, a month, a day or a moment; of all time for `..`."""
    if text in ("", ".."):
        return utc(datetime.min), utc(datetime.max)
    if not re.fullmatch(r"\d{4}(-\d{1,2}){0,2}", text):
        moment = utc(datetime.fromisoformat(text))
        return moment, moment
    period: Any = pd.Period(text)
    ends = period.start_time, period.end_time.floor("us")
    return utc(ends[0].to_pydatetime()), utc(ends[1].to_pydatetime())
