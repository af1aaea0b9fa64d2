"""Choices that the paper's text leaves open, and what each protocol does (a page's table)."""

from typing import Literal, NamedTuple

from salib.evaluate.protocol import PROTOCOLS


class Assumption(NamedTuple):
    """One choice that the paper's text leaves open.

    Attributes:
        known: why we hold that the paper did so: "text", "inferred" from the digits of Table 2,
            or "assumed".
        field: of `Protocol` that holds it; "" where it is fixed outside of the probes.
    """

    choice: str
    known: Literal["text", "inferred", "assumed"]
    field: str
    default: str = ""
    paper: str = ""


TOKENS = "mean of the encoder's last tokens"
CHOICES = (
    Assumption("neighbours", "text", "knn_k"),
    Assumption("distance between neighbours", "assumed", "knn_metric"),
    Assumption("weights of votes", "assumed", "", "uniform; exponential beside", "uniform"),
    Assumption("features z-scored", "assumed", "standardise"),
    Assumption("cluster ids to classes", "inferred", "match"),
    Assumption("restarts of k-means", "assumed", "kmeans_restarts"),
    Assumption("clusters", "assumed", "", "one per class", "one per class"),
    Assumption("k-means and UMAP fitted on", "assumed", "", "train", "train"),
    Assumption("UMAP dimensions", "assumed", "umap_dim"),
    Assumption("UMAP neighbours", "assumed", "umap_neighbours"),
    Assumption("kinds of task", "text", "kinds"),
    Assumption("probes", "text", "probes"),
    Assumption("hidden units", "text", "hidden"),
    Assumption("activation", "assumed", "activation"),
    Assumption("dropout", "assumed", "", "none", "none"),
    Assumption("learning rate (AdamW; Adam without decay)", "assumed", "learning_rates"),
    Assumption("weight decay", "assumed", "weight_decays"),
    Assumption("epochs at most", "assumed", "epochs"),
    Assumption("items per batch", "assumed", "batch"),
    Assumption("weights kept", "assumed", "keep"),
    Assumption("split scored", "inferred", "", "test", "test"),
    Assumption("features", "assumed", "", TOKENS, TOKENS),
    Assumption("seeds", "assumed", "", "one per row", "one per row"),
    Assumption("percentages cut, not rounded", "inferred", "truncate"),
)


def assumptions() -> tuple[Assumption, ...]:
    """What each protocol does where the paper is silent, for a table on the page."""

    def shown(protocol: str, field: str) -> str:
        value = getattr(PROTOCOLS[protocol], field)
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return tuple(
        one._replace(default=shown("default", one.field), paper=shown("paper", one.field))
        if one.field
        else one
        for one in CHOICES
    )
