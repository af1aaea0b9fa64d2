"""Eq. (1): loops, torch's own kernel, gradients, permutations."""

import functools
import itertools
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from salib.attention import Geometry, attend, resolve
from salib.attention import flex as flex_module
from salib.attention import fused as fused_module
from salib.attention import sdpa as sdpa_module
from salib.bias import alibi_slopes, patch_centres, scale_alibi_bias

BATCH, HEADS, DIM = 2, 3, 5
FAST = ("sdpa",)
ORACLE_HEADS = [1, 2, 3, 4, 5, 6, 8, 12, 16, 24]  # the counts of the slopes oracle in test_bias


def attend_at(q, k, v, q_xy, k_xy, slopes, reference_m, **options):
    return attend(q, k, v, Geometry(q_xy, k_xy, slopes, reference_m, **options))


def case(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q_xy = patch_centres(1, 7, torch.tensor([20.0, 31.0])).to(dtype)
    k_xy = patch_centres(11, 1, torch.tensor([13.0, 6.0])).to(dtype)
    q, k, v = (
        torch.randn(BATCH, HEADS, tokens, DIM, generator=generator, dtype=dtype)
        for tokens in (7, 11, 11)
    )
    return q, k, v, q_xy, k_xy, alibi_slopes(HEADS).to(dtype), 40.0


@pytest.mark.parametrize("impl", ["reference", *FAST])
def test_equals_eq_1_by_loops(impl):
    q, k, v, q_xy, k_xy, slopes, reference_m = case()
    mixed = attend_at(q, k, v, q_xy, k_xy, slopes, reference_m, impl=impl)
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(7):
                logits = [
                    float(q[b, h, i] @ k[b, h, j]) / math.sqrt(DIM)
                    - float(slopes[h]) * math.dist(q_xy[b, i].tolist(), k_xy[b, j].tolist()) / 40.0
                    for j in range(11)
                ]
                weights = [math.exp(logit - max(logits)) for logit in logits]
                expected = sum(w * v[b, h, j] for j, w in enumerate(weights)) / sum(weights)
                torch.testing.assert_close(mixed[b, h, i], expected, atol=1e-5, rtol=1e-5)


def test_equals_torchs_own_kernel_with_gradients():
    found, expected = [], []
    for results, own in ((found, True), (expected, False)):
        q, k, v, q_xy, k_xy, slopes, reference_m = case(torch.float64, seed=1)
        leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
        if own:
            mixed = attend_at(q, k, v, q_xy, k_xy, slopes, reference_m, impl="reference")
        else:
            bias = scale_alibi_bias(q_xy, k_xy, slopes, reference_m)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        mixed.square().sum().backward()
        results += [mixed.detach(), *(leaf.grad for leaf in leaves)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0


@pytest.mark.parametrize("impl", ["reference", *FAST])
def test_gradients_equal_finite_differences(impl):
    q, k, v, q_xy, k_xy, slopes, reference_m = case(torch.float64, seed=2)
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]

    def run(*tensors):
        return attend_at(*tensors, q_xy, k_xy, slopes, reference_m, impl=impl)

    assert torch.autograd.gradcheck(run, leaves)


def test_shuffling_tokens_with_their_places_shuffles_the_output():
    q, k, v, q_xy, k_xy, slopes, reference_m = case(seed=3)
    mixed = attend_at(q, k, v, q_xy, k_xy, slopes, reference_m)
    queries, keys = torch.randperm(7), torch.randperm(11)
    shuffled = attend_at(
        q[:, :, queries],
        k[:, :, keys],
        v[:, :, keys],
        q_xy[:, queries],
        k_xy[:, keys],
        slopes,
        reference_m,
    )
    torch.testing.assert_close(shuffled, mixed[:, :, queries], atol=1e-5, rtol=1e-5)


def test_places_may_be_shared_by_the_batch():
    q, k, v, q_xy, k_xy, slopes, reference_m = case(seed=4)
    one = attend_at(q, k, v, q_xy[0], k_xy[0], slopes, reference_m)
    each = attend_at(
        q, k, v, q_xy[:1].expand(2, -1, -1), k_xy[:1].expand(2, -1, -1), slopes, reference_m
    )
    torch.testing.assert_close(one, each)


def test_bfloat16_stays_near_float64():
    exact = attend_at(*case(torch.float64, seed=5), impl="reference")
    q, k, v, q_xy, k_xy, slopes, reference_m = case(seed=5)
    q, k, v = (t.copy_(s) for t, s in zip((q, k, v), case(torch.float64, seed=5)[:3], strict=True))
    for impl in ("reference", "sdpa"):
        half = attend_at(
            q.bfloat16(), k.bfloat16(), v.bfloat16(), q_xy, k_xy, slopes, reference_m, impl=impl
        )
        assert (half.double() - exact).norm() / exact.norm() < 1e-2


def test_multiplying_by_sqrt_d_as_printed_attends_to_almost_one_key():
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(64, 256, 48, generator=generator) for _ in "qk")
    attended = []
    for scale in (48**0.5, 48**-0.5):
        weights = (q @ k.mT * scale).softmax(dim=-1)
        attended.append(float(1 / weights.square().sum(dim=-1).mean()))
    assert attended[0] < 1.2
    assert attended[1] > 50


