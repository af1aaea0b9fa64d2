"""Experiment 2: which heads and layers carry scale, and what a picture must show for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from sklearn.linear_model import RidgeCV
from torch import Tensor

from exhibits.experiments import scale
from exhibits.experiments.mosaics import TRAINED, Classifier, Pictures, train
from exhibits.experiments.plans import NOT_RUN, Plan, Verdict, by_seed
from exhibits.figures.style import OTHER, SERIES, legend, panels, seed_dot
from salib.attention import Geometry
from salib.model.precision import autocast

FROZEN_M = 7.75
"""Metres per pixel that a frozen head is told, whatever the picture's are."""
ARMS: dict[str, dict[str, Any]] = {
    **{name: scale.ARMS[name] for name in (scale.SCALE, "Scale-ALiBi, steep slopes")},
    "Scale-ALiBi, null key": {"sink": True},
    scale.PATCHES: scale.ARMS[scale.PATCHES],
}
FLAT_GSDS_M = (3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
KEYS = ("arm", "seed", "steps", "pictures", "part", "at")
FREEZE, PROBE, UNTRAINED, FLAT = "accuracy, frozen", "probe", "probe, untrained", "flat picture"


@dataclass(frozen=True, eq=False, kw_only=True)
class Told(Geometry):
    """Geometry in which some heads of some images are told other distances."""

    times: Float[Tensor, "batch heads"]

    def bias(self, rows: slice = slice(None)) -> Float[Tensor, "batch heads queries keys"]:
        """The bias of each head for its distances, which are `times` the true ones."""
        return super().bias(rows) * self.times[:, :, None, None]


def layers_of(
    model: Classifier, shown: Pictures, *, frozen: Float[Tensor, "layers heads"] | None = None
) -> list[Float[Tensor, "count dim"]]:
    """Mean tokens after each layer, and last after the norm that the head reads.

    Args:
        model: what is looked into.
        shown: pictures, each with its own metres per pixel.
        frozen: 1 where a head of a layer is told `FROZEN_M` in place of them.
    """
    encoder, transformer = model.encoder, model.encoder.encoder("lores").transformer
    frozen = torch.zeros(len(transformer.layers), len(encoder.slopes)) if frozen is None else frozen
    found: list[list[Tensor]] = [[] for _ in range(len(transformer.layers) + 1)]
    with torch.no_grad(), autocast("auto", torch.device("cpu")):
        for part in torch.arange(len(shown.images)).split(128):
            gsd_m = shown.gsd_m[part]
            tokens = model.tokenize(torch.from_numpy(shown.images[part.numpy()]), gsd_m)
            here, x = encoder.geometry(tokens, tokens), tokens.x
            for number, layer in enumerate(transformer.layers):
                if here is not None and encoder.config.position == "ground":
                    times = torch.where(frozen[number] > 0, FROZEN_M / gsd_m[:, None], 1.0)
                    where = (here.q_xy, here.k_xy, here.slopes, here.reference_m)
                    how = {"impl": "reference", "sink": here.sink, "function": here.function}
                    x = layer(x, Told(*where, **how, times=times))
                else:
                    x = layer(x, here)
                found[number].append(x.mean(dim=1))
            found[-1].append(transformer.norm(x).mean(dim=1))
    return [torch.cat(part).float() for part in found]


def one_frozen(model: Classifier, shown: Pictures) -> dict[str, float]:
    """Accuracy with nothing frozen, each head of all layers, all others, each layer's heads.

    Heads are counted from the steepest.
    """
    layers, heads = model.encoder.config.depth, model.encoder.config.heads
    order = model.encoder.slopes.argsort(descending=True)
    head, layer = torch.eye(heads)[order], torch.eye(layers)
    cases = {"nothing": torch.zeros(layers, heads)}
    cases |= {f"head {n + 1}": head[n].expand(layers, -1) for n in range(heads)}
    cases |= {f"all but head {n + 1}": 1 - head[n].expand(layers, -1) for n in range(heads)}
    cases |= {f"layer {n + 1}": layer[n][:, None].expand(-1, heads) for n in range(layers)}
    found = {}
    for name, frozen in cases.items():
        with torch.no_grad():
            scores = model.head(layers_of(model, shown, frozen=frozen)[-1])
        found[name] = float((scores.argmax(dim=1) == shown.labels).float().mean())
    return found


def flat_difference(model: Classifier) -> float:
    """By how much the answers for one flat picture differ over stated GSDs, in float32."""
    flat = torch.full((len(FLAT_GSDS_M), 64, 64, 3), 120, dtype=torch.uint8)
    with torch.no_grad():
        answers = model(flat, torch.tensor(FLAT_GSDS_M))
    return float((answers - answers[:1]).abs().max())


def probe(model: Classifier, shown: Pictures, *, seed: int) -> list[float]:
    """How well each layer's mean tokens tell a GSD that was assigned to the pictures at random.

    R2 of a ridge regression on half of the pictures, on the other half: 0 is blind. As the assigned
    GSD has nothing to do with the pixels, only attention can have brought it in.
    """
    rng = np.random.default_rng([seed, 3])
    ends = np.log((TRAINED[0][0], TRAINED[-1][1]))
    assigned = torch.from_numpy(np.exp(rng.uniform(ends[0], ends[1], len(shown.images)))).float()
    target, half = assigned.log().numpy(), len(assigned) // 2
    found = []
    for features in layers_of(model, replace(shown, gsd_m=assigned))[:-1]:
        fit: Any = RidgeCV(np.logspace(-3, 3, 7)).fit(features[:half].numpy(), target[:half])
        found.append(float(fit.score(features[half:].numpy(), target[half:])))
    return found


def run(plan: Plan, profile: str, *, arms: Sequence[str] = tuple(ARMS)) -> pd.DataFrame:
    """Train each arm for each seed as experiment 1 does, and look into it; resumes.

    The learning rates are those of experiment 1; the null key's is Scale-ALiBi's.

    Returns:
        arm, seed, steps, pictures, part (what was measured), at (which head or layer), value.
    """
    found = plan.rows(profile, KEYS)
    if profile not in plan.budget:
        return found.frame
    sizes = dict(plan.budget[profile])
    seeds, tested, arms = sizes.pop("seeds"), sizes.pop("tested"), sizes.pop("arms", arms)
    shared = [arm for arm in scale.ARMS if arm in (*arms, scale.SCALE)]
    rates = scale.chosen_rates(profile, shared, root=plan.root)
    for seed, arm in ((seed, arm) for seed in range(seeds) for arm in arms):
        at = {"arm": arm, "seed": seed} | sizes
        if at | {"part": FLAT, "at": "all"} in found:  # the last of a model's rows
            continue
        shown = Pictures.draw(sizes["pictures"], intervals=TRAINED, seed=[seed, 1])
        held = Pictures.draw(tested, intervals=TRAINED, seed=[seed, 2, 0])
        rate = rates.get(arm, rates[scale.SCALE])
        model, _ = train(ARMS[arm], shown, steps=sizes["steps"], rate=rate, seed=seed)
        untrained = Classifier(ARMS[arm], seed=seed).eval()
        bias = model.encoder.config.position == "ground"
        parts: dict[str, dict[str, float]] = {FREEZE: one_frozen(model, held)} if bias else {}
        for name, one in ((UNTRAINED, untrained), (PROBE, model)):
            each = probe(one, held, seed=seed)
            parts[name] = {f"layer {n + 1}": value for n, value in enumerate(each)}
        parts[FLAT] = {"all": flat_difference(model)}
        found.add(
            *(
                at | {"part": part, "at": where, "value": value}
                for part, values in parts.items()
                for where, value in values.items()
            )
        )
    return found.frame


def values_of(rows: pd.DataFrame, arm: str, part: str) -> Any:
    """What was measured of an arm, a line per seed and a column per head or layer."""
    some: Any = rows[(rows["arm"] == arm) & (rows["part"] == part)]
    return by_seed(some, "value", over="at")


def verdict(rows: pd.DataFrame) -> Verdict:
    """The rule: the steepest head carries it, a flat picture tells nothing, the probes."""
    if scale.SCALE not in set(rows["arm"]) or scale.PATCHES not in set(rows["arm"]):
        return NOT_RUN if rows.empty else Verdict("cannot be decided here", "arms are missing")
    held = 100 * values_of(rows, scale.SCALE, FREEZE).mean()
    alone, others = (held["nothing"] - held[name] for name in ("head 1", "all but head 1"))
    plain = [arm for arm in set(rows["arm"]) if not ARMS[arm].get("sink")]
    flat = max(values_of(rows, arm, FLAT).to_numpy().max() for arm in plain)
    known, blind = (
        values_of(rows, arm, PROBE).mean().max() for arm in (scale.SCALE, scale.PATCHES)
    )
    evidence = (
        f"freezing the steepest head costs {alone:.1f} points, all others {others:.1f}; a flat "
        f"picture moves an answer by {flat:.0e}; R2 {known:.2f} against {blind:.2f}"
    )
    right = alone > 10 and others < alone / 2 and flat < 1e-5 and known > 0.3 and blind < 0.05
    return Verdict("holds" if right else "does not hold", evidence)


def mechanism_figure(rows: pd.DataFrame) -> Figure:
    """What freezing costs by head and layer, and what probes read, by arm."""
    figure, axes = panels(1, 3, height_in=2.8, width_ratios=[3, 2, 2])
    arms = [arm for arm in ARMS if arm in set(rows["arm"])]
    for number, arm in enumerate(arms):
        held = 100 * values_of(rows, arm, FREEZE)  # without columns if nothing can be frozen
        offset, colour = 0.18 * (number - (len(arms) - 1) / 2), SERIES[number]
        for axis, names in (
            (axes[0, 0], [name for name in held if name.startswith("head")]),
            (axes[0, 1], [name for name in held if name.startswith("layer")]),
        ):
            for place, name in enumerate(names, 1):
                lost = (held["nothing"] - held[name]).to_numpy(float)
                seed_dot(axis, place + offset, lost, color=colour)
            if names:
                axis.set_xticks(range(1, len(names) + 1))
        for part, dash in ((UNTRAINED, ":"), (PROBE, "-")):
            known = values_of(rows, arm, part).mean()
            label = arm if part == PROBE else None
            at = range(1, len(known) + 1)
            axes[0, 2].plot(at, known, color=colour, ls=dash, marker="o", ms=3, lw=1.2, label=label)
    for axis, label in zip(axes[0], ("head, the steepest first", "layer", "layer"), strict=True):
        axis.axhline(0, color=OTHER, lw=0.8)
        axis.set_xlabel(label)
    axes[0, 0].set_ylabel("points lost, frozen")
    axes[0, 2].set(ylabel="R² of an assigned GSD", ylim=(-0.15, 1))
    legend(axes[0, 2], size=7, beside=True)
    return figure


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """By arm: what the steepest head and all others carry, the best probe, the flat picture."""
    lines = {}
    for arm in (name for name in ARMS if name in set(rows["arm"])):
        held, known = (values_of(rows, arm, part).mean() for part in (FREEZE, PROBE))
        line = {name: f"{100 * held[name]:.1f}" for name in held.index if "head 1" in name}
        whole = {"accuracy, %": f"{100 * held['nothing']:.1f}"} if len(held) else {}
        flat = float(values_of(rows, arm, FLAT).to_numpy().max())
        lines[arm] = whole | {f"{name} frozen": value for name, value in line.items()}
        lines[arm] |= {"probe, R²": f"{known.max():.2f}", "flat picture": f"{flat:.0e}"}
    return pd.DataFrame.from_dict(lines, orient="index").fillna("").rename_axis("arm")
