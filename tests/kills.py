"""Kill commands at random moments: the same command again must end in the same files.

`make kills`, or `python tests/kills.py --kills 100`. Each case is a command on small procedural
inputs. Two undisturbed runs must give equal files. Then it is started in new folders, killed with
SIGKILL at a random moment (all its processes, or one worker or rank) and called again until it
succeeds; its files must have the digests of the undisturbed run.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil

from salib.files.artifact import file_digest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "kills.csv"
TIMES = ("timing.json",)
"""Files that tell how long a run took."""
ATTEMPTS, LIMIT_S = 4, 300

PRETRAIN = """
import sys
from dataclasses import replace
from salib import TrainConfig, preset
from salib.training import checkpoint, train
checkpoint.SAVE_EVERY_S = 0.2
sizes = {"dim": 16, "depth": 2, "heads": 2, "decoder_dim": 16, "decoder_heads": 2, "whiten": True}
config = TrainConfig(
    steps=40, batch=4, learning_rate=1e-3, crop_px=(24, 48), image_px=32, precision="float32"
)
train.pretrain(replace(preset("tiny"), **sizes), config, tiles=sys.argv[1], out=sys.argv[2], seed=2)
"""
FETCH = """
import sys
from pathlib import Path
from salib.files.download import RemoteFile, fetch_files
names = {"a": 300_000, "b": 200_000, "c": 100_000}
files = {n: RemoteFile(url=f"{sys.argv[1]}/{n}", size=size) for n, size in names.items()}
fetch_files({Path(sys.argv[2], name): file for name, file in files.items()}, "fetch")
"""
EMBED = """
import sys
from salib.files.jobs import Engine
from salib.mapping import embed_scene, open_scene
scene, model, out = sys.argv[1:]
embed_scene(open_scene(scene, "lores"), model, out, window=4, engine=Engine(name="dask", workers=2))
"""
CHIPS = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
rng = np.random.default_rng(0)
for label in range(2):
    folder = Path(sys.argv[1], f"class{label}")
    folder.mkdir(parents=True)
    for number in range(30):
        noise = rng.integers(0, 120 + 60 * label, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command, given its new folder; with `one` a single child process is killed, not all."""

    name: str
    command: Callable[[Path], list[str]]
    one: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases in turn; the exit status is 1 where a repeated run differs or never ends."""
    parser = argparse.ArgumentParser(description="Kill commands at random moments")
    parser.add_argument("names", nargs="*", help="cases; all by default")
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as folder, slow_files() as address:
        base = Path(folder)
        cases = prepare(base, address)
        chosen = [case for case in cases if case.name in (given.names or [c.name for c in cases])]
        draw = random.Random(given.seed)
        for number, case in enumerate(chosen):
            kills = given.kills * (number + 1) // len(chosen) - given.kills * number // len(chosen)
            rows.append(kill_often(case, base / "runs", kills, draw))
            say(str(rows[-1]))
            shutil.rmtree(base / "runs")
    if not given.names:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    wrong = sum(row["kills"] - row["identical"] for row in rows)
    say(f"{wrong} of {sum(row['kills'] for row in rows)} killed runs did not end identically")
    return 1 if wrong else 0


def prepare(base: Path, address: str) -> list[Case]:
    """Write the inputs of all cases; the cases."""
    salib = [sys.executable, "-m", "salib"]
    tiles, model, chips = base / "tiles", base / "model", base / "chips"
    run([*salib, "world", f"{base}/scenes", "--tiles", "6"])
    scene = min((base / "scenes").rglob("TCI.tif"))
    curate = [*salib, "curate", f"{base}/scenes/catalog.json", "--zoom", "14", "--workers", "2"]
    run([*curate, "--out", str(tiles)])
    pretrain = base / "pretrain.py"
    pretrain.write_text(PRETRAIN)
    run([sys.executable, str(pretrain), str(tiles), str(model)])
    run([sys.executable, "-c", CHIPS, str(chips)])
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    embed = [*salib, "embed", str(scene), "--model", str(model), "--sensor", "lores"]
    embed += ["--window", "4", "--workers", "2"]
    evaluate = [*salib, "evaluate", "--model", str(model), "--images", str(chips)]
    evaluate += ["--gsd-m", "10", "--image-px", "32"]

    def with_out(command: list[str], name: str, folder: Path) -> list[str]:
        return [*command, "--out", str(folder / name)]

    def trained(command: list[str], folder: Path) -> list[str]:
        return [*command, str(pretrain), str(tiles), str(folder / "model")]

    on_dask, embedded = ["--engine", "dask"], [sys.executable, "-c", EMBED, str(scene), str(model)]
    return [
        Case(name="curate", command=partial(with_out, curate, "tiles")),
        Case(name="curate, Dask", command=partial(with_out, curate + on_dask, "tiles")),
        Case(
            name="curate, a Dask worker",
            command=partial(with_out, curate + on_dask, "tiles"),
            one=True,
        ),
        Case(name="pretrain", command=partial(trained, [sys.executable])),
        Case(name="pretrain, two ranks", command=partial(trained, ranks)),
        Case(name="pretrain, one of two ranks", command=partial(trained, ranks), one=True),
        Case(name="embed", command=partial(with_out, embed, "map.tif")),
        Case(name="embed, Dask", command=lambda out: [*embedded, str(out / "map.tif")]),
        Case(name="evaluate", command=partial(with_out, evaluate, "rows.csv")),
        Case(name="fetch", command=lambda out: [sys.executable, "-c", FETCH, address, str(out)]),
    ]


def kill_often(case: Case, base: Path, kills: int, draw: random.Random) -> dict[str, object]:
    """A row of the table: how many killed runs, and how many of them ended in equal files."""
    seconds, expected = [], []
    for number in range(2):
        out = base / f"undisturbed{number}"
        out.mkdir(parents=True)
        begun = time.monotonic()
        run(case.command(out))
        seconds.append(time.monotonic() - begun)
        expected.append(digests(out))
    if expected[0] != expected[1]:
        raise SystemExit(f"{case.name}: two undisturbed runs differ: {expected}")
    identical, repeated = 0, []
    for number in range(kills):
        out = base / f"killed{number}"
        out.mkdir()
        with subprocess.Popen(case.command(out), **quiet()) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, min(seconds)))
            strike(process, case.one, draw)
            process.wait(LIMIT_S)
        for attempt in range(1, ATTEMPTS + 1):
            if subprocess.run(case.command(out), timeout=LIMIT_S, **quiet()).returncode == 0:
                repeated.append(attempt)
                break
        same = digests(out) == expected[0]
        identical += same
        if not same:
            say(f"{case.name}, kill {number}: other files than undisturbed")
        shutil.rmtree(out)
    return {
        "case": case.name,
        "kills": kills,
        "identical": identical,
        "most_repeats": max(repeated, default=0),
        "undisturbed_s": round(min(seconds), 1),
    }


def strike(process: subprocess.Popen, one: bool, draw: random.Random) -> None:
    """Kill a process with all that it started, or one of those."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        children = psutil.Process(process.pid).children(recursive=True)
        if one and children:
            draw.choice(children).kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def digests(folder: Path) -> dict[str, str]:
    """Sha256 of the files in a folder by name; what is left half-written counts too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in TIMES)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(command: list[str]) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command, timeout=LIMIT_S, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def quiet() -> dict:
    """How a command is started: in a group of its own, without a word."""
    nothing = subprocess.DEVNULL
    return {"stdout": nothing, "stderr": nothing, "start_new_session": True, "cwd": ROOT}


@contextmanager
def slow_files() -> Iterator[str]:
    """A server on the loopback of three files that take a second together; its address."""

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = {"/a": 300_000, "/b": 200_000, "/c": 100_000}[self.path]
            data = random.Random(self.path).randbytes(size)
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            with suppress(ConnectionError):
                for first in range(0, size, 20_000):
                    self.wfile.write(data[first : first + 20_000])
                    time.sleep(0.03)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    raise SystemExit(main())