def test_auto_says_what_it_chose_and_unknown_names_are_refused():
    q, xy = torch.zeros(1, 1, 5, 4), torch.zeros(5, 2)
    geometry = Geometry(xy, xy, torch.ones(1), 64.0)
    assert resolve("auto", q, q, q, geometry) == "sdpa"
    assert resolve("auto", *[q.bfloat16()] * 3, geometry) == "reference"
    with pytest.raises(ValueError, match="impl must be auto or one of"):
        resolve("fast", q, q, q, geometry)


@pytest.mark.parametrize(
    ("tokens", "dtype", "learn", "expected"),
    [
        (1448, torch.bfloat16, False, "sdpa"),
        (1449, torch.bfloat16, False, "flex"),
        (1449, torch.float16, False, "flex"),
        (1449, torch.float32, False, "sdpa"),
        (1449, torch.bfloat16, True, "sdpa"),
    ],
)
def test_auto_on_a_gpu_depends_on_the_size_of_the_bias(tokens, dtype, learn, expected):
    """32 heads and a bias of 128 MiB in 16 bits: 1,448 tokens."""
    xy = torch.zeros(tokens, 2)
    geometry = Geometry(xy, xy, torch.ones(32).requires_grad_(learn), 64.0)
    with FakeTensorMode():
        for dim, chosen in ((16, expected), (8, "sdpa")):
            q = torch.empty(2, 32, tokens, dim, dtype=dtype, device="cuda")
            assert resolve("auto", q, q, q, geometry) == chosen


# Torch itself looks at it when it compiles a call whose keys were padded for a sink.
GRAD_OF_PADDED = "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
SHAPES = {  # queries' and keys' grids: primes, none square, unequal counts
    "self": ((5, 7), (5, 7)),
    "cross": ((3, 11), (7, 13)),
    "one query": ((1, 1), (19, 3)),
}


def problem(name, heads=5, dtype=torch.float64, batch=3, shared=False, seed=0):
    """q, k, v, a gradient, places and slopes; places differ in every sample unless shared."""
    generator = torch.Generator().manual_seed(seed)
    (rows, cols), (key_rows, key_cols) = SHAPES[name]
    patch_m = torch.tensor([8.0, 13.0, 40.0])[: 1 if shared else batch]
    q_xy = patch_centres(rows, cols, patch_m)
    k_xy = q_xy if name == "self" else patch_centres(key_rows, key_cols, patch_m / 2)
    q, grad = (torch.randn(batch, heads, rows * cols, 7, generator=generator) for _ in "qg")
    k, v = (torch.randn(batch, heads, k_xy.shape[1], 7, generator=generator) for _ in "kv")
    xy = [t.to(torch.float64) for t in (q_xy, k_xy)]
    return [t.to(dtype) for t in (q, k, v, grad)], *xy, alibi_slopes(heads).double()


def values_and_gradients(tensors, q_xy, k_xy, slopes, *, impl, sink=False, learn=False):
    q, k, v, grad = tensors
    kind = torch.float64 if q.dtype == torch.float64 else torch.float32
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    slopes = slopes.to(kind).clone().requires_grad_(learn)
    places = (q_xy.to(kind), k_xy.to(kind), slopes, 64.0)
    mixed = attend_at(*leaves, *places, impl=impl, sink=sink)
    mixed.backward(grad.to(mixed.dtype))
    found = [mixed.detach(), *(leaf.grad for leaf in leaves)]
    return found + ([slopes.grad] if learn else [])


