"""One encoder for lores and hires: what is shared, what is not, and that nothing else changes."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from train_runs import TRAIN

from exhibits.cost import cost_of
from salib import build_model, load_model, preset
from salib.config import SENSORS, BandStats, ModelConfig
from salib.model import draw_masks, save_model
from salib.model.subsets import pass_subsets
from salib.training.train import pretrain

LEVELS = (
    BandStats(mean=(11.0, 3.0), std=(2.0, 5.0)),
    BandStats(mean=(90.0, 70.0, 50.0), std=(30.0, 20.0, 10.0)),
    BandStats(mean=(7.0, 5.0, 3.0), std=(1.25, 1.5, 1.75)),
)
SMALL = replace(
    preset("tiny"), dim=24, depth=4, heads=3, patch_px=4, decoder_dim=16, decoder_heads=2
)
APART = replace(SMALL, band_stats=LEVELS)
SHARED = replace(APART, shared_optical=True)
ROWS, COLS, BATCH = 3, 5, 3


@pytest.fixture(scope="module")
def model():
    return build_model(SHARED, 3).double().eval()


def shown(model):
    """Images, metres per pixel and masks of a few samples."""
    generator = torch.Generator().manual_seed(1)
    sides = {n: 4 * SENSORS[n].factor for n in SHARED.sensors}
    images = {
        n: 90
        * torch.rand(
            BATCH, len(SENSORS[n].bands), ROWS * side, COLS * side, generator=generator
        ).double()
        for n, side in sides.items()
    }
    lores = torch.tensor([3.7, 7.1, 11.3], dtype=torch.float64)
    gsd_m = {"radar": lores, "lores": lores, "hires": lores / 2}
    return images, gsd_m, draw_masks(SHARED, BATCH, rows=ROWS, cols=COLS, generator=generator)


def pixels_of(standard, levels):
    """Pixel values of a sensor that are these once standardised."""
    mean, std = (torch.tensor(of).view(3, 1, 1).double() for of in (levels.mean, levels.std))
    return standard * std + mean


@torch.no_grad()
def test_equal_standardised_pixels_at_one_gsd_are_encoded_alike(model):
    """Though each sensor has its own statistics; not so with an encoder each."""
    standard = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(4)).double()
    views = {n: pixels_of(standard, APART.stats[n]) for n in ("lores", "hires")}
    for one, alike in ((model, True), (build_model(APART, 3).double(), False)):
        found = [one.embed(view, name, 5.3, tokens=True) for name, view in views.items()]
        assert torch.allclose(*found, atol=1e-5) == alike
    same = [model.embed(views["lores"], name, 5.3) for name in views]
    assert not torch.allclose(*same, atol=1e-2)
    told = [model.embed(views["hires"], "hires", gsd_m) for gsd_m in (5.3, 10.6)]
    assert not torch.allclose(*told, atol=1e-4)


@torch.no_grad()
def test_a_step_standardises_each_sensor_by_its_own_statistics(model):
    images, gsd_m, masks = shown(model)
    out = model(images, gsd_m, masks)
    for n, levels in APART.stats.items():
        mean, std = (torch.tensor(of).view(-1, 1, 1).double() for of in (levels.mean, levels.std))
        tokens = model.tokenize(n, (images[n] - mean) / std, gsd_m[n], masks[n].keep)
        pooled = model.pool(n, model.encode(n, tokens))
        torch.testing.assert_close(out.projections[n], model.projections[n](pooled))


@pytest.mark.parametrize("sensor", ["lores", "hires"])
def test_gradients_of_either_sensor_reach_the_one_encoder(sensor):
    model = build_model(SHARED, 3).double()
    images, gsd_m, masks = shown(model)
    out = model({sensor: images[sensor]}, gsd_m, masks, reconstruct=False)
    out.projections[sensor].square().sum().backward()
    own = [weight.grad for weight in model.encoder(sensor).parameters()]
    assert all(gradient is not None and gradient.any() for gradient in own)
    assert all(weight.grad is None for weight in model.encoder("radar").parameters())
    after = {n: model.pool_heads[n][1].weight.grad is not None for n in ("lores", "hires")}
    assert after == {n: n == sensor for n in after}


def test_both_sensors_add_to_its_gradient():
    """The gradient of the sum is the sum of the gradients."""
    model = build_model(SHARED, 3).double()
    images, gsd_m, masks = shown(model)
    weights, found = [*model.encoder("lores").parameters()], {}
    for names in (("lores",), ("hires",), ("lores", "hires")):
        part = {n: images[n] for n in names}
        out = model(part, gsd_m, masks, reconstruct=False)
        total = torch.stack([out.projections[n].square().sum() for n in names]).sum()
        found[names] = torch.autograd.grad(total, weights)
    for one, other, both in zip(*found.values(), strict=True):
        torch.testing.assert_close(one + other, both)


def test_there_is_one_encoder_fewer_and_no_other_weight_is_missing(model):
    apart = build_model(APART, 3)
    names, all_names = ({n for n, _ in one.named_parameters()} for one in (model, apart))
    assert all_names - names == {n for n in all_names if n.startswith("encoders.hires.")}
    assert names < all_names
    spared = sum(weight.numel() for weight in apart.encoder("hires").parameters())
    costs = [cost_of(config, image_px=16) for config in (APART, SHARED)]
    assert costs[0].parameters - costs[1].parameters == spared > 0
    assert costs[0].flops == pytest.approx(costs[1].flops)


@torch.no_grad()
def test_it_comes_back_from_disk_and_its_one_encoder_is_stored_once(tmp_path, model):
    single = build_model(SHARED, 3)
    folder = save_model(single, tmp_path / "model")
    assert not [
        n for n in load_file(folder / "model.safetensors") if n.startswith("encoders.hires.")
    ]
    back = load_model(folder)
    assert back.config == SHARED
    assert back.encoder("hires") is back.encoder("lores")
    images, gsd_m, _ = shown(single)
    for name, image in images.items():
        given = (image.float(), name, gsd_m[name].float())
        assert torch.equal(back.embed(*given), single.eval().embed(*given))


def test_a_configuration_without_the_option_is_stored_as_before_it_was_there():
    """So that finished and unfinished runs of older versions are known again."""
    stored = APART.to_json()
    assert "shared_optical" not in stored
    assert ModelConfig.from_json(stored) == APART
    assert ModelConfig.from_json(SHARED.to_json()) == SHARED
    assert not load_model("laptop").config.shared_optical


@torch.no_grad()
def test_samples_that_lack_sensors_pass_as_they_would_alone(model):
    images, gsd_m, masks = shown(model)
    there = {"radar": [1, 1, 0], "lores": [1, 0, 0], "hires": [0, 1, 1]}
    present = {n: torch.tensor(own, dtype=torch.bool) for n, own in there.items()}
    found = pass_subsets(model, SHARED, images, gsd_m, masks, present)
    for sample in range(BATCH):
        rows = slice(sample, sample + 1)
        names = [n for n in SHARED.sensors if there[n][sample]]
        parts = ({n: part[n][rows] for n in names} for part in (images, gsd_m))
        alone = model(*parts, {n: masks[n].rows(rows) for n in names})
        for n in names:
            torch.testing.assert_close(found.projections[n][rows], alone.projections[n])
            torch.testing.assert_close(found.predicted[n][rows], alone.predicted[n])


def test_a_run_learns_it_whole_or_in_parts(tiles, tmp_path):
    """Gradient caching comes to the same weights; a finished run is kept."""
    toy = replace(SHARED, dim=16, depth=2, heads=2, patch_px=8, band_stats=())
    found = []
    for micro_batch in (None, 2):
        training = replace(TRAIN, micro_batch=micro_batch, steps=2)
        out = tmp_path / f"model{micro_batch}"
        said: list[str] = []
        for _ in range(2):
            pretrain(toy, training, tiles=tiles, out=out, seed=2, report=said.append)
        assert len(said) == 1
        found.append(load_model(out))
    assert found[0].config.shared_optical
    for one, other in zip(*(model.state_dict().values() for model in found), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("sensors", [("radar", "lores"), ("radar", "s2", "hires")])
def test_what_cannot_share_is_refused_in_a_line(sensors, monkeypatch):
    with pytest.raises(ValueError, match="shared_optical must join two optical") as told:
        replace(SMALL, sensors=sensors, shared_optical=True)
    assert "\n" not in str(told.value)
    fourth = replace(SENSORS["hires"], name="rgbn", bands=("red", "green", "blue", "nir"))
    monkeypatch.setitem(SENSORS, "rgbn", replace(fourth, channels=(0, 1, 2, 3)))
    with pytest.raises(ValueError, match=r"of the same bands.* got lores, rgbn"):
        replace(SMALL, sensors=("radar", "lores", "rgbn"), shared_optical=True)
