"""Eq. (1): loops, torch's own kernel, gradients, permutations."""

import math

import pytest
import torch
import torch.nn.functional as F

from salib.attention import attend, resolve
from salib.bias import alibi_slopes, patch_centres, scale_alibi_bias

BATCH, HEADS, DIM = 2, 3, 5


def case(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q_xy = patch_centres(1, 7, torch.tensor([20.0, 31.0])).to(dtype)
    k_xy = patch_centres(11, 1, torch.tensor([13.0, 6.0])).to(dtype)
    q, k, v = (
        torch.randn(BATCH, HEADS, tokens, DIM, generator=generator, dtype=dtype)
        for tokens in (7, 11, 11)
    )
    return q, k, v, q_xy, k_xy, alibi_slopes(HEADS).to(dtype), 40.0


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
def test_equals_eq_1_by_loops(impl):
    q, k, v, q_xy, k_xy, slopes, reference_m = case()
    mixed = attend(q, k, v, q_xy, k_xy, slopes, reference_m, impl=impl)
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
            mixed = attend(q, k, v, q_xy, k_xy, slopes, reference_m, impl="reference")
        else:
            bias = scale_alibi_bias(q_xy, k_xy, slopes, reference_m)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        mixed.square().sum().backward()
        results += [mixed.detach(), *(leaf.grad for leaf in leaves)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
def test_gradients_equal_finite_differences(impl):
    q, k, v, q_xy, k_xy, slopes, reference_m = case(torch.float64, seed=2)
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]

    def run(*tensors):
        return attend(*tensors, q_xy, k_xy, slopes, reference_m, impl=impl)

    assert torch.autograd.gradcheck(run, leaves)


def test_shuffling_tokens_with_their_places_shuffles_the_output():
    q, k, v, q_xy, k_xy, slopes, reference_m = case(seed=3)
    mixed = attend(q, k, v, q_xy, k_xy, slopes, reference_m)
    queries, keys = torch.randperm(7), torch.randperm(11)
    shuffled = attend(
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
    one = attend(q, k, v, q_xy[0], k_xy[0], slopes, reference_m)
    each = attend(
        q, k, v, q_xy[:1].expand(2, -1, -1), k_xy[:1].expand(2, -1, -1), slopes, reference_m
    )
    torch.testing.assert_close(one, each)


def test_bfloat16_stays_near_float64():
    exact = attend(*case(torch.float64, seed=5), impl="reference")
    q, k, v, q_xy, k_xy, slopes, reference_m = case(seed=5)
    q, k, v = (t.copy_(s) for t, s in zip((q, k, v), case(torch.float64, seed=5)[:3], strict=True))
    for impl in ("reference", "sdpa"):
        half = attend(
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
    q = torch.zeros(1, 1, 5, 4)
    assert resolve("auto", q, q) == "sdpa"
    assert resolve("auto", q.bfloat16(), q.bfloat16()) == "reference"
    with pytest.raises(ValueError, match="impl must be auto or one of"):
        resolve("fast", q, q)
