"""Pretrain the model that the package ships and what stands beside it; score them on real images.

    python benchmarks/pretrained.py laptop          # hours on two cores; resumes where it stopped
    python benchmarks/pretrained.py gpu             # fifteen minutes on a GPU with sixteen cores

profiles/<profile>.yml names the procedural world and the sizes of tasks; `ARMS` below says what is
trained, each a change of the preset `laptop`. Every run is a folder in runs/<profile>/models and is
not run twice. results/<profile> gets runs.csv (what each cost), rows.csv (EuroSAT's test chips:
each run, read-out and probe; valid.csv without --test), log.csv (the curve of the first run) and,
with --others, others.csv (UC Merced and procedural tasks).

SALIB_DATA_DIR holds EuroSAT_RGB.zip and, if at hand, UCMerced_LandUse.zip. Of each EuroSAT class,
in the order of the sha256 of the names, 200 chips are the bank, 100 are valid and all others test.
Without --test only valid is scored: a recipe is chosen by it, test is reported once.
"""

import argparse
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from measure import same_allocator

from earth.scenes.write import write_scenes
from earth.tasks.write import write_geobench
from exhibits.chips import chips_by_split
from exhibits.experiments.pretraining import slug
from salib import build_model, load_model
from salib.config import SENSORS
from salib.config.runs import read_run
from salib.curate.run import Engine, curate
from salib.evaluate import encoders_of, geobench_tasks
from salib.evaluate.columns import named_seed
from salib.evaluate.features import image_statistics, random_convolution
from salib.evaluate.probes.data import ProbeData, Setting, standardise
from salib.evaluate.probes.linear import linear
from salib.evaluate.probes.neighbours import votes
from salib.evaluate.protocol import Protocol
from salib.evaluate.run import evaluate
from salib.evaluate.scores.statistics import accuracy_interval
from salib.evaluate.tasks.class_folders import CHIP_ZIPS, ChipZip, members
from salib.evaluate.tasks.task import chip_task
from salib.files.artifact import atomic_file, file_digest, keep
from salib.files.images import resize_bands
from salib.model.precision import autocast, resolve_device, resolve_precision
from salib.model.store import WEIGHTS, save_model
from salib.training.data import Samples
from salib.training.train import pretrain

GSD_M, SIDE_PX, BANK, VALID = 10.0, 64, 200, 100
FEW = 400
"""Test chips of each class that the hires encoder is shown, whose images have four times as many
tokens."""
SIZES = {
    "small": ["dim=384", "depth=6", "heads=6", "slopes=[2, 1, 0.5, 0.25, 0.0625, 0.015625]"],
    "base": ["dim=768", "depth=12", "heads=16", "slopes=[]"],
}
EQ_6 = ["objective={contrastive: 1, reconstruction: 1}", "views=1"]
ALL = {"encoders": ["lores", "hires"], "others": True}
SHORT = 150
CHANGES: dict[str, tuple[float, list[str]]] = {
    "recipe": (1.0, []),
    "CROMA": (0.578, []),
    "crops anywhere in the tile": (1.0, ["ground_px=null"]),
    "Eq. (6) alone": (0.671, EQ_6),
    "views alone": (0.647, ["objective={views: 1}"]),
    "patches of 8 px": (0.841, ["patch_px=8", "mask_ratio=0.5", "hires_mask_ratio=0.875"]),
    "convolutional stem": (1.622, ["stem=conv"]),
    "ALiBi's slopes": (1.0, ["slopes=[]"]),
    "2D-ALiBi": (1.0, ["position=patches"]),
    "192 wide": (1.47, ["dim=192", "heads=6", "slopes=[1, 0.5, 0.25, 0.125, 0.0625, 0.015625]"]),
    "average of the weights": (1.0, ["ema=0.98"]),
}
"""One change of the recipe each: its CPU time per step, of the recipe's, and what is set."""
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "laptop": {
        "laptop": ALL,
        "croma": {"kind": "croma", "steps": 4325, "others": True},
        "paper": {"set": EQ_6, "steps": 3725},
        **{
            f"short: {name}": {
                "kind": "croma" if name == "CROMA" else None,
                "set": changes,
                "steps": round(SHORT / cost),
            }
            for name, (cost, changes) in CHANGES.items()
        },
    },
    "gpu": {
        "small": {"set": [*SIZES["small"], "batch=512"], "steps": 5000, **ALL},
        "base": {"set": [*SIZES["base"], "batch=512"], "steps": 30},
    },
}
"""By profile: the preset with changes (`set`), a kind, steps that are not the preset's; which
encoders are scored, and whether on other tasks too. Steps of an arm beside `laptop`, or beside
`short: recipe`, take as much CPU time as that one's."""
TASKS = ("m-pv4ger", "m-forestnet", "m-eurosat", "m-brick-kiln", "m-so2sat")
"""Procedural ones; the last has radar."""
PROTOCOL = Protocol(
    name="benchmark",
    standardise=True,
    knn_metric="cosine",
    match="hungarian",
    probes=("knn", "knn_weighted", "linear"),
)
SHRINK = 0.05
"""Of the mean variance, added to each before whitening divides by its root."""


