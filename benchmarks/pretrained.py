"""Pretrain the model that the package ships and what stands beside it; score them on real images.

    python benchmarks/pretrained.py laptop          # hours on two cores; resumes where it stopped
    python benchmarks/pretrained.py gpu             # fifteen minutes on a GPU with sixteen cores

profiles/<profile>.yml names the procedural world, the recipe, the arms beside it, their steps and
the seeds. Every run is a folder in runs/<profile>/models and is not run twice. results/<profile>
gets runs.csv (what each cost), rows.csv (EuroSAT: each run, read-out and probe) and, with --others,
others.csv (UC Merced and procedural tasks).

SALIB_DATA_DIR holds EuroSAT_RGB.zip and, if at hand, UCMerced_LandUse.zip. Of each EuroSAT class,
in the order of the sha256 of the names, 200 chips are the bank, 100 are valid and all others test.
Without --test only valid is scored: a recipe is chosen by it, test is reported once.
"""

import argparse
import json
import os
import zipfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from measure import same_allocator

from earth.scenes.write import write_scenes
from earth.tasks.write import write_geobench
from salib import build_model, load_model
from salib.config import SENSORS
from salib.config.runs import read_run
from salib.curate.run import Engine, curate
from salib.evaluate import encoders_of, geobench_tasks, real_tasks
from salib.evaluate.columns import named_seed
from salib.evaluate.features import image_statistics, random_convolution
from salib.evaluate.probes.data import ProbeData, Setting, standardise
from salib.evaluate.probes.linear import linear
from salib.evaluate.probes.neighbours import votes
from salib.evaluate.protocol import Protocol
from salib.evaluate.run import evaluate
from salib.evaluate.scores.statistics import accuracy_interval
from salib.evaluate.tasks.class_folders import CHIP_ZIPS, members, read_rgb
from salib.files.artifact import atomic_file, keep
from salib.files.images import resize_bands
from salib.model.precision import autocast, resolve_device, resolve_precision
from salib.model.store import save_model
from salib.training.data import Samples
from salib.training.train import pretrain

GSD_M, SIDE_PX, BANK, VALID = 10.0, 64, 200, 100
PROTOCOL = Protocol(
    name="benchmark",
    standardise=True,
    knn_metric="cosine",
    match="hungarian",
    probes=("knn", "knn_weighted", "linear"),
)
SHRINK = 0.05
"""Of the mean variance, added to each before whitening divides by its root."""


