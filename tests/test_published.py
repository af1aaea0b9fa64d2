"""CROMA's published layout: random weights, and its forward pass written out from its paper."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_model import oracle, weights_of

from salib.model import from_published, load_croma

DIM, HEADS, ROWS, COLS = 24, 4, 3, 5
DEPTHS = {"s1_encoder": 1, "s2_encoder": 2, "joint_encoder": 1}
BANDS = {"s1_encoder": 2, "s2_encoder": 12}


def layout(dim: int = DIM) -> dict[str, tuple[int, ...]]:
    """Names and shapes of every published parameter, for a small model."""
    norm = {"weight": (dim,), "bias": (dim,)}
    linear = {"to_out.weight": (dim, dim), "to_out.bias": (dim,)}
    wide = {"0.weight": (4 * dim, dim), "0.bias": (4 * dim,)}
    wide |= {"3.weight": (dim, 4 * dim), "3.bias": (dim,)}
    blocks = {
        "attention": {"to_qkv.weight": (3 * dim, dim), **linear},
        "cross": {**{f"to_{n}.weight": (dim, dim) for n in "qkv"}, **linear},
        "ffn": {f"net.{name}": shape for name, shape in wide.items()},
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for part, depth in DEPTHS.items():
        joint = part == "joint_encoder"
        stem = part if joint else f"{part}.transformer"
        order = ("attention", "cross", "ffn") if joint else ("attention", "ffn")
        for layer in range(depth):
            for number, block in enumerate(order):
                own = {f"input_norm.{name}": shape for name, shape in norm.items()} | blocks[block]
                shapes |= {f"{stem}.layers.{layer}.{number}.{n}": s for n, s in own.items()}
        shapes |= {f"{stem}.norm_out.{name}": shape for name, shape in norm.items()}
    for part, bands in BANDS.items():
        shapes |= {f"{part}.linear_input.weight": (dim, 64 * bands)}
        shapes |= {f"{part}.linear_input.bias": (dim,)}
        pool = part.replace("encoder", "GAP_FFN")
        shapes |= {f"{pool}.0.{name}": shape for name, shape in norm.items()}
        shapes |= {f"{pool}.{1 if n[0] == '0' else 3}.{n[2:]}": s for n, s in wide.items()}
    return shapes


def random_weights(dim: int = DIM) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        for name, shape in layout(dim).items()
    }


class PublishedForward:
    """The forward pass of the CROMA paper, on published weights and any grid of patches."""

    def __init__(self, weights, heads, rows, cols):
        self.weights, self.heads = weights, heads
        centres = [(row, col) for row in range(rows) for col in range(cols)]
        steps = torch.tensor([[math.dist(a, b) for b in centres] for a in centres])
        slopes = torch.tensor([2 ** (-8 * (head + 1) / heads) for head in range(heads)])
        self.bias = -slopes[:, None, None] * steps

    def linear(self, x, name):
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, x, name):
        return F.layer_norm(
            x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        )

    def attend(self, q, k, v):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        logits = q @ k.mT / math.sqrt(q.shape[-1]) + self.bias
        return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)

    def layers(self, x, stem, context=None):
        depth = len(
            {
                name.split(".layers.")[1].split(".")[0]
                for name in self.weights
                if name.startswith(f"{stem}.layers.")
            }
        )
        for layer in range(depth):
            own = f"{stem}.layers.{layer}"
            q, k, v = self.linear(self.norm(x, f"{own}.0.input_norm"), f"{own}.0.to_qkv").chunk(
                3, -1
            )
            x = x + self.linear(self.attend(q, k, v), f"{own}.0.to_out")
            if context is not None:
                across = f"{own}.1"
                seen, shown = (self.norm(t, f"{across}.input_norm") for t in (x, context))
                q = self.linear(seen, f"{across}.to_q")
                k, v = (self.linear(shown, f"{across}.to_{n}") for n in "kv")
                x = x + self.linear(self.attend(q, k, v), f"{across}.to_out")
            ffn = f"{own}.{1 if context is None else 2}"
            wide = F.gelu(self.linear(self.norm(x, f"{ffn}.input_norm"), f"{ffn}.net.0"))
            x = x + self.linear(wide, f"{ffn}.net.3")
        return self.norm(x, f"{stem}.norm_out")

    def encode(self, images, part):
        patches = F.unfold(images, 8, stride=8).mT  # a patch's values band by band, row by row
        return self.layers(self.linear(patches, f"{part}.linear_input"), f"{part}.transformer")

    def pool(self, tokens, part):
        x = self.norm(tokens.mean(1), f"{part}.0")
        return self.linear(F.gelu(self.linear(x, f"{part}.1")), f"{part}.3")


def images(rows: int, cols: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(2, bands, 8 * rows, 8 * cols, generator=generator)
        for name, bands in (("radar", 2), ("s2", 12))
    }


def check(model, forward, pictures):
    encoded = {}
    for name, part in (("radar", "s1"), ("s2", "s2")):
        encoded[name] = forward.encode(pictures[name], f"{part}_encoder")
        tokens = model.embed(pictures[name], name, 10.0, tokens=True)
        torch.testing.assert_close(tokens, encoded[name], atol=1e-4, rtol=0)
        pooled = model.embed(pictures[name], name, 10.0, pooled=True)
        expected = forward.pool(encoded[name], f"{part}_GAP_FFN")
        torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=0)
    joint = forward.layers(encoded["radar"], "joint_encoder", encoded["s2"])
    metres = {"radar": 10.0, "s2": 10.0}
    found = model.embed(pictures, gsd_m=metres, tokens=True)
    torch.testing.assert_close(found.x, joint, atol=1e-4, rtol=0)
    pooled = model.embed(pictures, gsd_m=metres, pooled=True)
    torch.testing.assert_close(pooled, joint.mean(1), atol=1e-4, rtol=0)


def test_published_weights_compute_what_the_paper_of_croma_says():
    weights = random_weights()
    model = from_published(weights, heads=HEADS)
    check(model, PublishedForward(weights, HEADS, ROWS, COLS), images(ROWS, COLS))


@pytest.mark.parametrize("size", [40, 56])
def test_the_forward_pass_written_here_is_that_of_the_published_code(size):
    tensors = oracle("croma_published_layout.safetensors")
    forward = PublishedForward(weights_of(tensors), 16, size // 8, size // 8)
    expected = {n.split("/")[1]: v for n, v in tensors.items() if n.startswith(f"{size}px/")}
    radar = forward.encode(expected["sar"], "s1_encoder")
    optical = forward.encode(expected["optical"], "s2_encoder")
    joint = forward.layers(radar, "joint_encoder", optical)
    for found, name in ((radar, "sar"), (optical, "optical"), (joint, "joint")):
        torch.testing.assert_close(found, expected[f"{name}_encodings"], atol=1e-4, rtol=0)


def in_parts(weights):
    """As the published file holds them: a dict of state dicts."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value.clone()
    return parts