@pytest.fixture(params=["dense", "in pieces"])
def pieces(request, monkeypatch):
    """Run the test with the whole bias, and with a few rows of it at a time."""
    if request.param == "in pieces":
        monkeypatch.setattr(sdpa_module, "BIAS_BYTES", 5_000)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_values_and_gradients_are_those_of_the_definition(name, sink, shared, dtype, error, impl):
    exact = problem(name, shared=shared)
    rounded = [t.to(dtype) for t in exact[0]]
    exact = ([t.double() for t in rounded], *exact[1:])
    expected = values_and_gradients(*exact, impl="reference", sink=sink)
    found = values_and_gradients(rounded, *exact[1:], impl=impl, sink=sink)
    for one, other in zip(found, expected, strict=True):
        assert (one.double() - other).norm() <= error * other.norm()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("impl", FAST)
def test_learnt_slopes_get_the_gradient_of_the_definition(impl):
    for sink in (False, True):
        case = problem("cross")
        expected = values_and_gradients(*case, impl="reference", sink=sink, learn=True)
        found = values_and_gradients(*case, impl=impl, sink=sink, learn=True)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("impl", FAST)
def test_gradients_with_slopes_and_sink_equal_finite_differences(impl):
    (q, k, v, _), q_xy, k_xy, slopes = problem("cross", heads=2, batch=1)
    leaves = [t[..., :2].clone().requires_grad_() for t in (q, k, v, slopes)]

    def run(q, k, v, slopes):
        return attend_at(q, k, v, q_xy, k_xy, slopes, 64.0, impl=impl, sink=True)

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("learn", [True, False])
def test_pieces_computed_again_have_the_gradients_of_the_definition(monkeypatch, learn):
    """The way of devices other than a CPU, taken on a CPU."""
    monkeypatch.setattr(sdpa_module, "BIAS_BYTES", 5_000)
    case = problem("cross")
    expected = values_and_gradients(*case, impl="reference", learn=learn)
    found = values_and_gradients(*case, impl="sdpa", learn=learn)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("heads", ORACLE_HEADS)
def test_every_number_of_heads_of_the_oracle_runs(heads):
    case = problem("cross", heads=heads, batch=1)
    expected = values_and_gradients(*case, impl="reference")
    for impl in FAST:
        found = values_and_gradients(*case, impl=impl)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_flex_equals_the_definition(name, sink):
    (q, k, v, _), *places = problem(name)
    q, k, v = (t.float() for t in (q, k, v))
    places = [t.float() for t in places]
    with warnings.catch_warnings():
        # Uncompiled it is slow, which is what this warning says; the arithmetic is the same.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        found = attend_at(q, k, v, *places, 64.0, impl="flex", sink=sink)
    expected = attend_at(q, k, v, *places, 64.0, impl="reference", sink=sink)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings(GRAD_OF_PADDED)