def chips(path: Path, most: int | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """EuroSAT's images and labels by split; of each class at most `most` to test."""
    end = None if most is None else BANK + VALID + most
    layout = CHIP_ZIPS["eurosat"]._replace(bounds=(0, BANK, BANK + VALID, end))
    found = {}
    for split, classes in members(path, layout).items():
        images = [
            (read_rgb(one), number) for number, own in enumerate(classes.values()) for one in own
        ]
        pixels, labels = zip(*images, strict=True)
        found[split] = np.stack(pixels), np.array(labels)
    return found


def pack(path: Path, out: Path, most: int) -> None:
    """A smaller zip of the bank, valid and the first `most` test chips of each class."""
    layout = CHIP_ZIPS["eurosat"]._replace(bounds=(0, BANK, BANK + VALID, BANK + VALID + most))
    with atomic_file(out) as part, zipfile.ZipFile(part, "w") as written:
        for classes in members(path, layout).values():
            for one in (one for own in classes.values() for one in own):
                written.writestr(one.at, one.read_bytes())


def described(model, sensor: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of the tokens of each image, and mean with deviation; hires sees twice the pixels."""
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
    return {"mean": both[:, : both.shape[1] // 2], "mean and deviation": both}


def whitening(features: np.ndarray) -> np.ndarray:
    """A matrix after which these features have no correlation."""
    values, vectors = np.linalg.eigh(np.cov(features.T.astype(np.float64)))
    return (vectors / np.sqrt(values + SHRINK * values.mean())).astype(np.float32)


def readouts(features: dict[str, dict[str, np.ndarray]], ours: np.ndarray | None):
    """Features by read-out, (bank, valid, test) each; `ours` are those of procedural images."""
    for name in features["train"]:
        yield name, [split[name] for split in features.values()]
    mean = [split["mean"] for split in features.values()]
    for name, seen in (("whitened by the bank", mean[0]), ("whitened by procedural images", ours)):
        if seen is not None:
            yield name, [part @ whitening(seen) for part in mean]


def scored(features, labels, ours, split: str):
    """Rows of one encoder: read-out, probe, accuracy and its interval on a split."""
    bank, asked = labels["train"], labels[split]
    one_hot, place = np.eye(10, dtype=np.float32)[bank], list(labels).index(split)

    def row(name, probe, classes):
        value, low, high = accuracy_interval(classes == asked)
        shares = [float((classes == asked)[asked == number].mean()) for number in range(10)]
        told = {"readout": name, "probe": probe, "split": split, "n": len(asked)}
        each = {f"class_{number}": share for number, share in enumerate(shares)}
        return told | {"value": value, "ci_low": low, "ci_high": high} | each

    for name, parts in readouts(features, ours):
        train, valid, shown = *standardise(*parts)[:2], standardise(*parts)[place]
        for probe, temperature in (("k-NN 20", None), ("k-NN 20, weighted", 0.07)):
            given = votes(train, one_hot, shown, k=20, metric="cosine", temperature=temperature)
            yield row(name, probe, given.argmax(1))
        if name == "mean":
            raw = votes(parts[0], one_hot, parts[place], k=5, metric="minkowski")
            yield row("raw", "k-NN 5, L2", raw.argmax(1))
            given = ProbeData(
                train=train,
                train_labels=bank,
                valid=valid,
                valid_labels=labels["valid"],
                test=shown,
                n_classes=10,
            )
            yield row(name, "linear", linear(given, Setting(PROTOCOL, 0)).classes)


def eurosat_rows(name: str, describe, splits, crops, split: str) -> pd.DataFrame:
    """Rows of whatever describes images."""
    wanted = ("train", "valid", split)
    features = {part: describe(splits[part][0]) for part in dict.fromkeys(wanted)}
    labels = {part: splits[part][1] for part in features}
    ours = None if crops is None else describe(crops)["mean"]
    return pd.DataFrame(scored(features, labels, ours, split)).assign(arm=name)


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
    parts = []
    for start in range(0, len(images), 64):
        shown = torch.from_numpy(images[start : start + 64]).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = torch.nn.functional.conv2d(shown, weights.contiguous(), offset, stride=2)
        parts.append(torch.cat([found.relu(), (-found).relu()], dim=1).mean((2, 3)).numpy())
    return {"mean": np.concatenate(parts)}


def others(folders: list[Path], work: Path, profile: dict, seed: int) -> pd.DataFrame:
    """UC Merced, and procedural tasks with the joint encodings, by the book's own evaluation."""
    sizes = {split: profile[f"task_{split}"] for split in ("train", "valid", "test")}
    made = keep(work / "geobench", write_geobench, seed=0, processes=profile["processes"], **sizes)
    tasks = geobench_tasks(made, procedural=True)
    tasks += [task for task in real_tasks(os.environ["SALIB_DATA_DIR"]) if task.name != "eurosat"]
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
    """Write a table whole; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        table.to_csv(part, index=False, float_format="%.4f")


def options() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("profile", help="laptop or gpu")
    parser.add_argument("--arms", nargs="+", help="some of the profile's; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, help="by default the profile's")
    parser.add_argument("--steps", type=int, help="of every run, to try the script")
    parser.add_argument("--test", action="store_true", help="score the test split, not valid")
    parser.add_argument("--most", type=int, help="test chips of each class; by default all")
    parser.add_argument("--others", action="store_true", help="UC Merced and procedural tasks too")
    parser.add_argument("--pack", type=Path, help="write a zip of the chips that --most leaves")
    parser.add_argument("--ship", type=Path, help="write the first run's weights in bfloat16")
    return parser.parse_args()


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
    splits, split = chips(data, chosen.most), "test" if chosen.test else "valid"
    samples = Samples(tiles, split="train")
    middle = slice(96, 160)
    crops = np.stack([samples.image(n, "lores")[middle, middle] for n in range(len(samples))])
    simple = {
        "image statistics": lambda images: {"mean": image_statistics(images)},
        "random convolutions": partial(random_filters, seed=profile["seed"]),
        "whitened procedural patches": partial(patch_filters, crops=crops, seed=profile["seed"]),
    }
    rows = [eurosat_rows(name, one, splits, None, split) for name, one in simple.items()]
    costs, folders = [], {}
    for name in chosen.arms or profile["arms"]:
        arm = profile["arms"][name]
        model, training, _ = read_run(
            name=arm.get("preset", profile["preset_name"]),
            kind=arm.get("kind"),
            changes={"steps": chosen.steps or arm.get("steps")},
            texts=arm.get("set", []),
        )
        for seed in chosen.seeds or profile["seeds"]:
            how = {"tiles": tiles, "out": work / "models" / f"{name}-{seed}", "seed": seed}
            folder = pretrain(model, training, **how)
            costs.append({"arm": name, "seed": seed} | cost_of(folder))
            trained = load_model(folder).to(device)
            seen = {sensor: (trained, sensor) for sensor in arm.get("encoders", ["lores"])}
            if arm.get("others"):
                folders.setdefault(seed, []).append(folder)
                seen["untrained"] = (build_model(trained.config, seed).eval().to(device), "lores")
            for encoder, (one, sensor) in seen.items():
                found = eurosat_rows(name, partial(described, one, sensor), splits, crops, split)
                rows.append(found.assign(seed=seed, encoder=encoder))
    write(out / "runs.csv", pd.DataFrame(costs))
    write(out / "rows.csv", pd.concat(rows))
    if chosen.others:
        each = [others(some, work, profile, seed) for seed, some in folders.items()]
        write(out / "others.csv", pd.concat(each))
    if chosen.ship:
        save_model(load_model(folders[profile["seed"]][0]), chosen.ship, dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
