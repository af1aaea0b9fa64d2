"""Whole splits of labelled tasks, for tests."""

import numpy as np

from salib.evaluate.tasks.task import iter_split


def read_split(task, split):
    """All images and labels of a split; those of one size as one array of labels."""
    items = list(iter_split(task, split))
    return [image for image, _ in items], np.array([label for _, label in items], np.int64)