@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_gradients_through_the_score_modification_equal_float64(name, sink, monkeypatch):
    """A backward pass of `flex` on a CPU is refused by torch, which has a dense one all the same.

    It differentiates the same score modification that a GPU's kernel is made from.
    """
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *each: None)
    monkeypatch.setattr("salib.attention.run.resolve", lambda impl, *each: impl)
    tensors, *places = problem(name)
    exact = values_and_gradients(tensors, *places, impl="reference", sink=sink)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        found = values_and_gradients([t.float() for t in tensors], *places, impl="flex", sink=sink)
    for one, other in zip(found, exact, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


def test_flex_serves_as_many_kinds_of_call_as_one_process_makes(monkeypatch):
    """By itself torch compiles a function eight times and then refuses."""
    plain = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", plain)
    monkeypatch.setattr(flex_module, "flex_attention", flex_module.compiled.__wrapped__())
    calls = itertools.product(
        (torch.no_grad, torch.inference_mode), (torch.float32, torch.bfloat16), (2, 4, 8), (1, 2)
    )
    for mode, dtype, width, batch in calls:
        with mode():
            q = torch.ones(batch, 2, 3, width, dtype=dtype)
            xy = torch.zeros(3, 2)
            mixed = attend_at(q, q, q, xy, xy, torch.ones(2), 64.0, impl="flex")
            torch.testing.assert_close(mixed, q)


@pytest.mark.parametrize("sink", [True, False])
def test_sides_are_the_places_of_every_sample_and_outlive_inference(sink):
    """Under inference mode torch makes tensors that no later backward pass may keep."""
    _, q_xy, k_xy, slopes = problem("cross", shared=True)
    with torch.inference_mode():
        q_xy, k_xy = q_xy.clone(), k_xy.clone()
        geometry = Geometry(q_xy, k_xy, slopes, 64.0, sink=sink)
        coordinates = geometry.coordinates(3)
    assert not any(side.is_inference() for side in coordinates)
    for pair, xy in ((coordinates[:2], q_xy), (coordinates[2:], k_xy)):
        expected = xy.float().expand(3, -1, -1)
        expected = F.pad(expected, (0, 0, 0, 1)) if sink and xy is k_xy else expected
        assert torch.equal(torch.stack(pair, -1), expected)
    assert geometry.coordinates(3)[0] is coordinates[0]


def test_flex_refuses_gradients_that_it_has_not():
    (q, k, v, _), *places = problem("self")
    with pytest.raises(ValueError, match=r"no backward pass on a CPU.*q \(3, 5, 35, 7\)"):
        attend_at(q.requires_grad_(), k, v, *places, 64.0, impl="flex")


def test_a_sink_leaves_attention_that_depends_on_ground_distance():
    q = torch.zeros(2, 1, 4, 3)
    v = torch.ones(2, 1, 4, 3)
    xy = patch_centres(2, 2, torch.tensor([8.0, 80.0]))
    mixed = attend_at(q, q, v, xy, xy, torch.ones(1), 64.0, sink=True)[:, 0, :, 0]
    for sample, side in enumerate((8.0, 80.0)):
        mass = sum(math.exp(-d / 64) for d in (0.0, side, side, side * math.sqrt(2)))
        torch.testing.assert_close(mixed[sample], torch.full((4,), mass / (1 + mass)))
    plain = attend_at(q, q, v, xy, xy, torch.ones(1), 64.0)
    torch.testing.assert_close(plain, torch.ones_like(plain))


def test_places_and_slopes_that_do_not_belong_are_refused_with_the_shapes():
    q = torch.zeros(3, 2, 7, 5)
    xy, slopes = torch.zeros(7, 2), torch.ones(2)
    for places, message in (
        (
            (xy[:5], xy, slopes),
            r"q_xy must be \(7, 2\) or \(3, 7, 2\) for q \(3, 2, 7, 5\).*\(5, 2\)",
        ),
        ((xy, xy[:5], slopes), r"k_xy must be \(7, 2\)"),
        ((xy.expand(2, -1, -1), xy, slopes), r"q_xy must be .* got \(2, 7, 2\)"),
        ((xy, xy, torch.ones(3)), r"slopes must be one per head, got 3 for 2 heads"),
    ):
        with pytest.raises(ValueError, match=message):
            attend(q, q, q, Geometry(*places, 64.0))
    with pytest.raises(ValueError, match=r"of one batch.*\(1, 2, 7, 5\)"):
        attend(q, q[:1], q[:1], Geometry(xy, xy, slopes, 64.0))
    none = q[:, :, :0]
    with pytest.raises(ValueError, match=r"k must hold a token.*\(3, 2, 0, 5\)"):
        attend(q, none, none, Geometry(xy, xy[:0], slopes, 64.0))
    for k, v in ((q[..., :3], q), (q, q[..., :3]), (q.double(), q)):
        with pytest.raises(ValueError, match="of one batch, width and dtype"):
            attend(q, k, v, Geometry(xy, xy, slopes, 64.0))


@pytest.mark.parametrize("reference_m", [0.0, -64.0, math.nan, math.inf])
def test_a_reference_that_makes_no_distance_is_refused(reference_m):
    xy, slopes = torch.zeros(7, 2), torch.ones(2)
    with pytest.raises(ValueError, match="reference_m must be positive and finite"):
        Geometry(xy, xy, slopes, reference_m)


def test_places_and_slopes_that_make_no_distance_are_refused():
    xy, slopes = torch.zeros(7, 2), torch.ones(2)
    with pytest.raises(ValueError, match="q_xy must be finite metres"):
        Geometry(xy + math.nan, xy, slopes, 64.0)
    with pytest.raises(ValueError, match="k_xy must be finite metres"):
        Geometry(xy, xy + math.inf, slopes, 64.0)
    for wrong in (-slopes, 0 * slopes, slopes * math.inf):
        with pytest.raises(ValueError, match="slopes must be positive and finite"):
            Geometry(xy, xy, wrong, 64.0)


@pytest.mark.parametrize("impl", FAST)
def test_no_tensor_of_queries_by_keys_by_heads_is_made(monkeypatch, impl):
    """Memory linear in tokens: the largest tensor of a pass is a fixed number of bytes."""
    monkeypatch.setattr(sdpa_module, "BIAS_BYTES", 2**16)
    largest = {}
    for tokens in (256, 1024):
        q = torch.randn(1, 4, tokens, 3, requires_grad=True)
        xy = patch_centres(1, tokens, torch.tensor([8.0]))
        with Largest() as seen:
            attend_at(q, q, q, xy, xy, torch.ones(4), 64.0, impl=impl).sum().backward()
        largest[tokens] = seen.bytes
    assert largest[1024] <= max(2**16, 4 * largest[256])
    assert largest[1024] < 4 * 1024**2


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.filterwarnings(GRAD_OF_PADDED)
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("impl", ["flex", "sdpa", "sdpa in pieces"])
@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_on_a_gpu_values_and_gradients_are_those_of_the_definition(
    name, impl, dtype, error, sink, monkeypatch
):
    if impl == "sdpa in pieces":
        monkeypatch.setattr(sdpa_module, "BIAS_BYTES_GPU", 5_000)
    generator = torch.Generator().manual_seed(0)
    _, q_xy, k_xy, slopes = problem(name)
    sizes = (q_xy.shape[1], k_xy.shape[1], k_xy.shape[1], q_xy.shape[1])
    exact = [torch.randn(3, 5, n, 16, generator=generator).to(dtype).double() for n in sizes]
    expected = values_and_gradients(exact, q_xy, k_xy, slopes, impl="reference", sink=sink)
    for batch in (3, 1, 2):  # a kernel compiled for one batch serves others
        places = q_xy[:batch].cuda(), k_xy[:batch].cuda(), slopes.cuda()
        rounded = [t[:batch].to(dtype).cuda() for t in exact]
        found = values_and_gradients(rounded, *places, impl=impl.split()[0], sink=sink)
        for one, other in zip(found, expected, strict=True):
            other = other[:batch]
            assert (one.double().cpu() - other).norm() <= error * other.norm()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("impl", FAST)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_tensors_that_lie_otherwise_in_memory_give_the_same(impl, which):
    tensors, *places = problem("self")
    expected = values_and_gradients(tensors, *places, impl="reference")
    tensors[which] = tensors[which].mT.contiguous().mT
    places = [t.double() for t in places]
    mixed = attend_at(*tensors[:3], *places, 64.0, impl=impl)
    torch.testing.assert_close(mixed, expected[0])


needs_fused = pytest.mark.skipif(
    fused_module.kernel()[0] is None, reason=str(fused_module.kernel()[1])
)


@needs_fused
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("larger", [1.0, 3.0, 30.0])
@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("queries", "keys", "width", "heads"),
    [(1, 1, 48, 3), (127, 259, 16, 5), (130, 513, 48, 2), (300, 131, 64, 16), (257, 256, 2, 1)],
)
def test_fused_values_and_gradients_are_those_of_the_definition(
    queries, keys, width, heads, shared, sink, larger, dtype
):
    unless_served(dtype)
    generator = torch.Generator().manual_seed(0)
    batch = 2
    q, k, v, grad = (
        torch.randn(batch, n, heads, width, generator=generator).to(dtype).transpose(1, 2)
        for n in (queries, keys, keys, queries)
    )
    q_xy, k_xy = (
        1000 * torch.rand(1 if shared else batch, n, 2, generator=generator) + 5000
        for n in (queries, keys)
    )
    tensors = q * larger, k, v, grad
    exact = [t.double() for t in tensors]
    places = q_xy, k_xy, alibi_slopes(heads)
    expected = values_and_gradients(
        exact, *(t.double() for t in places), impl="reference", sink=sink
    )
    found = values_and_gradients(tensors, *places, impl="fused", sink=sink)
    steep = 1e-2 if larger <= 3 else 3e-2  # where few keys take all, q and k get small gradients
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        error = 1e-5 if dtype == torch.float32 else steep if number in (1, 2) else 4e-3
        least = larger * v.norm() * grad.norm() if keys == 1 else 0.0
        assert (one.double() - other).norm() <= error * max(other.norm(), least)


