"""Positions without a bias: rotary, sines and cosines, none; all trainable, all else equal."""

import math
from dataclasses import replace

import pytest
import torch
from test_positions import COLS, ROWS, SMALL, everything, images
from train_runs import TRAIN

from salib.attention import Geometry, attend
from salib.bias import rotated
from salib.config import POSITIONS
from salib.model import build_model, load_model
from salib.training.train import pretrain

OTHERS = ("rotary", "sincos", "gsd_sincos", "none")
SEES_SCALE = {"ground": True, "patches": False, "rotary": True, "sincos": False}
SEES_SCALE |= {"gsd_sincos": True, "none": False}


@pytest.mark.parametrize("position", POSITIONS)
def test_every_position_is_trainable_and_says_whether_it_sees_scale(position, tiles, tmp_path):
    config = replace(SMALL, patch_px=8, heads=2, position=position)
    out = pretrain(config, TRAIN, tiles=tiles, out=tmp_path / "m", seed=2)
    model = load_model(out)
    assert model.config.position == position
    picture = images()["lores"]
    near, far = (model.embed(picture, "lores", m) for m in (4.0, 13.0))
    assert torch.equal(near, far) != SEES_SCALE[position]


def test_positions_change_nothing_but_positions():
    """The same seed gives the same weights under each; only what they do with places differs."""
    models = [build_model(replace(SMALL, heads=2, position=name), 5) for name in POSITIONS]
    first = models[0].state_dict()
    for model in models[1:]:
        assert model.state_dict().keys() == first.keys()
        for name, value in model.state_dict().items():
            assert torch.equal(value, first[name])


def test_without_positions_patches_may_be_shuffled_and_with_others_not():
    order = torch.randperm(ROWS * COLS, generator=torch.Generator().manual_seed(1))
    for position in OTHERS:
        model = build_model(replace(SMALL, heads=2, position=position), 5).double().eval()
        picture = images()["lores"].double()
        patches = picture.unfold(2, 16, 16).unfold(3, 16, 16).flatten(2, 3)
        shuffled = patches[:, :, order].unflatten(2, (ROWS, COLS)).permute(0, 1, 2, 4, 3, 5)
        turned = shuffled.reshape(picture.shape)
        same = torch.allclose(model.embed(picture, "lores", 4.0), model.embed(turned, "lores", 4.0))
        assert same == (position == "none")


def test_rotary_products_depend_on_how_far_apart_two_patches_are_and_where_to():
    """By hand: each pair of numbers is a complex number that turns with metres."""
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(2, 1, 1, 1, 12, generator=generator).double()
    for here, there in (((0.0, 0.0), (37.0, -80.0)), ((500.0, 90.0), (537.0, 10.0))):
        turned = [
            rotated(x, torch.tensor([[at]], dtype=torch.float64), 64.0)
            for x, at in ((q, here), (k, there))
        ]
        product = float((turned[0] * turned[1]).sum())
        apart = (there[0] - here[0], there[1] - here[1])
        expected = 0.0
        for pair in range(6):
            axis, rate = pair // 3, 100.0 ** -(pair % 3 / 3) / 64
            one = complex(q.flatten()[pair], q.flatten()[6 + pair])
            other = complex(k.flatten()[pair], k.flatten()[6 + pair])
            turn = complex(math.cos(apart[axis] * rate), math.sin(apart[axis] * rate))
            expected += (one.conjugate() * other * turn).real
        assert product == pytest.approx(expected, rel=1e-6)


def test_rotary_attention_is_plain_attention_of_turned_queries_and_keys():
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator).double() for n in (5, 7, 7))
    q_xy, k_xy = (900 * torch.rand(2, n, 2, generator=generator).double() for n in (5, 7))
    geometry = Geometry(q_xy, k_xy, torch.ones(3), 50.0, rotary=True)
    logits = rotated(q, q_xy, 50.0) @ rotated(k, k_xy, 50.0).mT / math.sqrt(8)
    torch.testing.assert_close(attend(q, k, v, geometry), logits.softmax(-1) @ v)
    shared = Geometry(q_xy[:1], k_xy[:1], torch.ones(3), 50.0, rotary=True)
    first = attend(q, k, v, shared)[0]
    torch.testing.assert_close(first, attend(q, k, v, geometry)[0])


def test_sines_of_the_ground_agree_with_sines_of_patches_where_a_patch_is_the_reference():
    """As Scale-MAE: positions are scaled by the GSD over a reference, here 4 m at 16 px."""
    ground, patches = (
        build_model(replace(SMALL, heads=2, position=name), 0).eval()
        for name in ("gsd_sincos", "sincos")
    )
    for one, other in zip(everything(ground, 4.0), everything(patches, 4.0), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert not torch.allclose(everything(ground, 8.0)[-1], everything(patches, 8.0)[-1])


@pytest.mark.parametrize("position", OTHERS)
@pytest.mark.parametrize("change", [{"sink": True}, {"learn_slopes": True}, {"slopes": (1.0,) * 3}])
def test_what_only_a_bias_has_is_refused_without_one(position, change):
    with pytest.raises(ValueError, match=r"must not be given with position"):
        replace(SMALL, position=position, **change)


def test_rotary_needs_heads_of_a_multiple_of_four():
    with pytest.raises(ValueError, match="width must be a multiple of 4 for position 'rotary'"):
        replace(SMALL, dim=18, heads=3, position="rotary")


def test_a_convolutional_stem_sees_its_patch_and_a_few_pixels_around_it():
    config = replace(SMALL, patch_px=8, stem="conv", heads=2)
    model = build_model(config, 1).double()
    picture = 255 * torch.rand(1, 3, 40, 24, dtype=torch.float64)
    gsd_m = torch.tensor([5.0]).double()
    with torch.no_grad():
        before = model.tokenize("lores", picture, gsd_m)
        assert before.x.shape == (1, 15, 24)
        picture[:, :, 16:24, 8:16] += 100  # the patch in the third row, second column
        after = model.tokenize("lores", picture, gsd_m)
    changed = (after.x - before.x).abs().amax(-1)[0] > 1e-9
    assert changed.unflatten(0, (5, 3)).tolist() == [
        [False, False, False],
        [False, False, False],
        [False, True, True],
        [False, True, True],
        [False, False, False],
    ]


def test_a_convolutional_stem_trains_embeds_any_size_and_is_stored(tiles, tmp_path):
    config = replace(SMALL, patch_px=4, stem="conv", heads=2)
    out = pretrain(config, TRAIN, tiles=tiles, out=tmp_path / "m", seed=2)
    model = load_model(out)
    assert model.config.stem == "conv"
    assert model.embed(torch.rand(2, 3, 20, 12) * 255, "lores", 5.0).shape == (2, 24)
    with pytest.raises(ValueError, match="multiples of patch_px=4"):
        model.embed(torch.rand(2, 3, 18, 12), "lores", 5.0)
    for wrong in ({"patch_px": 12}, {"stem": "mlp"}):
        with pytest.raises(ValueError, match="must be"):
            replace(config, **wrong)
