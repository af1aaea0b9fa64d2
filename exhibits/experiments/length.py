"""Experiment 6: train on small images, test on larger ones."""

import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from exhibits.experiments import scale
from exhibits.experiments.mosaics import SMALL, TRAINED, Classifier, Pictures, accuracy, train
from exhibits.experiments.plans import NOT_RUN, Plan, Verdict, by_seed
from exhibits.figures.style import OTHER, legend, panels, seed_line
from exhibits.tables.summary import INTERVAL, seed_interval
from salib.attention import Geometry
from salib.bias import rotated
from salib.model.layers import Attention

ROTARY, SINCOS = "rotary by ground distance", "GSD-scaled sine-cosine"
ARMS = (scale.SCALE, scale.PATCHES, ROTARY, SINCOS, "no position")
DECIDES_PX = 8
CASES = (*product((DECIDES_PX,), ARMS), *product((16, 4), (scale.SCALE, ROTARY)))
"""Sides of a patch in pixels, of which one decides, and arms."""
SIDES_PX = {64: 1, 128: 2, 256: 8}
"""Sides of the pictures, of which the first is trained, and what divides their number."""
LOOKED = 16
"""Pictures whose attention is looked at."""
LOST_MOST, LOST_LEAST = 5.0, 20.0
KEYS = ("arm", "patch_px", "seed", "steps", "pictures", "side_px")


def weights(
    attention: Attention,
    x: Float[Tensor, "batch tokens dim"],
    geometry: Geometry | None,
    rows: slice = slice(None),
) -> Float[Tensor, "batch heads queries tokens"]:
    """How much some queries of a self-attention attend to each key."""
    x = attention.norm(x)
    q, k = (
        rearrange(tokens, "b n (h d) -> b h n d", h=attention.heads)
        for tokens in (attention.queries(x), attention.keys_values(x).chunk(2, dim=-1)[0])
    )
    if geometry is not None and geometry.rotary:
        q, k = (rotated(tokens, geometry.q_xy, geometry.reference_m) for tokens in (q, k))
    logits = q[:, :, rows] @ k.mT / q.shape[-1] ** 0.5
    if geometry is not None and not geometry.rotary:
        logits = logits + geometry.bias(rows)
    return logits.softmax(dim=-1)


