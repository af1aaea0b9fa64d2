"""Table 2 in one call: two model folders, the tasks at hand, the rows."""

from pathlib import Path

import pandas as pd

from salib.artifact import MADE_FROM, atomic_dir, file_digest, is_kept, source_digest, stamp
from salib.evaluate.columns import paper_encoders
from salib.evaluate.features import Precision, device_of, resolve_precision
from salib.evaluate.protocol import PROTOCOLS
from salib.evaluate.run import evaluate
from salib.evaluate.tasks import geobench_tasks, real_tasks
from salib.model import build_model, load_model

ROWS = "rows.csv"


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

    Table 2's probes give one class an image: multi-label and segmentation tasks are left out.

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
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {tuple(PROTOCOLS)}, got {protocol!r}")
    out = Path(out)
    found = geobench_tasks(geobench, procedural=procedural) if geobench else []
    tasks = [task for task in found if task.kind == "classification"]
    tasks += real_tasks(real) if real else []
    ours, theirs = load_model(scale_alibi), load_model(croma)
    precision = resolve_precision(precision, device_of(ours))
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
        encoders = paper_encoders(
            ours,
            theirs,
            untrained_scale_alibi=build_model(ours.config, seed).eval(),
            untrained_croma=build_model(theirs.config, seed).eval(),
        )
        with atomic_dir(out) as part:
            evaluate(
                encoders,
                tasks,
                protocol=PROTOCOLS[protocol],
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
