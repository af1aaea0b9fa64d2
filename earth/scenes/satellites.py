"""Satellite scenes of an area, from the ground at 10 m: radar, then Sentinel-2-like ones.

A radar scene is turned against the map, mirrored by the orbit and unequal in range.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pystac
from jaxtyping import Float, Float32, UInt8
from rasterio.control import GroundControlPoint

from earth import sensors
from earth.landscape.fields import Grid, Lay, noise_pyramid, sample
from earth.scenes.area import LORES_M, UtmArea
from earth.scenes.files import LOSSLESS, Scene
from salib.config import S2_BANDS

TURN = np.deg2rad(-10.4)
_STRETCH = 2e-6
_LATTICE = 11
VEGETATION, NOT_VEGETATED, WATER, CLOUD_MEDIUM, CLOUD_HIGH = 4, 5, 6, 8, 9
_STRIP = 300
_DN_PER_LEVEL = 2000 / 255
"""Level 255 of the true-colour stretch is reflectance 0.2, which a product states x 10,000."""
_OFFSET_DN, _BASELINE = 1000, "05.09"
"""Since baseline 04.00 a product adds the offset, which readers must take away."""
_FINE, _COARSE = ("B02", "B03", "B04", "B08"), ("B01", "B09")
_STEPS = {band: 1 if band in _FINE else 6 if band in _COARSE else 2 for band in S2_BANDS}
"""Pixels of 10 m along a pixel of each band."""


def write_radar(
    part: Path, area: UtmArea, seed: int, ground: np.ndarray, number: int
) -> pystac.Item:
    """Write one of two radar scenes: VV and VH amplitude on ground control points."""
    slant = two_scenes(area)[number]
    when = datetime(2023, 6, 13, 0, 31, 7 + 25 * number, tzinfo=UTC)
    name = f"S1P_IW_GRDH_1SDV_{when:%Y%m%dT%H%M%S}_procedural"
    properties = {"constellation": "sentinel-1", "sar:instrument_mode": "IW"}
    properties |= {"sar:polarizations": ["VV", "VH"], "sar:pixel_spacing_range": LORES_M}
    what = {"id": name, "collection": "sentinel-1-grd", "datetime": when, "properties": properties}
    scene = Scene(part, area.ring(slant.footprint()), **what)
    georeference = {"crs": "EPSG:4326", "gcps": slant.points()}
    rng = np.random.default_rng([seed, 19, number])
    power = sensors.backscatter(ground.astype(np.float32))
    empty = 0.5 * power.min()
    dn = np.zeros((2, slant.rows, slant.cols), np.uint16)
    for top in range(0, slant.rows, _STRIP):
        strip = slant.sampled(power, top, min(top + _STRIP, slant.rows))
        dn[:, top : top + _STRIP] = sensors.amplitude(rng, strip) * (strip.min(0) > empty)
    for key, band in zip(("vv", "vh"), dn, strict=True):
        scene.write(key, key, band[None], **georeference)
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
        """Easting and northing of positions in the image; (0, 0) is the outer corner of a pixel."""
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
        position = self.area.lonlat(self.utm(cols, rows))
        return [
            GroundControlPoint(row=row, col=col, x=lon, y=lat, z=0.0)
            for row, col, (lon, lat) in zip(rows, cols, position, strict=True)
        ]

    def sampled(
        self, bands: Float32[np.ndarray, "bands height width"], top: int, bottom: int
    ) -> Float32[np.ndarray, "bands rows cols"]:
        """Bands of the area's map grid at some rows of the scene, 0 outside the area."""
        cols, rows = np.arange(self.cols)[None] + 0.5, np.arange(top, bottom)[:, None] + 0.5
        position = self.utm(*np.broadcast_arrays(cols, rows))
        x = ((position[..., 0] - self.area.west_m) / LORES_M - 0.5).astype(np.float32)
        y = ((self.area.north_m - position[..., 1]) / LORES_M - 0.5).astype(np.float32)
        return np.stack([cv2.remap(band, x, y, cv2.INTER_LINEAR) for band in bands])

    def footprint(self) -> Float[np.ndarray, "n 2"]:
        """Corners in UTM of the part of the scene inside the area."""
        corner = np.array([self.area.west_m, self.area.north_m])
        image = self.utm(self.cols * np.array([0, 1, 1, 0]), self.rows * np.array([0, 0, 1, 1]))
        frame = (self.area.corners[::-1] - corner).astype(np.float32)
        _, common = cv2.intersectConvexConvex((image - corner).astype(np.float32), frame)
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