def unless_served(dtype):
    place = torch.zeros(1, 2)
    geometry = Geometry(place, place, torch.ones(1), 1.0)
    if reason := fused_module.unsupported_reason(torch.zeros(1, 1, 1, 2, dtype=dtype), geometry):
        pytest.skip(reason)


@needs_fused
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_does_not_depend_on_threads_or_on_how_tensors_lie(dtype):
    unless_served(dtype)
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, 200, 32, generator=generator).to(dtype) for _ in "qkvg"]
    xy, slopes = patch_centres(10, 20, torch.tensor([16.0, 8.0])), alibi_slopes(3)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(values_and_gradients(tensors, xy, xy, slopes, impl="fused"))
    finally:
        torch.set_num_threads(threads)
    laid = [t.mT.contiguous().mT for t in tensors]
    found.append(values_and_gradients(laid, xy, xy, slopes, impl="fused"))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert torch.equal(one, same)


@needs_fused
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_hides_no_value_that_is_not_finite(which, wrong, dtype):
    unless_served(dtype)
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1, 2, 300, 8, generator=generator).to(dtype) for _ in "qkv"]
    tensors[which][0, 1, 7, 5] = wrong
    xy, slopes = patch_centres(15, 20, torch.tensor([16.0])), alibi_slopes(2)
    exact, found = (
        attend_at(*(t.to(kind) for t in tensors), xy, xy, slopes, 64.0, impl=impl)
        for impl, kind in (("reference", torch.float32), ("fused", dtype))
    )
    assert torch.equal(found.isfinite().all(-1), exact.isfinite().all(-1))


