"""What a probe does, written down: the correct protocol and the paper's."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice of the evaluation that the paper's text leaves open.

    The fields of "paper" are what its Table 2 and text allow us to infer; what cannot be
    inferred is assumed, and the assumption is the value that stands here.

    Args:
        standardise: z-score features with the train split's mean and deviation.
        knn_metric: "cosine" between (z-scored) features, or "l2"; votes are always uniform.
        match: how cluster ids become classes; "hungarian" learns a one-to-one match on the
            train split, "none" compares raw ids with labels (D15).
        learning_rates: candidates of the neural probe, chosen on the valid split.
        patience: epochs without a better valid loss before the neural probe stops.
        resamples: bootstrap samples of the test items behind each interval.
    """

    name: str
    standardise: bool
    knn_metric: Literal["cosine", "l2"]
    match: Literal["hungarian", "none"]
    knn_k: int = 20
    kmeans_restarts: int = 10
    umap_dim: int = 2
    umap_neighbours: int = 15
    hidden: int = 2048
    learning_rates: tuple[float, ...] = (3e-4, 3e-3)
    weight_decays: tuple[float, ...] = (1e-2,)
    epochs: int = 20
    patience: int = 2
    batch: int = 256
    resamples: int = 1000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a count is below one or the confidence is not inside (0, 1).
        """
        for field in ("knn_k", "kmeans_restarts", "umap_dim", "hidden", "epochs", "patience"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}")
        if not self.learning_rates or not self.weight_decays:
            raise ValueError("learning_rates and weight_decays must name a value, got none")


PROTOCOLS = {
    "default": Protocol(name="default", standardise=True, knn_metric="cosine", match="hungarian"),
    "paper": Protocol(
        name="paper",
        standardise=False,
        knn_metric="l2",
        match="none",
        learning_rates=(1e-3,),
        weight_decays=(0.0,),
        epochs=50,
        patience=50,
    ),
}
