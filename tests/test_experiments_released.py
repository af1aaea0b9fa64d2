"""Each fault switched on alone does what the audit says of it; switched off, the model is ours."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from train_runs import MODEL as TOY
from train_runs import TRAIN

from exhibits import audit
from exhibits.experiments import released
from exhibits.experiments.released import (
    FAULTS,
    Misread,
    Wrapped,
    build_released,
    draw_released,
    misread_distance,
    released_objective,
)
from salib import build_model
from salib.bias import patch_centres
from salib.config import BandStats
from salib.losses import contrastive_loss
from salib.model import Pretraining, Tokens
from salib.rasters.radar import sar_to_8bit
from salib.training.data import Samples
from salib.training.step import Run, draw_step, losses_of, outputs, weighted_sum

LEVELS = (
    BandStats(mean=(110.0, 90.0), std=(60.0, 50.0)),
    BandStats(mean=(80.0, 100.0, 70.0), std=(40.0, 45.0, 50.0)),
    BandStats(mean=(85.0, 95.0, 75.0), std=(45.0, 40.0, 55.0)),
)
MODEL = replace(TOY, slopes=(2.0, 0.5), band_stats=LEVELS)
"""Steep, so that a wrong distance shows in the loss."""
RUN = Run(config=TRAIN, steps=3, seed=5, rank=0, ranks=1)
SIDE = TRAIN.image_px // MODEL.patch_px
ORDERED = ("D8", "D9")
"""Faults to which the order of the patches matters."""


@pytest.fixture(scope="module")
def samples(tiles):
    return Samples(tiles, split="train")


def views(samples, faults=(), step=1):
    return draw_released(samples, build_released(MODEL, (), 0), RUN, step, faults)


def learnt(model, shown):
    """The loss of Eq. (6) and its gradient by the name of the weights."""
    loss = weighted_sum(losses_of(outputs(model, shown, TRAIN), TRAIN), TRAIN)
    model.zero_grad()
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters()}


def apart(one, other, shown):
    """By how much what two models return of a batch differs at most."""
    with torch.no_grad():
        [first], [second] = (outputs(model, shown, TRAIN) for model in (one, other))
    return max(
        float((getattr(first, kind)[name] - value).abs().max())
        for kind in ("projections", "predicted")
        for name, value in getattr(second, kind).items()
    )


def test_with_all_switches_off_loss_and_gradients_are_our_models_exactly(samples):
    shown = views(samples)
    loss, gradients = learnt(build_model(MODEL, 7), shown)
    own_loss, own = learnt(build_released(MODEL, (), 7), shown)
    assert own_loss == loss
    assert own.keys() == gradients.keys()
    for name, value in gradients.items():
        assert (own[name] is None and value is None) or torch.equal(own[name], value)


@pytest.mark.parametrize("fault", ["D7", "D8", "D9", "D13"])
def test_each_fault_of_the_model_changes_its_loss_and_none_its_first_weights(samples, fault):
    ours, other = build_model(MODEL, 7), build_released(MODEL, (fault,), 7)
    weights = other.state_dict()
    shared = ("cross_encoders.hires", "pool_heads.hires") if fault == "D7" else ("nothing",)
    for name, value in ours.state_dict().items():
        assert torch.equal(weights[name], value) or name.startswith(shared)
    shown = views(samples)
    assert apart(ours, other, shown) > 1e-3


def test_only_the_order_of_the_lores_patches_differs_from_the_librarys_masks(samples):
    [(batch, masks)] = views(samples)
    [(same, drawn)] = draw_step(samples, build_model(MODEL, 0), RUN, 1)
    assert all(torch.equal(batch.images[name], same.images[name]) for name in same.images)
    for name in ("radar", "hires"):
        assert torch.equal(masks[name].keep, drawn[name].keep)
    keep = masks["lores"].keep
    assert not torch.equal(keep, drawn["lores"].keep)
    assert torch.equal(keep.sort(dim=1).values, drawn["lores"].keep)
    assert torch.equal(masks["lores"].hidden, drawn["lores"].hidden)


@pytest.mark.parametrize("faults", [(), ("D7", "D13"), *((name,) for name in ORDERED)])
def test_the_order_of_patches_matters_to_misread_biases_alone(samples, faults):
    model = build_released(MODEL, faults, 3)
    [(batch, masks)] = views(samples)
    rolled = replace(masks["lores"], keep=masks["lores"].keep.roll(1, dims=1))
    with torch.no_grad():
        [first], [second] = (
            outputs(model, [(batch, masks | {"lores": lores})], TRAIN)
            for lores in (masks["lores"], rolled)
        )
    moved = float((first.predicted["radar"] - second.predicted["radar"]).abs().max())
    assert (moved > 1e-3) if set(faults) & {*ORDERED} else (moved < 1e-5)


def test_d3_repairing_hires_changes_the_released_contrast_by_0_and_ours_not(samples):
    model = build_released(MODEL, (), 3)
    [out] = outputs(model, views(samples), TRAIN)
    rolled = {**out.projections, "hires": out.projections["hires"].roll(1, dims=0)}
    other = Pretraining(**{**vars(out), "projections": rolled})
    before, after = (released_objective([one]) for one in (out, other))
    assert after["contrastive"].item() == pytest.approx(before["contrastive"].item(), abs=1e-6)
    each = [contrastive_loss(one.projections, one.temperature).item() for one in (out, other)]
    assert each[0] != pytest.approx(each[1], abs=1e-3)
    ours = losses_of([out], TRAIN)
    assert before["reconstruction"].item() == ours["reconstruction"].item()
    assert before["contrastive"].item() == pytest.approx(
        audit.d3_released_loss(out.projections, out.temperature).item()
    )


def test_d6_a_ratio_of_04_becomes_087_and_the_encoder_sees_06_of_its_own_grid(samples):
    """Crops of 256 px: 32 x 32 lores patches, 64 x 64 of hires."""
    config = replace(TRAIN, image_px=256, crop_px=(256, 256))
    model = build_released(replace(MODEL, hires_mask_ratio=0.4), (), 0)
    run = replace(RUN, config=config)
    [(_, masks)] = draw_released(samples, model, run, 0, ("D6",))
    hires = masks["hires"]
    assert hires.keep.shape == (TRAIN.batch, int(0.6 * 64 * 64))
    assert hires.hidden.float().mean().item() == pytest.approx(1 - 0.6**4, abs=0.01)
    seen = torch.zeros(TRAIN.batch, 64 * 64, dtype=torch.bool).scatter(1, hires.keep, True)
    whole = seen.unflatten(1, (32, 2, 32, 2)).all(dim=4).all(dim=2).flatten(1)
    assert torch.equal(whole, ~hires.hidden)
    assert not torch.equal(hires.hidden[0], hires.hidden[1])
    [(_, later)] = draw_released(samples, model, run, 1, ("D6",))
    assert not torch.equal(hires.hidden, later["hires"].hidden)
    [(_, own)] = draw_released(samples, model, run, 0)
    assert own["hires"].hidden.float().mean().item() == pytest.approx(0.4, abs=0.001)
    for name in ("radar", "lores"):
        assert torch.equal(own[name].keep, masks[name].keep)


def test_d7_one_cross_encoder_serves_twice_and_hires_is_pooled_by_the_lores_head(samples):
    model = build_released(MODEL, ("D7",), 3)
    assert model.cross_encoders["hires"] is model.cross_encoders["lores"]
    tokens = Tokens(torch.randn(3, 5, MODEL.dim), torch.zeros(1, 5, 2))
    assert torch.equal(model.pool("hires", tokens), model.pool("lores", tokens))
    assert not torch.equal(model.pool("radar", tokens), model.pool("lores", tokens))
    assert model.projections["hires"] is not model.projections["lores"]
    ours = build_released(MODEL, (), 3)
    count, fewer = (sum(p.numel() for p in one.parameters()) for one in (ours, model))
    shared = (ours.cross_encoders["hires"], ours.pool_heads["hires"])
    assert count - fewer == sum(p.numel() for one in shared for p in one.parameters())


def test_d8_reads_what_the_audit_reads_in_metres_at_the_lores_patches():
    """Rows 3, columns 2: entry (q, k) is at q x 6 + k of every fourth column of the fine table."""
    rows, cols, patch_m = 3, 2, torch.tensor([40.0, 70.0])
    lores, hires = torch.tensor([[5, 0], [2, 3]]), torch.tensor([[1, 23, 8], [0, 4, 17]])
    found = misread_distance(rows, cols, patch_m, lores, hires)
    centres = [divmod(number, 2 * cols) for number in range(4 * rows * cols)]
    flat = [math.dist(one, centres[k]) / 2 for one in centres for k in range(0, 24, 4)]
    for b in range(2):
        for q in range(2):
            for k in range(3):
                at = int(lores[b, q]) * rows * cols + int(hires[b, k])
                expected = float(patch_m[b]) * flat[at]
                assert found[b, q, k].item() == pytest.approx(expected, rel=1e-5)


def test_d8_correlates_006_with_the_distance_and_its_bias_is_minus_slope_steps():
    everything = torch.arange(16)[None], torch.arange(64)[None]
    metres = misread_distance(4, 4, torch.tensor([8.0]), *everything)
    distance = audit.coarse_to_fine_distance(4, 4, 8.0)
    assert abs(audit.correlation(metres[0], distance)) == pytest.approx(0.06, abs=0.01)
    where = (patch_centres(4, 4, torch.tensor([8.0])), patch_centres(8, 8, torch.tensor([4.0])))
    slopes = torch.tensor([0.5, 0.125])
    bias = Misread(*where, slopes, 16.0, metres=metres).bias(slice(3, 7))
    assert bias.shape == (1, 2, 4, 64)
    assert bias[0, 1, 2, 9].item() == pytest.approx(-0.125 * metres[0, 5, 9].item() / 16)


def fused(model, shown):
    """Geometries of self- and cross-attention in each pass through a cross-encoder."""
    seen = []
    for cross in {id(cross): cross for cross in model.cross_encoders.values()}.values():
        cross.register_forward_pre_hook(lambda _, given: seen.append((given[1], given[3])))
    with torch.no_grad():
        model(shown[0][0].images, shown[0][0].gsd_m, shown[0][1])
    return seen


def test_d9_self_attention_in_both_passes_is_biased_from_radar_to_lores(samples):
    shown = views(samples)
    own, first = (fused(build_released(MODEL, of, 3), shown) for of in ((), ("D9",)))
    for here, _ in own:
        assert bool((here.bias().diagonal(dim1=-2, dim2=-1) == 0).all())
    keep = {name: mask.keep for name, mask in shown[0][1].items()}
    patch_m = shown[0][0].gsd_m["lores"] * MODEL.patch_px
    for here, _ in first:
        bias = here.bias()
        for b, n, m in ((0, 0, 0), (1, 2, 2), (3, 1, 4)):
            at, to = (
                divmod(int(keep[name][b, i]), SIDE) for name, i in (("radar", n), ("lores", m))
            )
            metres = math.dist(at, to) * float(patch_m[b])
            expected = -float(here.slopes[1]) * metres / MODEL.reference_m
            assert bias[b, 1, n, m].item() == pytest.approx(expected, abs=1e-5)
        assert bias.diagonal(dim1=-2, dim2=-1).mean() < -0.01
    assert torch.equal(own[1][1].bias(), first[1][1].bias())  # across to hires, as ours


def test_d8_is_of_the_second_cross_attention_alone_and_forgotten_after_the_pass(samples):
    shown = views(samples)
    model = build_released(MODEL, ("D8",), 3)
    own, other = (fused(one, shown) for one in (build_released(MODEL, (), 3), model))
    assert [isinstance(across, Misread) for _, across in other] == [False, True]
    [(batch, masks)] = shown
    patch_m = MODEL.patch_px * batch.gsd_m["lores"]
    keep = masks["lores"].keep, masks["hires"].keep
    assert torch.equal(other[1][1].metres, misread_distance(SIDE, SIDE, patch_m, *keep))
    for one, two in zip(own, other, strict=True):
        assert torch.equal(one[0].bias(), two[0].bias())
    assert model.misread_m is None


def test_d12_is_the_released_wrap_of_all_dn_but_997_to_999():
    dn = np.arange(1 << 16, dtype=np.uint16)
    ours, theirs = (sar_to_8bit(dn, quant=quant) for quant in ("paper", "released"))
    wrapped = np.where(ours == released.SATURATED, 0, ours)
    assert dn[wrapped != theirs].tolist() == [997, 998, 999]


def test_d12_turns_saturated_radar_black_and_leaves_the_rest(tiles):
    plain = Samples(tiles, split="train")
    radar = plain.image(0, "radar").copy()
    radar[3:5, 7, 0], radar[9, 9, 1] = 255, 254
    plain._cache[0, "radar"] = radar
    wrapped = Wrapped(plain)
    found = wrapped.image(0, "radar")
    assert found.dtype == np.uint8
    assert bool((found[3:5, 7, 0] == 0).all())
    assert found[9, 9, 1] == 254
    assert np.array_equal(found[radar < 255], radar[radar < 255])
    assert np.array_equal(wrapped.image(0, "hires"), plain.image(0, "hires"))
    assert len(wrapped) == len(plain)
    assert bool((plain.image(0, "radar")[3:5, 7, 0] == 255).all())


def test_d13_the_encoder_is_given_pixel_values_and_targets_stay_ours(samples):
    shown, given, target = views(samples), {}, {}
    for faults in ((), ("D13",)):
        model = build_released(MODEL, faults, 3)
        model.encoder("lores").patch_embed.register_forward_pre_hook(
            lambda _, args, faults=faults: given.update({faults: args[0]})
        )
        target[faults] = outputs(model, shown, TRAIN)[0].target
    [(batch, masks)], side = shown, MODEL.patch_px
    for b, n in ((1, 2), (3, 0)):
        south, east = (side * at for at in divmod(int(masks["lores"].keep[b, n]), SIDE))
        cut = batch.images["lores"][b, :, south : south + side, east : east + side]
        for faults, (mean, std) in ({(): (100.0, 45.0), ("D13",): (0.0, 1.0)}).items():
            green = (cut[1] - mean) / std
            found = given[faults][b, n, side**2 : 2 * side**2]
            assert found.numpy() == pytest.approx(green.flatten().numpy(), abs=1e-3)
    for name, value in target[()].items():
        assert torch.equal(value, target["D13",][name])


def test_d13_the_embedding_of_a_patch_outweighs_attention(samples):
    """How much larger a token is than what the first attention adds to it."""
    [(batch, _)], ratios = views(samples), []
    for faults in ((), ("D13",)):
        model = build_released(MODEL, faults, 3)
        pixels = model.encoder("lores").standardise["lores"](batch.images["lores"])
        with torch.no_grad():
            tokens = model.tokenize("lores", pixels, batch.gsd_m["lores"])
            attention = model.encoder("lores").transformer.layers[0].self_attention
            added = attention(tokens.x, model.geometry(tokens, tokens))
        ratios.append(float(tokens.x.norm() / added.norm()))
    assert ratios[1] > 100 > 10 > ratios[0]


def test_all_faults_together_learn(samples):
    model = build_released(MODEL, FAULTS, 3)
    config = replace(TRAIN, objective=released_objective)
    [out] = outputs(model, views(Wrapped(samples), FAULTS), config)
    loss = weighted_sum(losses_of([out], config), config)
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(p.grad is not None for name, p in model.named_parameters() if "slopes" not in name)
