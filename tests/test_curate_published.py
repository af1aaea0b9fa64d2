"""The one published sample of the paper's own data set."""

import os

import cv2
import numpy as np
import pytest

from exhibits.chips import missing_triple, published_triple


@pytest.mark.real
def test_published_sample_has_three_sensors_of_one_place_and_shows_the_wrap():
    if reason := missing_triple(os.environ.get("SALIB_DATA_DIR")):
        pytest.skip(reason)
    triple = published_triple(os.environ["SALIB_DATA_DIR"])
    assert triple["radar"].shape == (128, 128, 2)
    assert triple["lores"].shape == triple["hires"].shape == (128, 128, 3)
    assert triple["hires4x"].shape == (256, 256, 3)
    vv = triple["radar"][..., 0].astype(float)
    around = np.ones((3, 3)) / 8
    around[1, 1] = 0
    wrapped = (vv == 0) & (cv2.filter2D(vv, -1, around) > np.percentile(vv, 99))
    assert wrapped.any()  # black in the middle of the brightest spot


def test_of_a_folder_without_it_what_is_missing_can_be_asked(tmp_path):
    for folder in (None, "", tmp_path):
        assert "SALIB_DATA_DIR" in (missing_triple(folder) or "")
