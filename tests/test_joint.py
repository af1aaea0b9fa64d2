"""The joint representation as a public call: radar, lores and hires of one ground."""

from dataclasses import replace

import pytest
import torch
from test_model import oracle, weights_of

from salib import preset
from salib.config import KINDS
from salib.model import Tokens, build_model, from_published
from salib.model import views as views_module

SMALL = replace(
    preset("tiny"), dim=24, depth=2, heads=3, patch_px=4, decoder_dim=16, decoder_heads=2
)
GSD = {"radar": 10.0, "lores": 10.0, "hires": 2.5}


def images(batch: int = 5) -> dict[str, torch.Tensor]:
    """120 m x 200 m of ground, hires four times as fine as lores."""
    generator = torch.Generator().manual_seed(1)
    sides = {"radar": (2, 1), "lores": (3, 1), "hires": (3, 4)}
    return {
        name: torch.randint(0, 256, (batch, bands, 12 * f, 20 * f), generator=generator)
        for name, (bands, f) in sides.items()
    }


@pytest.fixture(scope="module")
def model():
    return build_model(SMALL, 2).eval()


@pytest.mark.parametrize("sensors", [("radar", "lores"), ("radar", "lores", "hires")])
def test_the_joint_embedding_is_what_the_stages_give_one_after_another(model, sensors):
    pictures = {name: images()[name] for name in sensors}
    with torch.no_grad():
        encoded = {
            name: model.encode(
                name,
                model.tokenize(
                    name,
                    model.encoder(name).standardise[name](pictures[name].float()),
                    torch.full((5,), GSD[name]),
                ),
            )
            for name in sensors
        }
        joint = model.fuse(encoded)
    metres = {name: GSD[name] for name in sensors}
    found = model.embed(pictures, gsd_m=metres, tokens=True)
    assert isinstance(found, Tokens)
    torch.testing.assert_close(found.x, joint.x, atol=1e-5, rtol=0)
    assert torch.equal(found.xy, encoded["radar"].xy)  # D17
    mean = model.embed(pictures, gsd_m=metres)
    torch.testing.assert_close(mean, joint.x.mean(1), atol=1e-5, rtol=0)
    assert torch.equal(model.embed(pictures, gsd_m=metres, pooled=True), mean)


def test_every_sensor_and_its_ground_sample_distance_count(model):
    pictures = images()
    whole = model.embed(pictures, gsd_m=GSD)
    two = {name: pictures[name] for name in ("radar", "lores")}
    assert not torch.allclose(model.embed(two, gsd_m={n: GSD[n] for n in two}), whole, atol=1e-3)
    for name in pictures:
        other = pictures | {name: 255 - pictures[name]}
        assert not torch.allclose(model.embed(other, gsd_m=GSD), whole, atol=1e-3), name
    twice = {name: 2 * value for name, value in GSD.items()}
    assert not torch.allclose(model.embed(pictures, gsd_m=twice), whole, atol=1e-3)


def test_order_of_sensors_given_is_irrelevant_and_each_image_may_have_its_own_gsd(model):
    pictures = images()
    lores = torch.tensor([3.0, 5.0, 10.0, 11.0, 13.0])
    metres = {"hires": lores / 4, "lores": lores, "radar": lores}
    turned = {name: pictures[name] for name in ("hires", "radar", "lores")}
    together = model.embed(turned, gsd_m=metres)
    for row in range(5):
        one = {name: image[row : row + 1] for name, image in pictures.items()}
        alone = model.embed(one, gsd_m={name: float(m[row]) for name, m in metres.items()})
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_one_sensor_in_a_mapping_is_that_sensor_alone(model):
    picture = images()["hires"]
    expected = model.embed(picture, "hires", 2.5)
    assert torch.equal(model.embed({"hires": picture}, gsd_m={"hires": 2.5}), expected)


def test_results_can_be_trained_on(model):
    for vectors in (
        model.embed(images()["lores"], "lores", 10.0),
        model.embed(images(), gsd_m=GSD),
        model.embed(images(), gsd_m=GSD, tokens=True).x.mean(1),
    ):
        head = torch.nn.Linear(24, 3)
        head(vectors).square().sum().backward()
        assert head.weight.grad.abs().sum() > 0
        assert not vectors.requires_grad


def test_splitting_a_batch_changes_no_vector(model, monkeypatch):
    pictures = images()
    expected = model.embed(pictures, gsd_m=GSD)
    for batch in (1, 2, 5, 9):
        found = model.embed(pictures, gsd_m=GSD, batch=batch)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    seen, encode = [], model.encode
    monkeypatch.setattr(views_module, "ACTIVATION_BYTES", 3_000_000)
    monkeypatch.setattr(model, "encode", lambda n, t: seen.append(len(t.x)) or encode(n, t))
    found = model.embed(pictures, gsd_m=GSD)
    assert sum(seen) == 15
    assert max(seen) < 5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_pooled_is_the_trained_head_of_the_mean(model):
    picture = images()["lores"]
    mean = model.embed(picture, "lores", 10.0)
    with torch.no_grad():
        expected = model.pool_heads["lores"](mean)
    pooled = model.embed(picture, "lores", 10.0, pooled=True)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=0)


