"""Costs on paper agree with counts by hand and with a step that is really taken."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from exhibits.cost import cost_of, cost_table
from salib import build_model, preset
from salib.config import SENSORS
from salib.model import draw_masks

SMALL = replace(preset("tiny"), dim=32, depth=2, heads=2, decoder_dim=16, decoder_heads=2)


def test_parameters_and_products_are_those_of_a_step_that_is_taken():
    model, batch, px = build_model(SMALL, 0), 3, 32
    model.impl = "reference"
    images = {
        n: torch.rand(batch, len(SENSORS[n].bands), px * SENSORS[n].factor, px * SENSORS[n].factor)
        for n in SMALL.sensors
    }
    masks = draw_masks(SMALL, batch, rows=4, cols=4, generator=torch.Generator())
    with FlopCounterMode(display=False) as counter:
        out = model(images, {n: torch.ones(batch) for n in images}, masks)
        sum(v.sum() for v in (*out.projections.values(), *out.predicted.values())).backward()
    cost = cost_of(SMALL, image_px=px, half=False)
    assert cost.parameters == sum(weight.numel() for weight in model.parameters())
    assert cost.flops == pytest.approx(counter.get_total_flops() / batch, rel=0.1)


def test_a_wider_model_costs_four_times_the_products_and_half_precision_keeps_less():
    narrow, wide = (cost_of(replace(SMALL, dim=dim), image_px=32) for dim in (512, 1024))
    assert wide.flops / narrow.flops == pytest.approx(4, rel=0.1)
    full = cost_of(replace(SMALL, dim=512), image_px=32, half=False)
    assert 0.4 < narrow.activation_bytes / full.activation_bytes < 0.9
    assert narrow.state_gb == pytest.approx(16 * narrow.parameters / 1e9)
    assert narrow.hours(7200, narrow.flops) == pytest.approx(2)


def test_the_count_of_activations_grows_with_tokens_and_not_with_weights():
    one, four = (cost_of(SMALL, image_px=px).activation_bytes for px in (32, 64))
    assert four / one == pytest.approx(4, rel=0.35)
    table = cost_table({"small": cost_of(SMALL, image_px=32)}, {"a": 1e9}, 10).data
    assert table.loc["small", "hours, a"] > 0
