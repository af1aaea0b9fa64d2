"""Sensors, frozen configurations and presets: the only place where sizes are written."""

from salib.config.models import KINDS, POSITIONS, BandStats, ModelConfig, plain_stats
from salib.config.presets import PRECISIONS, PRESETS, TRAINING, Precision, TrainConfig, preset
from salib.config.sensors import S2_BANDS, SENSOR_NAMES, SENSORS, TILE_PX, Sensor, check_sensors

__all__ = [
    "KINDS",
    "POSITIONS",
    "PRECISIONS",
    "PRESETS",
    "S2_BANDS",
    "SENSORS",
    "SENSOR_NAMES",
    "TILE_PX",
    "TRAINING",
    "BandStats",
    "ModelConfig",
    "Precision",
    "Sensor",
    "TrainConfig",
    "check_sensors",
    "plain_stats",
    "preset",
]
