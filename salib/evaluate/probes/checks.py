"""What every head refuses: features and labels that it cannot be fitted on."""

import numpy as np
from jaxtyping import Float32, Int64


def check_features(**splits: Float32[np.ndarray, "_ _"]) -> None:
    """Check the features of the splits that one head sees, given by the splits' names.

    Raises:
        ValueError: if a split is empty, its features are not finite, or widths differ.
    """
    widths = {name: features.shape[1] for name, features in splits.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"splits must have one feature width, got {widths}")
    for name, features in splits.items():
        if not features.size:
            raise ValueError(f"{name} must hold items with features, got shape {features.shape}")
        broken = np.count_nonzero(~np.isfinite(features).all(axis=1))
        if broken:
            raise ValueError(
                f"{name} features must be finite, got NaN or infinity in {broken} of "
                f"{len(features)} items: leave these items out or look at the encoder"
            )


def check_labels(n_classes: int, **splits: Int64[np.ndarray, " _"]) -> None:
    """Check class numbers, given by the splits' names.

    Raises:
        ValueError: if a split is empty or a label is not one of 0..n_classes - 1.
    """
    for name, labels in splits.items():
        if not len(labels):
            raise ValueError(f"{name} must hold labelled items, got none")
        if labels.min() < 0 or labels.max() >= n_classes:
            raise ValueError(
                f"{name} labels must lie in 0..{n_classes - 1}, got {labels.min()}..{labels.max()}:"
                " n_classes counts the task's classes, also those without an item here"
            )


def check_multilabels(**splits: Int64[np.ndarray, "_ _"]) -> None:
    """Check 0/1 labels of several classes an item, given by the splits' names.

    Raises:
        ValueError: if a split is empty, class counts differ, or a label is neither 0 nor 1.
    """
    classes = {name: labels.shape[1] for name, labels in splits.items()}
    if len(set(classes.values())) > 1:
        raise ValueError(f"splits must have one number of classes, got {classes}")
    for name, labels in splits.items():
        if not labels.size:
            raise ValueError(f"{name} must hold labelled items, got shape {labels.shape}")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"{name} labels must be 0 or 1, got {np.unique(labels)[:5].tolist()}")