def layout(most: int | None) -> ChipZip:
    """EuroSAT split into bank, valid, and of each class at most `most` to test."""
    end = None if most is None else BANK + VALID + most
    return CHIP_ZIPS["eurosat"]._replace(bounds=(0, BANK, BANK + VALID, end))


def chips(path: Path, most: int | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """EuroSAT's images and classes by split; of each class at most `most` to test."""
    return chips_by_split(path, layout(most))


def pack(path: Path, out: Path, most: int) -> None:
    """A smaller zip of the bank, valid and the first `most` test chips of each class."""
    with atomic_file(out) as part, zipfile.ZipFile(part, "w") as written:
        for classes in members(path, layout(most)).values():
            for one in (one for own in classes.values() for one in own):
                written.writestr(one.at, one.read_bytes())


def described(model, sensor: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of the tokens of each image, and what else may be read; hires sees twice the pixels."""
    side, device = images.shape[1] * SENSORS[sensor].factor, model.log_scale.device
    precision = resolve_precision("auto", device)
    if side != images.shape[1]:
        images = np.stack([resize_bands(image, side, cv2.INTER_CUBIC) for image in images])
    parts = []
    for start in range(0, len(images), 64):
        shown = torch.from_numpy(images[start : start + 64]).permute(0, 3, 1, 2)
        with torch.inference_mode(), autocast(precision, device):
            tokens = model.embed(shown, sensor, GSD_M * SIDE_PX / side, tokens=True).float()
        parts.append(torch.cat([tokens.mean(1), tokens.std(1)], dim=1).cpu().numpy())
    both = np.concatenate(parts)
    found = {"mean": both[:, : both.shape[1] // 2], "mean and deviation": both}
    if model.config.whiten:
        axes = model.whitening[sensor]
        back = torch.linalg.inv(axes.matrix.double()).float().cpu().numpy()
        found["mean before whitening"] = found["mean"] @ back + axes.mean.cpu().numpy()
    return found


def whitening(features: np.ndarray) -> np.ndarray:
    """A matrix after which these features have no correlation."""
    values, vectors = np.linalg.eigh(np.cov(features.T.astype(np.float64)))
    return (vectors / np.sqrt(values + SHRINK * values.mean())).astype(np.float32)


def scored(features: dict, labels: dict, split: str) -> Iterator[dict[str, Any]]:
    """Rows of one encoder: read-out, probe, accuracy with its interval, and of each class."""
    names, place = np.unique(labels["train"]), list(labels).index(split)
    numbers = {part: np.searchsorted(names, own) for part, own in labels.items()}
    bank, asked = numbers["train"], numbers[split]
    one_hot = np.eye(len(names), dtype=np.float32)[bank]

    def row(name: str, probe: str, scores: np.ndarray) -> dict[str, Any]:
        right = scores.argmax(1) == asked
        value, low, high = accuracy_interval(right)
        told = {"readout": name, "probe": probe, "split": split, "n": len(asked)}
        each = {f"of {name}": right[labels[split] == name].mean() for name in names}
        return told | {"value": value, "ci_low": low, "ci_high": high} | each

    read = {name: [part[name] for part in features.values()] for name in features["train"]}
    matrix = whitening(read["mean"][0])
    read["mean, whitened by the bank"] = [part @ matrix for part in read["mean"]]
    for name, parts in read.items():
        each = standardise(*parts)
        for probe, temperature in (("k-NN 20", None), ("k-NN 20, weighted", 0.07)):
            how = {"k": 20, "metric": "cosine", "temperature": temperature}
            yield row(name, probe, votes(each[0], one_hot, each[place], **how))
        if name == "mean":
            raw = votes(parts[0], one_hot, parts[place], k=5, metric="minkowski")
            yield row("mean, not standardised", "k-NN 5, L2", raw)
            given = ProbeData(
                train=each[0],
                train_labels=bank,
                valid=each[1],
                valid_labels=numbers["valid"],
                test=each[place],
                n_classes=len(names),
            )
            yield row(name, "linear", linear(given, Setting(PROTOCOL, 0)).scores)


def eurosat_rows(describe: Callable, splits: dict, split: str, stored: Path) -> pd.DataFrame:
    """Rows of what describes images; its features are kept in a file."""
    labels = {part: splits[part][1] for part in dict.fromkeys(("train", "valid", split))}
    if stored.is_file():
        held = np.load(stored)
        features = {part: {} for part in labels}
        for key in held:
            part, _, name = key.partition(" ")
            features[part][name] = held[key]
    else:
        features = {part: describe(splits[part][0]) for part in labels}
        flat = {f"{part} {name}": of for part, own in features.items() for name, of in own.items()}
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez(stored, **flat)
    return pd.DataFrame(scored(features, labels, split))


def random_filters(images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Random convolutions as the book's other tables have them."""
    return {"mean": random_convolution(images, named_seed(seed, "random convolution"))}


def patch_filters(images: np.ndarray, crops: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Convolutions whose filters are whitened patches of procedural images (Coates & Ng 2011)."""
    rng, side, count = np.random.default_rng(seed), 6, 512
    corners = rng.integers(0, crops.shape[1] - side, (20_000, 2))
    which = rng.integers(0, len(crops), len(corners))
    patches = np.stack(
        [crops[i, y : y + side, x : x + side] for i, (y, x) in zip(which, corners, strict=True)]
    )
    flat = patches.reshape(len(patches), -1).astype(np.float32) / 127.5 - 1
    middle, matrix = flat.mean(0), whitening(flat)
    chosen = (flat[:count] - middle) @ matrix
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True)
    weights = torch.from_numpy(chosen @ matrix.T).view(count, side, side, 3).permute(0, 3, 1, 2)
    offset = torch.from_numpy(-(chosen @ matrix.T) @ middle)
    means = np.empty((len(images), 2 * count), np.float32)
    for start in range(0, len(images), 16):
        shown = torch.from_numpy(images[start : start + 16]).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            found = torch.nn.functional.conv2d(shown, weights.contiguous(), offset, stride=2)
            positive = found.relu().mean((2, 3))
            both = torch.cat([positive, positive - found.mean((2, 3))], dim=1)
        means[start : start + 16] = both.numpy()
    return {"mean": means}


def others(folders: list[Path], work: Path, profile: dict, seed: int) -> pd.DataFrame:
    """UC Merced, and procedural tasks with the joint encodings, by the book's own evaluation."""
    sizes = {split: profile[f"task_{split}"] for split in ("train", "valid", "test")}
    how = {"tasks": TASKS, "processes": profile["processes"], **sizes}
    made = keep(work / "geobench", write_geobench, seed=profile["seed"], **how)
    tasks = geobench_tasks(made, procedural=True)
    merced = Path(os.environ["SALIB_DATA_DIR"]) / CHIP_ZIPS["ucmerced"].file
    tasks += [chip_task(merced, source="ucmerced")] if merced.is_file() else []
    how = {"protocol": PROTOCOL, "image_px": SIDE_PX, "precision": "auto", "seed": seed}
    return evaluate(encoders_of(folders, seed=seed), tasks, **how).assign(seed=seed)


def curated(work: Path, profile: dict) -> Path:
    """Tiles of the profile's procedural world."""
    world = {"seed": profile["seed"], "zoom": profile["zoom"], "tiles": profile["tiles_side"]}
    scenes = keep(work / "world", write_scenes, processes=profile["processes"], **world)
    how = {"zoom": profile["zoom"], "valid_share": profile["valid_share"]}
    engine = Engine(workers=profile["processes"])
    return curate(scenes / "catalog.json", work / "tiles", engine=engine, **how)


def cost_of(folder: Path) -> dict:
    """What a run took, and its last retrieval across sensors."""
    timing, log = json.loads((folder / "timing.json").read_text()), pd.read_csv(folder / "log.csv")
    told = log.ffill().iloc[-1].filter(regex="valid_(recall|chance|alignment|uniformity)")
    return {name: value for name, value in timing.items() if name != "attention"} | told.to_dict()


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole; rows of other arms and seeds that are there already stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and "arm" in table:
        held, keys = pd.read_csv(path), [name for name in ("arm", "seed") if name in table]
        new = set(map(str, table[keys].round(0).values.tolist()))
        table = pd.concat([held[[str(at) not in new for at in held[keys].values.tolist()]], table])
    with atomic_file(path) as part:
        table.to_csv(part, index=False, float_format="%.4f")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("profile", choices=ARMS)
    parser.add_argument("--arms", nargs="+", help="some of the profile's; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, help="of every run, to try the script")
    parser.add_argument("--train", action="store_true", help="pretrain only, score nothing")
    parser.add_argument("--test", action="store_true", help="score the test split, not valid")
    parser.add_argument("--most", type=int, help="test chips of each class; by default all")
    parser.add_argument("--others", action="store_true", help="UC Merced and procedural tasks too")
    parser.add_argument("--pack", type=Path, help="write a zip of the chips that --most leaves")
    parser.add_argument("--ship", type=Path, help="write the first run's weights in bfloat16")
    return parser.parse_args()


def runs_of(chosen: argparse.Namespace, work: Path, out: Path, tiles: Path) -> Iterator[tuple]:
    """Pretrain what is asked for and not there yet: arm, what it is, seed and folder."""
    for name in chosen.arms or ARMS[chosen.profile]:
        arm = ARMS[chosen.profile][name]
        asked = {"name": "laptop", "kind": arm.get("kind"), "texts": arm.get("set", [])}
        model, training, _ = read_run(changes={"steps": chosen.steps or arm.get("steps")}, **asked)
        for seed in chosen.seeds:
            folder = work / "models" / slug(f"{name} {seed}")
            pretrain(model, training, tiles=tiles, out=folder, seed=seed)
            write(out / "runs.csv", pd.DataFrame([{"arm": name, "seed": seed} | cost_of(folder)]))
            yield name, arm, seed, folder


def main() -> None:
    """Make the world, pretrain what is wanted, score it."""
    chosen = options()
    data = Path(os.environ["SALIB_DATA_DIR"]) / CHIP_ZIPS["eurosat"].file
    if chosen.pack:
        pack(data, chosen.pack, chosen.most or 1000)
        return
    same_allocator()
    profile = yaml.safe_load(Path(f"profiles/{chosen.profile}.yml").read_text())
    work, out = Path("runs") / chosen.profile, Path("results") / chosen.profile
    tiles, device = curated(work, profile), resolve_device("auto")
    runs = list(runs_of(chosen, work, out, tiles))
    log = pd.read_csv(runs[0][-1] / "log.csv")
    measured = log.filter(like="valid").notna().any(axis=1)
    if runs[0][:3] == (next(iter(ARMS[chosen.profile])), runs[0][1], 0):
        write(out / "log.csv", log[log.step.mod(10).eq(9) | measured])
    if chosen.ship:
        save_model(load_model(runs[0][-1]), chosen.ship, dtype=torch.bfloat16)
    if chosen.train:
        return
    splits, split = chips(data, chosen.most), "test" if chosen.test else "valid"
    few = chips(data, min(FEW, chosen.most or FEW))
    samples, middle = Samples(tiles, split="train"), slice(96, 160)
    crops = np.stack([samples.image(n, "lores")[middle, middle] for n in range(len(samples))])
    simple = {
        "image statistics": lambda images: {"mean": image_statistics(images)},
        "random convolutions": partial(random_filters, seed=profile["seed"]),
        "whitened procedural patches": partial(patch_filters, crops=crops, seed=profile["seed"]),
    }
    features = work / "features" / f"{split}-{len(splits[split][1])}"
    rows = [
        eurosat_rows(one, splits, split, features / f"{name}.npz").assign(arm=name)
        for name, one in simple.items()
    ]
    others_of = {}
    for name, arm, seed, folder in runs:
        trained = load_model(folder).to(device)
        seen = {sensor: (trained, sensor) for sensor in arm.get("encoders", ["lores"])}
        if arm.get("others"):
            others_of.setdefault(seed, []).append(folder)
            seen["untrained"] = (build_model(trained.config, seed).eval().to(device), "lores")
        for encoder, (one, sensor) in seen.items():
            stored = features / f"{file_digest(folder / WEIGHTS)[:12]}-{encoder}.npz"
            shown = few if SENSORS[sensor].factor > 1 else splits
            found = eurosat_rows(partial(described, one, sensor), shown, split, stored)
            rows.append(found.assign(arm=name, seed=seed, encoder=encoder))
    write(out / ("rows.csv" if chosen.test else "valid.csv"), pd.concat(rows))
    if chosen.others:
        each = [others(some, work, profile, seed) for seed, some in others_of.items()]
        write(out / "others.csv", pd.concat(each))


if __name__ == "__main__":
    main()
