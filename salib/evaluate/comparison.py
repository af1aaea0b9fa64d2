"""Table 2 in one call: models and tasks by their paths, and the rows."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from salib.config import SENSORS, Precision
from salib.evaluate.columns import Candidate
from salib.evaluate.croma import PublishedCroma
from salib.evaluate.protocol import protocol_named
from salib.evaluate.run import evaluate
from salib.evaluate.tasks.task import Task, folder_task, geobench_tasks, real_tasks
from salib.files.artifact import (
    MADE_FROM,
    RECIPES,
    SOURCE,
    atomic_dir,
    check_replaceable,
    code_remark,
    file_digest,
    is_kept,
    source_digest,
    stamp,
)
from salib.model import build_model, load_croma, load_model
from salib.model.precision import resolve_device, resolve_precision

logger = logging.getLogger(__name__)
ROWS = "rows.csv"
MODEL_FILES = ("config.json", "model.safetensors")
PUBLISHED = "CROMA published"
NAMES = {
    "scale_alibi": {
        "hires": "SA-high",
        "lores": "SA-low",
        "radar": "SA-radar",
        "joint": "SA-joint",
    },
    "croma": {"lores": "CROMA", "radar": "CROMA-radar", "joint": "CROMA-joint"},
    PUBLISHED: {"s2": f"{PUBLISHED}, 12 bands", "lores": PUBLISHED},
}
"""Columns of each kind of model, by what they look through."""


def encoders_of(models: Sequence[str | Path], *, seed: int) -> dict[str, Candidate]:
    """The candidates that models give by their paths, each of them also untrained.

    A folder of Scale-ALiBi gives SA-high, SA-low and, where a task has radar, SA-radar and
    SA-joint, its three sensors together; one of CROMA gives CROMA, CROMA-radar and CROMA-joint; a
    file of CROMA's published weights gives "CROMA published", which sees red, green and blue
    alone, and "CROMA published, 12 bands" for tasks that have them. Of several models of one kind
    the later ones' columns bear their path.

    Raises:
        ValueError: if there is no model, or a path is not one.
    """
    if not models:
        raise ValueError("models must name at least one model folder, got none")
    candidates: dict[str, Candidate] = {}
    kinds: list[str] = []
    for path in dict.fromkeys(map(Path, models)):
        published = path.is_file()
        model = load_croma(path) if published else load_model(path)
        sensors = model.config.sensors
        kinds.append(PUBLISHED if published else model.config.kind)
        suffix = f" ({path})" if kinds[-1] in kinds[:-1] else ""
        for trained in (True, False):
            weights = model if trained else build_model(model.config, seed).eval()
            embedder = PublishedCroma(weights) if published else weights
            for sensor, name in _names(kinds[-1], sensors).items():
                candidates[name + suffix + ("" if trained else " untrained")] = Candidate(
                    model=embedder,
                    sensor=sensor,
                    upsample=SENSORS[sensor].factor if sensor in SENSORS else 1,
                    trained=trained,
                    sensors=sensors,
                )
    return candidates


def _names(kind: str, sensors: tuple[str, ...]) -> dict[str, str]:
    """Column by sensor; a kind without names of its own is spelled out."""
    return NAMES.get(kind) or {each: f"{each} ({kind})" for each in (*sensors[::-1], "joint")}


def find_tasks(
    names: str | Sequence[str] = "all",
    *,
    geobench: str | Path | None = None,
    procedural: bool = False,
    real: str | Path | None = None,
    images: str | Path | None = None,
    gsd_m: float | None = None,
) -> list[Task]:
    """Tasks at hand, all or those named: GEO-Bench's, EuroSAT and UC Merced, a folder of images.

    Args:
        names: "all", or names such as "m-eurosat" or "eurosat"; a folder of images is always one.
        geobench: folder with classification_v1.0/, segmentation_v1.0/ or both.
        procedural: whether its images were made by `earth`.
        real: folder with EuroSAT_RGB.zip or UCMerced_LandUse.zip.
        images: labelled folder of images (`folder_task`).
        gsd_m: metres per pixel of those images.

    Raises:
        ValueError: if a task named is not there, none is, or `images` comes without `gsd_m`.
    """
    tasks = geobench_tasks(geobench, procedural=procedural) if geobench else []
    tasks += real_tasks(real) if real else []
    if names != "all":
        wanted = [names] if isinstance(names, str) else names
        at_hand = {task.name: task for task in tasks}
        if missing := [name for name in wanted if name not in at_hand]:
            raise ValueError(
                f"tasks must be at hand, got {', '.join(missing)}, which are not: there are "
                f"{', '.join(at_hand) or 'none'}; `salib fetch geobench`, `eurosat` and `ucmerced` "
                "download them, GEO_BENCH_DIR and SALIB_DATA_DIR say where they are"
            )
        tasks = [at_hand[name] for name in wanted]
    if images is not None:
        if gsd_m is None:
            raise ValueError(f"gsd_m must say the metres per pixel of {images}, got none")
        tasks.append(folder_task(images, gsd_m=gsd_m))
    if not tasks:
        raise ValueError(
            "tasks must be available, got none: set GEO_BENCH_DIR or SALIB_DATA_DIR (`salib fetch`)"
        )
    return tasks


def compare(
    out: str | Path,
    *,
    scale_alibi: str | Path,
    croma: str | Path,
    image_px: int,
    seed: int,
    geobench: str | Path | None = None,
    procedural: bool = True,
    real: str | Path | None = None,
    protocol: str = "default",
    precision: Precision = "auto",
    device: str = "auto",
) -> pd.DataFrame:
    """Probe both models, each of them untrained, and the baselines on every task that is there.

    Tasks of a kind that the protocol does not know are left out: the paper has one class an image.
    Finished rows of the same models, tasks, protocol and recipe are kept and read back.

    Args:
        out: folder for rows.csv.
        scale_alibi: model folder.
        croma: model folder.
        image_px: side of a lores input; hires has twice as many.
        geobench: folder with classification_v1.0/.
        procedural: whether its images were made by `earth`.
        real: folder with EuroSAT_RGB.zip or UCMerced_LandUse.zip.
        protocol: "default", or "paper" (D15).
        precision: of the encoders, see `salib.evaluate.features.embed`.
        device: see `salib.evaluate.evaluate`.

    Raises:
        ValueError: if the protocol or device is unknown, no task is there, or a file is damaged.
    """
    out, chosen = Path(out), protocol_named(protocol)
    tasks = find_tasks(geobench=geobench, procedural=procedural, real=real)
    tasks = [task for task in tasks if task.kind in chosen.kinds]
    placed = resolve_device(device)
    options: dict[str, Any] = {"image_px": image_px, "seed": seed}
    options["precision"] = resolve_precision(precision, placed)
    models = [Path(scale_alibi), Path(croma)]
    key = options | {
        "models": [[file_digest(each / file) for file in MODEL_FILES] for each in models],
        "tasks": [_identity(task.path) for task in tasks],
        "procedural": procedural,
        "protocol": protocol,
        "recipe": RECIPES["evaluate"],
        SOURCE: source_digest("salib.evaluate"),
    }
    if not is_kept(out, key):
        check_replaceable(out, ROWS, MADE_FROM)
        candidates = encoders_of(models, seed=seed)
        with atomic_dir(out) as part:
            options |= {"protocol": chosen, "device": str(placed), "out": part / ROWS}
            evaluate(candidates, tasks, **options)
            stamp(part, key)
    elif remark := code_remark(out, key):
        logger.warning("kept: %s%s", out, remark)
    return pd.read_csv(out / ROWS)


def _identity(path: Path) -> list:
    """What tells one task's data from another without reading all of it."""
    made = path.parent.parent / MADE_FROM
    files = sorted(path.glob("*.json")) if path.is_dir() else []
    digests = [file_digest(file) for file in (*files, made) if file.is_file()]
    return [path.name, path.stat().st_size if path.is_file() else 0, *digests]
