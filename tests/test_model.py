"""The models: oracles of the published CROMA, places, masks, sizes, storage."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from salib import load_croma, load_model, preset
from salib.config import KINDS, plain_stats
from salib.losses import contrastive_loss, normalise_targets, reconstruction_loss
from salib.model import (
    Mask,
    build_model,
    draw_mask,
    draw_masks,
    from_published,
    patchify,
    save_model,
)
from salib.model.layers import Attention
from salib.model.tokens import sincos, targets

SMALL = replace(
    preset("tiny"), dim=24, depth=2, heads=3, patch_px=4, decoder_dim=16, decoder_heads=2
)
HEIGHT, WIDTH = 12, 20


def oracle(name: str) -> dict[str, torch.Tensor]:
    folder = Path(os.environ.get("SALIB_ORACLE_DIR", ""))
    if not (folder / name).is_file():
        pytest.skip("SALIB_ORACLE_DIR does not hold the expected numbers of the published CROMA")
    return load_file(folder / name)


def weights_of(tensors: dict[str, torch.Tensor], separator: str = "/") -> dict[str, torch.Tensor]:
    stem = "weights/"
    found = {name: value for name, value in tensors.items() if name.startswith(stem)}
    return {name.removeprefix(stem).replace(separator, "."): v for name, v in found.items()}


def images(batch: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"radar": (2, 1), "lores": (3, 1), "hires": (3, 2)}
    return {
        name: torch.randn(batch, bands, HEIGHT * side, WIDTH * side, generator=generator)
        for name, (bands, side) in shapes.items()
    }


def gsd_m(batch: int) -> dict[str, torch.Tensor]:
    lores = torch.linspace(3.0, 11.0, batch)
    return {"radar": lores, "lores": lores, "hires": lores / 2}


def masks(model, batch: int) -> dict[str, Mask]:
    generator = torch.Generator().manual_seed(5)
    return draw_masks(model.config, batch, rows=HEIGHT // 4, cols=WIDTH // 4, generator=generator)


PRETRAINING = (
    ("radar_encoder", "s1_encoder"),
    ("optical_encoder", "s2_encoder"),
    ("cross_encoder", "joint_encoder"),
    ("GAP_FFN_radar", "s1_GAP_FFN"),
    ("GAP_FFN_optical", "s2_GAP_FFN"),
    ("create_", "to_"),
    (".0.out.", ".0.to_out."),
    (".net.2.", ".net.3."),
    ("global_contrast_loss.radar_proj", "projections.radar"),
    ("global_contrast_loss.optical_proj", "projections.s2"),
    ("global_contrast_loss.logit_scale", "log_scale"),
    ("decoder.encoder_to_decoder", "decoder.decoder_embed"),
    ("decoder.linear_output", "decoder.decoder_pred"),
    ("decoder.decoder.", "decoder.transformer."),
)


def as_published(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of CROMA's pretraining code by the names of its published file; the decoder's ours.

    Its decoder predicts the optical channels first, ours radar's 2 of 8 x 8 px.
    """
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in PRETRAINING:
            name = name.replace(theirs, ours)
        renamed[name] = value.roll(128, dims=0) if "decoder_pred" in name else value
    del renamed["decoder.decoder_pos_embed"]
    return renamed | {"decoder.mask_token": renamed["decoder.mask_token"].flatten()}


@pytest.mark.parametrize("size", [40, 56])
def test_published_croma_weights_give_published_outputs(size):
    tensors = oracle("croma_published_layout.safetensors")
    model = from_published(weights_of(tensors), heads=16)
    expected = {n.split("/")[1]: v for n, v in tensors.items() if n.startswith(f"{size}px/")}
    gsd = torch.full((2,), 10.0)
    encoded = {}
    with torch.no_grad():
        for sensor, theirs in (("radar", "sar"), ("s2", "optical")):
            tokens = model.tokenize(sensor, expected[theirs], gsd)
            encoded[sensor] = model.encode(sensor, tokens)
            torch.testing.assert_close(
                encoded[sensor].x, expected[f"{theirs}_encodings"], atol=1e-4, rtol=0
            )
            pooled = model.pool(sensor, encoded[sensor])
            torch.testing.assert_close(pooled, expected[f"{theirs}_gap"], atol=1e-4, rtol=0)
        joint = model.fuse(encoded).x
    torch.testing.assert_close(joint, expected["joint_encodings"], atol=1e-4, rtol=0)
    torch.testing.assert_close(joint.mean(dim=1), expected["joint_gap"], atol=1e-4, rtol=0)


