"""STAC items to scenes: rules, choice of assets, order."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from salib.config import SENSOR_NAMES, SENSORS, check_sensors

SARS = ("grd", "rtc")
RTC = ("sentinel-1-rtc",)
SCL = ("scl", "SCL")
MODE = "IW"
"""The instrument mode that Sentinel-1 uses over land."""
BASELINE_WITH_OFFSET, BOA_OFFSET_DN = 4.0, -1000
"""From this processing baseline on a Sentinel-2 product states reflectance x 10,000 + 1,000."""


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
        sar: `grd`, the paper's, placed by ground control points and as wrong as the terrain is
            rough; or `rtc`, terrain corrected.
    """

    sensors: tuple[str, ...] = SENSOR_NAMES
    dates: str | None = None
    hires_dates: str | None = None
    max_cloud: float | int = 10.0
    sar: str = "grd"

    def __post_init__(self) -> None:
        check_sensors(self.sensors)
        parse_dates(self.dates)
        parse_dates(self.hires_dates)
        if not 0 <= self.max_cloud <= 100:
            raise ValueError(f"max_cloud must be a percentage, got {self.max_cloud}")
        if self.sar not in SARS:
            raise ValueError(f"sar must be one of {', '.join(SARS)}, got {self.sar!r}")

    def collections(self, sensor: str) -> tuple[str, ...]:
        """Names of the collections that hold a sensor's items."""
        row = SENSORS[sensor]
        return RTC if row.radar and self.sar == "rtc" else row.collections

    def dates_of(self, sensor: str) -> str | None:
        """The interval that a sensor's items must lie in."""
        return self.hires_dates if SENSORS[sensor].rare else self.dates


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one sensor: where, when, how cloudy (percent), and its files.

    `procedural` is true where no sensor ever saw this ground. `scl` is the file of scene classes,
    `in_db` whether a radar file holds decibels, `offset_dn` what is added to pixel values that
    state reflectance.
    """

    id: str
    sensor: str
    datetime: datetime
    cloud: float
    footprint: BaseGeometry
    hrefs: tuple[str, ...]
    procedural: bool
    scl: str | None = None
    in_db: bool = False
    rtc: bool = False
    offset_dn: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is read of it."""
        return (*self.hrefs, self.scl) if self.scl else self.hrefs

    @property
    def attribution(self) -> str:
        """What must be said where the scene is shown."""
        if self.procedural:
            return "Procedural: made-up ground, no satellite data"
        said = SENSORS[self.sensor].attribution.format(year=f"{self.datetime:%Y}")
        return f"{said}; terrain corrected, CC-BY-4.0" if self.rtc else said


def search(
    items: Iterable[pystac.Item],
    sensor: str,
    rules: Rules | None = None,
    area: BaseGeometry | None = None,
) -> list[Scene]:
    """Usable scenes of a sensor: clearest first, then nearest to the dates, newest, by id.

    Items without the assets that the sensor needs, radar items of another instrument mode, items
    without a geometry, and those whose polygon crosses the antimeridian uncut (RFC 7946, 3.1.9) are
    not usable. An item that is listed twice counts once.

    Args:
        area: in degrees.

    Raises:
        ValueError: if nothing is left, saying what took the scenes away.
    """
    rules = rules or Rules()
    dates, wanted = rules.dates_of(sensor), rules.collections(sensor)
    first, last = parse_dates(dates)
    unique = {item.id: item for item in items if item.collection_id in wanted}
    usable = [scene for item in unique.values() if (scene := scene_of(item, sensor))]
    inside = [scene for scene in usable if area is None or scene.footprint.intersects(area)]
    timely = [scene for scene in inside if first <= scene.datetime <= last]
    clear = [scene for scene in timely if scene.cloud <= rules.max_cloud]
    if not clear:
        why = "widen the one that takes them away"
        if not inside:
            why = f"{SENSORS[sensor].absent}, or not then: move or widen the area, or the dates"
        raise ValueError(
            f"{' or '.join(wanted)} search must find a scene: the catalogue has {len(unique)}, "
            f"{len(usable)} of them usable, {len(inside)} of those in the area, {len(timely)} of "
            f"those in dates {dates}, none with at most {rules.max_cloud} % cloud; {why}"
        )
    begin, end = parse_dates(rules.dates)

    def rank(scene: Scene) -> tuple:
        # hires outside the dates of the other sensors comes after that within
        away = max(begin - scene.datetime, scene.datetime - end, timedelta())
        return scene.cloud, away, -scene.datetime.timestamp(), scene.id

    return sorted(clear, key=rank)


