"""The sensors: all that curation, training, evaluation and figures know of one is its row here."""

from dataclasses import dataclass, field

TILE_PX = 256
SENTINEL2 = ("sentinel-2-l2a", "sentinel-2-c1-l2a")
COPERNICUS = "Contains modified Copernicus Sentinel data {year}"
_S2_M = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10}
_S2_M |= {"B8A": 20, "B09": 60, "B11": 20, "B12": 20}
S2_BANDS = tuple(_S2_M)
"""Of a Sentinel-2 L2A product, in the order of CROMA's weights."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What an encoder sees, and where it comes from.

    The value `gsd_m` of an image (metres of ground per pixel as sampled) belongs to the sample;
    `native_gsd_m` is what the instrument resolves.

    Attributes:
        bands: names, in the order of an image's channels.
        dtype: of pixel values in a tile. "uint8": an RGBA image, 0..255. "uint16": all bands, as
            the product states them, where 0 is no data.
        channels: which channels of an RGBA tile hold the bands.
        factor: pixels of a sample's image along one lores pixel; a power of two.
        modality: which images of labelled tasks it can be shown: "optical" (red, green, blue),
            "radar" (VV, VH), "multispectral" (Sentinel-2's twelve bands), or a name of its own.
        full_scale: pixel value of reflectance 1 where it states reflectance.
        collections: STAC collections that hold its items.
        assets: keys that catalogues use for its files, best first; one file, or one per band.
        absent: what to tell where a search finds nothing.
        attribution: what must be said where it is shown.
        classified: whether its items state cloud cover and have a scene classification.
        rare: flown every few years only, so that its dates are searched apart.
        nodata: what stands for no value in files that name none.
        interpolation: onto the grid of tiles, "cubic" or "linear".
        shown: bands drawn as red, green and blue; empty for the false colours of radar.
        label: for a figure's heading.
        colour: for its marks in figures.
    """

    name: str
    bands: tuple[str, ...]
    native_gsd_m: float
    dtype: str = "uint8"
    channels: tuple[int, ...] = (0, 1, 2)
    factor: int = 1
    modality: str = "optical"
    full_scale: float | None = None
    collections: tuple[str, ...]
    assets: tuple[tuple[str, ...], ...]
    absent: str
    attribution: str = COPERNICUS
    classified: bool = False
    rare: bool = False
    nodata: int | None = 0
    interpolation: str = "cubic"
    shown: tuple[int, ...] = (0, 1, 2)
    label: str
    colour: str = field(compare=False)

    @property
    def radar(self) -> bool:
        """Whether it is backscatter, by amplitude."""
        return self.modality == "radar"

    @property
    def max_value(self) -> int:
        """Largest pixel value of a tile."""
        return 255 if self.dtype == "uint8" else 65535

    @property
    def levels_down(self) -> int:
        """Zooms by which its tiles are finer than a sample's."""
        return self.factor.bit_length() - 1


SENSORS = {
    sensor.name: sensor
    for sensor in (
        Sensor(
            name="radar",
            bands=("VV", "VH"),
            native_gsd_m=10.0,
            channels=(1, 2),
            modality="radar",
            collections=("sentinel-1-grd",),
            assets=(("vv", "vh"), ("gamma0_vv", "gamma0_vh")),
            absent="no scene of both VV and VH in IW mode there",
            shown=(),
            label="sar",
            colour="#c2703d",
        ),
        Sensor(
            name="lores",
            bands=("red", "green", "blue"),
            native_gsd_m=10.0,
            collections=SENTINEL2,
            assets=(("visual",), ("TCI",), ("visual-jp2",), ("TCI_10m",)),
            absent="no true-colour scene there",
            classified=True,
            label="low res",
            colour="#3f9270",
        ),
        Sensor(
            name="hires",
            bands=("red", "green", "blue"),
            native_gsd_m=0.6,
            factor=2,
            collections=("naip",),
            assets=(("image",), ("GEOTIFF_AZURE_RGBIR",), ("CO_GEOTIFF_AWS_RGB",), ("asset",)),
            absent="NAIP flies the contiguous US, Hawaii, Puerto Rico and the US Virgin Islands "
            "alone",
            attribution="USDA NAIP {year}, public domain",
            rare=True,
            nodata=None,
            interpolation="linear",
            label="hi res",
            colour="#4c86c6",
        ),
        Sensor(
            name="s2",
            bands=S2_BANDS,
            native_gsd_m=10.0,
            dtype="uint16",
            modality="multispectral",
            channels=tuple(range(len(S2_BANDS))),
            full_scale=10_000.0,
            collections=SENTINEL2,
            assets=(
                (
                    *("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3"),
                    *("nir", "nir08", "nir09", "swir16", "swir22"),
                ),
                S2_BANDS,
                tuple(f"{band}_{metres}m" for band, metres in _S2_M.items()),
            ),
            absent="no scene of all twelve bands there",
            classified=True,
            shown=(3, 2, 1),
            label="12 bands",
            colour="#8a6fb8",
        ),
    )
}
SENSOR_NAMES = ("radar", "lores", "hires")
"""The paper's three, in the order of fusion."""


def check_sensors(sensors: tuple[str, ...]) -> None:
    """Refuse sensors that make no sample: radar first, then one on the same grid.

    Raises:
        ValueError: naming the rule.
    """
    unknown = [name for name in sensors if name not in SENSORS]
    if unknown:
        raise ValueError(f"sensors must be of {', '.join(SENSORS)}, got {unknown[0]!r}")
    if len(set(sensors)) < max(2, len(sensors)) or not SENSORS[sensors[0]].radar:
        raise ValueError(f"sensors must be two or more, radar first, got {sensors}")
    if SENSORS[sensors[1]].factor != 1:
        raise ValueError(
            f"sensors must have one on radar's grid after radar, such as lores or s2, got {sensors}"
        )
