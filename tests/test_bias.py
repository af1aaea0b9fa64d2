"""Distance on the ground, slopes, and the bias of Eq. (2)."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

from salib.bias import alibi_slopes, ground_distance, patch_centres, scale_alibi_bias


def centres(rows: int, cols: int, patch_m: float) -> torch.Tensor:
    return patch_centres(rows, cols, torch.tensor([patch_m]))[0]


def test_patch_centres_run_east_along_a_row_then_south():
    rows, cols, patch_m = 3, 5, 7.0
    expected = [
        [(c + 0.5) * patch_m, (r + 0.5) * patch_m] for r in range(rows) for c in range(cols)
    ]
    torch.testing.assert_close(centres(rows, cols, patch_m), torch.tensor(expected))


def test_bias_equals_eq_2_by_nested_loops():
    queries, keys = centres(2, 3, 20.0), centres(5, 7, 11.0)
    slopes, reference_m = torch.tensor([0.7, 0.05, 0.3]), 13.0
    bias = scale_alibi_bias(queries, keys, slopes, reference_m)
    for h, slope in enumerate(slopes.tolist()):
        for i, q_m in enumerate(queries.tolist()):
            for j, k_m in enumerate(keys.tolist()):
                expected = -slope * math.dist(q_m, k_m) / reference_m
                assert bias[h, i, j].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_swapping_sides_transposes_and_shifting_both_leaves_it():
    queries, keys = centres(2, 5, 20.0), centres(7, 3, 11.0)
    slopes = alibi_slopes(3)
    bias = scale_alibi_bias(queries, keys, slopes, 64.0)
    torch.testing.assert_close(scale_alibi_bias(keys, queries, slopes, 64.0).mT, bias)
    shift = torch.tensor([130.0, -70.0])
    moved = scale_alibi_bias(queries + shift, keys + shift, slopes, 64.0)
    torch.testing.assert_close(moved, bias, atol=1e-5, rtol=1e-5)


def test_zooming_the_ground_scales_the_bias():
    slopes = alibi_slopes(5)
    near, far = (
        scale_alibi_bias(c, c, slopes, 64.0) for c in (centres(3, 7, 8.0), centres(3, 7, 24.0))
    )
    torch.testing.assert_close(far, 3 * near)


@pytest.mark.parametrize(("patch_px", "gsd_m"), [(8, 10.0), (16, 5.0), (4, 20.0), (40, 2.0)])
def test_same_ground_distance_gives_the_same_bias_at_any_patch_size_and_gsd(patch_px, gsd_m):
    xy = centres(1, 6, patch_px * gsd_m)
    bias = scale_alibi_bias(xy, xy, torch.tensor([0.5]), 64.0)
    assert bias[0, 1, 4].item() == pytest.approx(-0.5 * 3 * 80.0 / 64.0)


def test_a_point_shared_by_a_fine_and_a_coarse_grid_gets_one_value():
    coarse, fine = centres(3, 3, 30.0), centres(9, 9, 10.0)
    slopes = alibi_slopes(4)
    from_coarse = scale_alibi_bias(coarse, coarse, slopes, 64.0)
    from_fine = scale_alibi_bias(coarse, fine, slopes, 64.0)
    for i, place in enumerate(coarse):
        same = int(ground_distance(place[None], fine)[0].argmin())
        torch.testing.assert_close(from_fine[..., same], from_coarse[..., i])


def test_at_4_m_and_16_px_it_is_the_2d_alibi_of_croma():
    rows, cols, heads = 5, 5, 6
    xy = centres(rows, cols, 4.0 * 16)
    bias = scale_alibi_bias(xy, xy, alibi_slopes(heads), 64.0)
    for i in range(rows * cols):
        for j in range(rows * cols):
            steps = math.hypot(i // cols - j // cols, i % cols - j % cols)
            for h, slope in enumerate(alibi_slopes(heads).tolist()):
                assert bias[h, i, j].item() == pytest.approx(-slope * steps, rel=1e-5, abs=1e-6)


def test_slopes_are_those_of_alibi():
    assert alibi_slopes(8).tolist() == pytest.approx([2.0**-k for k in range(1, 9)])
    assert alibi_slopes(3).tolist() == pytest.approx([2.0**-4, 2.0**-8, 2.0**-2])


def test_slopes_equal_those_of_croma_at_every_head_count():
    path = Path(os.environ.get("SALIB_ORACLE_DIR", "")) / "alibi_slopes.json"
    if not path.is_file():
        pytest.skip("SALIB_ORACLE_DIR does not hold the expected numbers of the published CROMA")
    for heads, expected in json.loads(path.read_text()).items():
        assert alibi_slopes(int(heads)).tolist() == pytest.approx(expected, rel=1e-6)


def test_bias_is_negative_off_its_own_place_and_zero_on_it():
    xy = centres(3, 5, 9.0)
    bias = scale_alibi_bias(xy, xy, alibi_slopes(4), 64.0)
    assert (bias.diagonal(dim1=-2, dim2=-1) == 0).all()
    off = ~torch.eye(15, dtype=torch.bool)
    assert (bias[:, off] < 0).all()


def test_neighbours_far_from_the_origin_lie_as_far_apart_as_near_it():
    xy = centres(4, 6, 8.0)
    assert torch.equal(ground_distance(xy + 2.0**20, xy + 2.0**20), ground_distance(xy, xy))
    torch.testing.assert_close(
        ground_distance(1000 * xy.half(), xy.half()),
        ground_distance(1000 * xy.double(), xy.double()).half(),
    )


@pytest.mark.parametrize("reference_m", [0.0, -64.0])
def test_reference_must_be_positive(reference_m):
    xy = centres(1, 2, 1.0)
    with pytest.raises(ValueError, match="reference_m must be positive"):
        scale_alibi_bias(xy, xy, alibi_slopes(1), reference_m)


def test_heads_must_be_positive():
    with pytest.raises(ValueError, match="heads must be positive"):
        alibi_slopes(0)