def search_all(
    items: Sequence[pystac.Item], rules: Rules | None = None, area: BaseGeometry | None = None
) -> dict[str, list[Scene]]:
    """Usable scenes of each sensor, see `search`."""
    return {sensor: search(items, sensor, rules, area) for sensor in (rules or Rules()).sensors}


def scene_of(item: pystac.Item, sensor: str) -> Scene | None:
    """The item as a scene, or None if it is not usable."""
    said, row = item.properties, SENSORS[sensor]
    mode = said.get("sar:instrument_mode", MODE)
    ground = _footprint(item)
    keys = next((keys for keys in row.assets if {*keys} <= item.assets.keys()), None)
    if ground is None or keys is None or (row.radar and mode != MODE):
        return None
    asset = item.assets[keys[0]]
    classes = [item.assets[key] for key in SCL if key in item.assets]
    cloud = said.get("eo:cloud_cover")
    cloud = cloud if cloud is not None else math.inf if row.classified else 0.0
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        raise ValueError(f"item must have a datetime, got none in {item.id}")
    baseline = float(said.get("s2:processing_baseline") or 0)
    shifted = baseline >= BASELINE_WITH_OFFSET and not said.get("earthsearch:boa_offset_applied")
    bands = asset.extra_fields.get("raster:bands") or asset.extra_fields.get("bands") or [{}]
    return Scene(
        id=item.id,
        sensor=sensor,
        datetime=_utc(moment),
        cloud=float(cloud),
        footprint=ground,
        hrefs=tuple(asset_href(item.assets[key]) for key in keys),
        procedural=said.get("platform") == "procedural",
        scl=asset_href(classes[0]) if classes and row.classified else None,
        in_db=str(bands[0].get("unit", "")).lower() == "db",
        rtc=item.collection_id in RTC,
        offset_dn=BOA_OFFSET_DN if row.full_scale and shifted else 0,
    )


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


def check_files(scenes: Iterable[Scene]) -> None:
    """Refuse scenes whose local files are missing, before any work is done."""
    for scene in scenes:
        for href in scene.files:
            if "://" not in href and not href.startswith("/vsi") and not Path(href).is_file():
                raise ValueError(
                    f"asset of {scene.id} must exist, got no file {href}: write the scenes again"
                )


def asset_href(asset: pystac.Asset) -> str:
    """Absolute path or address of an asset."""
    return (asset.get_absolute_href() or asset.href).removeprefix("file://")


def _footprint(item: pystac.Item) -> BaseGeometry | None:
    """The ground of an item, repaired where its outline crosses itself; None if it tells none."""
    if item.geometry is None:
        return None
    drawn = shapely.geometry.shape(item.geometry)
    if not drawn.is_valid:
        drawn = shapely.make_valid(drawn, method="structure", keep_collapsed=False)
    edges = shapely.bounds(shapely.get_parts(drawn))
    return None if drawn.area == 0 or (edges[:, 2] - edges[:, 0] > 180).any() else drawn


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _period(text: str) -> tuple[datetime, datetime]:
    """First and last moment of a year, a month, a day or a moment; of all time for `..`."""
    if text in ("", ".."):
        return _utc(datetime.min), _utc(datetime.max)
    if not re.fullmatch(r"\d{4}(-\d{1,2}){0,2}", text):
        moment = _utc(datetime.fromisoformat(text))
        return moment, moment
    period: Any = pd.Period(text)
    ends = period.start_time, period.end_time.floor("us")
    return _utc(ends[0].to_pydatetime()), _utc(ends[1].to_pydatetime())
