"""STAC items to scenes: what is read of them, and which of their versions."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pystac
from shapely.geometry.base import BaseGeometry

from salib.config import SENSORS
from salib.curate.search.fields import (
    acquisition,
    baseline,
    chosen,
    classes,
    cloud,
    footprint,
    offset_dn,
    processed,
    unit,
)
from salib.curate.search.items import check, href_of
from salib.rasters.remote import disk_path

RTC = ("sentinel-1-rtc",)
MODE = "IW"
"""The instrument mode that Sentinel-1 uses over land."""
SAME_GROUND = 0.9
"""Part of a scene that a newer version must show to take its place."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one sensor: where, when, how cloudy (percent), and its files.

    `procedural` is true where no sensor ever saw this ground. `scl` is the file of scene classes,
    `unit` that of its pixel values where it is stated (`rasters.rules.UNITS`), `offset_dn` what is
    added to those that state reflectance. Scenes with one `acquisition` are versions, the newest of
    which has the largest `version`: its processing baseline, time of processing and collection.
    """

    id: str
    sensor: str
    datetime: datetime
    cloud: float
    footprint: BaseGeometry
    hrefs: tuple[str, ...]
    procedural: bool
    scl: str | None = None
    unit: str | None = None
    rtc: bool = False
    offset_dn: int = 0
    acquisition: str = ""
    version: tuple = ()

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


def scene_of(
    item: pystac.Item, sensor: str, unstated_dn: int | None = None, stated: str | None = None
) -> Scene | None:
    """The item as a scene, or None if it is not usable.

    Args:
        item: as `items.item_of` gives it.
        sensor: its name.
        unstated_dn: see `Rules.offset_dn`.
        stated: unit of its pixel values, see `Rules.units`.

    Raises:
        ValueError: if a field that is read is odd.
    """
    said, row = item.properties, SENSORS[sensor]
    mode = said.get("sar:instrument_mode", MODE)
    check(mode is None or isinstance(mode, str), "have a text as sar:instrument_mode", mode)
    ground, assets = footprint(item), chosen(item, row)
    if ground is None or assets is None or (row.radar and mode != MODE):
        return None
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        raise ValueError("it must have a datetime, got none")
    names = [*map(plain, row.collections)]
    place = names.index(plain(item.collection_id)) if plain(item.collection_id) in names else 0
    age = baseline(item) if row.classified else None
    return Scene(
        id=item.id,
        sensor=sensor,
        datetime=utc(moment),
        cloud=cloud(item, row),
        footprint=ground,
        hrefs=tuple(href_of(item, asset) for asset in assets),
        procedural=said.get("platform") == "procedural",
        scl=href_of(item, scl) if row.classified and (scl := classes(item)) else None,
        unit=stated or (unit(assets) if row.radar else None),
        rtc=plain(item.collection_id) in map(plain, RTC),
        offset_dn=offset_dn(item, assets, unstated_dn) if row.full_scale else 0,
        acquisition=acquisition(item),
        version=(-1.0 if age is None else age, processed(item), place),
    )


def newest(scenes: Iterable[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Scenes whose ground no newer version shows; and the versions that one does."""
    kept, older = dict[str, list[Scene]](), []
    for scene in sorted(scenes, key=lambda scene: (scene.version, scene.id), reverse=True):
        others = kept.setdefault(scene.acquisition or scene.id, [])
        ground = scene.footprint
        shows = [ground.intersection(one.footprint).area for one in others]
        newer = [
            one
            for one, area in zip(others, shows, strict=True)
            if area >= SAME_GROUND * ground.area
        ]
        if not newer:
            others.append(scene)
        elif newer[0].version != scene.version:
            older.append(scene)
    return [scene for others in kept.values() for scene in others], older


def check_files(scenes: Iterable[Scene]) -> None:
    """Refuse scenes whose local files are missing, before any work is done."""
    for scene in scenes:
        for href in scene.files:
            path = disk_path(href)
            if path is not None and not path.is_file():
                raise ValueError(
                    f"asset of {scene.id} must exist, got no file {href}: write the scenes again"
                )


def plain(collection: str | None) -> str:
    """A collection's name without what catalogues spell differently."""
    return re.sub(r"[^a-z0-9]", "", (collection or "").lower())


def utc(moment: datetime) -> datetime:
    """A moment with its zone, UTC unless it has one."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