@needs_fused
def test_fused_is_refused_where_it_does_not_serve_and_chosen_where_it_does():
    unless_served(torch.bfloat16)
    q = torch.randn(1, 2, 200, 8)
    xy, slopes = patch_centres(10, 20, torch.tensor([16.0])), alibi_slopes(2)
    half, double = q.bfloat16(), q.double()
    plain = Geometry(xy, xy, slopes, 64.0)
    learnt = Geometry(xy, xy, slopes.clone().requires_grad_(), 64.0)
    odd = half[..., :7]
    for tensor, geometry, expected in (
        (q, plain, "fused"),
        (half, plain, "fused"),
        (odd.float(), plain, "fused"),
        (odd, plain, "sdpa"),
        (half, learnt, "sdpa"),
        (q, learnt, "sdpa"),
        (double, plain, "sdpa"),
        (q[:, :, :100], plain, "sdpa"),
        (half[:, :, :100], plain, "reference"),
    ):
        assert resolve("auto", tensor, tensor, tensor, geometry) == expected
    for tensor, geometry, match in (
        (double, plain, "bfloat16 and float32 on a CPU"),
        (odd, plain, "even width"),
        (half, learnt, "no gradient of the slopes"),
    ):
        with pytest.raises(ValueError, match=match):
            resolve("fused", tensor, tensor, tensor, geometry)


@pytest.mark.parametrize("fault", ["no compiler", "a compiler that fails", "no room"])
def test_without_its_kernel_auto_takes_the_next_best(monkeypatch, tmp_path, fault):
    """A machine without a compiler computes the same, and says why when asked by name."""
    capable = {f"avx512_{part}": True for part in ("f", "bw", "dq", "vl", "bf16")}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable)
    monkeypatch.setattr(fused_module, "COMPILERS", ("c++",))
    cache, bin = tmp_path / "cache", tmp_path / "bin"
    bin.mkdir()
    if fault != "no compiler":
        (bin / "c++").write_text("#!/bin/sh\necho cannot find omp.h >&2; exit 1\n")
        (bin / "c++").chmod(0o755)
    if fault == "no room":
        cache.write_text("a file where the folder should be")
    monkeypatch.setenv("PATH", str(bin))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    fresh = functools.cache(fused_module.kernel.__wrapped__)
    monkeypatch.setattr(fused_module, "kernel", fresh)
    half = torch.randn(1, 2, 200, 8).bfloat16()
    xy, slopes = patch_centres(10, 20, torch.tensor([16.0])), alibi_slopes(2)
    geometry = Geometry(xy, xy, slopes, 64.0)
    assert resolve("auto", half, half, half, geometry) == "sdpa"
    assert resolve("auto", *[half.float()] * 3, geometry) == "sdpa"
    reason = "got none of" if fault == "no compiler" else "could not be compiled"
    with pytest.raises(ValueError, match=reason):
        resolve("fused", half, half, half, geometry)
    assert not list(cache.rglob("*.so")) if cache.is_dir() else True


