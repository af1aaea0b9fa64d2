"""What training costs on paper: counted on a model's own shapes, without computing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from pandas.io.formats.style import Styler
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from salib.config import SENSORS, ModelConfig
from salib.model import Mask, ScaleAlibi, draw_masks

STATE_BYTES = 16
"""Per weight in float32: itself, its gradient, AdamW's two moments."""
BATCH = 2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one training step.

    Attributes:
        parameters: numbers that are learnt.
        flops: of a sample, forward and backward, in matrix products and convolutions.
        activation_bytes: of a sample, kept for the backward pass.
    """

    parameters: int
    flops: float
    activation_bytes: float

    @property
    def state_gb(self) -> float:
        """Weights, gradients and moments."""
        return self.parameters * STATE_BYTES / 1e9

    def hours(self, samples: float | int, flops_per_s: float | int) -> float:
        """Of a run over so many samples, each counted as often as it is shown."""
        return samples * self.flops / flops_per_s / 3600


def cost_of(config: ModelConfig, *, image_px: int, half: bool = True) -> Cost:
    """Count a step of Eq. (6) on shapes alone; the bias of Eq. (2) costs no matrix product.

    Args:
        config: of the model.
        image_px: side of the lores and radar input.
        half: in bfloat16 under autocast.
    """
    plain = replace(config, position="none", slopes=(), learn_slopes=False, sink=False)
    (weights, flops, kept), (_, more, larger) = (
        _counted(plain, image_px, batch, half=half) for batch in (BATCH, 2 * BATCH)
    )
    each = (larger - kept) / BATCH  # what does not grow with the batch is a copy of the weights
    return Cost(parameters=weights, flops=(more - flops) / BATCH, activation_bytes=each)


def _counted(config: ModelConfig, image_px: int, batch: int, *, half: bool) -> tuple[int, int, int]:
    """Parameters, products, and bytes that a step of so many samples keeps for going backward."""
    side = image_px // config.patch_px
    masks = draw_masks(config, batch, rows=side, cols=side, generator=torch.Generator())
    kept: dict[int, int] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return saved

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = ScaleAlibi(config)
        shown = {
            n: Mask(torch.empty_like(m.keep), torch.empty_like(m.hidden)) for n, m in masks.items()
        }
        images = {
            n: torch.empty(batch, len(SENSORS[n].bands), *[image_px * SENSORS[n].factor] * 2)
            for n in config.sensors
        }
        gsd_m = {n: torch.ones(batch) for n in config.sensors}
        saving = torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved)
        with FlopCounterMode(display=False) as counter:
            with saving, torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = model(images, gsd_m, shown)
                ends = [*out.projections.values(), *out.predicted.values()]
            torch.stack([end.float().sum() for end in ends]).sum().backward()
    weights = sum(weight.numel() for weight in model.parameters())
    return weights, counter.get_total_flops(), sum(kept.values())


def cost_table(
    costs: Mapping[str, Cost], rates: Mapping[str, float], samples: float | int
) -> Styler:
    """Size, memory and hours of each preset.

    Args:
        costs: by preset.
        rates: useful products per second by device.
        samples: of the run, each counted as often as it is shown.
    """
    rows = {
        name: {
            "parameters, M": cost.parameters / 1e6,
            "GFLOP per sample": cost.flops / 1e9,
            "weights and moments, GB": cost.state_gb,
            "activations, MiB per sample": cost.activation_bytes / 2**20,
            **{f"hours, {device}": cost.hours(samples, rate) for device, rate in rates.items()},
        }
        for name, cost in costs.items()
    }
    table: Any = pd.DataFrame(rows).T
    return table.style.format("{:,.1f}")
