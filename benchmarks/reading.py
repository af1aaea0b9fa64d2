"""Reading samples the size of m-brick-kiln's: geobench's loader beside the bands that are wanted.

    python benchmarks/reading.py

13 bands of 64 x 64 float64 values a sample, georeferenced as published, written by geobench's own
classes and read from the page cache. Both sides give red, green, blue and the label; equality is
checked before anything is timed. The limit opens each file and reads as many bytes. Rows go to
results/performance/reading.csv.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np
import rasterio.transform
from geobench.dataset import Band, Sample, load_sample_hdf5, sentinel2_13_bands

from salib.evaluate.tasks.geobench_reader import read_sample

SIDE_PX = 64
ALL = tuple(band.name for band in sentinel2_13_bands)
RGB = ("04 - Red", "03 - Green", "02 - Blue")
CASES = ("geobench", "ours, all bands", "ours")


def write(folder: Path, count: int) -> list[Path]:
    """Samples with random values and a place of their own."""
    rng = np.random.default_rng(0)
    for number in range(count):
        west, south = 88 + number / 500, 22 + number / 700
        place = rasterio.transform.from_bounds(
            west, south, west + 0.006, south + 0.006, SIDE_PX, SIDE_PX
        )
        bands = [
            Band(np.round(rng.uniform(0, 3000, (SIDE_PX, SIDE_PX))), info, 10, None, None, place,
                 "EPSG:4326")
            for info in sentinel2_13_bands
        ]  # fmt: skip
        Sample(bands, int(rng.integers(2)), f"examples_{number}").write(str(folder))
    return sorted(folder.glob("*.hdf5"))


def readers() -> dict[str, Callable[[Path], tuple[np.ndarray, int]]]:
    """One function a case, from a file to red, green, blue and the label."""
    order = [ALL.index(name) for name in RGB]

    def theirs(path: Path) -> tuple[np.ndarray, int]:
        sample = load_sample_hdf5(path)
        return sample.pack_to_3d(["red", "green", "blue"])[0], sample.label

    def ours_all(path: Path) -> tuple[np.ndarray, int]:
        raw, label = read_sample(path, ALL)
        return raw[..., order], label

    def ours(path: Path) -> tuple[np.ndarray, int]:
        return read_sample(path, RGB)

    return dict(zip(CASES, (theirs, ours_all, ours), strict=True))


def main() -> None:
    """Check that the sides agree, then time them in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), chosen.samples)
        cases = readers()
        for path in paths:
            raw, label = cases["geobench"](path)
            for read in cases.values():
                found, found_label = read(path)
                np.testing.assert_array_equal(found, raw)
                assert (found.dtype, found_label) == (raw.dtype, label)
        runs = {
            name: lambda read=read: [read(path) for path in paths] for name, read in cases.items()
        }
        wanted = 3 * SIDE_PX**2
        runs["limit"] = lambda: [np.fromfile(path, np.float64, wanted) for path in paths]
        rows = measure.interleave(runs, chosen.rounds)
    table = measure.summary(rows, "geobench")
    for name in ("cpu", "wall"):
        table[f"{name}_ms_a_sample"] = table.pop(f"{name}_s") / chosen.samples * 1000
    found = measure.machine()
    table = table.assign(samples=chosen.samples, bands=3, stored_bands=len(ALL), **found)
    chosen.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out / "reading.csv", index=False, float_format="%.4g")
    print(table.drop(columns=list(found)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
