"""CPU time of curate() per joint sample, whole and by stage.

    python benchmarks/curate.py runs/smoke/world/catalog.json --zoom 14

One joint sample is seven tiles: radar, lores, hires and the four finer hires tiles.
"""

import argparse
import cProfile
import pstats
import tempfile
import time
from pathlib import Path

import cv2
import geopandas

from salib.curate import curate

STAGES = {
    "mosaic (read, remap, quantise)": ("render.py", "mosaic"),
    "  of it reading": ("raster.py", "_read"),
    "  of it interpolating maps": ("raster.py", "_dense"),
    "encode PNG": ("codec.py", "encode_png"),
    "render and write shards": ("shards.py", "commit"),
    "plan": ("plan.py", "make_plan"),
    "archives and index": ("run.py", "_finish"),
}


def main() -> None:
    """Curate into a temporary folder, once to time and once under the profiler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--zoom", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            out, wall, cpu = Path(folder) / str(number), time.perf_counter(), time.process_time()
            curate(options.catalog, out, zoom=options.zoom)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            samples = len(geopandas.read_parquet(out / "index.parquet"))
            print(
                f"{samples} joint samples: {1e3 * cpu / samples:.1f} CPU-ms a sample, "
                f"{samples / cpu:.1f} samples a CPU-second, {samples / wall:.1f} a second of wall"
            )
        megabytes = sum(path.stat().st_size for path in out.glob("*.pmtiles")) / 1e6
        print(f"{1e3 * megabytes / samples:.0f} kB a sample")
        profile = cProfile.Profile(time.process_time)
        profile.runcall(curate, options.catalog, Path(folder) / "profiled", zoom=options.zoom)
    for (file, _, name), row in pstats.Stats(profile).stats.items():
        for label, place in STAGES.items():
            if (Path(file).name, name) == place and "curate" in file:
                print(f"{label:32s} {1e3 * row[3] / samples:6.1f} CPU-ms a sample")


if __name__ == "__main__":
    main()
