"""One optimiser step: which gradient, how long, at which rate, and which weights decay."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from train_runs import MODEL, TRAIN, both_losses

from salib.model import build_model, draw_masks
from salib.training.batches import draw_batch
from salib.training.data import Samples
from salib.training.sampling import stream
from salib.training.step import (
    Run,
    learn,
    learning_rate,
    losses_of,
    make_optimizer,
    outputs,
    weighted_sum,
)

RUN = Run(config=TRAIN, steps=3, seed=0, rank=0, ranks=1)


@pytest.fixture
def given(tiles):
    """A model in float64, a batch and its masks."""
    model = build_model(MODEL, 1).double()
    drawn = draw_batch(Samples(tiles), TRAIN, seed=2, step=0)
    batch = drawn.each(Tensor.double)
    masks = draw_masks(model.config, TRAIN.batch, rows=4, cols=4, generator=stream(3, "masks", 0))
    return model, batch, masks


def norm(gradient):
    return math.sqrt(sum(float(part.square().sum()) for part in gradient))


@pytest.mark.parametrize("scale", [0.01, 1.0, 7.0])
def test_a_step_goes_down_the_clipped_gradient_of_the_sum_of_both_losses(given, scale, monkeypatch):
    """Each loss is differentiated alone here; their gradients add up, to a length of 1 at most."""
    model, batch, masks = given

    def losses(*args, **how):
        return {name: scale * loss for name, loss in losses_of(*args, **how).items()}

    weights = list(model.parameters())
    each = [
        torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
        for loss in (scale * loss for loss in both_losses(model, batch, masks))
    ]
    assert min(map(norm, each)) > 1e-3 * scale
    gradient = [sum(parts) for parts in zip(*each, strict=True)]
    long = norm(gradient)
    assert (long > 1) == (scale >= 1)
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.ones_like(weight)  # of an earlier step, to be forgotten
    monkeypatch.setattr("salib.training.step.losses_of", losses)
    learn(model, torch.optim.SGD(weights, lr=77.0), [(batch, masks)], RUN, rate=0.3)
    for weight, was, down in zip(weights, before, gradient, strict=True):
        expected = was - 0.3 * down / max(1.0, long + 1e-6)
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-12)


def test_the_sum_of_the_losses_is_plain_and_weights_are_those_of_the_objective():
    losses = {"contrastive": torch.tensor(2.0).double(), "reconstruction": torch.tensor(0.3)}
    assert float(weighted_sum(losses, TRAIN)) == pytest.approx(2.3)
    weighed = replace(TRAIN, objective={"contrastive": 0.5, "reconstruction": 10.0})
    assert float(weighted_sum(losses, weighed)) == pytest.approx(4.0)


def test_the_rate_reaches_every_group_and_only_matrices_decay(given):
    """With no gradient AdamW only decays: a matrix by 1 - rate x decay, a vector not at all."""
    model = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3))
    model.register_parameter("gain", nn.Parameter(torch.tensor(2.0)))
    optimizer = make_optimizer(model, replace(TRAIN, weight_decay=0.25))
    assert len(optimizer.param_groups) > 1
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 5
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    optimizer.step()
    for name, weight in model.named_parameters():
        kept = 1 - 0.5 * 0.25 if weight.ndim == 2 else 1.0
        torch.testing.assert_close(weight.detach(), before[name] * kept, msg=name)
    real, batch, masks = given
    optimizer = make_optimizer(real, TRAIN)
    learn(real, optimizer, [(batch, masks)], RUN, rate=0.123)
    assert {group["lr"] for group in optimizer.param_groups} == {0.123}


def test_learning_rate_warms_up_and_decays_to_zero():
    config = replace(TRAIN, warmup=0.1)
    rates = [learning_rate(config, step, steps=100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 1e-5
    middle = 1e-3 * 0.5 * (1 + math.cos(math.pi * 45 / 90))
    assert rates[55] == pytest.approx(middle)


def test_half_precision_is_for_the_forward_pass_and_not_for_gradients_or_losses(given):
    """As autocast asks for: what it is left with runs backward in the types of the forward pass."""
    model, batch, masks = given
    model, half = model.float(), replace(TRAIN, precision="bf16")
    views = [(batch.each(Tensor.float), masks)]
    outs = outputs(model, views, half)
    assert outs[0].projections["radar"].dtype == torch.bfloat16
    losses = losses_of(outs, half)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    expected = torch.autograd.grad(sum(losses.values()), [*model.parameters()])
    size = math.sqrt(sum(float(part.double().square().sum()) for part in expected))
    run = replace(RUN, config=replace(half, clip=1e9))
    learn(model, torch.optim.SGD(model.parameters(), lr=0.0), views, run, rate=0.0)
    for weight, down in zip(model.parameters(), expected, strict=True):
        assert torch.equal(weight.grad, down)
    assert size > 0