PLAIN = random_weights(32)
OWN_NAMES = {"s1_GAP_FFN": "GAP_FFN_s1", "s2_GAP_FFN": "GAP_FFN_s2"}
OWN_NAMES |= {"joint_encoder": "cross_encoder"}


def own_names(weights):
    """As the published code's modules have them."""
    parts = {name: name.partition(".")[0] for name in weights}
    return {n.replace(p, OWN_NAMES.get(p, p), 1): weights[n] for n, p in parts.items()}


@pytest.mark.parametrize(
    "stored",
    [
        in_parts(PLAIN),
        PLAIN,
        own_names(PLAIN),
        {f"module.{name}": value for name, value in own_names(PLAIN).items()},
        PLAIN | {"attn_bias": torch.zeros(1, 16, 4, 4), "s2_encoder.attn_bias": torch.zeros(4)},
        {"state_dict": PLAIN, "epoch": 3, "optimizer": {"lr": torch.ones(1)}},
        {"epoch": 3, "model": {"state_dict": {f"module.{n}": v for n, v in PLAIN.items()}}},
        {"model_state_dict": in_parts(PLAIN)},
        {name: value.bfloat16().float() for name, value in PLAIN.items()},
    ],
    ids=["parts", "flat", "own", "module", "bias", "state_dict", "model", "deep", "rounded"],
)
def test_published_weights_load_as_they_come_wrapped(stored, tmp_path):
    torch.save(stored, tmp_path / "croma.pt")
    found = load_croma(tmp_path / "croma.pt").state_dict()
    expected = from_published(PLAIN).state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=0.02, rtol=0.02)


def without(name):
    return {key: value for key, value in PLAIN.items() if key != name}


LAST = "joint_encoder.norm_out.bias"


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (without(LAST), r"missing \['cross_encoders\.s2\.norm\.bias'\]"),
        (PLAIN | {"s2_encoder.extra": torch.ones(3)}, r"unknown \['encoders\.s2\.extra'\]"),
        (PLAIN | {"other.weight": torch.ones(3)}, r"unknown \['other\.weight'\]"),
        (PLAIN | {LAST: torch.ones(7)}, "unknown"),
        (PLAIN | {LAST: torch.tensor(1.0)}, "unknown"),
        (PLAIN | {"joint_encoder.layers.0.0.to_qkv.weight": torch.tensor(1.0)}, "got none: "),
        (PLAIN | {"s2_encoder.transformer.norm_out.weight": torch.tensor(1.0)}, "got none: "),
        (PLAIN | {"joint_encoder.layers.0.1.fn.to_k.weight": torch.ones(3)}, "unknown"),
        (PLAIN | {LAST: torch.full((32,), torch.nan)}, "must be finite .* joint_encoder"),
        (PLAIN | {LAST: torch.full((32,), torch.inf)}, "must be finite .* joint_encoder"),
        (PLAIN | {LAST: torch.full((32,), 1e30)}, r"below 1e\+18.* joint_encoder"),
        (PLAIN | {LAST: torch.ones(32, dtype=torch.long)}, "not weights"),
        (PLAIN | {LAST: 3.0}, "holds float, not weights"),
        (PLAIN | {LAST: torch.zeros(1).expand(10**9)}, "more weights than bytes"),
        ({}, "got none: "),
        ({"state_dict": {}}, "got none: "),
        ([torch.ones(3)], "whole file"),
        (None, "whole file"),
        (torch.ones(3), "whole file"),
    ],
)
def test_other_weights_are_refused_in_a_line(stored, message, tmp_path):
    torch.save(stored, tmp_path / "croma.pt")
    with pytest.raises(ValueError, match=message) as error:
        load_croma(tmp_path / "croma.pt")
    assert "\n" not in str(error.value)


def test_every_published_parameter_finds_its_place():
    weights = random_weights()
    state = from_published(weights, heads=HEADS).state_dict()
    total = sum(
        value.double().sum()
        for name, value in state.items()
        if not name.startswith(("decoder", "projections", "log_scale"))
    )
    assert total.item() == pytest.approx(
        sum(v.double().sum().item() for v in weights.values()), rel=1e-6
    )