def test_croma_pretraining_pass_gives_published_losses():
    tensors = oracle("croma_pretrain_forward.safetensors")
    model = from_published(as_published(weights_of(tensors)), heads=4)
    pictures = {"radar": tensors["imgs"][:, 12:], "s2": tensors["imgs"][:, :12]}
    chosen = {
        ours: Mask(tensors[f"{theirs}_ids_keep"], tensors[f"{theirs}_hidden"].bool())
        for ours, theirs in (("radar", "radar"), ("s2", "optical"))
    }
    gsd = {name: torch.full((3,), 10.0) for name in pictures}
    with torch.no_grad():
        out = model(pictures, gsd, chosen)
        for sensor, theirs in (("radar", "radar"), ("s2", "optical")):
            seen = model.tokenize(sensor, pictures[sensor], gsd[sensor]).take(chosen[sensor].keep)
            encoded = model.encode(sensor, seen)
            torch.testing.assert_close(encoded.x, tensors[f"{theirs}_encodings"], atol=1e-4, rtol=0)
            torch.testing.assert_close(
                model.pool(sensor, encoded), tensors[f"{theirs}_gap"], atol=1e-4, rtol=0
            )
        contrastive = contrastive_loss(out.projections, out.temperature)
        target = normalise_targets(out.target, joint=model.config.joint_target)
        reconstruction = reconstruction_loss(out.predicted, target, out.hidden)
    torch.testing.assert_close(contrastive, tensors["contrastive_loss"], atol=1e-5, rtol=0)
    torch.testing.assert_close(reconstruction, tensors["reconstruction_loss"], atol=1e-5, rtol=0)


def test_croma_file_of_another_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got no file"):
        load_croma(tmp_path / "CROMA_base.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK half a file")
    with pytest.raises(ValueError, match="whole file"):
        load_croma(tmp_path / "damaged.pt")
    torch.save({"s1_encoder": {"strange": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="CROMA's layout"):
        load_croma(tmp_path / "other.pt")


def test_croma_counts_patches_and_scale_alibi_counts_metres():
    pixels = torch.randn(2, 3, HEIGHT, WIDTH)
    gsd = torch.tensor([4.0, 8.0])
    scale, croma = (
        build_model(replace(SMALL, **KINDS[kind]), 0) for kind in ("scale_alibi", "croma")
    )
    metres, patches = (
        model.geometry(tokens, tokens).bias()
        for model in (scale, croma)
        for tokens in [model.tokenize("lores", pixels, gsd)]
    )
    torch.testing.assert_close(metres[1], 2 * metres[0])
    torch.testing.assert_close(patches[1], patches[0])


def test_hidden_pixels_cannot_reach_the_encoders():
    model = build_model(SMALL, 1).eval()
    batch = 3
    pictures, chosen = images(batch), masks(model, batch)
    for name in model.config.sensors:
        grid = patchify(
            torch.arange(pictures[name][0, 0].numel())
            .float()
            .view(1, 1, *pictures[name].shape[-2:]),
            SMALL.patch_px,
        ).long()
        changed = pictures[name].clone()
        for sample in range(batch):
            seen = torch.zeros(grid.shape[1], dtype=torch.bool)
            seen[chosen[name].keep[sample]] = True
            pixels = grid[0, ~seen].flatten()
            changed[sample].flatten(1)[:, pixels] += 100.0
        assert not torch.equal(changed, pictures[name])
        before, after = (
            model.encode(name, model.tokenize(name, x, gsd_m(batch)[name]).take(chosen[name].keep))
            for x in (pictures[name], changed)
        )
        assert torch.equal(before.x, after.x)


def test_output_of_a_sample_does_not_depend_on_its_neighbours():
    model = build_model(SMALL, 2).eval()
    whole = images(5)["hires"]
    gsd = gsd_m(5)["hires"]
    together = model.embed(whole, "hires", gsd)
    alone = model.embed(whole[3:4], "hires", gsd[3:4])
    torch.testing.assert_close(together[3:4], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 28), (44, 12), (20, 52)])
def test_any_size_and_gsd_runs_without_a_rebuild(shape):
    model = build_model(SMALL, 3)
    for gsd in (0.3, 10.0, torch.tensor([2.0, 30.0])):
        vectors = model.embed(torch.rand(2, 3, *shape), "lores", gsd)
        tokens = model.embed(torch.rand(2, 3, *shape), "lores", gsd, tokens=True)
        assert vectors.shape == (2, SMALL.dim)
        assert tokens.shape == (2, shape[0] * shape[1] // 16, SMALL.dim)
        assert vectors.isfinite().all()


def test_embedding_is_the_mean_of_the_tokens_and_sees_levels_not_dtype():
    model = build_model(SMALL, 3)
    levels = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8)
    tokens = model.embed(levels, "lores", 7.0, tokens=True)
    torch.testing.assert_close(model.embed(levels.float(), "lores", 7.0), tokens.mean(dim=1))


