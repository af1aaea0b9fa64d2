"""Fig. 1 by loops: unequal masks, unequal ground sample distances, grids that are not square."""

import math
from dataclasses import replace

import pytest
import torch

from salib import preset
from salib.config import BandStats
from salib.model import Mask, Tokens, build_model, draw_masks, patchify

SMALL = replace(
    preset("tiny"), dim=24, depth=4, heads=3, patch_px=5, decoder_dim=16, decoder_heads=2
)
ROWS, COLS = 3, 7
LEVELS = (
    BandStats(mean=(11.0, -3.0), std=(2.0, 5.0)),
    BandStats(mean=(90.0, 70.0, 50.0), std=(30.0, 20.0, 10.0)),
    BandStats(mean=(7.0, 5.0, 3.0), std=(1.25, 1.5, 1.75)),
)


@pytest.fixture(scope="module")
def model():
    return build_model(replace(SMALL, band_stats=LEVELS), 3).double().eval()


def images(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sides = {"radar": (2, 1), "lores": (3, 1), "hires": (3, 2)}
    return {
        name: 50
        * torch.randn(batch, bands, 5 * ROWS * f, 5 * COLS * f, generator=generator).double()
        for name, (bands, f) in sides.items()
    }


def gsd_m() -> dict[str, torch.Tensor]:
    lores = torch.tensor([3.7, 11.3], dtype=torch.float64)
    return {"radar": lores, "lores": lores, "hires": lores / 2}


def masks(model, batch: int = 2) -> dict[str, Mask]:
    """Each sensor hides other patches; hires also another number of them."""
    return draw_masks(
        model.config, batch, rows=ROWS, cols=COLS, generator=torch.Generator().manual_seed(11)
    )


def attention_by_loops(layer, x, context, x_xy, context_xy, slopes, reference_m):
    """Eq. (1) with Eq. (2) for one sample, a query, a head and a key at a time."""
    heads, dim = len(slopes), x.shape[-1]
    width = dim // heads
    x, context = layer.norm(x), layer.norm(context)
    q, kv = layer.queries(x), layer.keys_values(context)
    k, v = kv[:, :dim], kv[:, dim:]
    mixed = torch.zeros_like(x)
    for i in range(len(x)):
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = []
            for j in range(len(context)):
                metres = math.hypot(
                    float(x_xy[i, 0] - context_xy[j, 0]), float(x_xy[i, 1] - context_xy[j, 1])
                )
                dot = float(q[i, part] @ k[j, part]) / math.sqrt(width)
                logits.append(dot - float(slopes[head]) * metres / reference_m)
            shares = [math.exp(value - max(logits)) for value in logits]
            for j, share in enumerate(shares):
                mixed[i, part] += share / sum(shares) * v[j, part]
    return layer.out(mixed)


def layers_by_loops(transformer, x, xy, model, context=None, context_xy=None):
    own = (model.slopes.double(), model.config.reference_m)
    for layer in transformer.layers:
        x = x + attention_by_loops(layer.self_attention, x, x, xy, xy, *own)
        if context is not None:
            part = layer.cross_attention
            x = x + attention_by_loops(part, x, context, xy, context_xy, *own)
        x = x + layer.feed_forward(x)
    return transformer.norm(x)


def centre(index: int, cols: int, patch_m: float) -> list[float]:
    return [(index % cols + 0.5) * patch_m, (index // cols + 0.5) * patch_m]


def encoded_by_loops(model, name, image, gsd, keep):
    """One sensor's encodings of one sample: standardise, cut, embed, attend."""
    encoder, levels = model.encoder(name), model.config.stats[name]
    patch, cols = model.config.patch_px, image.shape[-1] // model.config.patch_px
    rows = []
    for index in keep.tolist():
        top, left = index // cols * patch, index % cols * patch
        values = [
            (image[band, top + y, left + x] - levels.mean[band]) / levels.std[band]
            for band in range(len(image))
            for y in range(patch)
            for x in range(patch)
        ]
        rows.append(torch.stack(values))
    xy = torch.tensor(
        [centre(i, cols, patch * float(gsd)) for i in keep.tolist()], dtype=torch.float64
    )
    return layers_by_loops(
        encoder.transformer, encoder.patch_embed(torch.stack(rows)), xy, model
    ), xy


@torch.no_grad()
def test_encoders_fusion_and_decoder_equal_loops_with_other_masks_for_each_sensor(model):
    pictures, metres, chosen = images(), gsd_m(), masks(model)
    assert not torch.equal(chosen["radar"].keep, chosen["lores"].keep)
    out = model(pictures, metres, chosen)
    for sample in range(2):
        tokens = {
            name: encoded_by_loops(
                model, name, pictures[name][sample], metres[name][sample], chosen[name].keep[sample]
            )
            for name in pictures
        }
        x, xy = tokens["radar"]
        for name in ("lores", "hires"):  # D7, D8, D9
            x = layers_by_loops(model.cross_encoders[name], x, xy, model, *tokens[name])
        predicted = decoded_by_loops(model, x, chosen["radar"].keep[sample])  # D17
        start = 0
        for name in ("radar", "lores", "hires"):
            width = 25 * (2 if name == "radar" else 3)
            torch.testing.assert_close(
                out.predicted[name][sample],
                predicted[:, start : start + width],
                atol=1e-6,  # the decoder's positions are float32
                rtol=0,
            )
            start += width
            pooled = model.pool_heads[name](tokens[name][0].mean(0))
            torch.testing.assert_close(
                out.projections[name][sample], model.projections[name](pooled), atol=1e-9, rtol=0
            )


def decoded_by_loops(model, x, keep):
    decoder, dim = model.decoder, model.config.decoder_dim
    shown = dict(zip(keep.tolist(), decoder.decoder_embed(x), strict=True))
    rows = []
    for index in range(ROWS * COLS):
        place = []
        for steps in (index % COLS, index // COLS):  # east, then south
            rates = [10000 ** (-i / (dim // 4)) for i in range(dim // 4)]
            place += [math.sin(steps * rate) for rate in rates]
            place += [math.cos(steps * rate) for rate in rates]
        rows.append(shown.get(index, decoder.mask_token) + torch.tensor(place).double())
    whole = torch.stack(rows)
    for layer in decoder.transformer.layers:
        far = torch.zeros(len(whole), 2).double()
        flat = torch.zeros(layer.self_attention.heads).double()
        whole = whole + attention_by_loops(layer.self_attention, whole, whole, far, far, flat, 1.0)
        whole = whole + layer.feed_forward(whole)
    return decoder.decoder_pred(decoder.transformer.norm(whole))


@torch.no_grad()
def test_targets_are_the_standardised_pixels_of_each_sensor_and_hidden_is_its_own_mask(model):
    pictures, chosen = images(), masks(model)
    out = model(pictures, gsd_m(), chosen)
    for number, name in enumerate(("radar", "lores", "hires")):
        mean, std = (
            torch.tensor(v).double()[:, None, None]
            for v in (LEVELS[number].mean, LEVELS[number].std)
        )
        pixels = (pictures[name] - mean) / std
        if name == "hires":  # D5: the ground under a coarse pixel
            batch, bands, height, width = pixels.shape
            pixels = pixels.view(batch, bands, height // 2, 2, width // 2, 2).mean((3, 5))
        for index in range(ROWS * COLS):
            top, left = index // COLS * 5, index % COLS * 5
            patch = pixels[:, :, top : top + 5, left : left + 5].flatten(1)
            torch.testing.assert_close(out.target[name][:, index], patch, atol=1e-9, rtol=0)
        for sample in range(2):
            factor = 2 if name == "hires" else 1
            shown = {
                (i // (COLS * factor) // factor) * COLS + i % (COLS * factor) // factor
                for i in chosen[name].keep[sample].tolist()
            }
            hidden = {i for i in range(ROWS * COLS) if out.hidden[name][sample, i]}
            assert shown | hidden == set(range(ROWS * COLS))
            assert not shown & hidden


def test_masks_of_sensors_are_drawn_apart_at_their_own_ratio(model):
    chosen = masks(model, batch=40)
    shares = {name: mask.hidden.float().mean().item() for name, mask in chosen.items()}
    patches = ROWS * COLS
    assert shares["radar"] == shares["lores"] == pytest.approx(1 - int(patches / 2) / patches)
    assert shares["hires"] == pytest.approx(1 - int(patches / 4) / patches)
    for name, other in (("radar", "lores"), ("lores", "hires"), ("radar", "hires")):
        together = (chosen[name].hidden & chosen[other].hidden).float().mean().item()
        assert together == pytest.approx(shares[name] * shares[other], abs=0.04)


@torch.no_grad()
def test_standardised_inputs_make_gain_and_offset_of_a_sensor_irrelevant(model):
    """D13: what counts is how many deviations from the mean a level is."""
    shifted = tuple(
        BandStats(mean=tuple(4 * m + 9 for m in one.mean), std=tuple(4 * s for s in one.std))
        for one in LEVELS
    )
    other = build_model(replace(model.config, band_stats=shifted), 3).double().eval()
    other.load_state_dict(model.state_dict())
    for name, picture in images().items():
        torch.testing.assert_close(
            other.embed(4 * picture + 9, name, 5.0), model.embed(picture, name, 5.0)
        )
        assert not torch.allclose(
            model.embed(picture, name, 5.0), model.embed(picture / 2, name, 5.0)
        )


@torch.no_grad()
def test_each_band_meets_its_own_weights(model):
    """VV and VH are told apart: a band fills its own columns of the patch embedding."""
    picture = images()["radar"][:, :, :5, :5]
    encoder = model.encoder("radar")
    pixels = encoder.standardise["radar"](picture)
    expected = encoder.patch_embed.bias + sum(
        pixels[:, band].flatten(1) @ encoder.patch_embed.weight[:, 25 * band : 25 * (band + 1)].T
        for band in (0, 1)
    )
    tokens = model.tokenize("radar", pixels, torch.tensor([5.0]))
    torch.testing.assert_close(tokens.x[:, 0], expected)


def test_taking_tokens_takes_their_positions(model):
    whole = model.tokenize("lores", images()["lores"], gsd_m()["lores"])
    keep = torch.tensor([[5, 0, 19], [2, 20, 7]])
    some = whole.take(keep)
    for sample in range(2):
        for number, index in enumerate(keep[sample].tolist()):
            assert torch.equal(some.x[sample, number], whole.x[sample, index])
            metres = 5 * float(gsd_m()["lores"][sample])
            expected = torch.tensor(centre(index, COLS, metres), dtype=torch.float64)
            torch.testing.assert_close(some.xy[sample, number], expected)


@pytest.mark.parametrize("stem", ["linear", "conv"])
def test_embedding_the_kept_patches_alone_gives_the_same_tokens(model, stem):
    model = build_model(replace(model.config, stem=stem, patch_px=4), 0).double()
    pixels, metres = images()["lores"][..., :12, :32], gsd_m()["lores"]
    keep = torch.tensor([[5, 0, 19], [2, 20, 7]])
    alone, some = (
        model.tokenize("lores", pixels, metres, keep),
        model.tokenize("lores", pixels, metres),
    )
    torch.testing.assert_close(alone.x, some.take(keep).x)
    assert torch.equal(alone.xy, some.take(keep).xy)


@torch.no_grad()
def test_each_sensor_has_its_own_cross_encoder_projection_and_pooling(model):
    """D7: changing the weights of one changes what only that one computes."""
    generator = torch.Generator().manual_seed(3)
    shape = {"radar": 5, "lores": 11, "hires": 13}
    tokens = {
        name: Tokens(
            torch.randn(1, count, 24, generator=generator).double(),
            100 * torch.rand(1, count, 2, generator=generator).double(),
        )
        for name, count in shape.items()
    }
    two = {name: tokens[name] for name in ("radar", "lores")}
    assert model.cross_encoders["lores"] is not model.cross_encoders["hires"]
    first = model.fuse(two).x
    expected = layers_by_loops(
        model.cross_encoders["lores"],
        tokens["radar"].x[0],
        tokens["radar"].xy[0],
        model,
        tokens["lores"].x[0],
        tokens["lores"].xy[0],
    )
    torch.testing.assert_close(first[0], expected, atol=1e-9, rtol=0)
    whole = layers_by_loops(
        model.cross_encoders["hires"],
        expected,
        tokens["radar"].xy[0],
        model,
        tokens["hires"].x[0],
        tokens["hires"].xy[0],
    )
    torch.testing.assert_close(model.fuse(tokens).x[0], whole, atol=1e-9, rtol=0)


def test_temperature_starts_at_007_and_is_clamped(model):
    """D3."""
    other = build_model(SMALL, 3).double()
    for log_scale, expected in ((None, 0.07), (9.0, 0.01), (0.0, 1.0)):
        if log_scale is not None:
            torch.nn.init.constant_(other.log_scale, log_scale)
        out = other(images(), gsd_m(), masks(other))
        assert out.temperature.item() == pytest.approx(expected, rel=1e-6)


def test_the_optical_encoders_are_twice_as_deep_as_the_others(model):
    """As in CROMA, whose depths the paper keeps."""
    depths = {name: len(part.transformer.layers) for name, part in model.encoders.items()}
    assert depths == {"radar": 2, "lores": 4, "hires": 4}
    assert {len(part.layers) for part in model.cross_encoders.values()} == {2}


def test_patches_run_along_a_row_first():
    picture = torch.arange(6 * 15).view(1, 1, 6, 15).float()
    assert patchify(picture, 3)[0, 1].tolist() == [3, 4, 5, 18, 19, 20, 33, 34, 35]
