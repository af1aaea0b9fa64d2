"""Scale-ALiBi: the library behind the paper that runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salib.config import PRESETS, SENSORS, TRAINING, ModelConfig, TrainConfig, preset
    from salib.model import build_model, load_croma, load_model
    from salib.rasters.arrays import pixels

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "SENSORS",
    "TRAINING",
    "ModelConfig",
    "TrainConfig",
    "build_model",
    "load_croma",
    "load_model",
    "pixels",
    "preset",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that what needs no model does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "salib.model" if name.startswith(("build_", "load_")) else "salib.config"
    module = "salib.rasters.arrays" if name == "pixels" else module
    return getattr(import_module(module), name)
