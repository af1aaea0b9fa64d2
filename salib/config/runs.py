"""A run from names, a file and single values: presets, `run.yml`, `--set key=value`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from salib.config.models import SCHEMA, BandStats, ModelConfig
from salib.config.presets import TRAINING, TrainConfig, preset

PARTS = ("preset", "kind", "model", "train", "seed")
MODEL_FIELDS, TRAIN_FIELDS = (
    {field.name for field in fields(made)} for made in (ModelConfig, TrainConfig)
)


def read_run(
    path: str | Path | None = None,
    *,
    base: ModelConfig | None = None,
    name: str | None = None,
    kind: str | None = None,
    changes: Mapping[str, Any] | None = None,
    texts: Sequence[str] = (),
) -> tuple[ModelConfig, TrainConfig, int]:
    """Configuration of a model and of its training, and the seed.

    A preset is the beginning; then count the file, the changes and the texts, each over those
    before.

    Args:
        path: YAML with some of `preset`, `kind`, `model` (fields of ModelConfig), `train` (of
            TrainConfig) and `seed`, such as the run.yml of a model folder.
        base: configuration to begin with in place of the preset's.
        name: of the preset; by default the file's, or "base".
        kind: of the model; by default the file's, or "scale_alibi".
        changes: fields by name; those that are None do not count.
        texts: the same as "name=value", the value as in YAML.

    Raises:
        ValueError: if the file is damaged, a name is unknown (with the nearest one), or a value
            does not fit.
    """
    told = {} if path is None else _read(Path(path))
    begin = name or told.get("preset", "base")
    model = base or preset(begin, kind=kind or told.get("kind", "scale_alibi"))
    training, seed = TRAINING.get(begin, TRAINING["base"]), told.get("seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r} in {path}")
    for part, known in (("model", MODEL_FIELDS | {"schema"}), ("train", TRAIN_FIELDS)):
        values = dict(told.get(part) or {})
        _check_names(values, known, f"{part} of {path}")
        if values.pop("schema", SCHEMA) != SCHEMA:
            raise ValueError(
                f"schema of {path} must be {SCHEMA}: it is of another version of salib"
            )
        model, training = _changed(model, training, values)
    given = {field: value for field, value in (changes or {}).items() if value is not None}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE, got {text!r}")
        _check_names([field], MODEL_FIELDS | TRAIN_FIELDS, "--set")
        given[field] = _parsed(value, f"--set {field}")
    return *_changed(model, training, given), seed


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"config must be a YAML file, got no file {path}")
    told = _parsed(path.read_text(encoding="utf-8"), str(path))
    parts = [told.get(part) or {} for part in ("model", "train")] if isinstance(told, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{path} must hold {', '.join(PARTS)}, got other YAML")
    _check_names(told, {*PARTS}, str(path))
    return told


def _parsed(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{where} must be YAML, got {said}") from error


def _check_names(given: Any, known: set[str], where: str) -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ValueError(f"{where} must name known fields, got {name!r}: {hint}")


def _changed(
    model: ModelConfig, training: TrainConfig, values: dict[str, Any]
) -> tuple[ModelConfig, TrainConfig]:
    now = vars(model) | vars(training)
    values = {name: _as_is(value, now[name]) for name, value in values.items()}
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if values.get(one) is not None:
            values.setdefault(other, None)
    own = {name: value for name, value in values.items() if name in MODEL_FIELDS}
    rest = {name: value for name, value in values.items() if name not in own}
    try:
        if stats := own.get("band_stats"):
            parts = [(tuple(each["mean"]), tuple(each["std"])) for each in stats]
            own["band_stats"] = tuple(BandStats(mean=mean, std=std) for mean, std in parts)
        if slopes := own.get("slopes"):
            own["slopes"] = tuple(map(float, slopes))
        return replace(model, **own), replace(training, **rest)
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"values must be of their fields' types, got {shown}") from error


def _as_is(value: Any, now: Any) -> Any:
    """A value of YAML in the type of the present one: tuples for lists, 1.0 for 1."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if isinstance(now, float) and type(value) is int else value
