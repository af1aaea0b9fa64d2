"""What a probe does, written down: the correct protocol and the paper's."""

import math
from dataclasses import dataclass
from typing import Literal

LINEAR_CS = tuple(10.0 ** (power / 2) for power in range(-12, 3))
PROBES = {
    "classification": ("neural", "kmeans", "kmeans_umap", "knn", "knn_weighted", "linear"),
    "multilabel": ("neural", "knn", "knn_weighted", "linear"),
    "segmentation": ("linear", "decoder"),
}
"""What is fitted to the features of a task of each kind."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice of the evaluation that the paper's text leaves open.

    The fields of "paper" are what its Table 2 and text allow us to infer; what cannot be
    inferred is assumed, and the assumption is the value that stands here. `ASSUMPTIONS` says
    which is which, and names the choices that are made outside of the probes.

    Args:
        kinds: of tasks that it says how to score.
        probes: those of `PROBES` that are run.
        standardise: z-score features with the train split's mean and deviation.
        knn_metric: "cosine" between (z-scored) features, or "l2".
        knn_temperature: of the k-NN whose votes are weighted by exp(cosine / temperature);
            the votes of the other are uniform.
        match: how cluster ids become classes; "hungarian" learns a one-to-one match on the
            train split, "none" compares raw ids with labels (D15).
        cs: inverse strengths of the linear probe's L2 penalty, chosen on the valid split.
        learning_rates: candidates of the neural probe, chosen on the valid split.
        activation: between the neural probe's layers.
        keep: weights of the neural probe at the epoch of "best" valid loss, or the "last".
        patience: epochs without a better valid loss before the neural probe stops.
        resamples: bootstrap samples of the test items behind each interval.
        truncate: print percentages cut after two decimals, not rounded.
    """

    name: str
    standardise: bool
    knn_metric: Literal["cosine", "l2"]
    match: Literal["hungarian", "none"]
    kinds: tuple[str, ...] = tuple(PROBES)
    probes: tuple[str, ...] = tuple(dict.fromkeys(probe for of in PROBES.values() for probe in of))
    knn_k: int = 20
    knn_temperature: float = 0.07
    kmeans_restarts: int = 10
    umap_dim: int = 2
    umap_neighbours: int = 15
    cs: tuple[float, ...] = LINEAR_CS
    hidden: int = 2048
    activation: Literal["gelu", "relu"] = "gelu"
    keep: Literal["best", "last"] = "best"
    learning_rates: tuple[float, ...] = (3e-4, 3e-3)
    weight_decays: tuple[float, ...] = (1e-2,)
    epochs: int = 20
    patience: int = 2
    batch: int = 256
    resamples: int = 1000
    confidence: float = 0.95
    truncate: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a count is below one, the confidence is not inside (0, 1), a sweep is
                empty or holds a value out of range, or a choice is none of those listed.
        """
        counts = ("knn_k", "kmeans_restarts", "umap_dim", "hidden", "epochs", "patience")
        for field in (*counts, "batch", "resamples"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.umap_neighbours < 2:
            raise ValueError(f"umap_neighbours must be at least 2, got {self.umap_neighbours}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if not self.learning_rates or not self.weight_decays or not self.cs:
            raise ValueError("learning_rates, weight_decays and cs must name a value, got none")
        for field in ("learning_rates", "cs"):
            if not all(value > 0 and math.isfinite(value) for value in getattr(self, field)):
                raise ValueError(f"{field} must be positive, got {getattr(self, field)}")
        if self.knn_temperature <= 0:
            raise ValueError(f"knn_temperature must be positive, got {self.knn_temperature}")
        if self.activation not in ("gelu", "relu"):
            raise ValueError(f"activation must be gelu or relu, got {self.activation!r}")
        if self.keep not in ("best", "last"):
            raise ValueError(f"keep must be best or last, got {self.keep!r}")


PROTOCOLS = {
    "default": Protocol(name="default", standardise=True, knn_metric="cosine", match="hungarian"),
    "paper": Protocol(
        name="paper",
        standardise=False,
        knn_metric="l2",
        match="none",
        kinds=("classification",),
        probes=("neural", "kmeans", "kmeans_umap", "knn"),
        activation="relu",
        keep="last",
        learning_rates=(1e-3,),
        weight_decays=(0.0,),
        epochs=50,
        patience=50,
        truncate=True,
    ),
}


def protocol_named(name: str) -> Protocol:
    """One of `PROTOCOLS`.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {tuple(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One choice that the paper's text leaves open.

    Args:
        field: of `Protocol` that holds it; "" where it is fixed outside of the probes.
        known: why we hold that the paper did so: "text", "inferred" from the digits of Table 2,
            or "assumed".
    """

    choice: str
    field: str
    default: str
    paper: str
    known: Literal["text", "inferred", "assumed"]


def assumptions() -> tuple[Assumption, ...]:
    """What each protocol does where the paper is silent, for a table on the page."""
    ours, theirs = PROTOCOLS["default"], PROTOCOLS["paper"]

    def held(choice: str, field: str, known: Literal["text", "inferred", "assumed"]) -> Assumption:
        found = (getattr(protocol, field) for protocol in (ours, theirs))
        values = (", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in found)
        return Assumption(
            choice=choice, field=field, default=next(values), paper=next(values), known=known
        )

    def fixed(choice: str, default: str, paper: str, known: Literal["inferred", "assumed"]):
        return Assumption(choice=choice, field="", default=default, paper=paper, known=known)

    tokens = "mean of the encoder's last tokens"
    return (
        held("neighbours", "knn_k", "text"),
        held("distance between neighbours", "knn_metric", "assumed"),
        fixed("weights of votes", "uniform; exponential beside", "uniform", "assumed"),
        held("features z-scored", "standardise", "assumed"),
        held("cluster ids to classes", "match", "inferred"),
        held("restarts of k-means", "kmeans_restarts", "assumed"),
        fixed("clusters", "one a class", "one a class", "assumed"),
        fixed("k-means and UMAP fitted on", "train", "train", "assumed"),
        held("UMAP dimensions", "umap_dim", "assumed"),
        held("UMAP neighbours", "umap_neighbours", "assumed"),
        held("kinds of task", "kinds", "text"),
        held("probes", "probes", "text"),
        held("hidden units", "hidden", "text"),
        held("activation", "activation", "assumed"),
        fixed("dropout", "none", "none", "assumed"),
        held("learning rate (AdamW; Adam without decay)", "learning_rates", "assumed"),
        held("weight decay", "weight_decays", "assumed"),
        held("epochs at most", "epochs", "assumed"),
        held("items a batch", "batch", "assumed"),
        held("weights kept", "keep", "assumed"),
        fixed("split scored", "test", "test", "inferred"),
        fixed("features", tokens, tokens, "assumed"),
        fixed("seeds", "one a row", "one a row", "assumed"),
        held("percentages cut, not rounded", "truncate", "inferred"),
    )


def percent(share: float, *, truncate: bool) -> str:
    """A share as a percentage of two decimals, rounded or, as the paper's are, cut.

    A share that is a whole number of hundredths of a percent within 1e-9 is not cut below it.

    Raises:
        ValueError: if the share does not lie in 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0..1, got {share}")
    if not truncate:
        return f"{100 * share:.2f}"
    return f"{math.floor(1e4 * share + 1e-5) / 100:.2f}"