def write_lores(
    part: Path, area: UtmArea, seed: int, ground: np.ndarray, number: int, spectral: bool
) -> pystac.Item:
    """Write one lores scene: west part (ends at the swath's edge), east part, or a cloudy whole.

    Args:
        spectral: write Sentinel-2's twelve bands too.
    """
    first, last = ((0.0, 0.62), (0.38, 1.0), (0.0, 1.0))[number]
    first, last = (6 * round(share * ground.shape[2] / 6) for share in (first, last))
    images = _observed(seed, ground[:, :, first:last], number, spectral)
    scene_area = area.part(first * LORES_M, 0.0, (last - first) * LORES_M, area.height_m)
    corners = scene_area.corners
    if number == 0:
        corners[1:3, 0] = area.west_m + np.array([0.85, 0.97]) * scene_area.width_m
        for image in images.values():
            image[:, _beyond(*image.shape[1:])] = 0
    classes = images["scl"]
    cloudy = float(100 * np.isin(classes, (CLOUD_MEDIUM, CLOUD_HIGH)).sum() / (classes > 0).sum())
    when = datetime(2023, 6, (12, 14, 19)[number], 17, 24, 31, tzinfo=UTC)
    name = f"S2P_{area.epsg % 100}PRC_{when:%Y%m%d}_{number}_L2A"
    properties = {"constellation": "sentinel-2", "gsd": 10, "eo:cloud_cover": round(cloudy, 4)}
    properties |= {"s2:processing_baseline": _BASELINE} if spectral else {}
    what = {"id": name, "collection": "sentinel-2-l2a", "datetime": when, "properties": properties}
    scene = Scene(part, area.ring(corners), **what)
    files = {"visual": "TCI", "scl": "SCL"}
    for key, image in images.items():
        gsd_m = round(scene_area.width_m / image.shape[2])
        how = LOSSLESS | ({"overview_resampling": "MODE"} if key == "scl" else {})
        about = {"fields": {"gsd": gsd_m}, **scene_area.georeference(float(gsd_m))}
        scene.write(key, files.get(key, key), image, options=how, **about)
    return scene.item


def _observed(seed: int, ground: np.ndarray, number: int, spectral: bool) -> dict[str, np.ndarray]:
    """True colour, scene classification and, if `spectral`, bands of one scene by asset."""
    rng = np.random.default_rng([seed, 23, number])
    weather, sigma = sensors.Weather.draw(rng, strength=0.5), float(rng.uniform(0.4, 1.0))
    lay, amount = Lay.draw(rng, 40.0 + 10 * number), (-2.4, -2.2, 0.3)[number]
    _, rows, cols = ground.shape
    strips = []
    for top in range(0, rows, _STRIP):
        strip = ground[:4, top : top + _STRIP].astype(np.float32)
        grid = Grid(x_m=0.0, y_m=top * LORES_M, gsd_m=LORES_M, rows=strip.shape[1], cols=cols)
        field = sample(noise_pyramid(1.6), grid, lay)
        cover = np.clip((field + np.float32(amount)) / np.float32(0.8), 0, 1)
        rgb = weather.apply(strip[:3])
        bands = _bands(rgb, strip[3:], cover) if spectral else {}
        seen = sensors.grained(rng, sensors.clouded(rgb, cover), sigma)
        strips.append({"visual": sensors.rounded(seen), "scl": _classes(strip[3], cover), **bands})
    return {key: np.concatenate([strip[key] for strip in strips], axis=1) for key in strips[0]}


def _bands(rgb: np.ndarray, ndvi: np.ndarray, cover: np.ndarray) -> dict[str, np.ndarray]:
    """DN of the twelve bands, each at its own resolution, under clouds of some opacity."""
    infrared = sensors.near_infrared(np.concatenate([rgb, ndvi]))
    colours = sensors.clouded(np.concatenate([rgb, infrared[None]]), cover)
    seen = sensors.mixed(colours, [name[1:] for name in S2_BANDS])
    out = {}
    for band, values in zip(S2_BANDS, seen, strict=True):
        small = sensors.average(values[None], values.shape[1] // _STEPS[band])
        out[band] = sensors.rounded(small * np.float32(_DN_PER_LEVEL) + _OFFSET_DN, "uint16")
    return out


def _classes(
    ndvi: Float32[np.ndarray, "rows cols"], cover: Float32[np.ndarray, "rows cols"]
) -> UInt8[np.ndarray, "1 halfrows halfcols"]:
    """Scene classification at 20 m from NDVI and cloud opacity."""
    small, veil = sensors.average(np.stack([ndvi, cover]), ndvi.shape[1] // 2)
    shown = [veil > 0.6, veil > 0.15, small < 0, small > 0.4]
    classes = np.select(shown, [CLOUD_HIGH, CLOUD_MEDIUM, WATER, VEGETATION], NOT_VEGETATED)
    return classes.astype(np.uint8)[None]


def _beyond(rows: int, cols: int) -> np.ndarray:
    """Pixels east of the slanted edge of the swath: 0.97 of the width at the top, 0.85 below."""
    share = (np.arange(cols) + 0.5)[None] / cols
    down = (np.arange(rows) + 0.5)[:, None] / rows
    return share > 0.97 - 0.12 * down
