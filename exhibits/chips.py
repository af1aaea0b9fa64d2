"""Real chips to look at, where a data folder holds them."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from salib.evaluate.tasks.chip_zips import CHIP_ZIPS, ChipSource, chips, members
from salib.evaluate.tasks.task import geobench_task, iter_split

SAMPLES = Path("geobench_real/classification_v1.0/m-eurosat")


def chips_by_class(
    folder: str | Path, *, count: int, source: ChipSource = "eurosat"
) -> dict[str, UInt8[np.ndarray, "count height width 3"]]:
    """The first chips of each class of an archive, for pictures; empty if it is not there."""
    layout = CHIP_ZIPS[source]
    path = Path(folder) / layout.file
    if not path.is_file():
        return {}
    chosen = members(path)
    return {
        name: np.stack([image for image, _ in chips(path, [(m, 0) for m in found])])
        for name, found in ((name, found[:count]) for name, found in chosen.items())
    }


def missing_samples(folder: str | Path | None) -> str | None:
    """What is lacking of the real m-eurosat samples and how to get them, or None."""
    if folder and (Path(folder) / SAMPLES / "default_partition.json").is_file():
        return None
    return (
        f"real m-eurosat samples skipped: put {SAMPLES}/ (tests/data of "
        "github.com/ServiceNow/geo-bench-experiments) into the folder named by SALIB_DATA_DIR"
    )


def sample_pictures(folder: str | Path) -> dict[str, UInt8[np.ndarray, "height width 3"]]:
    """The five real m-eurosat samples of a data folder as an encoder gets them, by class name."""
    task = geobench_task(Path(folder) / SAMPLES, procedural=False)
    images = enumerate(iter_split(task, "test"), start=1)
    return {f"{n}. {task.class_names[label]}": image for n, (image, label) in images}