def test_no_images_give_no_vectors(model):
    none = {name: image[:0] for name, image in images().items()}
    assert model.embed(none, gsd_m=GSD).shape == (0, 24)
    assert model.embed(none["lores"], "lores", 10.0).shape == (0, 24)


@pytest.mark.parametrize("size", [40, 56])
def test_published_croma_gives_its_own_encodings_and_pooled_vectors(size):
    tensors = oracle("croma_published_layout.safetensors")
    croma = from_published(weights_of(tensors), heads=16)
    expected = {n.split("/")[1]: v for n, v in tensors.items() if n.startswith(f"{size}px/")}
    pictures = {"radar": expected["sar"], "s2": expected["optical"]}
    for name, theirs in (("radar", "sar"), ("s2", "optical")):
        tokens = croma.embed(pictures[name], name, 10.0, tokens=True)
        pooled = croma.embed(pictures[name], name, 10.0, pooled=True)
        torch.testing.assert_close(tokens, expected[f"{theirs}_encodings"], atol=1e-4, rtol=0)
        torch.testing.assert_close(pooled, expected[f"{theirs}_gap"], atol=1e-4, rtol=0)
    metres = {"radar": 10.0, "s2": 10.0}
    joint = croma.embed(pictures, gsd_m=metres, tokens=True)
    torch.testing.assert_close(joint.x, expected["joint_encodings"], atol=1e-4, rtol=0)
    pooled = croma.embed(pictures, gsd_m=metres, pooled=True)
    torch.testing.assert_close(pooled, expected["joint_gap"], atol=1e-4, rtol=0)


def test_images_may_differ_by_half_a_patch_at_the_far_side_and_no_more(model):
    """A coarse patch is 40 m; 120 m x 200 m of ground."""
    pictures = images(1)
    for hires_px, same in ((44, True), (52, True), (40, True), (36, False), (60, False)):
        cut = torch.nn.functional.pad(pictures["hires"], (0, 0, 0, 20))[:, :, :hires_px]
        if same:
            model.embed(pictures | {"hires": cut}, gsd_m=GSD)
        else:
            with pytest.raises(ValueError, match=r"same ground to within half a patch \(20 m\)"):
                model.embed(pictures | {"hires": cut}, gsd_m=GSD)


def without(*names: str) -> dict[str, torch.Tensor]:
    return {name: image for name, image in images().items() if name not in names}


@pytest.mark.parametrize(
    ("pictures", "metres", "options", "message"),
    [
        ({}, {}, {}, "got an empty mapping"),
        (images() | {"thermal": images()["lores"]}, GSD, {}, "sensor must be one of .*'thermal'"),
        (images(), {n: m for n, m in GSD.items() if n != "hires"}, {}, "of hires, got none"),
        (images(), GSD | {"thermal": 3.0}, {}, "sensor must be one of .*'thermal'"),
        (images(), 10.0, {}, "gsd_m must give the metres per pixel of radar, lores, hires"),
        (without("lores"), GSD, {}, "got radar, hires without lores: fusion takes radar, then"),
        (without("radar"), GSD, {}, "got lores, hires without radar"),
        (images() | {"radar": images()["radar"][:3]}, GSD, {}, "as many of each sensor, got"),
        (images(), GSD | {"hires": 5.0}, {}, r"same ground .*240 x 400 m.* in image 0"),
        (
            images(),
            GSD | {"radar": torch.tensor([10.0, 10, 10, 30, 10])},
            {},
            r"same ground .* in image 3",
        ),
        (images(), GSD | {"radar": -1.0}, {}, "positive metres per pixel, got -1.0 of radar"),
        (images(), GSD, {"sensor": "radar"}, "sensor must not be given with images by sensor"),
        (images(), GSD, {"tokens": True, "pooled": True}, "pooled must not be given with tokens"),
        (images(), GSD, {"batch": 0}, "batch must be at least 1"),
        (images(), GSD, {"device": "tpu"}, "device must be cpu, cuda or auto"),
    ],
)
def test_what_cannot_be_fused_is_one_clear_error(model, pictures, metres, options, message):
    with pytest.raises(ValueError, match=message):
        model.embed(pictures, gsd_m=metres, **options)


def test_croma_takes_no_hires():
    croma = build_model(replace(SMALL, **KINDS["croma"]), 0)
    with pytest.raises(ValueError, match=r"sensor must be one of the model's, radar, lores, got"):
        croma.embed(images(), gsd_m=GSD)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_joint_vectors(model):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    expected = model.embed(images(), gsd_m=GSD)
    found = build_model(SMALL, 2).eval().embed(images(), gsd_m=GSD, device="cuda")
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=0)
