"""Embedding whole images: ours in float32 and bfloat16 beside the released encoder, in one run.

    python benchmarks/embed.py --released ../scale-alibi
    python benchmarks/embed.py --released ../scale-alibi --device cuda

The base model's lores encoder on 256 px and its hires encoder on 512 px, at patches of 16 and 8 px.
Each timed call follows an untimed one: the steady state of embedding many images.
Time is interleaved; memory comes from a process for each case, on a GPU from torch's count of one
more call. Rows go to
results/performance/embed.csv, of a GPU to embed_cuda.csv; there the batches are larger.
"""

import argparse
import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import measure
import pandas as pd
import torch

from salib import build_model, preset
from salib.evaluate.features import embed

SENSORS = {"lores": (256, 4.0), "hires": (512, 2.0)}
BATCHES = {"cpu": {16: 4, 8: 1}, "cuda": {16: 64, 8: 8}}


def case(
    name: str, folder: Path | None, sensor: str, patch: int, batch: int, device: str
) -> Callable:
    """Embed one batch."""
    half = name.endswith("bf16")
    side, gsd_m = SENSORS[sensor]
    levels = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    model = build(name.startswith("released"), folder, patch, device)
    if not name.startswith("released"):
        pictures, gsds = levels.permute(0, 2, 3, 1).numpy(), torch.full((batch,), gsd_m).double()
        precision = "bf16" if half else "float32"
        look = {"sensor": sensor, "gsd_m": {sensor: gsds.numpy()}, "precision": precision}
        return lambda: embed(model, {sensor: pictures}, **look)
    encoder = model.hires_encoder if sensor == "hires" else model.optical_encoder
    bias = (model.attn_bias_hires if sensor == "hires" else model.attn_bias).to(device)

    def run() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
            encoder(imgs=levels.to(device).float(), attn_bias=bias).mean(dim=1).cpu()

    return run


@functools.cache
def build(is_released: bool, folder: Path | None, patch: int, device: str) -> torch.nn.Module:
    """One model a side and patch."""
    if not is_released:
        return build_model(replace(preset("base"), patch_px=patch), seed=0).eval().to(device)
    patches = (SENSORS["lores"][0] // patch) ** 2
    model = measure.released(folder).ScaleAlibi(patch_size=patch, num_patches=patches)
    return model.eval().to(device)


def main() -> None:
    """Time all cases, then measure each one's memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patch", type=int, nargs="+", default=[16, 8], choices=(16, 8))
    parser.add_argument("--sensor", nargs="+", default=list(SENSORS), choices=SENSORS)
    measure.options(parser)
    chosen = parser.parse_args()
    measure.same_allocator()
    torch.set_num_threads(chosen.threads)
    batches = BATCHES[chosen.device]
    if chosen.peak:
        (sensor,), (patch,) = chosen.sensor, chosen.patch
        run = case(chosen.peak, chosen.released, sensor, patch, batches[patch], chosen.device)
        print(json.dumps({"peak_mib": measure.peak_mib(run, chosen.device)}))
        return
    names = measure.at_hand(chosen)
    tables = []
    for patch in chosen.patch:
        for sensor in chosen.sensor:
            batch = batches[patch]
            print(f"{sensor}, patch {patch}, batch {batch}")
            size = (chosen.released, sensor, patch, batch, chosen.device)
            runs = {n: case(n, *size) for n in names}
            rows = measure.interleave(runs, chosen.rounds, warm=True)
            table = measure.summary(rows, "released float32")
            sides = (f"--patch={patch}", f"--sensor={sensor}")
            table["peak_mib"] = table["case"].map(measure.peaks(__file__, runs, chosen, *sides))
            table["images_a_cpu_s"] = batch / table["cpu_s"]
            table["images_a_s"] = batch / table["wall_s"]
            tables.append(table.assign(sensor=sensor, patch=patch, batch=batch))
    found = measure.machine(chosen.device)
    table = pd.concat(tables).assign(**found)
    table.to_csv(measure.results(chosen, "embed"), index=False, float_format="%.4g")
    print(table.drop(columns=list(found)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
