"""What is learnt: weights, views, parts of a batch, blocks of a loss, sensors that are missing."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import Tensor
from train_runs import MODEL, TRAIN, digests

from salib import load_model, losses
from salib.config import SENSOR_NAMES
from salib.losses import contrastive_loss, views_loss
from salib.model import build_model, draw_masks
from salib.model.subsets import pass_subsets
from salib.training.batches import Batch, draw_batch
from salib.training.data import Samples
from salib.training.step import Run, draw_step, learn, losses_of, outputs, weighted_sum
from salib.training.train import pretrain

VIEWS = replace(TRAIN, views=2, objective={"views": 1.0, "contrastive": 0.5, "reconstruction": 0.1})
SIGMA = torch.tensor(0.3, dtype=torch.float64)
PARTS = {"radar": [1, 1, 0, 1, 0, 1], "lores": [1, 0, 1, 1, 1, 1], "hires": [1, 1, 1, 1, 1, 0]}


def run_of(config):
    return Run(config=config, steps=3, seed=2, rank=0, ranks=1)


def wide(views):
    return [(batch.each(as_double), masks) for batch, masks in views]


def as_double(value: Tensor) -> Tensor:
    return value if value.dtype == torch.bool else value.double()


def present(parts=PARTS):
    return {name: torch.tensor(rows, dtype=torch.bool) for name, rows in parts.items()}


def lacking(model, parts=PARTS, seed=1):
    """Six samples that lack some sensors, with the masks of their encoders, in float64."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"radar": (2, 1), "lores": (3, 1), "hires": (3, 2)}
    images = {
        name: 200 * torch.rand(6, bands, 16 * f, 24 * f, generator=generator).double()
        for name, (bands, f) in shapes.items()
    }
    gsd_m = {n: torch.linspace(3, 9, 6).double() / shapes[n][1] for n in images}
    masks = draw_masks(model.config, 6, rows=2, cols=3, generator=generator)
    return Batch(images, gsd_m, None if parts is None else present(parts)), masks


def passed(model, batch, masks):
    return pass_subsets(model, model.config, batch.images, batch.gsd_m, masks, batch.present)


def gradients(model, views, config):
    """Of the objective, by parameter, as one graph gives them."""
    found = losses_of(outputs(model, views, config), config)
    weights = list(model.parameters())
    return torch.autograd.grad(weighted_sum(found, config), weights, materialize_grads=True)


