"""Where a run can be watched from: TensorBoard and Weights & Biases, if they are installed."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def watcher(folder: str | Path | None, project: str | None) -> Callable[[dict], object] | None:
    """A function that is given each row of log.csv and passes it on; None if nobody looks.

    Args:
        folder: of TensorBoard's files.
        project: of Weights & Biases.

    Raises:
        ValueError: if the package is not installed.
    """
    receivers: list[Callable[[dict], Any]] = []
    if folder is not None:
        writer = _optional("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

        def show(row: dict) -> None:
            for name, value in row.items():
                writer.add_scalar(name.replace("valid_", "valid/"), value, row["step"])

        receivers.append(show)
    if project is not None:
        run = _optional("wandb", "wandb").init(project=project)
        receivers.append(lambda row: run.log(row, step=row["step"]))
    return (lambda row: [each(row) for each in receivers]) if receivers else None


def _optional(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{package} must be installed to log to it: pip install {package}"
        ) from error
