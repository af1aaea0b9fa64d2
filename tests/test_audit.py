"""The released code's readings, against the numbers of design.md and against loops."""

import math

import numpy as np
import pytest
import torch

from exhibits import audit
from salib import losses


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def places(*names, batch=11, dim=7):
    return {name: torch.randn(batch, dim, generator=seeded(i)) for i, name in enumerate(names)}


def test_effective_tokens_of_equal_logits_is_their_number():
    assert audit.effective_tokens(torch.full((2, 3, 17), -4.0)) == pytest.approx(
        torch.full((2, 3), 17.0).numpy(), rel=1e-5
    )


def test_effective_tokens_is_the_exponential_of_the_entropy():
    shares = [0.5, 0.25, 0.125, 0.125]
    entropy = -sum(share * math.log(share) for share in shares)
    found = audit.effective_tokens(torch.tensor([shares]).log() + 9.0)
    assert found.item() == pytest.approx(math.exp(entropy), rel=1e-5)


def test_d1_product_attends_to_about_one_key_and_division_to_most():
    found = audit.d1_attended_keys(draws=48, keys=256, dim=48, generator=seeded())
    product, division = (found[name].mean().item() for name in ("product", "quotient"))
    assert product == pytest.approx(1.13, abs=0.015)
    # Unit normal logits: ln N - 1/2 is the entropy of a log-normal weighting.
    assert division == pytest.approx(256 * math.exp(-0.5), rel=0.05)


def test_d2_bare_metres_swamp_the_logits():
    gsd_m = 40_075_016.686 / 256 / 2**15 * math.cos(math.radians(37))
    bias = audit.d2_step_bias(gsd_m=gsd_m, patch_px=8, slope=2**-0.5)
    assert bias == pytest.approx(-21.6, abs=0.05)
    own = audit.d2_step_bias(gsd_m=4.0, patch_px=16, slope=2**-0.5, reference_m=64.0)
    assert own == pytest.approx(-(2**-0.5))


def test_d2_table_gives_bare_metres_as_many_times_over_as_the_reference_has_metres():
    table = audit.d2_table({25.0: 4.33, 49.0: 3.13}, patch_px=8, slope=0.5, reference_m=64.0)
    assert list(table.index) == [25.0, 49.0]
    assert table["bare metres"].tolist() == pytest.approx([-0.5 * 8 * 4.33, -0.5 * 8 * 3.13])
    assert (table["bare metres"] / table["in steps of 64 m"]).tolist() == pytest.approx([64, 64])


@pytest.mark.parametrize("names", [("radar", "lores"), ("radar", "lores", "hires")])
def test_d3_printed_loss_is_one_constant_whatever_the_vectors(names):
    pairs = math.comb(len(names), 2)
    for batch in (3, 11):
        found = audit.d3_printed_loss(places(*names, batch=batch), 0.07).item()
        assert found == pytest.approx(-1 / (pairs * batch), rel=1e-5)


def test_d3_printed_loss_is_minus_one_for_one_pair_of_one_place():
    assert audit.d3_printed_loss(places("radar", "lores", batch=1), 0.07).item() == pytest.approx(
        -1.0
    )


def test_d3_released_loss_ignores_a_repairing_of_hires_and_ours_does_not():
    cases, temperature = audit.d3_cases(11, 7, seeded()), torch.tensor(0.07)
    pair = [cases["each place agrees"], cases["hires re-paired"]]
    released = [audit.d3_released_loss(z, temperature).item() for z in pair]
    ours = [losses.contrastive_loss(z, temperature).item() for z in pair]
    assert released[0] == pytest.approx(released[1], abs=1e-6)
    assert ours[1] > ours[0] + 1


def test_d3_repairing_any_one_sensor_raises_our_loss():
    cases, temperature = audit.d3_cases(11, 7, seeded()), torch.tensor(0.07)
    ours = {name: losses.contrastive_loss(z, temperature).item() for name, z in cases.items()}
    for name in ("radar", "lores", "hires"):
        assert ours[f"{name} re-paired"] > ours["each place agrees"] + 1
    assert ours["all vectors equal"] == pytest.approx(math.log(11))


def test_d3_released_loss_equals_the_mean_of_its_three_cross_entropies():
    z = places("radar", "lores", "hires")
    unit = {name: value / value.norm(dim=1, keepdim=True) for name, value in z.items()}
    terms = []
    for a, b in (("lores", "radar"), ("radar", "lores"), ("hires", "hires")):
        for i in range(11):
            scores = [float(unit[a][i] @ unit[b][j]) / 0.07 for j in range(11)]
            terms.append(math.log(sum(map(math.exp, scores))) - scores[i])
    found = audit.d3_released_loss(z, torch.tensor(0.07)).item()
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_d4_printed_error_does_not_depend_on_the_prediction():
    target = torch.randn(5, 13, generator=seeded())
    good, bad = target.clone(), torch.randn(5, 13, generator=seeded(1)) * 50
    for predicted in (good, bad):
        found = audit.d4_printed_error(predicted, target).item()
        assert found == pytest.approx(target.sum().item(), abs=1e-3)


def test_d3_table_holds_each_reading_of_each_case():
    cases = audit.d3_cases(8, 7, seeded())
    table = audit.d3_table(cases, 0.07)
    assert list(table.index) == list(cases)
    assert table["printed"].tolist() == pytest.approx([-1 / 24] * 5)
    assert table["ours"].iloc[0] == pytest.approx(math.log(8))
    assert table.at["hires re-paired", "released"] == pytest.approx(
        table.at["each place agrees", "released"], abs=1e-6
    )