def test_a_geometry_used_without_gradients_first_still_gives_slopes_theirs():
    tensors, q_xy, k_xy, slopes = problem("self")
    slopes = slopes.clone().requires_grad_()
    geometry = Geometry(q_xy, k_xy, slopes, 64.0, impl="sdpa")
    with torch.no_grad():
        attend(*tensors[:3], geometry)
    for _ in range(2):
        attend(*tensors[:3], geometry).sum().backward()
    assert (slopes.grad != 0).all()
    with torch.inference_mode():
        shared = Geometry(q_xy, k_xy, slopes.detach(), 64.0, impl="sdpa")
        attend(*tensors[:3], shared)


def test_an_empty_batch_gives_an_empty_answer():
    q = torch.zeros(0, 2, 200, 5, dtype=torch.bfloat16)
    xy = torch.zeros(200, 2)
    assert attend_at(q, q, q, xy, xy, torch.ones(2), 64.0).shape == q.shape


@needs_fused
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_takes_tokens_however_they_lie(dtype):
    unless_served(dtype)
    generator = torch.Generator().manual_seed(0)
    xy, slopes = patch_centres(10, 20, torch.tensor([16.0])), alibi_slopes(2)
    wide = torch.randn(1, 200, 3, 2, 8, generator=generator).to(dtype)
    same = torch.randn(1, 2, 1, 8, generator=generator).to(dtype).expand(1, 2, 200, 8)
    one = torch.randn(1, 2, 8, 1, generator=generator).to(dtype).mT
    q, k, v = wide.transpose(1, 3).unbind(2)  # (batch, heads, tokens, dim), token strides of 48
    grad = torch.randn(1, 2, 200, 8, generator=generator).to(dtype)
    cases = ([q, k, v, grad], [same, k, v, grad], [q, same, v, grad], [q, k, same, same])
    for tensors in (*cases, [one, k, v, one.clone()]):
        q_xy = xy[:, : tensors[0].shape[2]]
        found = values_and_gradients(tensors, q_xy, xy, slopes, impl="fused")
        copies = [t.clone(memory_format=torch.contiguous_format) for t in tensors]
        expected = values_and_gradients(copies, q_xy, xy, slopes, impl="fused")
        for got, same_values in zip(found, expected, strict=True):
            assert torch.equal(got, same_values)


@needs_fused
def test_fused_is_as_exact_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 200, 8, generator=generator) for _ in "qkv")
    xy = patch_centres(10, 20, torch.tensor([16.0])).double() + 5.4e6
    slopes = alibi_slopes(2)
    found = attend_at(q, k, v, xy, xy, slopes, 10.0, impl="fused")
    exact = attend_at(*(t.double() for t in (q, k, v)), xy, xy, slopes, 10.0, impl="reference")
    assert (found - exact).norm() <= 1e-5 * exact.norm()


@needs_fused
def test_fused_refuses_what_it_would_get_wrong():
    q = torch.randn(1, 2, 200, 8, requires_grad=True)
    xy, slopes = patch_centres(10, 20, torch.tensor([16.0])), alibi_slopes(2)
    (slope,) = torch.autograd.grad(
        attend_at(q, q, q, xy, xy, slopes, 64.0, impl="fused").square().sum(), q, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()
    nowhere = torch.empty(1, 2, 200, 8, device="meta")
    with pytest.raises(ValueError, match="one device"):
        attend_at(q, nowhere, nowhere, xy, xy, slopes, 64.0)


@needs_fused
def test_a_fault_inside_the_kernel_is_an_error_and_not_the_end_of_the_process():
    """Matrices without columns are not multiplied by oneDNN."""
    thin, xy = torch.zeros(1, 2, 200, 0), patch_centres(10, 20, torch.tensor([16.0]))
    with pytest.raises(RuntimeError, match="kernel failed"):
        attend_at(thin, thin, thin, xy, xy, alibi_slopes(2), 64.0, impl="fused")
