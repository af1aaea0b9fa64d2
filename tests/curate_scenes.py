"""Small scenes for the tests of salib.curate: markers at known places, georeferenced by hand."""

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pystac
import rasterio
import shapely
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

COLLECTIONS = {"radar": "sentinel-1-grd", "lores": "sentinel-2-l2a", "hires": "naip"}
BACKGROUND = 40


def utm(lon, lat, epsg):
    return Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True).transform(lon, lat)


def lonlat(x, y, epsg):
    return Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True).transform(x, y)


def spots(shape, cols, rows, sigma, peak):
    """Gaussians of height `peak` at fractional places, outer corner of the first pixel (0, 0)."""
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
    image = np.full(shape, float(BACKGROUND))
    for col, row in zip(cols, rows, strict=True):
        down, across = (np.exp(-((at - c) ** 2) / (2 * sigma**2)) for at, c in ((y, row), (x, col)))
        image += peak * np.outer(down, across)
    return image


def texture(shape, seed, low=20, high=220):
    """Smooth noise, so that bytes are neither constant nor incompressible."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(low, high, (shape[0] // 8 + 2, shape[1] // 8 + 2))
    fine = np.kron(coarse, np.ones((8, 8)))[: shape[0], : shape[1]]
    return fine + rng.uniform(-5, 5, shape)


def write_utm(path, bands, epsg, west, north, gsd, *, overviews=(2, 4), nodata=None):
    """A tiled GeoTIFF in UTM, bands first."""
    bands = np.asarray(bands)
    profile = {
        "driver": "GTiff",
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "dtype": bands.dtype,
        "crs": f"EPSG:{epsg}",
        "transform": from_origin(west, north, gsd, gsd),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)
        if overviews:
            file.build_overviews(list(overviews), rasterio.enums.Resampling.average)


class RadarGeometry:
    """A right-looking swath: rotated, 10 m, bent a little along both axes."""

    def __init__(self, epsg, x0, y0, angle_deg=12.0, bend=2e-7):
        self.epsg, self.x0, self.y0, self.bend = epsg, x0, y0, bend
        self.cos, self.sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))

    def pixel(self, lon, lat):
        x, y = utm(lon, lat, self.epsg)
        east, south = np.asarray(x) - self.x0, self.y0 - np.asarray(y)
        u, v = self.cos * east + self.sin * south, self.cos * south - self.sin * east
        return (u + self.bend * u * v) / 10, (v + self.bend * u * u) / 10

    def place(self, col, row):
        """Inverse of `pixel`, by fixed-point iteration."""
        u, v = 10 * np.asarray(col, float), 10 * np.asarray(row, float)
        a, b = u, v
        for _ in range(30):
            a, b = u - self.bend * a * b, v - self.bend * a * a
        east, south = self.cos * a - self.sin * b, self.sin * a + self.cos * b
        return lonlat(self.x0 + east, self.y0 - south, self.epsg)

    def gcps(self, shape):
        points = []
        for row in np.linspace(0, shape[0], 11):
            for col in np.linspace(0, shape[1], 13):
                lon, lat = self.place(col, row)
                points.append(GroundControlPoint(row=row, col=col, x=lon, y=lat, z=0.0))
        return points


def write_grd(path, dn, geometry):
    """A tiled GeoTIFF whose only georeferencing is ground control points."""
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": dn.shape[0],
        "width": dn.shape[1],
        "dtype": "uint16",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "gcps": geometry.gcps(dn.shape),
        "crs": "EPSG:4326",
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(dn.astype(np.uint16), 1)
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)


def make_item(sensor, name, footprint, day, assets, cloud=None):
    properties = {"platform": "procedural"}
    if cloud is not None:
        properties["eo:cloud_cover"] = cloud
    item = pystac.Item(
        name,
        shapely.geometry.mapping(footprint),
        list(footprint.bounds),
        dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC),
        properties,
    )
    for key, path in assets.items():
        item.add_asset(key, pystac.Asset(str(path), media_type=pystac.MediaType.COG))
    return sensor, item


def write_catalog(folder, items):
    catalog = pystac.Catalog("small", "scenes made for a test")
    for sensor, name in COLLECTIONS.items():
        extent = pystac.Extent(
            pystac.SpatialExtent([[-180, -90, 180, 90]]),
            pystac.TemporalExtent([[dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None]]),
        )
        collection = pystac.Collection(name, name, extent)
        collection.add_items([item for at, item in items if at == sensor])
        catalog.add_child(collection)
    catalog.normalize_hrefs(str(folder))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return Path(folder) / "catalog.json"


def utm_footprint(epsg, west, north, width_m, height_m):
    x = np.array([west, west + width_m, west + width_m, west])
    y = np.array([north, north, north - height_m, north - height_m])
    return shapely.Polygon(np.column_stack(lonlat(x, y, epsg)))


def write_small_world(folder, *, epsg=32614, lon=-98.4, lat=38.5, km=5):
    """Two scenes a sensor side by side, each `km` wide and 2 `km` high, and a cloudy decoy."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    west, north = (round(value, -2) for value in utm(lon, lat, epsg))
    size, items = 1000 * km, []
    for number in range(2):
        left = west + number * (size - 200)
        area = utm_footprint(epsg, left, north, size, 2 * size)
        day = f"2022-06-{11 + number}"
        lores = [texture((size // 5, size // 10), 10 * number + band) for band in range(3)]
        path = folder / f"s2-{number}.tif"
        write_utm(path, np.array(lores).astype(np.uint8), epsg, left, north, 10, nodata=0)
        cloud = [3.0, 5.0][number]
        items.append(make_item("lores", f"S2_{number}", area, day, {"visual": path}, cloud))
        hires = [texture((2 * size // 5, size // 5), 40 * number + band) for band in range(4)]
        path = folder / f"naip-{number}.tif"
        write_utm(path, np.array(hires).astype(np.uint8), epsg, left, north, 5)
        items.append(make_item("hires", f"naip_{number}", area, day, {"image": path}))
        items.append(_small_radar(folder, number, epsg, left, north, size, day))
    area = utm_footprint(epsg, west, north, 2 * size, 2 * size)
    cloudy = {"visual": folder / "s2-0.tif"}
    items.append(make_item("lores", "S2_cloudy", area, "2022-06-20", cloudy, 71.0))
    return write_catalog(folder, items)


def _small_radar(folder, number, epsg, left, north, size, day):
    geometry = RadarGeometry(epsg, left, north)
    shape = int(size * 2 // 10 * 1.1), int(size // 10 * 1.6)
    assets = {}
    for seed, name in enumerate(("vv", "vh")):
        path = folder / f"s1-{number}-{name}.tif"
        write_grd(path, texture(shape, 90 * number + seed, 100, 1300), geometry)
        assets[name] = path
    corners = [(0, 0), (shape[1], 0), (shape[1], shape[0]), (0, shape[0])]
    area = shapely.Polygon([geometry.place(*corner) for corner in corners])
    return make_item("radar", f"S1_{number}", area, day, assets)
