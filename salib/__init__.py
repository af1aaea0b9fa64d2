"""Scale-ALiBi: the library behind the paper that runs."""

from salib.config import PRESETS, SENSORS, ModelConfig, TrainConfig, preset
from salib.model import build_model, load_croma, load_model

__version__ = "0.1.0"
__all__ = [
    "PRESETS",
    "SENSORS",
    "ModelConfig",
    "TrainConfig",
    "build_model",
    "load_croma",
    "load_model",
    "preset",
]
