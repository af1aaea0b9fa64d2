"""One training step, forward and backward: ours beside the released code, in one run.

    python benchmarks/step.py --released ../scale-alibi --patch 16 --batch 4
    SALIB_PLAIN_ALLOCATOR=1 python benchmarks/step.py --released ../scale-alibi --patch 8 --batch 1
    python benchmarks/step.py --released ../scale-alibi --device cuda --patch 16 --batch 48
    python benchmarks/step.py --released ../scale-alibi --device cuda --patch 8 --batch 8

The base model (768 wide, 12 layers, 16 heads) on a lores and radar image of 256 px and a hires one
of 512 px with 40 % of patches hidden. The released model runs as it is, but for where a GPU keeps
its tables (`build`), in float32 and under bfloat16 autocast; ours in float32 and bfloat16, and with
every layer compiled by torch where --cases names that. Time is interleaved; memory comes from a
process for each case, on a GPU from torch's count of one more step. Rows go to
results/performance/step_p<patch>.csv, of a GPU to step_p<patch>_cuda.csv.
"""

import argparse
import copy
import functools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import measure
import torch

from salib import build_model, preset
from salib.config import TRAINING, ModelConfig
from salib.model import Mask, draw_masks
from salib.model.layers import Layer
from salib.training.batches import Batch
from salib.training.step import losses_of, outputs, weighted_sum

LORES_PX, MASK_RATIO = 256, 0.4
CASES = (*measure.CASES, "ours compiled bf16")


def images(batch: int, device: str) -> dict[str, torch.Tensor]:
    """Random levels of the three sensors."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"radar": (2, LORES_PX), "lores": (3, LORES_PX), "hires": (3, 2 * LORES_PX)}
    return {
        name: 255 * torch.rand(batch, bands, side, side, generator=generator).to(device)
        for name, (bands, side) in sizes.items()
    }


def case(
    name: str, folder: Path | None, patch: int, batch: int, device: str
) -> Callable[[], object]:
    """A step of one side in one precision."""
    half = name.endswith("bf16")
    pictures = images(batch, device)
    model = build(name.startswith("released"), folder, patch, device)
    if name.startswith("released"):
        their = measure.released(folder)

        def losses() -> torch.Tensor:
            side = LORES_PX // patch
            masks = [their.get_mask(batch, side**2, device, MASK_RATIO) for _ in range(2)]
            fine = their.get_mask(batch, 4 * side**2, device, MASK_RATIO, downsize_for_mae=True)
            return sum(model(*pictures.values(), *masks, fine, 0, 1))
    else:
        if "compiled" in name:
            model = copy.deepcopy(model)
            for layer in (m for m in model.modules() if isinstance(m, Layer)):
                layer.compile(dynamic=False)
        # 4 m and 2 m a pixel: tile pyramid levels 15 and 16 at mid latitude.
        gsd_m = {
            n: torch.full((batch,), 2.0 if n == "hires" else 4.0, device=device) for n in pictures
        }

        def losses() -> torch.Tensor:
            side, generator = LORES_PX // patch, torch.Generator().manual_seed(1)
            drawn = draw_masks(model.config, batch, rows=side, cols=side, generator=generator)
            masks = {n: Mask(m.keep.to(device), m.hidden.to(device)) for n, m in drawn.items()}
            views = [(Batch(pictures, gsd_m), masks)]
            outs = outputs(model, views, TRAINING["base"])
            return weighted_sum(losses_of(outs, TRAINING["base"]), TRAINING["base"])

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = losses()
        loss.backward()
        model.zero_grad(set_to_none=True)
        measure.finished(device)

    return step


@functools.cache
def build(is_released: bool, folder: Path | None, patch: int, device: str) -> torch.nn.Module:
    """One model a side serves both precisions; four would not fit a laptop.

    The released model keeps its tables of bias on the processor and copies them at every step; on
    a GPU they are put there once.
    """
    if not is_released:
        return build_model(config(patch), seed=0).train().to(device)
    patches = (LORES_PX // patch) ** 2
    model = measure.released(folder).ScaleAlibi(patch_size=patch, num_patches=patches)
    model.attn_bias = model.attn_bias.to(device)
    model.attn_bias_hires = model.attn_bias_hires.to(device)
    return model.train().to(device)


def config(patch: int) -> ModelConfig:
    """The paper's model at another patch size."""
    return replace(
        preset("base"), patch_px=patch, mask_ratio=MASK_RATIO, hires_mask_ratio=MASK_RATIO
    )


def step_gflop(patch: int) -> tuple[float, float]:
    """Multiplications and additions of one sample's step in units of 1e9, and attention's share.

    Matrix products of encoders and cross-encoders only; the backward pass counts twice the forward.
    """
    c = config(patch)
    coarse = int((LORES_PX // patch) ** 2 * (1 - c.mask_ratio))
    fine = 4 * coarse
    half = c.depth // 2
    linear = 24 * c.dim**2 * (half * coarse + c.depth * (coarse + fine))
    attention = 4 * c.dim * (half * coarse**2 + c.depth * (coarse**2 + fine**2))
    for keys in (coarse, fine):  # self-attention, cross-attention and feed-forward of a layer
        linear += half * c.dim**2 * (28 * coarse + 4 * keys)
        attention += half * 4 * c.dim * coarse * (coarse + keys)
    return 3 * (linear + attention) / 1e9, attention / (linear + attention)


def main() -> None:
    """Time all cases, then measure each one's memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    measure.options(parser, CASES)
    chosen = parser.parse_args()
    measure.same_allocator()
    torch.set_num_threads(chosen.threads)
    size = (chosen.released, chosen.patch, chosen.batch, chosen.device)
    if chosen.peak:
        step = case(chosen.peak, *size)
        print(json.dumps({"peak_mib": measure.peak_mib(step, chosen.device)}))
        return
    names = measure.at_hand(chosen)
    runs = {n: case(n, *size) for n in names}
    rows = measure.interleave(runs, chosen.rounds)
    table = measure.summary(rows, "released float32")
    sides = (f"--patch={chosen.patch}", f"--batch={chosen.batch}")
    table["peak_mib"] = table["case"].map(measure.peaks(__file__, runs, chosen, *sides))
    gflop, share = step_gflop(chosen.patch)
    found = measure.machine(chosen.device)
    limits = {"float32": float(found["float32_gflops"]), "bf16": float(found["bf16_gflops"])}
    table["gflops"] = chosen.batch * gflop / table["wall_s"]
    table["of_limit"] = [
        rate / limits[n.split()[-1]] for n, rate in zip(table["case"], table["gflops"], strict=True)
    ]
    plain = bool(os.environ.get("SALIB_PLAIN_ALLOCATOR"))
    own = "torch's" if chosen.device == "cuda" else "glibc, blocks kept"
    found["allocator"] = "glibc" if plain else own
    table = table.assign(patch=chosen.patch, batch=chosen.batch, attention_share=share, **found)
    path = measure.results(chosen, f"step_p{chosen.patch}")
    table.to_csv(path, index=False, float_format="%.4g")
    print(table.drop(columns=list(found)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
