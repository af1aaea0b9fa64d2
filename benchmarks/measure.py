"""How the benchmarks measure: interleaved, wall and CPU time, peak memory apart.

Scripts beside this file import it; it is not run by itself.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from salib.model.precision import multiplies_bfloat16

# The same for both sides: without them glibc hands every large block back to the kernel.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
HOW_TO_GET = (
    "the released code is not part of this project: git clone "
    "https://github.com/pkage/scale-alibi, then give its folder as --released"
)


def same_allocator() -> None:
    """Start this script again under the allocator's settings, which are read at start only.

    SALIB_PLAIN_ALLOCATOR=1 leaves glibc's own, which hands memory back to the kernel: slower, and
    the only way to fit the released code at patches of 8 px beside ours into 24 GB.
    """
    if os.environ.get("SALIB_PLAIN_ALLOCATOR"):
        return
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})


CASES = ("released float32", "released bf16", "ours float32", "ours bf16")


def options(parser: argparse.ArgumentParser, cases: Sequence[str] = CASES) -> None:
    """Add what all scripts ask for; by default the four `CASES` run (see `at_hand`)."""
    parser.formatter_class = argparse.RawTextHelpFormatter
    parser.add_argument("--released", type=Path, help="checkout of pkage/scale-alibi")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=cases)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))


def at_hand(chosen: argparse.Namespace) -> list[str]:
    """The cases asked for, without those of the released code where there is none.

    Unless asked for, bfloat16 is left out where it would be converted for every product: a step
    takes minutes there.
    """
    if not chosen.released:
        print(f"without the released code: {HOW_TO_GET}", file=sys.stderr)
    names = chosen.cases or CASES
    if not chosen.cases and not multiplies_bfloat16(torch.device(chosen.device)):
        print("without bfloat16: this device has no instructions for it", file=sys.stderr)
        names = [n for n in names if not n.endswith("bf16")]
    return [n for n in names if chosen.released or not n.startswith("released")]


def released(folder: Path | None) -> types.ModuleType | None:
    """The released `scale_alibi.model`, imported without the rest of its package.

    Its loss gathers from other processes, so a process group of one is started.

    Raises:
        SystemExit: if the folder is not a checkout.
    """
    if folder is None:
        return None
    if not (folder / "scale_alibi" / "model.py").is_file():
        raise SystemExit(f"no scale_alibi/model.py in {folder}: {HOW_TO_GET}")
    package = types.ModuleType("scale_alibi")
    package.__path__ = [str(folder / "scale_alibi")]
    sys.modules["scale_alibi"] = package
    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    return importlib.import_module("scale_alibi.model")


def interleave(
    cases: dict[str, Callable[[], object]], rounds: int, *, warm: bool = False
) -> pd.DataFrame:
    """Each case once a round, in turn, after one round that is not counted.

    Args:
        warm: run each case once uncounted right before it is timed. A virtual machine may take
            back memory that nobody touched while the other cases ran.

    Returns:
        Rows (case, round, wall_s, cpu_s).
    """
    rows = []
    for number in range(rounds + 1):
        for name, run in cases.items():
            if warm and number:
                run()
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            if number:
                rows.append((name, number, *spent))
                print(f"{name:28s} {spent[0]:8.3f} s wall {spent[1]:8.3f} s CPU", flush=True)
    return pd.DataFrame(rows, columns=["case", "round", "wall_s", "cpu_s"])


def summary(rows: pd.DataFrame, base: str) -> pd.DataFrame:
    """Medians by case, and the median over rounds of base's time over the case's."""
    wide = {
        name: rows.pivot(index="round", columns="case", values=name)
        for name in rows[["wall_s", "cpu_s"]]
    }
    table = pd.DataFrame({name: frame.median() for name, frame in wide.items()})
    for name, frame in wide.items():
        if base in frame:
            ratios = frame.rdiv(frame[base], axis=0)
            table[f"speedup_{name.removesuffix('_s')}"] = ratios.median()
    table["rounds"] = rows.groupby("case")["round"].nunique()
    return table.reset_index()


def finished(device: str) -> None:
    """Wait until a GPU has done what it was asked; a processor has."""
    if device == "cuda":
        torch.cuda.synchronize()


def results(chosen: argparse.Namespace, name: str) -> Path:
    """The file of rows, its folder made: `name`.csv, or `name`_cuda.csv of a GPU."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    return chosen.out / f"{name}{'_cuda' if chosen.device == 'cuda' else ''}.csv"


def peak_mib(run: Callable[[], object], device: str = "cpu") -> float:
    """Peak memory of a call over what the process (or the GPU) held before it, in MiB.

    On a GPU the call runs once before: compiling a kernel takes memory that later calls do not.
    """
    if device == "cuda":
        run()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)  # or the call would use freed memory unseen
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def peaks(
    script: str, runs: dict[str, Callable[[], object]], chosen: argparse.Namespace, *size: str
) -> dict[str, float]:
    """Peak memory of each case at one size; on a processor each in a process of its own."""
    if chosen.device == "cuda":
        return {name: peak_mib(run, "cuda") for name, run in runs.items()}
    arguments = [*size, f"--threads={chosen.threads}"]
    arguments += [f"--released={chosen.released}"] if chosen.released else []
    return {name: in_own_process(script, *arguments, f"--peak={name}")["peak_mib"] for name in runs}


def in_own_process(script: str, *arguments: str) -> dict:
    """Run `script` with arguments in a fresh process and read the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def matmul_gflops(dtype: torch.dtype, device: str = "cpu", rounds: int = 5) -> float:
    """The machine's limit: best rate of one large matrix product, in GFLOP/s."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in "ab")
    best = float("inf")
    for _ in range(rounds + 1):
        start = time.perf_counter()
        a @ b
        finished(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9


def machine(device: str = "cpu") -> dict[str, str]:
    """What a reader needs to compare: processor, instructions, threads, torch."""
    found = torch.cpu.get_capabilities()
    wanted = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    name = torch.cuda.get_device_name() if device == "cuda" else found.get("cpu_name", "unknown")
    return {
        "processor": str(name),
        "instructions": " ".join(name for name in wanted if found.get(name)),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "float32_gflops": f"{matmul_gflops(torch.float32, device):.0f}",
        "bf16_gflops": f"{matmul_gflops(torch.bfloat16, device):.0f}",
    }


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))