def test_d4_table_shows_that_only_a_square_tells_guesses_apart():
    table = audit.d4_table(5, 199, seeded())
    assert table["printed"].tolist() == [0, 0, 0]
    # Patches have variance 1 with 1/(n-1), so the mean square is (n-1)/n, four times it for -x.
    assert table["ours"].tolist() == pytest.approx([0, 198 / 199, 4 * 198 / 199], abs=1e-4)


def test_d5_thinning_turns_fine_stripes_into_a_flat_field_of_the_wrong_level():
    stripes = torch.tensor([0.0, 200.0]).repeat(3, 6, 5)
    found = audit.d5_targets(stripes)
    assert found["averaged"].shape == found["every second pixel"].shape == (3, 3, 5)
    assert bool((found["averaged"] == 100).all())
    assert bool((found["every second pixel"] == 0).all())


def test_d6_pooling_hides_087_of_the_coarse_patches_at_a_ratio_of_04():
    fine, coarse = audit.d6_pooled_mask(40, rows=17, cols=19, mask_ratio=0.4, generator=seeded())
    assert fine.float().mean().item() == pytest.approx(0.4, abs=0.001)
    assert coarse.float().mean().item() == pytest.approx(1 - 0.6**4, abs=0.005)
    blocks = fine.reshape(40, 17, 2, 19, 2).any(dim=4).any(dim=2)
    assert bool((coarse == blocks).all())


def test_d8_released_bias_correlates_006_with_distance_and_ours_fully():
    distance = audit.coarse_to_fine_distance(4, 4, 1.0)
    released = audit.d8_released_bias(4, 4, slope=1.0)
    found = np.corrcoef(released.flatten().numpy(), -distance.flatten().numpy())[0, 1]
    assert abs(found) == pytest.approx(0.06, abs=0.01)
    assert audit.correlation(released, -distance) == pytest.approx(found, abs=1e-5)


def test_d8_released_bias_has_its_maximum_at_the_nearest_key_for_one_query_of_16():
    distance = audit.coarse_to_fine_distance(4, 4, 1.0)
    assert audit.d8_nearest(audit.d8_released_bias(4, 4, slope=1.0), distance) == 1
    assert audit.d8_nearest(-distance, distance) == 16


def test_d8_released_bias_matches_its_indexing_written_as_a_loop():
    found = audit.d8_released_bias(2, 2, slope=0.5)
    flat = [
        -0.5 * 0.5 * math.dist(divmod(row, 4), divmod(column, 4))
        for row in range(16)
        for column in range(0, 16, 4)
    ]
    for q in range(4):
        for k in range(16):
            assert found[q, k].item() == pytest.approx(flat[q * 4 + k], abs=1e-6)


def test_d8_true_distance_matches_a_loop():
    found = audit.coarse_to_fine_distance(2, 3, 10.0)
    for q in range(6):
        for k in range(24):
            a = (10 * (q % 3 + 0.5), 10 * (q // 3 + 0.5))
            b = (5 * (k % 6 + 0.5), 5 * (k // 6 + 0.5))
            assert found[q, k].item() == pytest.approx(math.dist(a, b), rel=1e-5)


def test_d9_released_diagonal_averages_minus_six_where_it_should_be_zero():
    found = audit.d9_released_diagonal(64, rows=16, cols=16, slope=2**-0.5, generator=seeded())
    assert found.mean().item() == pytest.approx(-6, abs=0.2)


def test_d18_heads_agree_with_a_loop_over_places():
    rows = audit.d18_heads(torch.tensor([0.5]), 64.0, gsds_m=[3.0], sides=[3], patch_px=5)
    places = [(15.0 * col, 15.0 * row) for row in range(3) for col in range(3)]
    tokens, metres = [], []
    for here in places:
        away = [math.dist(here, there) for there in places]
        weights = [math.exp(-0.5 * d / 64) for d in away]
        shares = [w / sum(weights) for w in weights]
        tokens.append(math.exp(-sum(share * math.log(share) for share in shares)))
        metres.append(sum(share * d for share, d in zip(shares, away, strict=True)))
    steep, none = rows.to_dict("records")
    assert steep["tokens"] == pytest.approx(sum(tokens) / 9, rel=1e-5)
    assert steep["metres"] == pytest.approx(sum(metres) / 9, rel=1e-5)
    assert none["tokens"] == pytest.approx(9)
    mean = sum(math.dist(a, b) for a in places for b in places) / 81
    assert none["metres"] == pytest.approx(mean, rel=1e-5)


def test_d18_a_steep_head_keeps_its_reach_on_larger_images_and_steeper_ones_see_scale():
    slopes = 0.5 ** torch.arange(1.0, 9.0)
    metres = audit.d18_heads(slopes, 64.0, sides=[8, 64]).pivot(
        index="slope", columns="side", values="metres"
    )
    assert metres.loc[0.5, 64] < 2 * metres.loc[0.5, 8]
    assert metres.loc[0.0, 64] == pytest.approx(8 * metres.loc[0.0, 8], rel=0.05)
    found = [audit.d18_heads_that_see_scale(k * slopes, 64.0) for k in (1e-3, 1.0, 4.0)]
    assert found[0] == 0 < found[1] < found[2]


def test_d18_only_a_sink_tells_the_scale_of_a_flat_picture():
    moved = audit.d18_moved([3.0, 24.0], 0, seeded())
    assert moved["flat.plain"] < 1e-5 < moved["mosaic.plain"]
    assert moved["flat.sink"] > 1e-3
