"""How positions enter attention: one definition of distance, named strategies, a user's own."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from salib import bias as definition
from salib import load_model, preset
from salib.attention import IMPLEMENTATIONS, Geometry, attend
from salib.model import build_model, draw_masks, save_model

SMALL = replace(
    preset("tiny"), dim=24, depth=2, heads=3, patch_px=16, decoder_dim=16, decoder_heads=2
)
ROWS, COLS = 3, 5
EUCLIDEAN_ONLY = ("fused", "flex")


def manhattan(query_xy, key_xy):
    return (query_xy[..., :, None, :] - key_xy[..., None, :, :]).abs().sum(-1)


def images(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sides = {"radar": (2, 1), "lores": (3, 1), "hires": (3, 2)}
    return {
        name: torch.rand(batch, bands, 16 * ROWS * f, 16 * COLS * f, generator=generator)
        for name, (bands, f) in sides.items()
    }


def gsd(lores: float, batch: int = 2) -> dict[str, torch.Tensor]:
    values = {"radar": lores, "lores": lores, "hires": lores / 2}
    return {name: torch.full((batch,), value) for name, value in values.items()}


def everything(model, lores_m: float) -> list[torch.Tensor]:
    """All that a model gives: pretraining's outputs, each sensor's vectors, the joint ones."""
    pictures, metres = images(), gsd(lores_m)
    masks = draw_masks(
        model.config, 2, rows=ROWS, cols=COLS, generator=torch.Generator().manual_seed(2)
    )
    with torch.no_grad():
        out = model(pictures, metres, masks)
    alone = [model.embed(pictures[name], name, metres[name]) for name in pictures]
    return [
        *out.projections.values(),
        *out.predicted.values(),
        *alone,
        model.embed(pictures, gsd_m=metres),
    ]


def test_patches_and_ground_agree_where_a_patch_is_the_reference():
    """At 4 m and 16 px a lores patch is 64 m, and a hires patch half of it."""
    ground, patches = (
        build_model(replace(SMALL, position=name), 0).eval() for name in ("ground", "patches")
    )
    for one, other in zip(everything(ground, 4.0), everything(patches, 4.0), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    there, here = everything(ground, 8.0), everything(patches, 8.0)
    assert not any(torch.allclose(a, b, atol=1e-5) for a, b in zip(there, here, strict=True))


def test_patches_do_not_see_the_ground_sample_distance():
    model = build_model(replace(SMALL, position="patches"), 0).eval()
    for one, other in zip(everything(model, 4.0), everything(model, 31.0), strict=True):
        assert torch.equal(one, other)


def attended(impl: str, function=None, *, keys: int = 131, dtype=torch.float32, sink=False):
    """Queries, keys, values, geometry and result; 131 keys are enough for `fused`."""
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(2, 3, n, 16, generator=generator) for n in (37, keys, keys))
    q_xy, k_xy = (500 * torch.rand(n, 2, generator=generator) for n in (37, keys))
    slopes = torch.tensor([0.7, 0.1, 0.02])
    q, k, v, q_xy, k_xy, slopes = (t.to(dtype) for t in (q, k, v, q_xy, k_xy, slopes))
    geometry = Geometry(q_xy, k_xy, slopes, 64.0, impl=impl, function=function, sink=sink)
    return attend(q, k, v, geometry), (q, k, v, q_xy, k_xy, slopes)


def by_hand(q, k, v, q_xy, k_xy, slopes):
    """Manhattan distance, a query and a key at a time."""
    steps = torch.tensor(
        [[abs(a[0] - b[0]) + abs(a[1] - b[1]) for b in k_xy.tolist()] for a in q_xy.tolist()],
        dtype=torch.float64,
    )
    logits = q @ k.mT / 4 - slopes[:, None, None] * steps / 64
    return logits.softmax(-1) @ v


@pytest.mark.parametrize("impl", ["auto", *IMPLEMENTATIONS])
def test_a_users_distance_is_what_every_implementation_computes_or_refuses(impl):
    if impl in EUCLIDEAN_ONLY:
        with pytest.raises(ValueError, match=f"impl='{impl}' serves Euclidean distance only"):
            attended(impl, manhattan)
        return
    expected = by_hand(*attended("reference", manhattan, dtype=torch.float64)[1])
    found, _ = attended(impl, manhattan)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    precise, _ = attended(impl, manhattan, dtype=torch.float64)
    torch.testing.assert_close(precise, expected, atol=1e-9, rtol=0)
    assert not torch.allclose(found, attended(impl)[0], atol=1e-2)


@pytest.mark.parametrize("keys", [31, 131])
def test_changing_the_definition_changes_the_output_under_auto(monkeypatch, keys):
    before, tensors = attended("auto", keys=keys)
    monkeypatch.setattr(definition, "ground_distance", manhattan)
    after, _ = attended("auto", keys=keys)
    assert not torch.allclose(before, after, atol=1e-2)
    expected = by_hand(*(t.double() for t in tensors))
    torch.testing.assert_close(after.double(), expected, atol=1e-5, rtol=0)
    for impl in EUCLIDEAN_ONLY:
        with pytest.raises(ValueError, match="serves Euclidean distance only"):
            attended(impl, keys=keys)


def test_changing_the_definition_changes_a_model_of_many_tokens(monkeypatch):
    model = build_model(replace(SMALL, patch_px=4), 0).eval()
    picture = images()["lores"]
    before = model.embed(picture, "lores", 5.0)
    monkeypatch.setattr(definition, "ground_distance", manhattan)
    assert not torch.allclose(model.embed(picture, "lores", 5.0), before, atol=1e-4)


@pytest.mark.parametrize(
    "changed",
    [
        "return east.abs() + south.abs()",
        "return torch.hypot(east, south).clamp(max=5e4)",
        "return torch.hypot(east, south) + 1e-6",
        "return torch.hypot(east, 1.001 * south)",
    ],
)
def test_no_kernel_stands_in_for_a_definition_that_was_edited(changed):
    """Also where it differs from Euclid's only far away, or only close by."""
    source = Path(definition.__file__).read_text()
    line = "return torch.hypot(east, south)"
    assert source.count(line) == 1
    for text, euclidean in ((source, True), (source.replace(line, changed), False)):
        edited = {"__name__": "edited"}
        exec(compile(text, "bias.py", "exec"), edited)
        assert edited["is_euclidean"](edited["ground_distance"]) == euclidean
        assert not edited["is_euclidean"](manhattan)


