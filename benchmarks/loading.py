"""Loading joint samples at the paper's scale: ours beside the released loader, in one run.

    python benchmarks/loading.py --scratch build/loading \
        --released ../scale-alibi --released-python ../scale-alibi/.venv/bin/python

Three archives with the directories of the largest published set: 146,502 places at zoom 15, and
their 586,008 finer hires tiles; every tile a PNG of about 5 KB of its own (5 GB, built once, 10 GB
while it is built). All sides read the same places in random order from a warm page cache, each in
a process of its own; CPU time is that of the process. The released loader needs torch, einops,
rich, pillow, pmtiles, mercantile, rio-tiler, supermercado, geojson-pydantic and httpx in its
Python. Its sample has the coarser hires tile, which training does not read: `ours, seven tiles`
reads it too; `only read and decode` fetches the bytes of six tiles and decodes them, which every
loader of PNG must do. Rows go to results/performance/loading.csv.
"""

import argparse
import hashlib
import io
import itertools
import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

PLACES, ZOOM, SIDE_TILES = 146_502, 15, 383
WEST, NORTH = 7000, 12500
POOL, FIELDS = 2000, (24, 32)
SENSORS = ("radar", "lores", "hires")
RELEASED, SEVEN, OURS = "released", "ours, seven tiles", "ours"
LIMIT = "only read and decode"
READ_A_ROUND = {RELEASED: 100, SEVEN: 400, OURS: 400, LIMIT: 400}


class Side:
    """One side in a process of its own: a JSON request a line in, a JSON answer a line out."""

    def __init__(self, python: str | Path, script: str, *arguments: str | Path) -> None:
        """Start `script --serve arguments` and wait until it is ready."""
        command = [str(python), script, "--serve", *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self._answer()

    def ask(self, **request: object) -> dict:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the side ended with status {self._process.wait()}; see above")
        return json.loads(line)


def serve(start: Callable[[], Callable[[dict], dict]]) -> None:
    """Be a side: `start` prepares it and returns what answers requests; each answer is timed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the code under test prints
    handle, spent = timed(start)
    print(json.dumps(spent), file=answers, flush=True)
    for line in sys.stdin:
        found, spent = timed(handle, json.loads(line))
        print(json.dumps(spent | found), file=answers, flush=True)


def timed(run: Callable, *arguments: object) -> tuple:
    """What a call returns, its wall and CPU seconds, and the largest process's peak memory."""
    wall, cpu = time.perf_counter(), _cpu_s()
    found = run(*arguments)
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": _cpu_s() - cpu}
    largest = max(usage.ru_maxrss for usage in _usages())
    return found, spent | {"rss_mb": largest / (1e3 if sys.platform == "linux" else 1e6)}


def _cpu_s() -> float:
    return sum(usage.ru_utime + usage.ru_stime for usage in _usages())


def _usages() -> list[resource.struct_rusage]:
    return [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]


def start_released(checkout: str, folder: str) -> Callable[[dict], dict]:
    """The released loader, as its training script puts it together."""
    sys.path.insert(0, checkout)
    from scale_alibi.dataset import loader

    radar, lores, hires = (loader.PMTileDataset(f"{folder}/{name}.pmtiles") for name in SENSORS)
    whole = loader.MultimodalDataset(radar, lores, hires, loader.PMTile4xDataset(hires))

    def read(tile_id: int) -> list[np.ndarray]:
        found = whole.get_by_tile_id(tile_id)
        return [found.radar, found.lores, found.hir4x, found.hires]

    return _reader(read)


def start_ours(case: str, folder: str) -> Callable[[dict], dict]:
    """`Samples` without its cache of decoded tiles."""
    import cv2
    import pyspng

    from salib.tiles.grid import TileId
    from salib.training import data

    cv2.setNumThreads(1)
    data.CACHE_BYTES = 0
    samples = data.Samples(folder)
    tiles = samples.rows[["z", "x", "y"]].to_numpy().tolist()
    place_of = {tile_id: place for place, tile_id in enumerate(samples.rows["tile_id"].tolist())}

    def read(tile_id: int) -> list[np.ndarray]:
        place = place_of[tile_id]
        if case == LIMIT:
            tile = TileId(*tiles[place])
            names = [("radar", tile), ("lores", tile), *(("hires", t) for t in tile.children())]
            for name, at in names:
                pyspng.load(samples.archives[name].read(*at))
            return []
        if case == SEVEN:
            triple = samples.triple(place)
            return [triple[name] for name in ("radar", "lores", "hires4x", "hires")]
        return [samples.image(place, name) for name in SENSORS]

    return _reader(read)


def _reader(read: Callable[[int], list[np.ndarray]]) -> Callable[[dict], dict]:
    def handle(request: dict) -> dict:
        digests = []
        for tile_id in request["tile_ids"]:
            images = read(tile_id)
            if request.get("digest"):
                digests.append([_digest(place, image) for place, image in enumerate(images)])
        return {"digests": digests}

    return handle


def _digest(place: int, image: np.ndarray) -> str:
    """Of the bands that the model reads, whether or not the loader left the others away."""
    if place == 0 and image.shape[2] == 4:
        image = image[..., 1:3]
    return hashlib.sha256(np.ascontiguousarray(image[..., :3]).tobytes()).hexdigest()


def png_pool(count: int) -> list[bytes]:
    """Distinct RGBA tiles of about 5 KB: squares of random colours."""
    import cv2
    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        side = rng.integers(*FIELDS, endpoint=True)
        coarse = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_NEAREST)
        rgba = np.dstack([image, np.full((256, 256), 255, np.uint8)])
        file = io.BytesIO()
        Image.fromarray(rgba).save(file, "PNG")
        found.append(file.getvalue())
    return found


