"""Labelled tasks for tests: whole splits, and small folders in GEO-Bench's twelve layouts."""

from datetime import date
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from geobench.dataset import (
    Band,
    BandInfo,
    CloudProbability,
    ElevationBand,
    HyperSpectralBands,
    Partition,
    Sample,
    SegmentationClasses,
    SpectralBand,
    landsat8_9_bands,
    make_rgb_bands,
    sentinel1_8_bands,
    sentinel2_13_bands,
)
from geobench.label import Classification, MultiLabelClassification
from geobench.task import TaskSpecifications

from salib.evaluate.tasks.task import iter_split

HEIGHT, WIDTH = 20, 30
SPLIT_NAMES = {"train": ("a", "b", "c"), "valid": ("d", "e"), "test": ("f",)}
S2_13 = tuple(sentinel2_13_bands)
S2_12 = tuple(band for band in S2_13 if not band.name.startswith("10"))
S2_10 = tuple(band for band in S2_12 if band.name[:3] not in ("01 ", "09 "))
LANDSAT = tuple(
    next(band for band in landsat8_9_bands if band.name.startswith(number))
    for number in ("04", "03", "02", "05", "06", "07")
)
AERIAL = tuple(make_rgb_bands(0.1))


def write_dark_and_light(folder):
    """Twenty images each of two classes that brightness tells apart."""
    rng = np.random.default_rng(0)
    for level, label in ((60, "dark"), (190, "light")):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.normal(level, 10, (9, 11, 3)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / label / f"{number}.png"), pixels)


def read_split(task, split):
    """All images and labels of a split."""
    items = list(iter_split(task, split))
    return [image for image, _ in items], np.array([label for _, label in items], np.int64)


class Layout(NamedTuple):
    """What a published task stores: label, metres per pixel as stated, bands, types, dates."""

    label: Classification | MultiLabelClassification | SegmentationClasses
    gsd_m: float
    bands: tuple[BandInfo, ...]
    dtype: str
    mask: str = "uint8"
    dated: bool = False
    dated_mask: bool = False

    @property
    def kind(self) -> str:
        kinds = {MultiLabelClassification: "multilabel", SegmentationClasses: "segmentation"}
        return kinds.get(type(self.label), "classification")

    @property
    def benchmark(self) -> str:
        return f"{'segmentation' if self.kind == 'segmentation' else 'classification'}_v1.0"


def masks(gsd_m, count, names=None):
    return SegmentationClasses("label", gsd_m, count, names)


CHM = ElevationBand("Canopy Height Model", alt_names=("lidar", "CHM"), spatial_resolution=0.1)
NEON = HyperSpectralBands("Neon", n_bands=369, spatial_resolution=1)
SMALL = {CHM.name: ((2, 3, 1), "float32"), NEON.name: ((2, 3, 369), "int16")}
NIR = SpectralBand("NearInfrared", ("nir",), 1, 0.876)
CLOUDS = CloudProbability(("CPL", "CLD"), 10)
SOLAR, CATTLE = ["no solar pv", "solar pv"], ["no cattle", "cattle"]
# From the converters of ServiceNow/geo-bench and the published files.
LAYOUTS = {
    "m-bigearthnet": Layout(MultiLabelClassification(43), 10, S2_12, "float32"),
    "m-brick-kiln": Layout(Classification(2), 10, S2_13, "float64"),
    "m-eurosat": Layout(Classification(10), 10, S2_13, "int16"),
    "m-forestnet": Layout(Classification(12), 15, LANDSAT, "uint8", dated=True),
    "m-pv4ger": Layout(Classification(2, SOLAR), 0.1, AERIAL, "uint8"),
    "m-so2sat": Layout(Classification(17), 10, (*sentinel1_8_bands, *S2_10), "float32"),
    "m-NeonTree": Layout(masks(0.1, 2), 0.1, (*AERIAL, CHM, NEON), "uint8"),
    "m-SA-crop-type": Layout(masks(10, 10), 10, (*S2_12, CLOUDS), "int16", "int16"),
    "m-cashew-plant": Layout(masks(0.5, 7), 0.5, (*S2_12, CLOUDS), "float32", "int64", True),
    "m-chesapeake": Layout(masks(1, 7), 1, (*AERIAL, NIR), "float32", "int64"),
    "m-nz-cattle": Layout(masks(0.1, 2, CATTLE), 0.1, AERIAL, "uint8", "uint8", True, True),
    "m-pv4ger-seg": Layout(masks(0.1, 2), 0.1, AERIAL, "uint8"),
}


def write_layout(root: Path, name: str) -> Path:
    """A folder of six samples of random values in the layout of a published task."""
    layout, rng = LAYOUTS[name], np.random.default_rng([7, *name.encode()])
    folder, count = root / layout.benchmark / name, layout.label.n_classes
    folder.mkdir(parents=True)
    for number, sample in enumerate("abcdef"):
        when = date(2013 + number, 1, 1) if layout.dated else None
        bands = []
        for info in layout.bands:
            shape, dtype = SMALL.get(info.name, ((HEIGHT, WIDTH), layout.dtype))
            drawn = rng.uniform(0, {"uint8": 256, "float32": 0.3}.get(dtype, 4000), shape)
            bands.append(Band(drawn.astype(dtype), info, layout.gsd_m, date=when))
        if layout.kind == "segmentation":
            mask = rng.integers(0, count, (HEIGHT, WIDTH)).astype(layout.mask)
            label = Band(mask, layout.label, layout.gsd_m, when if layout.dated_mask else None)
        else:
            label = rng.integers(2, size=count) if layout.kind == "multilabel" else number % count
        Sample(bands, label, sample).write(str(folder))
    partition = {split: list(names) for split, names in SPLIT_NAMES.items()}
    Partition(partition).save(str(folder), "default")
    TaskSpecifications(
        name,
        list(layout.bands),
        layout.gsd_m,
        benchmark_name=layout.benchmark,
        patch_size=(HEIGHT, WIDTH),
        n_time_steps=1,
        label_type=layout.label,
    ).save(str(folder))
    return folder
