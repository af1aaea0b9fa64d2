"""Rows of the benchmarks as the performance page prints them."""

from typing import Literal

import pandas as pd
from pandas.io.formats.style import Styler

from exhibits.tables.rows import Rows, read_rows

RELEASED, RELEASED_BF16 = "released float32", "released bf16"
Clock = Literal["cpu", "wall"]
FORMATS = {
    "seconds": "{:.2f}",
    "CPU seconds": "{:.2f}",
    "times as fast": "{:.2f}",
    "peak MiB": "{:,.0f}",
    "share of peak": "{:.0%}",
    "of the limit": "{:.0%}",
}


def speed(rows: Rows, *, clock: Clock = "cpu") -> Styler:
    """Each case beside the released code in float32, in the order that the page shows.

    Args:
        rows: one benchmark at one size: case, wall_s, cpu_s, speedup_cpu and speedup_wall (medians
            over rounds), and, where measured, peak_mib and of_limit.
        clock: what "times as fast" goes by: the processor's time, or "wall" of a GPU, for which
            the processor only waits.

    Returns:
        Indexed by case: seconds, CPU seconds (by that clock), times as fast, peak MiB, share of
        peak, of the limit.
    """
    table = pd.DataFrame(read_rows(rows)).set_index("case")
    first = [name for name in (RELEASED, RELEASED_BF16) if name in table.index]
    table = table.loc[[*first, *(name for name in table.index if name not in first)]]
    shown = pd.DataFrame({"seconds": table["wall_s"]})
    if clock == "cpu":
        shown["CPU seconds"] = table["cpu_s"]
    if f"speedup_{clock}" in table:
        shown["times as fast"] = table[f"speedup_{clock}"]
    if "peak_mib" in table:
        shown["peak MiB"] = table["peak_mib"]
        if RELEASED in table.index:
            shown["share of peak"] = table["peak_mib"] / table["peak_mib"][RELEASED]
    if "of_limit" in table:
        shown["of the limit"] = table["of_limit"]
    style = shown.style
    style.format({name: FORMATS[str(name)] for name in shown})
    return style


def per_sample(rows: Rows) -> Styler:
    """What a sample costs by case: milliseconds, CPU time against the first case's, peak memory.

    Args:
        rows: of one benchmark: case, wall_ms_a_sample, cpu_ms_a_sample, speedup_cpu, and rss_mb or
            peak_rss_mb where measured.
    """
    table = pd.DataFrame(read_rows(rows)).set_index("case")
    names = {"wall_ms_a_sample": "wall ms", "cpu_ms_a_sample": "CPU ms"}
    names |= {"speedup_cpu": "times as fast"}
    names |= {"rss_mb": "peak MB", "peak_rss_mb": "peak MB", "of_limit": "of the limit"}
    shown = pd.DataFrame({names[name]: table[name] for name in names if name in table})
    formats = dict.fromkeys(("wall ms", "CPU ms", "times as fast"), "{:.2f}")
    formats |= {"peak MB": "{:,.0f}", "of the limit": "{:.0%}"}
    style = shown.style
    style.format({name: formats[str(name)] for name in shown}, na_rep="")
    return style


def stage_seconds(rows: Rows) -> Styler:
    """Seconds of each stage of the heads by task, summed over columns, the slowest stage last.

    Args:
        rows: of `benchmarks/heads.py`: task, stage, wall_s.
    """
    table = pd.DataFrame(read_rows(rows))
    seconds = table.pivot_table(index="stage", columns="task", values="wall_s", aggfunc="sum")
    seconds["all"] = seconds.sum(axis=1)
    style = seconds.sort_values("all").style
    style.format("{:.1f}")
    return style


def speed_ratios(rows: Rows, *, clock: Clock = "cpu") -> dict[str, float]:
    """What prose says of one benchmark: how many times as fast, and how much of the memory.

    Args:
        rows: as `speed` takes them.
        clock: as there.

    Returns:
        By name such as "bf16.float32" (ours in bfloat16 against the released code in float32):
        how many times as fast by that clock, the median over rounds as `speed` prints it, or else
        the ratio of medians; "bf16.peak": ours over the released code's float32 peak; empty where
        a side was not measured. "ours compiled bf16" is "compiled.bf16" here.
    """
    table = pd.DataFrame(read_rows(rows)).set_index("case")
    ratios = {}
    for ours in (str(n).removeprefix("ours ") for n in table.index if str(n).startswith("ours ")):
        name = ours.replace(" ", ".")
        for theirs in ("float32", "bf16"):
            pair = (f"released {theirs}", f"ours {ours}")
            if set(pair) <= set(table.index):
                seconds = [float(table.loc[case, f"{clock}_s"]) for case in pair]
                known = f"speedup_{clock}"
                measured = known in table and theirs == "float32"
                ratio = table.loc[pair[1], known] if measured else seconds[0] / seconds[1]
                ratios[f"{name}.{theirs}"] = float(ratio)
        pair = (RELEASED, f"ours {ours}")
        if "peak_mib" in table and set(pair) <= set(table.index):
            peaks = [float(table.loc[case, "peak_mib"]) for case in pair]
            ratios[f"{name}.peak"] = peaks[1] / peaks[0]
    return ratios


def rates(rows: Rows) -> Styler:
    """TFLOP/s of attention by number of tokens and implementation.

    Args:
        rows: of `benchmarks/attention.py`: case, tokens, gflops.
    """
    table = pd.DataFrame(read_rows(rows))
    wide = table.pivot(index="tokens", columns="case", values="gflops") / 1000
    style = wide.rename_axis(columns="TFLOP/s").style
    style.format("{:.1f}")
    return style


def memory_growth(rows: Rows) -> dict[str, float]:
    """Peak memory at the most tokens over that at the fewest, over the ratio of tokens, by case.

    One means linear in tokens. Cases measured at one size only are left out.
    """
    growth = {}
    for case, own in pd.DataFrame(read_rows(rows)).groupby("case"):
        own = own.sort_values("tokens")
        small, large = own.iloc[0], own.iloc[-1]
        if large["tokens"] > small["tokens"]:
            peaks = large["peak_mib"] / small["peak_mib"]
            growth[str(case)] = float(peaks * small["tokens"] / large["tokens"])
    return growth