def test_which_implementations_ran_is_known():
    model = build_model(SMALL, 0)
    assert model.attention_used == set()
    model.impl = "reference"
    model.embed(images()["lores"], "lores", 5.0)
    assert model.attention_used == {"reference"}
    model.impl = "sdpa"
    model.embed(images()["lores"], "lores", 5.0)
    assert model.attention_used == {"reference", "sdpa"}


def test_a_model_with_its_own_distance_is_stored_and_asks_for_it(tmp_path):
    model = build_model(replace(SMALL, position=manhattan), 1)
    picture = images()["lores"]
    expected = model.embed(picture, "lores", 5.0)
    assert not torch.allclose(build_model(SMALL, 1).embed(picture, "lores", 5.0), expected)
    save_model(model, tmp_path)
    again = load_model(tmp_path, position=manhattan)
    assert torch.equal(again.embed(picture, "lores", 5.0), expected)
    with pytest.raises(ValueError, match=r"position must be the function .*manhattan, got none"):
        load_model(tmp_path)


@dataclass
class Stretched:
    """A distance with a parameter; a dataclass that compares by value cannot be hashed."""

    south: float

    def __call__(self, query_xy, key_xy):
        apart = query_xy[..., :, None, :] - key_xy[..., None, :, :]
        return (apart * torch.tensor([1.0, self.south])).norm(dim=-1)


def test_a_distance_may_be_an_object_with_parameters(tmp_path):
    picture = images()["lores"]
    vectors = {}
    for south in (1.0, 3.0):
        model = build_model(replace(SMALL, position=Stretched(south)), 1)
        vectors[south] = model.embed(picture, "lores", 5.0)
        save_model(model, tmp_path / str(south))
        again = load_model(tmp_path / str(south), position=Stretched(south))
        assert torch.equal(again.embed(picture, "lores", 5.0), vectors[south])
    plain = build_model(SMALL, 1).embed(picture, "lores", 5.0)
    torch.testing.assert_close(vectors[1.0], plain, atol=1e-5, rtol=0)
    assert not torch.allclose(vectors[3.0], plain, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda q, k: (q - k).norm(dim=-1), "must return distances of shape"),
        (lambda q, k: manhattan(q, k)[0], "must return distances of shape"),
        (lambda q, k: 3.0, "got float"),
        (lambda q, k: -manhattan(q, k), "finite distances of at least 0"),
        (lambda q, k: manhattan(q, k) / 0, "finite distances of at least 0"),
    ],
)
def test_a_function_that_gives_no_distances_is_refused(function, message):
    model = build_model(replace(SMALL, position=function), 0)
    with pytest.raises(ValueError, match=message):
        model.embed(images()["hires"][:, :, :, :16], "hires", 5.0)
