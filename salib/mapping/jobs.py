"""A window of a scene as a job: what is read, by which model, and where its vectors go."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from salib.files.artifact import atomic_file
from salib.mapping.raster import Raster
from salib.mapping.vectors import embed_window, model_of
from salib.mapping.windows import Stretch
from salib.model.precision import instructions


@dataclass(frozen=True, kw_only=True)
class Job:
    """One window: what is read, by which model it is embedded, where its vectors go.

    Attributes:
        views: the scene whose grid counts, and what is fused with it.
        gsd_m: metres of ground per pixel of that grid.
    """

    path: Path
    views: tuple[Raster, ...]
    model: str
    digest: str
    device: str
    precision: str
    patch_px: int
    rows: Stretch
    cols: Stretch
    gsd_m: float


def embed_job(job: Job) -> Path:
    """Embed one window and write its vectors, whole or not at all; note what computed them."""
    side, rows, cols = job.patch_px, job.rows, job.cols
    width, height = cols.length * side, rows.length * side
    views, gsd_m = {}, {}
    for view in job.views:
        sensor = view.sensor
        views[sensor] = view.read(cols.start * side, rows.start * side, width, height)
        gsd_m[sensor] = job.gsd_m * width / views[sensor][1].shape[1]
    model = model_of(job.model, job.digest, job.device)
    model.attention_used = used = set()
    with one_thread():
        vectors = embed_window(model, views, gsd_m, precision=job.precision)
    _note(job.path.parent.parent, used, instructions(model.log_scale.device))
    with atomic_file(job.path) as part, part.open("wb") as file:
        np.save(file, vectors)
    return job.path


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the order of a sum must not depend on the number of workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _note(folder: Path, attention: set[str], device: str) -> None:
    """Leave a file for each combination that has computed a window; there are few."""
    said = json.dumps({"attention": sorted(attention), "instructions": device})
    path = folder / f"{sha256(said.encode()).hexdigest()[:16]}.json"
    if attention and not path.is_file():
        with atomic_file(path) as part:
            part.write_text(said)


def what_ran(folder: Path) -> dict[str, str]:
    """Implementations of attention and instructions that computed the windows of a folder."""
    noted = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {
        "attention": ",".join(sorted({name for each in noted for name in each["attention"]})),
        "instructions": "; ".join(sorted({each["instructions"] for each in noted})),
    }
