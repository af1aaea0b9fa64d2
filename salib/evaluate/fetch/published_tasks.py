"""The twelve tasks of GEO-Bench as published."""

COUNTS = {
    "m-bigearthnet": (20_000, 1_000, 1_000),
    "m-brick-kiln": (15_063, 999, 999),
    "m-eurosat": (2_000, 1_000, 1_000),
    "m-forestnet": (6_464, 989, 993),
    "m-pv4ger": (11_814, 999, 999),
    "m-so2sat": (19_992, 986, 986),
}
"""Samples in train, valid and test of the classification tasks, as in `results/all_results.csv` of
torchgeo-bench."""
SEGMENTATION = ("NeonTree", "SA-crop-type", "cashew-plant", "chesapeake", "nz-cattle", "pv4ger-seg")
BENCHMARKS = dict.fromkeys(COUNTS, "classification_v1.0")
BENCHMARKS |= {f"m-{name}": "segmentation_v1.0" for name in SEGMENTATION}
"""The folder that each task stands in."""
