"""A trained model as a folder: weights as safetensors, configuration as JSON, never a pickle."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from salib.bias import Distance
from salib.config import ModelConfig
from salib.files.artifact import atomic_file, read_json
from salib.model.fusion import ScaleAlibi, build_model

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: ScaleAlibi, folder: str | Path) -> Path:
    """Write model.safetensors, then config.json: a folder with a configuration is whole."""
    folder = Path(folder)
    weights = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    with atomic_file(folder / WEIGHTS) as part:
        save_file(weights, part)
    with atomic_file(folder / CONFIG) as part:
        part.write_text(json.dumps(model.config.to_json(), indent=1) + "\n")
    return folder


def model_files(folder: str | Path) -> tuple[Path, Path]:
    """Configuration and weights of a model folder.

    Raises:
        ValueError: if one is missing.
    """
    paths = Path(folder) / CONFIG, Path(folder) / WEIGHTS
    for path in paths:
        if not path.is_file():
            raise ValueError(
                f"model folder must hold {CONFIG} and {WEIGHTS}, got {folder} without {path.name}: "
                "write one with `salib pretrain`"
            )
    return paths


def load_model(folder: str | Path, *, position: Distance | None = None) -> ScaleAlibi:
    """Read a model folder, ready to embed.

    Args:
        folder: what `save_model` or `salib pretrain` wrote.
        position: the function of positions that the model was trained with, if it was with one.

    Raises:
        ValueError: if a file is missing or truncated, the folder was written in another layout, or
            `position` is not the function that it names.
    """
    config, values = model_files(folder)
    try:
        stored = ModelConfig.from_json(read_json(config), position=position)
        weights = load_file(values)
    except SafetensorError as error:
        raise ValueError(
            f"model folder must be whole, got {folder} with an unreadable file ({error}): "
            "copy it again or pretrain again"
        ) from error
    numbers = sum(value.numel() for value in weights.values())
    least = stored.depth * stored.dim**2 + stored.decoder_depth * stored.decoder_dim**2
    if max(least, stored.patch_px**2 * stored.dim) > numbers:  # before memory is taken for them
        raise ValueError(
            f"weights must fit {CONFIG}, got {numbers:,} numbers for {stored.depth} layers of "
            f"{stored.dim} dimensions and patches of {stored.patch_px} px in {folder}"
        )
    model = build_model(stored, seed=0)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        differing = sorted(dict(expected.items() ^ found.items()))[:3]
        raise ValueError(f"weights must fit {CONFIG}, got other names or shapes: {differing}")
    model.load_state_dict(weights)
    return model.eval()
