"""Table 2 in one call: models and tasks by their paths, and the rows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from salib.artifact import (
    MADE_FROM,
    atomic_dir,
    check_replaceable,
    file_digest,
    is_kept,
    source_digest,
    stamp,
)
from salib.config import Precision
from salib.evaluate.columns import Encoder
from salib.evaluate.features import device_of
from salib.evaluate.protocol import protocol_named
from salib.evaluate.published import PublishedCroma
from salib.evaluate.run import evaluate
from salib.evaluate.tasks import Task, folder_task, geobench_tasks, real_tasks
from salib.model import build_model, load_croma, load_model
from salib.precision import resolve_precision

ROWS = "rows.csv"
PUBLISHED = "CROMA published"


def encoders_of(models: Sequence[str | Path], *, seed: int) -> dict[str, Encoder]:
    """The columns of models by their paths, each of them also untrained.

    A folder of Scale-ALiBi gives SA-high, SA-low and, where a task has radar, SA-radar; one of
    CROMA gives CROMA and CROMA-radar; a file of CROMA's published weights gives "CROMA published".
    Of several models of one kind the later ones' columns bear their path.

    Raises:
        ValueError: if there is no model, or a path is not one.
    """
    if not models:
        raise ValueError("models must name at least one model folder, got none")
    paths = list(dict.fromkeys(map(Path, models)))
    columns: dict[str, Encoder] = {}
    seen: Counter[str] = Counter()
    loaded = {path: load_croma(path) if path.is_file() else load_model(path) for path in paths}
    measured = [model for path, model in loaded.items() if model.config.levels and path.is_dir()]
    colours = measured[0].config.sensor_levels["lores"] if measured else None
    for path, model in loaded.items():
        untrained = build_model(model.config, seed).eval()
        kind = PUBLISHED if path.is_file() else model.config.kind
        named = f" ({path})" if seen[kind] else ""
        seen[kind] += 1
        for trained, own in ((True, model), (False, untrained)):
            suffix = named + ("" if trained else " untrained")
            for name, look in _looks(kind).items():
                seeing = PublishedCroma(own, colours) if path.is_file() else own
                columns[name + suffix] = Encoder(model=seeing, trained=trained, **look)
    return columns


def _looks(kind: str) -> dict[str, dict[str, Any]]:
    low, radar = {"sensor": "lores"}, {"sensor": "radar"}
    if kind == PUBLISHED:
        return {PUBLISHED: low}
    if kind == "croma":
        return {"CROMA": low, "CROMA-radar": radar}
    return {"SA-high": {"sensor": "hires", "zoom": 2}, "SA-low": low, "SA-radar": radar}


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
        procedural: whether its images were made by `salib.world`.
        real: folder with EuroSAT_RGB.zip or UCMerced_LandUse.zip.
        images: labelled folder of images (`folder_task`).
        gsd_m: metres a pixel of those images.

    Raises:
        ValueError: if a task named is not there, none is, or `images` comes without `gsd_m`.
    """
    found = geobench_tasks(geobench, procedural=procedural) if geobench else []
    found += real_tasks(real) if real else []
    if names != "all":
        wanted = [names] if isinstance(names, str) else list(names)
        at_hand = {task.name: task for task in found}
        if missing := [name for name in wanted if name not in at_hand]:
            raise ValueError(
                f"tasks must be at hand, got {', '.join(missing)}, which are not: there are "
                f"{', '.join(at_hand) or 'none'}; `salib fetch geobench`, `eurosat` and `ucmerced` "
                "bring them, GEO_BENCH_DIR and SALIB_DATA_DIR say where they are"
            )
        found = [at_hand[name] for name in wanted]
    if images is not None:
        if gsd_m is None:
            raise ValueError(f"gsd_m must say how many metres a pixel of {images} is, got none")
        found.append(folder_task(images, gsd_m=gsd_m))
    if not found:
        raise ValueError(
            "tasks must be at hand, got none: set GEO_BENCH_DIR or SALIB_DATA_DIR (`salib fetch`)"
        )
    return found


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
) -> pd.DataFrame:
    """Probe both models, each of them untrained, and the baselines on every task that is there.

    Tasks of a kind that the protocol does not know are left out: the paper has one class an image.
    Finished rows of the same models, tasks, protocol and code are kept and read back.

    Args:
        out: folder for rows.csv.
        scale_alibi: model folder.
        croma: model folder.
        image_px: side of a lores input; hires has twice as many.
        geobench: folder with classification_v1.0/.
        procedural: whether its images were made by `salib.world`.
        real: folder with EuroSAT_RGB.zip or UCMerced_LandUse.zip.
        protocol: "default", or "paper" (D15).
        precision: of the encoders, see `salib.evaluate.features.embed`.

    Raises:
        ValueError: if the protocol is unknown, no task is there, or a file is damaged.
    """
    chosen = protocol_named(protocol)
    out = Path(out)
    found = find_tasks(geobench=geobench, procedural=procedural, real=real)
    tasks = [task for task in found if task.kind in chosen.kinds]
    encoders = encoders_of([scale_alibi, croma], seed=seed)
    precision = resolve_precision(precision, device_of(encoders["SA-low"].model))
    key = {
        "models": [_digests(Path(path)) for path in (scale_alibi, croma)],
        "tasks": [_identity(task.path) for task in tasks],
        "image_px": image_px,
        "seed": seed,
        "procedural": procedural,
        "protocol": protocol,
        "precision": precision,
        "source": source_digest("salib.evaluate"),
    }
    if not is_kept(out, key):
        check_replaceable(out, ROWS, MADE_FROM)
        with atomic_dir(out) as part:
            evaluate(
                encoders,
                tasks,
                protocol=chosen,
                image_px=image_px,
                seed=seed,
                precision=precision,
                out=part / ROWS,
            )
            stamp(part, key)
    return pd.read_csv(out / ROWS)


def _digests(model: Path) -> list[str]:
    return [file_digest(model / name) for name in ("config.json", "model.safetensors")]


def _identity(path: Path) -> list:
    """What tells one task's data from another without reading all of it."""
    made = path.parent.parent / MADE_FROM
    files = sorted(path.glob("*.json")) if path.is_dir() else []
    digests = [file_digest(file) for file in (*files, made) if file.is_file()]
    return [path.name, path.stat().st_size if path.is_file() else 0, *digests]
