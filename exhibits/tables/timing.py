"""Rows of the benchmarks as the performance page prints them."""

from typing import Literal

from pandas.io.formats.style import Styler

from exhibits.tables.rows import Rows, read_rows

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
    """
    table = read_rows(rows).set_index("case")
    table = table.rename(columns={f"speedup_{clock}": "speedup", "peak_rss_mb": "rss_mb"})
    first = [case for case in (RELEASED, RELEASED_BF16) if case in table.index]
    table = table.loc[[*first, *(case for case in table.index if case not in first)]]
    if "peak_mib" in table and RELEASED in table.index:
        table["peak_share"] = table["peak_mib"] / table["peak_mib"][RELEASED]
    skipped = {"cpu_s"} if clock == "wall" else set()
    names = {name: COLUMNS[name][0] for name in COLUMNS if name in table and name not in skipped}
    style = table[[*names]].rename(columns=names).style
    return style.format(dict(COLUMNS[name] for name in names), na_rep="")


def speed_ratios(rows: Rows, *, clock: Clock = "cpu") -> dict[str, float]:
    """Numbers for prose on one benchmark: how many times as fast, and how much of the memory.

    Returns:
        By name such as "bf16.float32" (ours in bfloat16 against the released code in float32):
        how many times as fast by that clock, the median over rounds as `speed` prints it, or else
        the ratio of medians; "bf16.peak": ours over the released code's float32 peak; empty where
        a side was not measured. "ours compiled bf16" is "compiled.bf16" here.
    """
    table = read_rows(rows).set_index("case")
    ratios = {}
    for released in (case for case in (RELEASED, RELEASED_BF16) if case in table.index):
        times = table.at[released, f"{clock}_s"] / table[f"{clock}_s"]
        if released == RELEASED:
            times = table.get(f"speedup_{clock}", times)
            if "peak_mib" in table:
                ratios["peak"] = table["peak_mib"] / table.at[RELEASED, "peak_mib"]
        ratios[released.removeprefix("released ")] = times
    return {
        f"{case.removeprefix('ours ').replace(' ', '.')}.{name}": float(ratio[case])
        for case in table.index
        if case.startswith("ours ")
        for name, ratio in ratios.items()
    }


def memory_growth(rows: Rows) -> dict[str, float]:
    """Peak memory at the most tokens over that at the fewest, over the ratio of tokens, by case.

    One means linear in tokens. Cases measured at one size only are left out.
    """
    cases = read_rows(rows).sort_values("tokens").groupby("case")[["tokens", "peak_mib"]]
    ratio = cases.last() / cases.first()
    growth = (ratio["peak_mib"] / ratio["tokens"])[ratio["tokens"] > 1]
    return growth.to_dict()