@pytest.mark.parametrize("size", [1, 3, 4, 6])
@pytest.mark.parametrize("config", [TRAIN, VIEWS])
@pytest.mark.parametrize("parts", [None, PARTS])
def test_a_batch_in_parts_has_the_losses_and_gradients_of_the_whole(size, config, parts):
    """Also where sensors are missing, and where a part has a sensor in none of its samples."""
    model = build_model(MODEL, 1).double()
    views = [lacking(model, parts, seed=seed) for seed in range(config.views)]
    expected = gradients(model, views, config)
    whole = losses_of(outputs(model, views, config), config)
    some = replace(config, micro_batch=size, clip=1e9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    found, stopping = learn(model, optimizer, views, run_of(some), rate=0.0)
    assert not stopping
    for name, loss in whole.items():
        assert found[name] == pytest.approx(loss.item(), rel=1e-12)
    for (name, weight), down in zip(model.named_parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, down, rtol=1e-9, atol=1e-12, msg=name)


def test_parts_hold_the_activations_of_few_samples(monkeypatch):
    model, seen = build_model(MODEL, 1).double(), []
    encode = type(model).encode
    monkeypatch.setattr(
        type(model), "encode", lambda m, s, t: seen.append(len(t.x)) or encode(m, s, t)
    )
    config = replace(TRAIN, micro_batch=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    learn(model, optimizer, [lacking(model, None)], run_of(config), rate=0.0)
    assert set(seen) == {2}


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_contrastive_loss_in_blocks_is_the_plain_one(rows, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    z = {n: torch.randn(7, 5, generator=generator).double().requires_grad_() for n in SENSOR_NAMES}
    plain = contrastive_loss(z, SIGMA)
    expected = torch.autograd.grad(plain, [*z.values()])
    monkeypatch.setattr(losses, "BLOCK", 7 * rows)
    blocks = contrastive_loss(z, SIGMA)
    torch.testing.assert_close(blocks, plain, rtol=1e-12, atol=0)
    for one, other in zip(torch.autograd.grad(blocks, [*z.values()]), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_contrast_runs_over_the_pairs_that_are_there():
    """By a loop: of each pair the samples that have both, as the only ones of a batch."""
    generator = torch.Generator().manual_seed(3)
    z = {n: torch.randn(6, 5, generator=generator).double() for n in SENSOR_NAMES}
    held, terms = present(), []
    for a, b in (("radar", "lores"), ("radar", "hires"), ("lores", "hires")):
        both = held[a] & held[b]
        assert 2 <= int(both.sum()) < 6
        terms.append(contrastive_loss({a: z[a][both], b: z[b][both]}, SIGMA))
    found = contrastive_loss(z, SIGMA, present=held)
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=1e-12, atol=0)
    absent = {n: torch.where(held[n][:, None], z[n], torch.nan) for n in z}
    same = contrastive_loss({n: absent[n].nan_to_num(9.0) for n in z}, SIGMA, present=held)
    torch.testing.assert_close(same, found)
    whole = dict.fromkeys(z, torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(
        contrastive_loss(z, SIGMA, present=whole), contrastive_loss(z, SIGMA), rtol=1e-12, atol=0
    )


def test_no_pair_at_all_gives_no_loss_and_no_nan():
    z = {n: torch.randn(2, 5).requires_grad_() for n in ("radar", "lores")}
    sigma = torch.tensor(0.3, requires_grad=True)
    apart = {"radar": torch.tensor([True, False]), "lores": torch.tensor([False, True])}
    loss = contrastive_loss(z, sigma, present=apart)
    loss.backward()
    assert loss.item() == 0
    assert sigma.grad == 0


def test_views_of_one_sensor_are_told_apart_from_other_samples():
    """The loss is Eq. (3) between the views of each sensor, and a re-paired view raises it."""
    generator = torch.Generator().manual_seed(3)
    base = {n: torch.randn(6, 5, generator=generator).double() for n in ("radar", "lores")}
    views = [
        {n: z + 0.1 * torch.randn(6, 5, generator=generator).double() for n, z in base.items()}
        for _ in range(3)
    ]
    by_hand = [
        contrastive_loss({"a": views[i][n], "b": views[j][n]}, SIGMA)
        for n in base
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    right = views_loss(views, SIGMA)
    torch.testing.assert_close(right, torch.stack(by_hand).mean(), rtol=1e-12, atol=0)
    turned = [views[0], views[1] | {"radar": views[1]["radar"].roll(1, 0)}, views[2]]
    assert views_loss(turned, SIGMA) > right + 0.1


def test_views_show_the_same_samples_in_other_crops_and_the_first_is_as_without(tiles):
    samples, model = Samples(tiles), build_model(MODEL, 0)
    [alone] = draw_step(samples, model, run_of(TRAIN), 1)
    first, second = draw_step(samples, model, run_of(VIEWS), 1)
    for name in SENSOR_NAMES:
        assert torch.equal(first[0].images[name], alone[0].images[name])
        assert torch.equal(first[1][name].keep, alone[1][name].keep)
        assert not torch.equal(first[0].gsd_m[name], second[0].gsd_m[name])
        assert not torch.equal(first[1][name].keep, second[1][name].keep)
    whole = replace(VIEWS, crop_px=(256, 256), jitter=0.0)
    one, other = draw_step(samples, model, run_of(whole), 1)
    for name in SENSOR_NAMES:  # turned at most, so the same ground has the same sum
        sums = [view.images[name].double().sum((1, 2, 3)) for view in (one[0], other[0])]
        torch.testing.assert_close(*sums, rtol=1e-9, atol=0)


@torch.no_grad()
def test_a_sample_without_a_sensor_is_as_if_the_sensor_did_not_exist():
    """Each sample alone: its projections, and what is decoded from the sensors that it has."""
    model = build_model(MODEL, 1).double()
    batch, masks = lacking(model)
    out = passed(model, batch, masks)
    noise = {n: torch.rand_like(image) for n, image in batch.images.items()}
    other = {
        n: torch.where(batch.present[n][:, None, None, None], image, noise[n])
        for n, image in batch.images.items()
    }
    again = passed(model, replace(batch, images=other), masks)
    for sample in range(6):
        names = [n for n in SENSOR_NAMES if batch.present[n][sample]]
        alone = {n: masks[n].rows(slice(sample, sample + 1)) for n in names}
        encoded = {}
        for n in names:
            pixels = model.encoder(n).standardise[n](batch.images[n][sample : sample + 1])
            tokens = model.tokenize(n, pixels, batch.gsd_m[n][sample : sample + 1])
            encoded[n] = model.encode(n, tokens.take(alone[n].keep))
            projected = model.projections[n](model.pool(n, encoded[n]))[0]
            torch.testing.assert_close(out.projections[n][sample], projected)
        joint = model.fuse(encoded)
        assert torch.equal(joint.xy, encoded[names[0]].xy)
        for n in SENSOR_NAMES:
            assert bool(out.hidden[n][sample].any()) == (n in names)
            torch.testing.assert_close(again.predicted[n][sample], out.predicted[n][sample])
    # the sample with hires alone is decoded from the mean of each block of four tokens
    only = {"radar": [0] * 6, "lores": [0] * 6, "hires": [1] * 6}
    batch, masks = lacking(model, only)
    out = passed(model, batch, masks)
    assert all(value.isfinite().all() for value in out.predicted.values())
    assert not out.projections["radar"].any()


def test_complete_samples_give_exactly_the_plain_losses():
    model = build_model(MODEL, 1).double()
    batch, masks = lacking(model, None)
    told = replace(batch, present=present({n: [1] * 6 for n in PARTS}))
    plain, same = (losses_of(outputs(model, [(b, masks)], TRAIN), TRAIN) for b in (batch, told))
    for name, loss in plain.items():
        torch.testing.assert_close(same[name], loss, rtol=1e-12, atol=0)


def holed(tiles, folder, **lost):
    """A copy of the archives whose index lacks a sensor in some rows."""
    folder.mkdir()
    for path in tiles.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    rows = pd.read_parquet(folder / "index.parquet").assign(split="train")
    for name in SENSOR_NAMES:
        rows[f"valid_frac_{name}"] = 1.0
        rows.loc[rows.index[lost.get(name, [])], f"valid_frac_{name}"] = float("nan")
    rows.to_parquet(folder / "index.parquet")
    return folder


def test_archives_with_holes_train_and_the_model_fuses_any_subset(tiles, tmp_path):
    folder = holed(tiles, tmp_path / "tiles", radar=[0, 3], hires=[1])
    config = replace(TRAIN, steps=4)
    out = pretrain(MODEL, config, tiles=folder, out=tmp_path / "model", seed=2)
    log = pd.read_csv(out / "log.csv")
    assert log[["contrastive", "reconstruction"]].notna().all().all()
    model = load_model(out)
    assert model.config.partial
    images = {"lores": torch.rand(1, 3, 32, 32) * 255, "hires": torch.rand(1, 3, 64, 64) * 255}
    joint = model.embed(images, gsd_m={"lores": 8.0, "hires": 4.0})
    assert not torch.allclose(joint, model.embed(images["lores"], "lores", 8.0))
    whole = load_model(pretrain(MODEL, config, tiles=tiles, out=tmp_path / "whole", seed=2))
    with pytest.raises(ValueError, match=r"without radar: .*sensor_dropout"):
        whole.embed(images, gsd_m={"lores": 8.0, "hires": 4.0})


def test_dropped_sensors_leave_one_and_are_as_often_as_asked_for(tiles):
    samples, lost, count = Samples(tiles), dict.fromkeys(SENSOR_NAMES, 0), 0
    config = replace(TRAIN, batch=4, sensor_dropout=0.6, image_px=8)
    for step in range(150):
        batch = draw_batch(samples, config, seed=2, step=step)
        table = torch.stack([batch.present[n] for n in SENSOR_NAMES])
        assert (table.sum(0) >= 2).all()
        count += 4
        for name, rows in zip(SENSOR_NAMES, table, strict=True):
            lost[name] += int((~rows).sum())
            assert not batch.images[name][~rows].any()
    assert sum(lost.values()) / count == pytest.approx(0.6, abs=0.06)
    assert min(lost.values()) / count == pytest.approx(0.2, abs=0.06)


def test_a_users_objective_is_learnt_and_named_in_the_log(tiles, tmp_path):
    def nearness(outs):
        z = torch.nn.functional.normalize(outs[0].projections["radar"], dim=-1)
        return {"nearness": (z @ z.T).mean()}

    config = replace(TRAIN, objective=nearness, steps=30, learning_rate=3e-3)
    out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / "model", seed=2)
    log = pd.read_csv(out / "log.csv")
    assert log.nearness.iloc[-1] < log.nearness.iloc[0] - 0.2
    assert "nearness" in (out / "run.yml").read_text()


def test_views_alone_train_without_fusing(tiles, tmp_path, monkeypatch):
    monkeypatch.setattr("salib.model.ScaleAlibi.fuse", lambda *_: pytest.fail("fused"))
    config = replace(TRAIN, objective={"views": 1.0}, views=2, steps=2)
    out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / "model", seed=2)
    assert [*pd.read_csv(out / "log.csv").columns] == ["step", "lr", "views", "gradient"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": {}}, "objective must give positive weights"),
        ({"objective": {"views": -1.0}}, "objective must give positive weights"),
        ({"objective": {"viws": 1.0}}, "must weigh contrastive, reconstruction, views, got 'viws'"),
        ({"objective": {"views": 1.0}}, "views must be 2 or more"),
        ({"micro_batch": 0}, "micro_batch must be a positive whole number"),
        ({"sensor_dropout": 1.0}, "sensor_dropout must be at least 0 and less than 1"),
        ({"ema": -0.1}, "ema must be at least 0"),
        ({"schedule": "step"}, "schedule must be one of"),
        ({"clip": 0.0}, "clip must be positive"),
    ],
)
def test_what_cannot_be_learnt_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TRAIN, **change)


def test_an_average_of_the_weights_is_written_and_survives_a_stop(tiles, tmp_path, monkeypatch):
    from train_runs import stopped

    config = replace(TRAIN, steps=6, ema=0.9)
    plain = pretrain(MODEL, replace(config, ema=0.0), tiles=tiles, out=tmp_path / "plain", seed=2)
    out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / "whole", seed=2)
    stopped(tiles, tmp_path / "again", monkeypatch, at=4, config=config)
    again = pretrain(MODEL, config, tiles=tiles, out=tmp_path / "again", seed=2)
    assert digests(again) == digests(out)
    assert digests(plain)["log.csv"] == digests(out)["log.csv"]
    assert digests(plain)["model.safetensors"] != digests(out)["model.safetensors"]


