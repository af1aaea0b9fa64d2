"""Radar scenes: turned against the map, mirrored by the orbit, unequal in range."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pystac
from jaxtyping import Float, Float32
from rasterio.control import GroundControlPoint

from earth import sensors
from earth.scenes.area import LORES_M, UtmArea
from earth.scenes.files import Scene
from earth.scenes.lores import STRIP

TURN = np.deg2rad(-10.4)
_STRETCH = 2e-6
_LATTICE = 11


def write_radar(
    part: Path, area: UtmArea, seed: int, ground: np.ndarray, number: int
) -> pystac.Item:
    """Write one of two radar scenes: VV and VH amplitude on ground control points."""
    slant = two_scenes(area)[number]
    when = datetime(2023, 6, 13, 0, 31, 7 + 25 * number, tzinfo=UTC)
    name = f"S1P_IW_GRDH_1SDV_{when:%Y%m%dT%H%M%S}_procedural"
    properties = {"constellation": "sentinel-1", "sar:instrument_mode": "IW"}
    properties |= {"sar:polarizations": ["VV", "VH"], "sar:pixel_spacing_range": LORES_M}
    corners = slant.footprint()
    scene = Scene(part, area, ("sentinel-1-grd", name), when, properties, corners)
    place = {"crs": "EPSG:4326", "gcps": slant.points()}
    rng = np.random.default_rng([seed, 19, number])
    power = sensors.backscatter(ground.astype(np.float32))
    empty = 0.5 * power.min()
    seen = slant.sampled(power)
    dn = np.zeros(seen.shape, np.uint16)
    for top in range(0, slant.rows, STRIP):
        strip = seen[:, top : top + STRIP]
        dn[:, top : top + STRIP] = sensors.amplitude(rng, strip) * (strip.min(0) > empty)
    for key, band in zip(("vv", "vh"), dn, strict=True):
        scene.write(key, key, band[None], **place)
    return scene.item


@dataclass(frozen=True, kw_only=True)
class Slant:
    """An ascending scene: columns run away from the orbit, rows run north along it."""

    area: UtmArea
    range_m: float
    azimuth_m: float
    rows: int
    cols: int

    def utm(self, col: np.ndarray, row: np.ndarray) -> Float[np.ndarray, "*shape 2"]:
        """Easting and northing of places in the image; (0, 0) is the outer corner of a pixel."""
        away = self.range_m + LORES_M * (col + _STRETCH * col**2)
        ahead = self.azimuth_m + LORES_M * row
        cos, sin = np.cos(TURN), np.sin(TURN)
        east = self.area.west_m + cos * away - sin * ahead
        north = self.area.north_m + sin * away + cos * ahead
        return np.stack([east, north], -1)

    def points(self) -> list[GroundControlPoint]:
        """Lattice of 11 x 11 ground control points in longitude and latitude."""
        sides = (np.linspace(0, side, _LATTICE) for side in (self.rows, self.cols))
        rows, cols = (grid.ravel() for grid in np.meshgrid(*sides, indexing="ij"))
        place = self.area.lonlat(self.utm(cols, rows))
        return [
            GroundControlPoint(row=row, col=col, x=lon, y=lat, z=0.0)
            for row, col, (lon, lat) in zip(rows, cols, place, strict=True)
        ]

    def sampled(
        self, bands: Float32[np.ndarray, "bands height width"]
    ) -> Float32[np.ndarray, "bands rows cols"]:
        """Bands of the area's map grid at the pixels of the scene, 0 outside the area."""
        cols = np.arange(self.cols)[None] + 0.5
        out = np.empty((len(bands), self.rows, self.cols), np.float32)
        for top in range(0, self.rows, 512):
            rows = np.arange(top, min(top + 512, self.rows))[:, None] + 0.5
            place = self.utm(*np.broadcast_arrays(cols, rows))
            x = ((place[..., 0] - self.area.west_m) / LORES_M - 0.5).astype(np.float32)
            y = ((self.area.north_m - place[..., 1]) / LORES_M - 0.5).astype(np.float32)
            for band, target in zip(bands, out, strict=True):
                target[top : top + 512] = cv2.remap(band, x, y, cv2.INTER_LINEAR)
        return out

    def footprint(self) -> Float[np.ndarray, "n 2"]:
        """Corners in UTM of the part of the scene inside the area."""
        corner = np.array([self.area.west_m, self.area.north_m])
        image = self.utm(self.cols * np.array([0, 1, 1, 0]), self.rows * np.array([0, 0, 1, 1]))
        frame = self.area.corners[::-1]
        both = ((corners - corner).astype(np.float32) for corners in (image, frame))
        _, common = cv2.intersectConvexConvex(*both)
        return common[:, 0].astype(np.float64) + corner


def two_scenes(area: UtmArea) -> list[Slant]:
    """Two scenes of one pass, overlapping by 3 km or a tenth, that together cover the area."""
    corners = np.array([(0, 0), (1, 0), (0, -1), (1, -1)]) * (area.width_m, area.height_m)
    cos, sin = np.cos(TURN), np.sin(TURN)
    away, ahead = corners @ np.array([cos, sin]), corners @ np.array([-sin, cos])
    lap = min(1500.0, 0.05 * np.ptp(ahead))
    middle, near = ahead.mean(), away.min() - 200
    spans = ((ahead.min() - 200, middle + lap), (middle - lap, ahead.max() + 200))
    return [
        Slant(
            area=area,
            range_m=float(near),
            azimuth_m=float(low),
            rows=int(np.ceil((high - low) / LORES_M)),
            cols=int(np.ceil((away.max() + 200 - near) / LORES_M)),
        )
        for low, high in spans
    ]
