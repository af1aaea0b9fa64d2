"""Cutting tiles: ours beside the released code, in one run, and how near the limit we are.

    salib world --out build/world
    python benchmarks/tiles.py build/world/catalog.json \
        --released ../scale-alibi --released-python ../scale-alibi/.venv/bin/python

One joint sample is seven tiles: radar, lores, hires and the four finer hires tiles. Ours is all of
`curate` (search, plan, cut, archives, index); of the released code only its functions that cut and
encode a tile are called, with files open already, each tile from one scene. Sides run in turn, each
in a process of its own, which gives the peak memory; CPU time includes child processes. The
released code needs pmtiles, mercantile, supermercado, geojson-pydantic, httpx and rich in its
Python, and of its locked versions rio-tiler 6.7.0, rasterio 1.3.11, pillow 10.4.0 and numpy 1.26.4:
with rio-tiler 9.4 and pillow 13 its radar tiles fail.

The limit is what the same run spends in reading and decoding source blocks, interpolating pixels
and encoding tiles, which any way of cutting them must do. Rows go to results/performance/tiles.csv.
"""

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from loading import RELEASED, Side, serve, summary, write_table

PNG, WEBP, TWO = "ours PNG", "ours WebP", "ours PNG, 2 processes"
FILES = {"radar": ("vv.tif", "vh.tif"), "lores": ("TCI.tif",), "hires": ("image.tif",)}
FLOOR = ("decode", "remap", "encode")


def start_released(checkout: str) -> Callable[[dict], dict]:
    """The released functions that cut a tile and encode it as PNG."""
    sys.path.insert(0, checkout)
    from scale_alibi.dataset import tile

    reader = functools.cache(tile.Reader)

    def handle(request: dict) -> dict:
        size = 0
        for number, (hrefs, z, x, y) in enumerate(request["work"]):
            cut = tile.create_png_sar_tile if len(hrefs) == 2 else tile.create_png_tile
            data = cut([reader(href) for href in hrefs], tile.Tile(x=x, y=y, z=z))
            size += len(data)
            if request.get("keep"):
                Path(request["keep"], f"{number}.png").write_bytes(data)
        return {"bytes": size}

    return handle


def start_ours(encoding: str, workers: str, catalog: str, zoom: str) -> Callable[[dict], dict]:
    """The whole of `curate`, into a new folder each time."""
    import cv2

    from salib.curate import curate
    from salib.files.jobs import Engine

    cv2.setNumThreads(1)

    def run(out: str) -> None:
        engine = Engine(workers=int(workers))
        curate(catalog, out, zoom=int(zoom), encoding=encoding, engine=engine)

    def handle(request: dict) -> dict:
        with tempfile.TemporaryDirectory() as scratch:
            out = request.get("keep") or f"{scratch}/tiles"
            if not request.get("floor"):
                run(out)
                return {"bytes": sum(file.stat().st_size for file in Path(out).glob("*.pmtiles"))}
            with stopwatches() as spent:
                run(out)
        return {"floor": spent}

    return handle


@contextlib.contextmanager
def stopwatches() -> Iterator[dict[str, float]]:
    """CPU seconds of this process within the calls to other libraries that do the work."""
    import cv2
    import rasterio
    from PIL import Image

    from salib.tiles import codec

    spent: dict[str, float] = defaultdict(float)

    def clocked(call: Callable, kind: Callable[..., str]) -> Callable:
        @functools.wraps(call)
        def run(*arguments, **options):
            start = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                spent[kind(*arguments)] += time.process_time() - start

        return run

    class Opened:
        """A raster whose `read` is clocked."""

        def __init__(self, dataset, href):
            self._dataset, kind = dataset, "cloud" if "SCL" in str(href) else "decode"
            self.read = clocked(dataset.read, lambda *_: kind)

        def __getattr__(self, name):
            return getattr(self._dataset, name)

        def __enter__(self):
            self._dataset.__enter__()
            return self

        def __exit__(self, *why):
            return self._dataset.__exit__(*why)

    def pixels_or_mask(source: np.ndarray, *_: object) -> str:
        return "remap" if source.ndim == 3 and source.shape[2] > 1 else "remap masks"

    opened = rasterio.open
    timed_open = clocked(opened, lambda *_: "open")
    replaced = [
        (rasterio, "open", lambda href, **how: Opened(timed_open(href, **how), href)),
        (cv2, "remap", clocked(cv2.remap, pixels_or_mask)),
        (codec, "encode_png", clocked(codec.encode_png, lambda *_: "encode")),
        (Image.Image, "save", clocked(Image.Image.save, lambda *_: "encode")),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, new in replaced:
            setattr(owner, name, new)
        yield spent
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)