def with_number(png: bytes, number: int) -> bytes:
    """The same picture in other bytes: a text chunk before the last one."""
    chunk = b"tEXt" + b"tile\0" + b"%08d" % number
    return (
        png[:-12] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]
    )


def build(scratch: Path, places: int) -> Path:
    """The curated folder at full size.

    Every tile has bytes of its own and pictures come in random order, so that offsets grow and
    lengths vary as in a real archive: a directory of repeated ones would compress to nothing.
    """
    import pandas as pd

    from salib.tiles.archive import write_archive
    from salib.tiles.grid import TileId, tile_gsd_m

    whole = scratch / f"places-{places}"
    if not (whole / "index.parquet").is_file():
        cells = itertools.product(range(SIDE_TILES), repeat=2)
        tiles = [TileId(ZOOM, WEST + x, NORTH + y) for x, y in itertools.islice(cells, places)]
        tiles.sort(key=lambda tile: tile.hilbert)
        finer = sorted((c for t in tiles for c in t.children()), key=lambda tile: tile.hilbert)
        pool, numbers = png_pool(POOL), itertools.count()
        picture = np.random.default_rng(2).integers(0, POOL, 7 * places).tolist()

        def encoded(chosen: list[TileId]) -> Iterator[tuple[TileId, bytes]]:
            return ((tile, with_number(pool[picture[n := next(numbers)]], n)) for tile in chosen)

        for name in SENSORS:
            chosen = [*tiles, *finer] if name == "hires" else tiles
            write_archive(whole / f"{name}.pmtiles", encoded(chosen), metadata={"procedural": True})
        rows = pd.DataFrame(tiles).assign(
            tile_id=[tile.hilbert for tile in tiles],
            gsd_m=[tile_gsd_m(tile) for tile in tiles],
            split="train",
            **{f"valid_frac_{name}": 1.0 for name in SENSORS},
        )
        rows.to_parquet(whole / "index.parquet")
    return whole


def start(chosen: argparse.Namespace, folder: Path) -> dict[str, Side]:
    """Every side that can be had, each in its process."""
    sides = {}
    if chosen.released and chosen.released_python:
        checkout = chosen.released.resolve()
        sides[RELEASED] = Side(chosen.released_python, __file__, RELEASED, checkout, folder)
    else:
        print("without the released loader: give --released and --released-python, see --help")
    for case in (SEVEN, OURS, LIMIT):
        sides[case] = Side(sys.executable, __file__, case, folder)
    for case, side in sides.items():
        print(f"{case:20s} opened in {side.ready['cpu_s']:.1f} s of CPU")
    return sides


def check_pixels(sides: dict[str, Side], tile_ids: list[int]) -> None:
    """Every side delivers the same pixels."""
    found = {n: side.ask(tile_ids=tile_ids, digest=True)["digests"] for n, side in sides.items()}
    for case, digests in found.items():
        for mine, seven in zip(digests, found[SEVEN], strict=True):
            assert mine == seven[: len(mine)], f"{case} differs from {SEVEN}"
    print(f"pixels of {len(tile_ids)} places are the same on {len(sides)} sides")


def summary(rows: list[tuple[str, int, float, float]]):
    """Medians of milliseconds a sample, from (case, round, wall and CPU seconds a sample)."""
    import measure
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["case", "round", "wall_s", "cpu_s"])
    table = measure.summary(frame, RELEASED)
    for name in ("wall", "cpu"):
        table.insert(1, f"{name}_ms_a_sample", 1e3 * table.pop(f"{name}_s"))
    return table.assign(processor=measure.machine()["processor"])


def write_table(table, sides: dict[str, Side], path: Path) -> None:
    """End the sides, write their rows in the order of the sides and show them."""
    for side in sides.values():
        side.close()
    table = table.set_index("case").loc[list(sides)].reset_index()
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.4g")
    print(table.round(3).to_string(index=False))


def main() -> None:
    """Build, check pixels, time in turn, write the table."""
    import pandas as pd

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, default=Path("build/loading"))
    parser.add_argument("--released", type=Path, help="checkout of pkage/scale-alibi")
    parser.add_argument("--released-python", type=Path, help="a Python with what it imports")
    parser.add_argument("--places", type=int, default=PLACES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))
    chosen = parser.parse_args()
    folder = build(chosen.scratch, chosen.places)
    tile_ids = np.array(pd.read_parquet(folder / "index.parquet")["tile_id"])
    sides, rng, rows = start(chosen, folder), np.random.default_rng(1), []
    check_pixels(sides, rng.choice(tile_ids, 40, replace=False).tolist())
    for number in range(chosen.rounds + 1):
        for case, side in sides.items():
            count = READ_A_ROUND[case]
            spent = side.ask(tile_ids=rng.choice(tile_ids, count).tolist())
            if number:
                rows.append((case, number, spent["wall_s"] / count, spent["cpu_s"] / count))
                print(f"{case:20s} round {number}: {1e3 * rows[-1][3]:.3f} CPU-ms a sample")
    peak = {case: side.ask(tile_ids=[])["rss_mb"] for case, side in sides.items()}
    table = summary(rows)
    table["open_cpu_s"] = [sides[case].ready["cpu_s"] for case in table["case"]]
    table["peak_rss_mb"] = [peak[case] for case in table["case"]]
    table["places"], table["hires_tiles"] = chosen.places, 5 * chosen.places
    write_table(table, sides, chosen.out / "loading.csv")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        case, *where = sys.argv[2:]
        serve(lambda: start_released(*where) if case == RELEASED else start_ours(case, *where))
    else:
        main()