def effective_tokens(model: Classifier, shown: Pictures) -> float:
    """Exponential of the attention's entropy: over how many tokens a query's weights spread.

    Mean over about 64 queries of each picture, heads and layers, in float32.
    """
    found: list[Tensor] = []

    def look(attention: Any, given: tuple[Tensor, Geometry | None]) -> None:
        x, geometry = given[:2]
        rows = slice(None, None, x.shape[1] // 64 | 1)  # odd, so that no column is left out
        spread = torch.special.entr(weights(attention, x, geometry, rows)).sum(dim=-1)
        found.append(spread.exp().mean())

    layers: Any = model.encoder.encoder("lores").transformer.layers
    hooks = [layer.self_attention.register_forward_pre_hook(look) for layer in layers]
    with torch.no_grad():
        model(torch.from_numpy(shown.images), shown.gsd_m)
    for hook in hooks:
        hook.remove()
    return float(torch.stack(found).mean())


def logits_mb(side_px: int, patch_px: int) -> float:
    """Size of the logits of one layer and picture, kept whole in float32; so is their bias's."""
    return SMALL.heads * (side_px // patch_px) ** 4 * 4 / 1e6


def run(plan: Plan, profile: str, *, cases: Sequence[Sequence[Any]] = CASES) -> pd.DataFrame:
    """Train each arm for each patch and seed on pictures of 64 px, and test on larger; resumes.

    Learning rates are those that experiment 1 chose for the same arms.

    Returns:
        arm, patch_px, seed, steps, pictures, side_px, rate, accuracy, effective (tokens of
        attention), wall_ms (per picture of a forward pass).
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, tested, cases = sizes.pop("seeds"), sizes.pop("tested"), sizes.pop("cases", cases)
    rates = scale.chosen_rates(profile, [arm for _, arm in cases], root=plan.root)
    for seed in range(seeds):
        drawn: list[Any] = []
        for patch_px, arm in cases:
            at = {"arm": arm, "patch_px": patch_px, "seed": seed} | sizes
            if at | {"side_px": max(SIDES_PX)} in found:  # the last of a model's rows
                continue
            if not drawn:
                drawn = [Pictures.draw(sizes["pictures"], intervals=TRAINED, seed=[seed, 1])]
                drawn.append(draw_tests(tested, seed=seed))
            changes, how = {**scale.ARMS[arm], "patch_px": patch_px}, {"seed": seed}
            model, _ = train(changes, drawn[0], steps=sizes["steps"], rate=rates[arm], **how)
            told = at | {"rate": rates[arm]}
            found.add(*(told | measured(model, shown) for shown in drawn[1]))
    return found.frame


def draw_tests(count: int, *, seed: int) -> list[Pictures]:
    """Pictures of every side, for one seed."""
    return [
        Pictures.draw(count // part, intervals=TRAINED, side_px=side_px, seed=[seed, 2, side_px])
        for side_px, part in SIDES_PX.items()
    ]


def measured(model: Classifier, shown: Pictures) -> dict[str, Any]:
    """What is noted of a model on pictures of one side."""
    some = Pictures(shown.images[:LOOKED], shown.gsd_m[:LOOKED], shown.labels[:LOOKED])
    accuracy(model, some)  # not timed: what is loaded or compiled on the first call
    began = time.perf_counter()
    right = accuracy(model, shown)
    wall_ms = 1000 * (time.perf_counter() - began) / len(shown.images)
    found = {"accuracy": right, "effective": effective_tokens(model, some), "wall_ms": wall_ms}
    return {"side_px": shown.images.shape[1], **found}


def values_of(rows: pd.DataFrame, arm: str, column: str, patch_px: int = DECIDES_PX) -> Any:
    """A column of an arm and patch, a line per seed and a column per side of the pictures."""
    some: Any = rows[(rows["arm"] == arm) & (rows["patch_px"] == patch_px)]
    return by_seed(some, column, over="side_px")


def lost(rows: pd.DataFrame, arm: str, patch_px: int = DECIDES_PX) -> np.ndarray:
    """Points of accuracy lost from the trained side to the largest, one per seed."""
    held = 100 * values_of(rows, arm, "accuracy", patch_px)
    return (held[min(SIDES_PX)] - held[max(SIDES_PX)]).dropna().to_numpy(float)


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: what each of three arms loses at 16 times the tokens."""
    if rows.empty:
        return NOT_RUN
    there: Any = rows[rows["patch_px"] == DECIDES_PX]
    if missing := {scale.SCALE, ROTARY, SINCOS} - set(there["arm"]):
        return Verdict("cannot be decided here", f"missing: {', '.join(sorted(missing))}")
    own, *others = (seed_interval(lost(rows, arm)) for arm in (scale.SCALE, ROTARY, SINCOS))
    evidence = (
        f"points lost at 16 times the tokens: Scale-ALiBi {own.value:.1f}, rotary "
        f"{others[0].value:.1f}, sine-cosine {others[1].value:.1f}"
    )
    if np.isnan(own.low):
        return Verdict("cannot be decided here", f"{evidence}; one seed has no interval")
    right = own.high <= LOST_MOST and all(end.low > LOST_LEAST for end in others)
    return Verdict("holds" if right else "does not hold", evidence)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """By patch and arm: accuracy by side, points lost, and tokens attended to."""
    lines = {}
    for patch_px, arm in CASES:
        held = 100 * values_of(rows, arm, "accuracy", patch_px)
        if held.empty:
            continue
        mean, low, high = seed_interval(lost(rows, arm, patch_px))
        ends = INTERVAL.format(mean, low, high) if low == low else f"{mean:.1f}"
        line = {f"{side} px": f"{value:.1f}" for side, value in held.mean().items()}
        line |= {"lost": ends}
        spread = values_of(rows, arm, "effective", patch_px).mean()
        line |= {f"tokens attended to, {side} px": f"{count:.0f}" for side, count in spread.items()}
        lines[f"{patch_px} px", arm] = line
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(["patch", "arm"])


def length_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy, tokens attended to, and time, against the side of the pictures."""
    figure, axes = panels(2, 2, height_in=4.8)
    shown = [arm for arm in ARMS if arm in set(rows["arm"])]
    for arm in shown:
        _line(axes[0, 0], rows, arm, "accuracy", 100.0)
        _line(axes[1, 0], rows, arm, "effective")
        _line(axes[1, 1], rows, arm, "wall_ms")
        for patch_px, mark in ((16, "s"), (4, "^")):
            _line(axes[0, 1], rows, arm, "accuracy", 100.0, patch_px, marker=mark)
    tokens = [(side / DECIDES_PX) ** 2 for side in SIDES_PX]
    axes[1, 0].plot(list(SIDES_PX), tokens, color=OTHER, ls=":", lw=1)
    for axis, label, title in (
        (axes[0, 0], "accuracy, %", "patches of 8 px"),
        (axes[0, 1], "accuracy, %", "patches of 4 px (triangles), 16 px (squares)"),
        (axes[1, 0], "tokens attended to", "patches of 8 px; dotted: all tokens"),
        (axes[1, 1], "ms per picture", "patches of 8 px"),
    ):
        axis.set(xscale="log", ylabel=label, xlabel="side of the picture, px")
        axis.set(**({"ylim": (0, 103)} if "%" in label else {"yscale": "log"}))
        axis.set_title(title, size=9)
        axis.minorticks_off()
        axis.set_xticks(list(SIDES_PX), [str(side) for side in SIDES_PX])
    lines = [Line2D([], [], label=arm, **scale.look(arm)) for arm in shown]
    legend(figure, handles=lines, loc="outside lower center", ncols=3)
    return figure


def _line(
    axis: Axes,
    rows: pd.DataFrame,
    arm: str,
    column: str,
    times: float = 1.0,
    patch_px: int = DECIDES_PX,
    **options: str,
) -> None:
    held = values_of(rows, arm, column, patch_px)
    if len(held):
        values = times * held[list(SIDES_PX)].to_numpy(float)
        seed_line(axis, list(SIDES_PX), values, **scale.look(arm), **options)
