"""STAC items to scenes: what is read of them, and which of their versions."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import pystac
from shapely.geometry.base import BaseGeometry

from salib.config import SENSORS
from salib.curate.search import fields
from salib.curate.search.items import named
from salib.rasters.remote import disk_path

RTC = ("sentinel-1-rtc",)
SCL = (("scl",), ("scl_20m",), ("scl_60m",))
"""Keys of a Sentinel-2 product's scene classification."""
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
        ValueError: naming the item, if a field that is read is odd.
    """
    with named(item.id):
        return _scene(item, sensor, unstated_dn, stated)


def _scene(
    item: pystac.Item, sensor: str, unstated_dn: int | None, stated: str | None
) -> Scene | None:
    said, row = item.properties, SENSORS[sensor]
    ground, assets = fields.footprint(item), fields.chosen(item, row)
    other_mode = row.radar and said.get("sar:instrument_mode", MODE) != MODE
    if ground is None or assets is None or other_mode:
        return None
    moment = item.datetime or item.common_metadata.start_datetime
    if moment is None:
        raise ValueError("it must have a datetime, got none")
    scl = fields.by_keys(item, SCL) if row.classified else None
    age = fields.baseline(item) if row.classified else None
    later = item.collection_id in row.collections[1:]
    return Scene(
        id=item.id,
        sensor=sensor,
        datetime=utc(moment),
        cloud=fields.cloud(item, row),
        footprint=ground,
        hrefs=tuple(asset.href for asset in assets),
        procedural=said.get("platform") == "procedural",
        scl=scl[0].href if scl else None,
        unit=stated or (fields.unit(assets) if row.radar else None),
        rtc=item.collection_id in RTC,
        offset_dn=fields.offset_dn(item, assets, unstated_dn) if row.full_scale else 0,
        acquisition=fields.acquisition(item),
        version=(-1.0 if age is None else age, fields.processed(item), later),
    )


def newest(scenes: Iterable[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Scenes whose ground no newer version shows; and the versions that one does."""
    kept, older = defaultdict[str, list[Scene]](list), []
    for scene in sorted(scenes, key=lambda scene: (scene.version, scene.id), reverse=True):
        others, ground = kept[scene.acquisition or scene.id], scene.footprint
        least = SAME_GROUND * ground.area
        newer = (one for one in others if ground.intersection(one.footprint).area >= least)
        if not (same := next(newer, None)):
            others.append(scene)
        elif same.version != scene.version:
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


def utc(moment: datetime) -> datetime:
    """A moment with its zone, UTC unless it has one."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