def work_of(catalog: Path, tiles: Path, places: int) -> tuple[int, list[list]]:
    """Number of joint samples cut, and files, zoom, x, y of the seven tiles of some of them.

    Each tile from the scene that gave most of it to ours; the released code would cut all scenes
    and merge them afterwards.
    """
    import pandas as pd
    import pystac

    from salib.config import SENSOR_NAMES
    from salib.tiles.grid import TileId

    items = {item.id: item for item in pystac.Catalog.from_file(catalog).get_items(recursive=True)}
    rows = pd.read_parquet(tiles / "tiles.parquet")
    scene = {
        (row.sensor, row.z, row.x, row.y): row.scene_ids[0] for row in rows.itertuples(index=False)
    }
    index = pd.read_parquet(tiles / "index.parquet")
    work = []
    for row in index.iloc[np.linspace(0, len(index) - 1, places).astype(int)].itertuples():
        tile = TileId(row.z, row.x, row.y)
        wanted = [(name, tile) for name in SENSOR_NAMES] + [("hires", t) for t in tile.children()]
        for name, place in wanted:
            item = items[scene[(name, *place)]]
            hrefs = [asset.get_absolute_href() for asset in item.assets.values()]
            chosen = [h for end in FILES[name] for h in hrefs if h.endswith(end)]
            work.append([chosen, *place])
    return len(index), work


def check_ground(released: Side, tiles: Path, work: list[list]) -> None:
    """Both sides cut the same ground: smoothed, their pictures are alike."""
    import cv2

    from salib.tiles.archive import Archive
    from salib.tiles.codec import decode

    names = ("radar", "lores", *["hires"] * 5)
    archives = {name: Archive(tiles / f"{name}.pmtiles") for name in set(names)}
    with tempfile.TemporaryDirectory() as folder:
        released.ask(work=work[:7], keep=folder)
        for number, name in enumerate(names):
            their = decode(Path(folder, f"{number}.png").read_bytes())
            pair = [their, archives[name].get(*work[number][1:])]
            smooth = [cv2.GaussianBlur(image[..., 1], (0, 0), 4).ravel() for image in pair]
            alike = np.corrcoef(*smooth)[0, 1]
            print(f"correlation of {name} {work[number][1:]}: {alike:.3f}")
            assert alike > 0.9, f"released and ours differ in {name}"


def options() -> argparse.Namespace:
    """What the caller asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--zoom", type=int, default=14)
    parser.add_argument("--released", type=Path, help="checkout of pkage/scale-alibi")
    parser.add_argument("--released-python", type=Path, help="a Python with what it imports")
    parser.add_argument(
        "--places", type=int, default=24, help="that the released code cuts a round"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))
    return parser.parse_args()


def start(chosen: argparse.Namespace) -> dict[str, Side]:
    """Every side that can be had, each in its process."""
    where = (chosen.catalog.resolve(), chosen.zoom)
    sides = {}
    if chosen.released and chosen.released_python:
        checkout = chosen.released.resolve()
        sides[RELEASED] = Side(chosen.released_python, __file__, RELEASED, checkout)
    else:
        print("without the released code: give --released and --released-python, see --help")
    for case, encoding, workers in ((PNG, "png", 1), (WEBP, "webp", 1), (TWO, "png", 2)):
        sides[case] = Side(sys.executable, __file__, encoding, workers, *where)
    return sides


def measured(sides: dict[str, Side], samples: int, work: list[list], rounds: int):
    """Rows a sample (case, round, wall_s, cpu_s), and each side's peak memory and bytes."""
    rows, last = [], {}
    for number in range(rounds + 1):
        for case, side in sides.items():
            count = len(work) // 7 if case == RELEASED else samples
            last[case] = spent = side.ask(work=work) if case == RELEASED else side.ask()
            last[case]["kb_a_sample"] = spent["bytes"] / count / 1e3
            if number:
                rows.append((case, number, spent["wall_s"] / count, spent["cpu_s"] / count))
                print(
                    case,
                    number,
                    *(f"{1e3 * spent[n] / count:.1f} ms {n}" for n in ("wall_s", "cpu_s")),
                )
    return rows, last


def main() -> None:
    """Check, time in turn, take the limit apart, write the table."""
    chosen = options()
    sides = start(chosen)
    with tempfile.TemporaryDirectory() as folder:
        tiles = Path(folder) / "tiles"
        sides[PNG].ask(keep=str(tiles))
        samples, work = work_of(chosen.catalog, tiles, chosen.places)
        if RELEASED in sides:
            check_ground(sides[RELEASED], tiles, work)
    rows, last = measured(sides, samples, work, chosen.rounds)
    table = summary(rows)
    for name in ("kb_a_sample", "rss_mb"):
        table[name] = [last[case][name] for case in table["case"]]
    for case in (PNG, WEBP):
        whole = sides[case].ask(floor=True)
        parts = {name: 1e3 * spent / samples for name, spent in whole["floor"].items()}
        limit, cpu = sum(parts[name] for name in FLOOR), 1e3 * whole["cpu_s"] / samples
        table.loc[table["case"] == case, "limit_cpu_ms"] = limit
        table.loc[table["case"] == case, "of_limit"] = limit / cpu
        told = ", ".join(f"{name} {spent:.1f}" for name, spent in parts.items())
        print(f"{case}: {cpu:.1f} CPU-ms a sample; {told}; {limit / cpu:.0%} of the limit")
    wall = {case: [row[2] for row in rows if row[0] == case] for case in (PNG, TWO)}
    faster = np.median(np.divide(wall[PNG], wall[TWO]))
    print(f"two processes are {faster:.2f} times one")
    table = table.assign(zoom=chosen.zoom, samples=samples)
    write_table(table, sides, chosen.out / "tiles.csv")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        case, *where = sys.argv[2:]
        serve(lambda: start_released(*where) if case == RELEASED else start_ours(case, *where))
    else:
        main()
