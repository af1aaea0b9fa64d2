"""Table 2 in one call: rows that are kept while models and tasks stay the same."""

import logging
from pathlib import Path

import pandas as pd

from salib.evaluate.comparison import encoders_of, find_tasks
from salib.evaluate.run import evaluate
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
from salib.model.precision import resolve_device, resolve_precision

logger = logging.getLogger(__name__)
ROWS = "rows.csv"
MODEL_FILES = ("config.json", "model.safetensors")


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
) -> pd.DataFrame:
    """Probe both models, each of them untrained, and the baselines on every task that is there.

    Finished rows of the same models, tasks and recipe are kept and read back.

    Args:
        out: folder for rows.csv.
        scale_alibi: model folder.
        croma: model folder.
        image_px: side of a lores input; hires has twice as many.
        geobench: folder with classification_v1.0/.
        procedural: whether its images were made by `earth`.
        real: folder with EuroSAT_RGB.zip or UCMerced_LandUse.zip.

    Raises:
        ValueError: if no task is there, or a file is damaged.
    """
    out, models = Path(out), [Path(scale_alibi), Path(croma)]
    tasks = find_tasks(geobench=geobench, procedural=procedural, real=real)
    precision = resolve_precision("auto", resolve_device("auto"))
    options = {"image_px": image_px, "seed": seed, "precision": precision}
    key = options | {
        "models": [[file_digest(each / file) for file in MODEL_FILES] for each in models],
        "tasks": [_identity(task.path) for task in tasks],
        "procedural": procedural,
        "recipe": RECIPES["evaluate"],
        SOURCE: source_digest("salib.evaluate"),
    }
    if not is_kept(out, key):
        check_replaceable(out, ROWS, MADE_FROM, stamped=True)
        candidates = encoders_of(models, seed=seed)
        with atomic_dir(out) as part:
            evaluate(candidates, tasks, out=part / ROWS, **options)
            stamp(part, key)
    elif remark := code_remark(out, key):
        logger.warning("kept: %s%s", out, remark)
    return pd.read_csv(out / ROWS)


def _identity(path: Path) -> list:
    """Name, size and digests that identify a task's data without reading all of it."""
    made = path.parent.parent / MADE_FROM
    files = sorted(path.glob("*.json")) if path.is_dir() else []
    digests = [file_digest(file) for file in (*files, made) if file.is_file()]
    return [path.name, path.stat().st_size if path.is_file() else 0, *digests]
