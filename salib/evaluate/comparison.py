"""Models and tasks by their paths."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from salib.evaluate.columns import Candidate
from salib.evaluate.croma import PublishedCroma
from salib.evaluate.tasks.task import Task, folder_task, geobench_tasks, real_tasks
from salib.model import build_model, load_croma, load_model

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
"""Columns of each kind of model by sensor; those of any other kind are spelled out."""


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
        kind, sensors = (PUBLISHED if published else model.config.kind), model.config.sensors
        names = NAMES.get(kind) or {one: f"{one} ({kind})" for one in (*sensors[::-1], "joint")}
        suffix = f" ({path})" if kind in kinds else ""
        kinds.append(kind)
        for trained in (True, False):
            weights = model if trained else build_model(model.config, seed).eval()
            embedder = PublishedCroma(weights) if published else weights
            for sensor, name in names.items():
                candidates[name + suffix + ("" if trained else " untrained")] = Candidate(
                    model=embedder, sensor=sensor, trained=trained, sensors=sensors
                )
    return candidates


def find_tasks(
    names: str | Sequence[str] = "all",
    *,
    geobench: str | Path | None = None,
    procedural: bool = False,
    real: str | Path | None = None,
    images: str | Path | None = None,
    gsd_m: float | None = None,
    ignore_label: int | None = None,
    reading: Mapping[str, Any] | None = None,
) -> list[Task]:
    """Available tasks, all or those named: GEO-Bench's, EuroSAT and UC Merced, a folder of images.

    Args:
        names: "all", or names such as "m-eurosat" or "eurosat"; a folder of images is always one.
        geobench: folder with classification_v1.0/, segmentation_v1.0/ or both.
        procedural: whether its images were made by `earth`.
        real: folder with EuroSAT_RGB.zip or UCMerced_LandUse.zip.
        images: labelled folder of images (`folder_task`).
        gsd_m: metres per pixel of those images.
        ignore_label: value of GEO-Bench's masks that marks pixels without a label.
        reading: of that folder, what its files do not tell (`folder_task`).

    Raises:
        ValueError: if a task named is not there, none is, or `images` comes without `gsd_m`,
            or `reading` without `images`.
    """
    tasks = geobench_tasks(geobench, procedural=procedural, ignore=ignore_label) if geobench else []
    tasks += real_tasks(real) if real else []
    if names != "all":
        wanted = [names] if isinstance(names, str) else names
        at_hand = {task.name: task for task in tasks}
        if missing := [name for name in wanted if name not in at_hand]:
            raise ValueError(
                f"tasks must be available, got {', '.join(missing)}, which are not: there are "
                f"{', '.join(at_hand) or 'none'}; `salib fetch geobench`, `eurosat` and `ucmerced` "
                "download them, GEO_BENCH_DIR and SALIB_DATA_DIR say where they are"
            )
        tasks = [at_hand[name] for name in wanted]
    if reading and images is None:
        raise ValueError(f"{', '.join(reading)} must be given with images alone, got no images")
    if images is not None:
        if gsd_m is None:
            raise ValueError(f"gsd_m must say the metres per pixel of {images}, got none")
        tasks.append(folder_task(images, gsd_m=gsd_m, reading=reading))
    if not tasks:
        raise ValueError(
            "tasks must be available, got none: set GEO_BENCH_DIR or SALIB_DATA_DIR (`salib fetch`)"
        )
    return tasks
