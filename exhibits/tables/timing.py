"""Rows of the benchmarks as the performance page prints them."""

from typing import Literal

from pandas.io.formats.style import Styler

from exhibits.tables.rows import Rows, Table, read_rows

RELEASED, RELEASED_BF16 = "released float32", "released bf16"
Clock = Literal["cpu", "wall"]
COLUMNS = {
    "wall_s": ("seconds", "{:.2f}"),
    "cpu_s": ("CPU seconds", "{:.2f}"),
    "wall_ms_a_sample": ("wall ms", "{:.2f}"),
    "cpu_ms_a_sample": ("CPU ms", "{:.2f}"),
    "speedup": ("times as fast", "{:.2f}"),
    "peak_mib": ("peak MiB", "{:,.0f}"),
    "peak_share": ("share of peak", "{:.0%}"),
    "rss_mb": ("peak MB", "{:,.0f}"),
    "of_limit": ("of the limit", "{:.0%}"),
}
"""What is shown of a case, in this order: its name and its format."""


def speed(rows: Rows, *, clock: Clock = "cpu") -> Styler:
    """Each case beside the released code, which comes first: time, how many times as fast, memory.

    Args:
        rows: one benchmark at one size, by case: medians over rounds, per step or per sample.
        clock: what "times as fast" goes by: the processor's time, or "wall" of a GPU, for which
            the processor only waits.

    Returns:
        Indexed by case, what was measured of `COLUMNS`.
    """
    table = _by_case(rows).rename(columns={f"speedup_{clock}": "speedup", "peak_rss_mb": "rss_mb"})
    first = [name for name in (RELEASED, RELEASED_BF16) if name in table.index]
    table = table.loc[[*first, *(name for name in table.index if name not in first)]]
    if "peak_mib" in table and RELEASED in table.index:
        table["peak_share"] = table["peak_mib"] / table["peak_mib"][RELEASED]
    if clock == "wall":
        table = table.drop(columns="cpu_s")
    names = [name for name in COLUMNS if name in table]
    style = table[names].rename(columns={name: COLUMNS[name][0] for name in names}).style
    style.format(dict(COLUMNS[name] for name in names), na_rep="")
    return style


def speed_ratios(rows: Rows, *, clock: Clock = "cpu") -> dict[str, float]:
    """What prose says of one benchmark: how many times as fast, and how much of the memory.

    Returns:
        By name such as "bf16.float32" (ours in bfloat16 against the released code in float32):
        how many times as fast by that clock, the median over rounds as `speed` prints it, or else
        the ratio of medians; "bf16.peak": ours over the released code's float32 peak; empty where
        a side was not measured. "ours compiled bf16" is "compiled.bf16" here.
    """
    table = _by_case(rows)
    seconds, ratios = table[f"{clock}_s"], {}
    for case in (name for name in table.index if name.startswith("ours ")):
        name = case.removeprefix("ours ").replace(" ", ".")
        for released in (RELEASED, RELEASED_BF16):
            if released in table.index:
                ratio = seconds[released] / seconds[case]
                if released == RELEASED and f"speedup_{clock}" in table:
                    ratio = table.at[case, f"speedup_{clock}"]
                ratios[f"{name}.{released.removeprefix('released ')}"] = float(ratio)
        if "peak_mib" in table and RELEASED in table.index:
            peaks = table["peak_mib"]
            ratios[f"{name}.peak"] = float(peaks[case] / peaks[RELEASED])
    return ratios


def stage_seconds(rows: Rows) -> Styler:
    """Seconds of each stage of the heads by task, summed over columns, the slowest stage last.

    Args:
        rows: of `benchmarks/heads.py`: task, stage, wall_s.
    """
    table = read_rows(rows)
    seconds = table.pivot_table(index="stage", columns="task", values="wall_s", aggfunc="sum")
    seconds["all"] = seconds.sum(axis=1)
    return seconds.sort_values("all").style.format("{:.1f}")


def rates(rows: Rows) -> Styler:
    """TFLOP/s of attention by number of tokens and implementation.

    Args:
        rows: of `benchmarks/attention.py`: case, tokens, gflops.
    """
    wide = read_rows(rows).pivot(index="tokens", columns="case", values="gflops") / 1000
    return wide.rename_axis(columns="TFLOP/s").style.format("{:.1f}")


def memory_growth(rows: Rows) -> dict[str, float]:
    """Peak memory at the most tokens over that at the fewest, over the ratio of tokens, by case.

    One means linear in tokens. Cases measured at one size only are left out.
    """
    cases = read_rows(rows).sort_values("tokens").groupby("case")[["tokens", "peak_mib"]]
    ratio = cases.last() / cases.first()
    growth = (ratio["peak_mib"] / ratio["tokens"])[ratio["tokens"] > 1]
    return growth.to_dict()


def _by_case(rows: Rows) -> Table:
    return read_rows(rows).set_index("case")
