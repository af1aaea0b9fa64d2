"""A trained model as a folder: weights as safetensors, configuration as JSON, never a pickle.

The configuration holds the digest of the weights and its own, and both are checked on reading.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch import dtype as Dtype

from salib.bias import Distance
from salib.config import ModelConfig
from salib.files.artifact import atomic_file, file_digest, read_json
from salib.files.checksum import CHECKSUM, check_checksum, write_checksum
from salib.model.fusion import ScaleAlibi, build_model

CONFIG, WEIGHTS = "config.json", "model.safetensors"
DIGEST = "weights_sha256"
SHIPPED = Path(__file__).parents[1] / "weights"
"""Models that the package holds, each a folder with its card."""
LARGEST = 1e18
"""Of a weight: above, its square in float32 is near infinity."""


def save_model(model: ScaleAlibi, folder: str | Path, *, dtype: Dtype | None = None) -> Path:
    """Write model.safetensors, then config.json: a folder with a configuration is whole.

    Args:
        model: to write.
        folder: where to; made if absent.
        dtype: of the weights in the file, by default the model's. One that is loaded has float32.
    """
    folder = Path(folder)
    state = model.state_dict()
    weights = {name: value.detach().to(dtype).contiguous() for name, value in state.items()}
    with atomic_file(folder / WEIGHTS) as part:
        part.touch()
        mode = part.stat().st_mode  # which safetensors narrows to the owner
        save_file(weights, part)
        with suppress(OSError):  # of a disk that has no modes
            part.chmod(mode)
    with atomic_file(folder / CONFIG) as part:
        told = {DIGEST: file_digest(folder / WEIGHTS), **CHECKSUM}
        part.write_text(json.dumps(model.config.to_json() | told, indent=1) + "\n")
        write_checksum(part)
    return folder


def model_files(folder: str | Path) -> tuple[Path, Path]:
    """Configuration and weights of a model folder, or of a model that the package holds.

    Raises:
        ValueError: if one is missing.
    """
    if not Path(folder).exists() and str(folder) in shipped_models():
        folder = SHIPPED / folder
    paths = Path(folder) / CONFIG, Path(folder) / WEIGHTS
    for path in paths:
        if not path.is_file():
            raise ValueError(
                f"model folder must hold {CONFIG} and {WEIGHTS}, got {folder} without {path.name}: "
                f"write one with `salib pretrain`, or name {' or '.join(shipped_models())}"
            )
    return paths


def shipped_models() -> list[str]:
    """Names of the models that the package holds."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def load_model(folder: str | Path, *, position: Distance | None = None) -> ScaleAlibi:
    """Read a model, ready to embed.

    Args:
        folder: what `save_model` or `salib pretrain` wrote; or "laptop", the model that the package
            holds (its card is `salib/weights/laptop/README.md`).
        position: the function of positions that the model was trained with, if it was with one.

    Raises:
        ValueError: if a file is missing, truncated or changed since it was written, a weight is not
            finite, the folder was written in another layout, or `position` is not the function that
            it names.
    """
    config, values = model_files(folder)
    check_checksum(config)
    try:
        stored = read_json(config)
        told = {name: stored.pop(name, None) for name in (DIGEST, *CHECKSUM)}[DIGEST]
        if told not in (None, file_digest(values)):
            raise ValueError(f"{WEIGHTS} is another file than {CONFIG} was written with")
        weights = load_file(values)
    except (ValueError, SafetensorError) as error:
        raise ValueError(
            f"model folder must be whole, got {folder} with an unreadable file ({error}): "
            "copy it again or pretrain again"
        ) from error
    wanted = ModelConfig.from_json(stored, position=position)
    check_weights(weights, folder)
    _check_size(wanted, weights)
    model = build_model(wanted, seed=0)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    held = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != held:
        differing = sorted(dict(expected.items() ^ held.items()))[:3]
        raise ValueError(f"weights must fit {CONFIG}, got other names or shapes: {differing}")
    model.load_state_dict(weights)
    return model.eval()


def check_weights(weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuse weights from which only NaN or infinity can come.

    Raises:
        ValueError: if one is NaN, infinite, or so large that its square is.
    """
    for name, value in weights.items():
        if not bool((value.abs() < LARGEST).all()):
            raise ValueError(
                f"weights must be finite and below {LARGEST:g}, got NaN, infinity or more in "
                f"{name} of {source}: copy it again or pretrain again"
            )


def _check_size(config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse, before a model is built, sizes that so many weights cannot fill."""
    layers, width = max(config.depth, config.decoder_depth), max(config.dim, config.decoder_dim)
    widest = max((max(value.shape, default=1) for value in weights.values()), default=0)
    if layers > len(weights) or width > widest or config.patch_px**2 > widest**2:
        raise ValueError(
            f"weights must fit {CONFIG}, got {len(weights)} of up to {widest} rows for {layers} "
            f"layers {width} wide of {config.patch_px} px patches"
        )
