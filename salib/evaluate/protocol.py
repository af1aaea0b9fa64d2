"""What the probes do, written down: the correct protocol and the paper's."""

import math
from dataclasses import dataclass
from typing import Literal

LINEAR_CS = tuple(10.0 ** (power / 2) for power in range(-12, 3))
POSITIVE = ("knn_k", "knn_temperature", "kmeans_restarts", "umap_dim", "cs", "hidden")
POSITIVE += ("learning_rates", "epochs", "patience", "batch", "resamples")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice of the evaluation that the paper's text leaves open.

    The fields of "paper" are what its Table 2 and text allow us to infer; what cannot be
    inferred is assumed, and the assumption is the value here.
    `exhibits.tables.protocol` says which is which.

    Args:
        kinds: of tasks that it scores.
        probes: names of those that are run (`salib.evaluate.probes.table`), or "all".
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
        resamples: bootstrap samples of the test items behind each 95 % interval.
        truncate: print percentages cut after two decimals, not rounded.
    """

    name: str
    standardise: bool
    knn_metric: Literal["cosine", "l2"]
    match: Literal["hungarian", "none"]
    kinds: tuple[str, ...] = ("classification", "multilabel", "segmentation")
    probes: tuple[str, ...] | Literal["all"] = "all"
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
    weight_decay: float = 1e-2
    epochs: int = 20
    patience: int = 2
    batch: int = 256
    resamples: int = 1000
    truncate: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a number is not positive, or a sweep is empty.
        """
        for field in POSITIVE:
            value = getattr(self, field)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(0 < one < math.inf for one in values):
                raise ValueError(f"{field} must be positive, got {value}")
        if self.umap_neighbours < 2:
            raise ValueError(f"umap_neighbours must be 2 or more, got {self.umap_neighbours}")

    def runs(self, probe: str) -> bool:
        """Whether it runs the probe of a name."""
        return self.probes == "all" or probe in self.probes


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
        weight_decay=0.0,
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
