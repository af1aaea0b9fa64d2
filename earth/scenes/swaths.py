"""Radar and lores scenes of an area, from the ground at 10 m."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from earth import sensors
from earth.landscape.fields import Grid, Lay, noise_pyramid, sample
from earth.scenes import spectral as spectral_bands
from earth.scenes import stac
from earth.scenes.aerial import LORES_M
from earth.scenes.area import UtmArea
from earth.scenes.cog import on_map, write_cog
from earth.scenes.slant import SPACING_M, two_scenes

SCL_M = 20.0
VEGETATION, NOT_VEGETATED, WATER, CLOUD_MEDIUM, CLOUD_HIGH = 4, 5, 6, 8, 9
_STRIP = 300


def write_radar(part: Path, area: UtmArea, seed: int, ground: np.ndarray, number: int) -> None:
    """Write one of two radar scenes: VV and VH amplitude on ground control points."""
    slant = two_scenes(area)[number]
    when = datetime(2023, 6, 13, 0, 31, 7 + 25 * number, tzinfo=UTC)
    name = f"S1P_IW_GRDH_1SDV_{when:%Y%m%dT%H%M%S}_procedural"
    properties = {
        "constellation": "sentinel-1",
        "sar:instrument_mode": "IW",
        "sar:polarizations": ["VV", "VH"],
        "sar:pixel_spacing_range": SPACING_M,
    }
    item = stac.new_item(name, "sentinel-1-grd", when, area, slant.footprint(), properties)
    place = {"crs": "EPSG:4326", "gcps": slant.points()}
    rng = np.random.default_rng([seed, 19, number])
    power = sensors.backscatter(ground.astype(np.float32))
    empty = 0.5 * power.min()
    seen = slant.sampled(power, LORES_M)
    dn = np.zeros(seen.shape, np.uint16)
    for top in range(0, slant.rows, _STRIP):
        strip = seen[:, top : top + _STRIP]
        dn[:, top : top + _STRIP] = sensors.amplitude(rng, strip) * (strip.min(0) > empty)
    for key, band in zip(("vv", "vh"), dn, strict=True):
        write_cog(stac.folder(part, item) / f"{key}.tif", band[None], place)
        stac.add(item, key, f"{key}.tif")
    stac.save(part, item)


def write_lores(
    part: Path, area: UtmArea, seed: int, ground: np.ndarray, number: int, spectral: bool
) -> None:
    """Write one lores scene: west part (ends at the swath's edge), east part, or a cloudy whole.

    Args:
        spectral: write Sentinel-2's twelve bands too.
    """
    first, last = ((0.0, 0.62), (0.38, 1.0), (0.0, 1.0))[number]
    cols = [6 * round(share * ground.shape[2] / 6) for share in (first, last)]
    ground = ground[:, :, cols[0] : cols[1]]
    bands = spectral_bands.empty(*ground.shape[1:]) if spectral else {}
    image, classes = _observed(seed, ground, number, bands)
    if number == 0:
        for band in (*image, classes, *bands.values()):
            band[_beyond(*band.shape)] = 0
    west, width = area.west_m + cols[0] * LORES_M, image.shape[2] * LORES_M
    corners = stac.box(west, area.north_m, width, image.shape[1] * LORES_M)
    if number == 0:
        corners[1:3, 0] = west + np.array([0.85, 0.97]) * width
    cloudy = float(100 * np.isin(classes, (CLOUD_MEDIUM, CLOUD_HIGH)).sum() / (classes > 0).sum())
    when = datetime(2023, 6, (12, 14, 19)[number], 17, 24, 31, tzinfo=UTC)
    name = f"S2P_{area.epsg % 100}PRC_{when:%Y%m%d}_{number}_L2A"
    properties = {"constellation": "sentinel-2", "gsd": 10, "eo:cloud_cover": round(cloudy, 4)}
    item = stac.new_item(name, "sentinel-2-l2a", when, area, corners, properties)
    folder = stac.folder(part, item)
    write_cog(folder / "TCI.tif", image, on_map(area.epsg, west, area.north_m, LORES_M))
    stac.add(item, "visual", "TCI.tif", gsd=10)
    place = on_map(area.epsg, west, area.north_m, SCL_M)
    write_cog(folder / "SCL.tif", classes[None], place, overviews="MODE")
    stac.add(item, "scl", "SCL.tif", gsd=20)
    if spectral:
        spectral_bands.write_bands(folder, item, bands, area, west)
    stac.save(part, item)


def _observed(
    seed: int, ground: np.ndarray, number: int, bands: dict[str, np.ndarray]
) -> tuple[UInt8[np.ndarray, "3 rows cols"], UInt8[np.ndarray, "halfrows halfcols"]]:
    """Image and scene classification of one lores scene, strip by strip; fills `bands` if any."""
    rng = np.random.default_rng([seed, 23, number])
    weather, sigma = sensors.Weather.draw(rng, strength=0.5), float(rng.uniform(0.4, 1.0))
    lay, amount = Lay.draw(rng, 40.0 + 10 * number), (-2.4, -2.2, 0.3)[number]
    _, rows, cols = ground.shape
    image = np.empty((3, rows, cols), np.uint8)
    classes = np.empty((rows // 2, cols // 2), np.uint8)
    for top in range(0, rows, _STRIP):
        strip = ground[:4, top : top + _STRIP].astype(np.float32)
        high = strip.shape[1]
        grid = Grid(x_m=0.0, y_m=top * LORES_M, gsd_m=LORES_M, rows=high, cols=cols)
        field = sample(noise_pyramid(1.6), grid, lay)
        cover = np.clip((field + np.float32(amount)) / np.float32(0.8), 0, 1)
        rgb = weather.apply(strip[:3])
        if bands:
            spectral_bands.put(bands, rgb, strip[3], cover, top)
        rgb = sensors.grained(rng, sensors.clouded(rgb, cover), sigma)
        image[:, top : top + high] = sensors.rounded(rgb)
        classes[top // 2 : (top + high) // 2] = _classes(strip[3], cover)
    return image, classes


def _classes(
    ndvi: Float32[np.ndarray, "rows cols"], cover: Float32[np.ndarray, "rows cols"]
) -> UInt8[np.ndarray, "halfrows halfcols"]:
    """Scene classification at 20 m from NDVI and cloud opacity."""
    small, veil = sensors.average(np.stack([ndvi, cover]), ndvi.shape[1] // 2)
    classes = np.full(small.shape, NOT_VEGETATED, np.uint8)
    classes[small > 0.4] = VEGETATION
    classes[small < 0] = WATER
    classes[veil > 0.15] = CLOUD_MEDIUM
    classes[veil > 0.6] = CLOUD_HIGH
    return classes


def _beyond(rows: int, cols: int) -> np.ndarray:
    """Pixels east of the slanted edge of the swath: 0.97 of the width at the top, 0.85 below."""
    share = (np.arange(cols) + 0.5)[None] / cols
    down = (np.arange(rows) + 0.5)[:, None] / rows
    return share > 0.97 - 0.12 * down