def test_gsd_changes_a_textured_picture_and_leaves_a_flat_one():
    model = build_model(SMALL, 4)
    flat, texture = torch.full((1, 3, HEIGHT, WIDTH), 0.7), images(1)["lores"]
    for picture, changes in ((flat, False), (texture, True)):
        fine, coarse = (model.embed(picture, "lores", gsd) for gsd in (2.0, 40.0))
        assert torch.allclose(fine, coarse, atol=1e-5) != changes


def test_hires_mask_hides_the_same_ground_in_blocks():
    rows, cols, ratio = 7, 11, 0.75
    mask = draw_mask(
        3,
        rows=rows,
        cols=cols,
        mask_ratio=ratio,
        factor=2,
        generator=torch.Generator().manual_seed(0),
    )
    assert mask.keep.shape == (3, 4 * int(rows * cols * (1 - ratio)))
    for sample in range(3):
        fine = torch.ones(2 * rows, 2 * cols, dtype=torch.bool)
        fine.view(-1)[mask.keep[sample]] = False
        for row in range(rows):
            for col in range(cols):
                block = fine[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
                assert (block == mask.hidden[sample, row * cols + col]).all()


def test_decoder_place_tells_east_from_south():
    steps = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]]])
    origin, east, south = sincos(steps, 8)[0]
    assert torch.equal(origin[4:], east[4:])
    assert torch.equal(origin[:4], south[:4])
    assert not torch.equal(origin[:4], east[:4])


def test_full_hires_target_keeps_every_pixel_and_area_keeps_the_mean():
    pictures = images(2)
    area, full = (
        targets(replace(SMALL, hires_target=kind), pictures)["hires"] for kind in ("area", "full")
    )
    assert full.shape[-1] == 4 * area.shape[-1]
    torch.testing.assert_close(full.mean(dim=-1), area.mean(dim=-1))


def test_gradients_reach_every_parameter():
    model = build_model(SMALL, 6)
    out = model(images(4), gsd_m(4), masks(model, 4))
    loss = contrastive_loss(out.projections, out.temperature)
    loss = loss + reconstruction_loss(out.predicted, normalise_targets(out.target), out.hidden)
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_saved_model_comes_back_and_is_not_a_pickle(tmp_path):
    model = build_model(
        replace(
            SMALL,
            band_stats=(plain_stats(bands=2),)
            + (replace(plain_stats(bands=3), mean=(90.0, 80.0, 70.0)),) * 2,
        ),
        7,
    )
    folder = save_model(model, tmp_path / "model")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    picture = images(2)["lores"]
    again = load_model(folder)
    assert again.config == model.config
    assert torch.equal(again.embed(picture, "lores", 5.0), model.embed(picture, "lores", 5.0))


def test_unusable_model_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="without config"):
        load_model(tmp_path)
    folder = save_model(build_model(SMALL, 0), tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="unreadable"):
        load_model(folder)
    (folder / "model.safetensors").write_bytes(whole)
    stored = json.loads((folder / "config.json").read_text())
    del stored["seal"]  # as of a file that others wrote
    for change, message in (
        ({"weights_sha256": "0" * 64}, "is another file than config.json was written with"),
        ({"depth": 10**9}, "got .* for 1000000000 layers"),
        ({"schema": 99}, "another version"),
        ({"depth": 4}, "other names or shapes"),
        ({"colour": 1}, "fields of ModelConfig"),
    ):
        (folder / "config.json").write_text(json.dumps(stored | change))
        with pytest.raises(ValueError, match=message):
            load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e19])
def test_a_weight_that_can_only_give_nonsense_is_refused(tmp_path, value):
    model = build_model(SMALL, 0)
    name, weight = max(model.named_parameters(), key=lambda pair: pair[1].numel())
    weight.data.flatten()[1] = value
    folder = save_model(model, tmp_path / "model")
    with pytest.raises(ValueError, match=rf"weights must be finite .* in {name} of .*model"):
        load_model(folder)