def test_the_average_follows_by_the_share_that_it_does_not_keep(tmp_path):
    from salib.training.checkpoint import Checkpoint

    model = build_model(MODEL, 1)
    checkpoint = Checkpoint(tmp_path, {}, model, torch.optim.SGD(model.parameters(), lr=1.0))
    checkpoint.rows = [{"step": 0}] * 1000
    first = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.follow(0.9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(10.0)
    for kept in (0.9, 0.81):
        checkpoint.follow(0.9)
        for name, value in (checkpoint.average or {}).items():
            torch.testing.assert_close(value, first[name] + 10 * (1 - kept), atol=1e-4, rtol=1e-5)


def test_recomputed_layers_give_the_same_gradient(tiles, tmp_path):
    weights = []
    for on in (False, True):
        config = replace(TRAIN, recompute=on)
        out = pretrain(MODEL, config, tiles=tiles, out=tmp_path / str(on), seed=2)
        weights.append(digests(out)["model.safetensors"])
    assert weights[0] == weights[1]


def test_a_linear_schedule_is_flat_and_ends_at_zero():
    from salib.training.step import learning_rate

    config = replace(TRAIN, schedule="linear", warmup=0.1, learning_rate=2.0)
    rates = [learning_rate(config, step, steps=200) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[20:150]) == {2.0}
    assert rates[175] == pytest.approx(1.0)
    assert rates[199] == pytest.approx(0.04)


def test_weather_changes_contrast_haze_and_noise_of_each_image(tiles):
    samples = Samples(tiles)
    plain = draw_batch(samples, TRAIN, seed=2, step=0)
    for name, change in (("gamma", 0.3), ("haze", 0.99), ("noise", 0.05)):
        batch = draw_batch(samples, replace(TRAIN, **{name: change}), seed=2, step=0)
        for sensor, image in batch.images.items():
            before = plain.images[sensor]
            assert 0 <= image.min() <= image.max() <= 255
            assert not torch.equal(image, before)
            inner = (before > 20) & (before < 200) & (image > 0) & (image < 255)
            apart = (image - before)[inner]
            if name == "haze":
                assert (apart >= 0).all()
            if name == "noise":
                assert abs(float(apart.mean())) < 1
                assert 0.5 < float(apart.std()) < 0.05 * 255
    share = draw_batch(samples, replace(TRAIN, noise=0.1), seed=2, step=0, rank=1, ranks=2)
    whole = draw_batch(samples, replace(TRAIN, noise=0.1), seed=2, step=0)
    assert torch.equal(share.images["lores"], whole.images["lores"][1::2])
