"""Attention alone: time and memory by implementation and number of tokens; preparing the bias.

    python benchmarks/attention.py --released ../scale-alibi

One image, on a GPU eight that share their places; 16 heads 48 wide. "released" is the formula of
the released code (logits, plus a dense bias, softmax, product), timed without building its table.
Time is interleaved; memory comes from a process for each case, on a GPU from torch's count of a
second call. Both are forward and backward, and make the bias in each call but for "released". Rows
go to results/performance/attention.csv, attention_memory.csv and bias.csv; with --device cuda to
attention_cuda.csv and attention_memory_cuda.csv. The limit is the machine's own measured rate of
matrix products.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import measure
import pandas as pd
import torch

from salib.attention import Geometry, attend
from salib.bias import alibi_slopes, patch_centres

HEADS, DIM, PATCH_M, REFERENCE_M = 16, 48, 16.0, 64.0
CASES = {
    "cpu": (
        *("released float32", "reference float32", "sdpa float32", "auto float32"),
        *("sdpa bf16", "auto bf16"),
    ),
    "cuda": ("released float32", "sdpa float32", "sdpa bf16", "flex float32", "flex bf16"),
}
DENSE_TOKENS = 4096  # above it a dense bias and its gradients do not fit a laptop
BATCHES = {"cpu": 1, "cuda": 8}


def case(name: str, tokens: int, device: str) -> Callable[[], object]:
    """Forward and backward of one implementation."""
    impl, dtype = name.split()
    shape = (BATCHES[device], HEADS, tokens, DIM)
    generator = torch.Generator(device).manual_seed(0)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    q, k, v, grad = (
        torch.randn(shape, generator=generator, device=device).to(kind) for _ in range(4)
    )
    leaves = [t.requires_grad_() for t in (q, k, v)]
    xy, slopes = places(tokens, device), alibi_slopes(HEADS).to(device)
    bias = None
    if impl == "released":
        bias = Geometry(xy, xy, slopes, REFERENCE_M).dense(torch.float32)

    def run() -> None:
        if bias is None:
            mixed = attend(q, k, v, Geometry(xy, xy, slopes, REFERENCE_M, impl=impl))
        else:
            mixed = (q @ k.mT * DIM**-0.5 + bias).softmax(-1) @ v
        mixed.backward(grad)
        for leaf in leaves:
            leaf.grad = None
        measure.finished(device)

    return run


def places(tokens: int, device: str) -> torch.Tensor:
    """Centres of a grid of patches, as square as the number of tokens allows."""
    rows = max(n for n in range(1, math.isqrt(tokens) + 1) if tokens % n == 0)
    return patch_centres(rows, tokens // rows, torch.tensor([PATCH_M], device=device))[0]


def bias_rows(folder: Path | None, tokens: int) -> pd.DataFrame:
    """Preparing the bias of `tokens` patches: time, and bytes kept.

    Ours keeps coordinates, and makes the bias inside attention (up to 64 MiB of it is kept there).
    """
    slopes, xy = alibi_slopes(HEADS), places(tokens, "cpu")
    cases = {"ours": lambda: Geometry(xy, xy, slopes, REFERENCE_M)}
    kept = {"ours": (2 * xy.nbytes + slopes.nbytes) / 2**20}
    if model := measure.released(folder):
        cases["released"] = lambda: model.get_scale_alibi(HEADS, tokens)
        kept["released"] = model.get_scale_alibi(HEADS, tokens).nbytes / 2**20
    table = measure.summary(measure.interleave(cases, 5), "released")
    return table.assign(tokens=tokens, kept_mib=table["case"].map(kept))


def main() -> None:
    """Time, memory, bias."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--released", type=Path, help="checkout of pkage/scale-alibi")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 2457, 4096])
    parser.add_argument("--memory", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=CASES)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("results/performance"))
    chosen = parser.parse_args()
    measure.same_allocator()
    torch.set_num_threads(chosen.threads)
    device = chosen.device
    if chosen.peak:
        run = case(chosen.peak[0], int(chosen.peak[1]), device)
        print(json.dumps({"peak_mib": measure.peak_mib(run, device)}))
        return
    found = measure.machine(device)
    tables = [time_rows(tokens, device, chosen.rounds, found) for tokens in chosen.tokens]
    write(pd.concat(tables).assign(**found), measure.results(chosen, "attention"), found)
    arguments = [f"--threads={chosen.threads}", "--peak"]
    rows = [
        {"case": name, "tokens": tokens, "batch": BATCHES[device]}
        | peak(name, tokens, arguments, device)
        for tokens in chosen.memory
        for name in CASES[device]
        if tokens <= DENSE_TOKENS or not name.startswith(("released", "reference"))
    ]
    path = measure.results(chosen, "attention_memory")
    write(pd.DataFrame(rows).assign(**found), path, found)
    if device == "cpu":
        bias = bias_rows(chosen.released, DENSE_TOKENS)
        write(bias.assign(**found), measure.results(chosen, "bias"), found)


def peak(name: str, tokens: int, arguments: list[str], device: str) -> dict[str, float]:
    """Peak memory of one implementation, on a processor in a process of its own."""
    if device == "cuda":
        return {"peak_mib": measure.peak_mib(case(name, tokens, device), device)}
    return measure.in_own_process(__file__, *arguments, name, str(tokens))


def time_rows(tokens: int, device: str, rounds: int, found: dict[str, str]) -> pd.DataFrame:
    """All implementations at one number of tokens, against the limit of matrix products."""
    print(f"{tokens} tokens")
    runs = {name: case(name, tokens, device) for name in CASES[device]}
    table = measure.summary(measure.interleave(runs, rounds), "released float32")
    # Two products forward, four backward; logits computed again do not count.
    flop = 6 * 2 * BATCHES[device] * HEADS * DIM * tokens**2
    table["gflops"] = flop / 1e9 / table["wall_s"]
    limits = table["case"].map(lambda name: float(found[f"{name.split()[1]}_gflops"]))
    return table.assign(of_limit=table["gflops"] / limits, tokens=tokens, batch=BATCHES[device])


def write(table: pd.DataFrame, path: Path, found: dict[str, str]) -> None:
    """Keep and show."""
    table.to_csv(path, index=False, float_format="%.4g")
    print(table.drop(columns=list(found)).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