@pytest.mark.parametrize("text", ["null", "[]", "3", "{", "[" * 200_000, "\xff"])
def test_a_configuration_that_is_none_is_refused_in_a_line(tmp_path, text):
    folder = save_model(build_model(SMALL, 0), tmp_path / "model")
    (folder / "config.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match=r"model folder must be whole, got .*model") as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_a_configuration_or_weights_of_another_model_are_refused(tmp_path):
    one, other = (save_model(build_model(SMALL, seed), tmp_path / str(seed)) for seed in (1, 2))
    config = (one / "config.json").read_text()
    (one / "config.json").write_text(config.replace('"depth": ', '"depth": 1'))
    with pytest.raises(ValueError, match="has other content than it was written with"):
        load_model(one)
    (one / "config.json").write_text(config)
    (one / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"is another file than config\.json was written with"):
        load_model(one)


@pytest.mark.parametrize("change", [{"depth": 10**6}, {"decoder_depth": 10**9}, {"dim": 3 << 30}])
def test_sizes_that_the_weights_cannot_fill_are_refused_before_a_model_is_built(
    tmp_path, change, monkeypatch
):
    folder = save_model(build_model(SMALL, 0), tmp_path / "model")
    stored = json.loads((folder / "config.json").read_text())
    del stored["seal"]
    (folder / "config.json").write_text(json.dumps(stored | change))
    monkeypatch.setattr("salib.model.store.build_model", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(ValueError, match=r"weights must fit config\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.rand(1, 3, 9, 8), "lores", 4.0), "multiples of patch_px"),
        ((torch.rand(1, 3, 8, 8), "thermal", 4.0), "sensor must be one of"),
        ((torch.rand(1, 3, 8, 8), "lores", 0.0), "gsd_m must be positive"),
        ((torch.rand(1, 3, 8, 8), "lores", -4.0), "gsd_m must be positive"),
        ((torch.rand(1, 3, 8, 8), "lores", float("nan")), "gsd_m must be positive"),
        ((torch.rand(3, 3, 8, 8), "lores", torch.ones(2)), "one per image of 3"),
        ((torch.full((1, 3, 8, 8), float("nan")), "lores", 4.0), "must be finite"),
        ((torch.rand(1, 2, 8, 8), "lores", 4.0), "must have 3 bands"),
        ((torch.rand(3, 8, 8), "lores", 4.0), "must be \\(batch, bands"),
    ],
)
def test_wrong_input_is_refused_with_the_rule(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(SMALL, 0).embed(*arguments)


def test_missing_gsd_is_refused():
    with pytest.raises(ValueError, match="gsd_m must give the metres per pixel of lores, got none"):
        build_model(SMALL, 0).embed(torch.rand(1, 3, 8, 8), "lores")


def test_slopes_can_be_learnt_and_are_stored(tmp_path):
    config = replace(SMALL, learn_slopes=True)
    model = build_model(config, 2)
    assert torch.allclose(model.slopes, build_model(SMALL, 2).slopes, rtol=1e-6)
    batch = 2
    out = model(images(batch), gsd_m(batch), masks(model, batch))
    sum(p.square().mean() for p in out.predicted.values()).backward()
    assert (model.log_slopes.grad != 0).all()
    with torch.no_grad():
        model.log_slopes.add_(0.1)
    save_model(model, tmp_path / "model")
    torch.testing.assert_close(load_model(tmp_path / "model").slopes, model.slopes)


def test_fixed_slopes_are_no_parameter():
    assert not [name for name, _ in build_model(SMALL, 2).named_parameters() if "slopes" in name]


def test_arrays_embed_as_tensors_do_and_images_without_pixels_are_refused():
    model = build_model(SMALL, 0)
    images = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32) % 251
    expected = model.embed(images, "lores", 5.0)
    assert torch.equal(model.embed(images.numpy(), "lores", 5.0), expected)
    with pytest.raises(ValueError, match="images must be"):
        model.embed(images[:, :, :0], "lores", 5.0)


def test_a_sink_changes_what_a_flat_picture_embeds_to():
    flat = torch.full((2, 3, HEIGHT, WIDTH), 90.0)
    gsd = torch.tensor([2.0, 30.0])
    for sink in (False, True):
        near, far = build_model(replace(SMALL, sink=sink), 2).eval().embed(flat, "lores", gsd)
        assert ((near - far).abs().max() > 1e-4) == sink


@pytest.mark.parametrize("impl", ["sdpa"])
def test_every_implementation_gives_the_model_the_same_outputs_and_gradients(impl):
    batch, found = 2, []
    for chosen in ("reference", impl):
        model = build_model(SMALL, 2)
        model.impl = chosen
        out = model(images(batch), gsd_m(batch), masks(model, batch)).predicted
        sum(values.square().mean() for values in out.values()).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append({**out, **gradients})
    assert len(found[0]) > 50
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-3, atol=1e-5)


def test_under_autocast_attention_converts_its_tokens_once():
    layer, x = Attention(32, 2), torch.randn(2, 9, 32)
    with torch.autocast("cpu", torch.bfloat16), Conversions(x.shape) as seen:
        layer(x, None)
    assert seen.count == 1


class Conversions(TorchDispatchMode):
    """Counts conversions of tensors of one shape to another type."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and args[0].shape == self.shape
        return func(*args, **(kwargs or {}))
