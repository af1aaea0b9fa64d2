"""Eqs. (3)-(6): loops, invariances, and what must change them."""

import math

import pytest
import torch

from salib.losses import (
    contrastive_loss,
    normalise_patches,
    normalise_targets,
    reconstruction_loss,
    sensor_error,
)

PLACES, DIM = 7, 11
SIGMA = torch.tensor(0.3)


def aligned(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    place = torch.randn(PLACES, DIM, generator=generator)
    return {
        name: place + 0.3 * torch.randn(PLACES, DIM, generator=generator)
        for name in ("radar", "lores", "hires")
    }


def test_contrastive_loss_equals_eq_3_by_loops():
    z = {n: [v / math.hypot(*v.tolist()) for v in value] for n, value in aligned().items()}
    terms = []
    for a in z:
        for b in z:
            if a == b:
                continue
            for i in range(PLACES):
                logits = [float(z[a][i] @ z[b][j]) / float(SIGMA) for j in range(PLACES)]
                terms.append(math.log(sum(map(math.exp, logits))) - logits[i])
    expected = sum(terms) / len(terms)
    assert contrastive_loss(aligned(), SIGMA).item() == pytest.approx(expected, rel=1e-5)


def test_equal_logits_give_ln_n():
    same = {name: torch.ones(PLACES, DIM) for name in ("radar", "lores", "hires")}
    assert contrastive_loss(same, SIGMA).item() == pytest.approx(math.log(PLACES))


def test_order_of_sensors_is_irrelevant():
    z = aligned()
    turned = {name: z[name] for name in ("hires", "radar", "lores")}
    torch.testing.assert_close(contrastive_loss(turned, SIGMA), contrastive_loss(z, SIGMA))


def test_length_of_a_projection_is_irrelevant():
    z = aligned()
    longer = {name: 5 * value for name, value in z.items()}
    torch.testing.assert_close(contrastive_loss(longer, SIGMA), contrastive_loss(z, SIGMA))


def test_logits_keep_float32_under_autocast():
    """In bfloat16 the gradient would be off by percents at small temperatures."""
    gradients = []
    for half in (False, True):
        z = {name: value.clone().requires_grad_() for name, value in aligned().items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = contrastive_loss(z, torch.tensor(0.01))
        gradients.append(torch.cat(torch.autograd.grad(loss, list(z.values()))))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-7)


def test_losses_keep_float64():
    z = {name: value.double() for name, value in aligned().items()}
    assert contrastive_loss(z, SIGMA.double()).dtype == torch.float64
    error = sensor_error(patches(1).double(), patches(2).double(), HIDDEN)
    assert error.dtype == normalise_targets({"radar": patches(1).double()})["radar"].dtype
    assert error.dtype == torch.float64


@pytest.mark.parametrize("sensor", ["radar", "lores", "hires"])
def test_repairing_any_one_sensor_raises_the_loss(sensor):
    z = aligned()
    wrong = z | {sensor: z[sensor].roll(1, dims=0)}
    assert contrastive_loss(wrong, SIGMA) > contrastive_loss(z, SIGMA) + 0.5


def test_one_sensor_alone_has_nothing_to_contrast():
    with pytest.raises(ValueError, match="two or more sensors"):
        contrastive_loss({"radar": torch.ones(3, 2)}, SIGMA)


def patches(seed: int, values: int = 13) -> torch.Tensor:
    return torch.randn(3, 5, values, generator=torch.Generator().manual_seed(seed))


HIDDEN = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 0]], dtype=torch.bool)


def test_sensor_error_equals_the_mean_over_hidden_patches_by_loops():
    predicted, target = patches(1), patches(2)
    errors = [
        sum(
            (p - t) ** 2
            for p, t in zip(predicted[b, n].tolist(), target[b, n].tolist(), strict=True)
        )
        / 13
        for b in range(3)
        for n in range(5)
        if HIDDEN[b, n]
    ]
    expected = sum(errors) / len(errors)
    assert sensor_error(predicted, target, HIDDEN).item() == pytest.approx(expected, rel=1e-5)


def test_visible_patches_do_not_matter_and_hidden_ones_do():
    predicted, target = patches(1), patches(2)
    base = sensor_error(predicted, target, HIDDEN)
    seen = torch.where(HIDDEN[..., None], predicted, predicted + 9)
    torch.testing.assert_close(sensor_error(seen, target, HIDDEN), base)
    assert (
        sensor_error(torch.where(HIDDEN[..., None], predicted + 9, predicted), target, HIDDEN)
        > base
    )


def test_signs_do_not_cancel():
    target = torch.zeros(3, 5, 2)
    predicted = torch.tensor([3.0, -3.0]).expand(3, 5, 2)
    assert sensor_error(predicted, target, HIDDEN).item() == pytest.approx(9.0)


def test_nothing_hidden_is_refused():
    with pytest.raises(ValueError, match="hidden must mark"):
        sensor_error(patches(1), patches(2), torch.zeros(3, 5, dtype=torch.bool))


def test_targets_are_normalised_and_ignore_brightness_and_contrast():
    target = patches(3)
    normal = normalise_patches(target)
    torch.testing.assert_close(normal.mean(dim=-1), torch.zeros(3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(dim=-1), torch.ones(3, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalise_patches(7 * target + 100), normal, atol=1e-4, rtol=1e-4)


def test_own_normalisation_keeps_a_bright_sensor_from_shifting_the_others():
    target = {"radar": patches(4, 6), "lores": patches(5, 9)}
    brighter = target | {"lores": target["lores"] + 50}
    own, shifted = normalise_targets(target), normalise_targets(brighter)
    torch.testing.assert_close(own["radar"], shifted["radar"])
    joint = normalise_targets(brighter, joint=True)
    assert joint["radar"].mean() < -0.5


def test_losses_add_up():
    predicted = {"radar": patches(1, 6), "lores": patches(2, 9)}
    target = {"radar": patches(3, 6), "lores": patches(4, 9)}
    hidden = {"radar": HIDDEN, "lores": ~HIDDEN}
    parts = [sensor_error(predicted[n], target[n], hidden[n]) for n in predicted]
    together = reconstruction_loss(predicted, target, hidden)
    torch.testing.assert_close(together, parts[0] + parts[1])


def test_flat_patches_stay_finite():
    assert normalise_patches(torch.full((1, 2, 5), 3.0)).isfinite().all()
