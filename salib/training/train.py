"""The one pretraining loop, in one process or in several that `torchrun` starts."""

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import yaml

from salib.config import ModelConfig, TrainConfig
from salib.files.artifact import (
    MADE_FROM,
    RECIPES,
    SOURCE,
    atomic_dir,
    check_replaceable,
    code_remark,
    differences,
    file_digest,
    is_kept,
    made_from,
    only_writer,
    source_digest,
    stamp,
)
from salib.files.disk import beside
from salib.model import ScaleAlibi, build_model, load_model, save_model
from salib.model.precision import instructions, resolve_precision
from salib.model.store import CONFIG, WEIGHTS, model_files
from salib.training.checkpoint import (
    LOG,
    Checkpoint,
    clear_state,
    find_state,
    stop_signals,
)
from salib.training.data import Samples
from salib.training.loop import learn_all
from salib.training.ranks import (
    from_first_rank,
    join_ranks,
    rank_device,
)
from salib.training.step import Run, make_optimizer
from salib.training.validation import Validation
from salib.training.whiten import fit_whitening

TIMING, BEST, ASKED = "timing.json", "best", "run.yml"


def pretrain(
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    tiles: str | Path,
    out: str | Path,
    seed: int,
    init: str | Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    watch: Callable[[dict[str, float]], object] | None = None,
) -> Path:
    """Pretrain on curated tiles; a finished run of the same inputs is kept and returned at once.

    Called again, an interrupted run resumes from what it saved last: at most ten minutes are lost,
    and nothing after SIGTERM or SIGINT.

    The folder holds the model (see `salib.load_model`), log.csv (losses, rate and gradient by
    step), run.yml (what was asked for, as `salib pretrain --config` takes it) and timing.json (on
    what it ran, in which precision and how fast). While it runs, log.csv grows in the hidden folder
    beside it. Where the tiles have a validation split, losses and retrieval across sensors (see
    `training.validation.agreement`) on a fixed set of its samples are logged twenty times a run,
    after the step, and `best/` holds the model of the least sum of losses. The standardisation of
    the inputs is measured on the training samples. With the same seed, all models see the same
    samples, crops and masks. Under `torchrun` each rank takes its share.

    Samples may lack sensors: the contrast runs over the pairs that are there, fusion and
    reconstruction over the sensors that are there, and the model can then `embed` any of them
    together (`ModelConfig.partial`).

    Args:
        tiles: folder written by `curate`.
        out: model folder, written whole at the end by rank 0.
        init: model folder to start from, with its weights and standardisation.
        overwrite: replace a finished or unfinished run of other inputs in `out`.
        report: called with one line when a kept run is reused, or an interrupted one resumes.
        watch: called by rank 0 with what log.csv has of each step.

    Raises:
        ValueError: if the tiles cannot be read, `out` holds something else or a run of other
            inputs, a machine runs more ranks than it has GPUs, `init` holds another architecture,
            or the loss stops being finite.
        OSError: if another run writes to `out`, the disk has too little space, or another rank is
            lost; what was done is saved.
        StoppedRun: if SIGTERM or SIGINT stopped the run; it is a KeyboardInterrupt.
    """
    tiles, out = Path(tiles), Path(out)
    work = beside(out, ".unfinished")
    rank, ranks = join_ranks()
    device = rank_device()
    precision = resolve_precision(train_config.precision, device)
    ran_on = {"device": device.type, "precision": precision}

    def claim() -> tuple[dict, int, str] | None:
        key = {
            "model": model_config.to_json(),
            "train": train_config.to_json(),
            "init": init and file_digest(model_files(init)[1]),
            "seed": seed,
            "tiles": {path.name: file_digest(path) for path in sorted(tiles.glob("*.p[am]*"))},
            "recipe": RECIPES["pretrain"],
            SOURCE: source_digest("salib.training.train"),
        }
        if is_kept(out, key):
            same = f"kept: {out} was pretrained from the same data and configuration"
            report(same + code_remark(out, key))
            clear_state(work, key | ran_on)  # of a run killed at the very end
            return None
        _check_out(out, key, overwrite=overwrite)
        held.enter_context(only_writer(work))
        state = find_state(work, key | ran_on, overwrite=overwrite)
        if not state:
            return key, 0, ""
        return key, len(state["rows"]), code_remark(json.loads(state["key"]), key)

    with ExitStack() as held:
        claimed = from_first_rank(claim, rank, ranks)
        if claimed is None:
            return out
        key, done, remark = claimed
        samples = Samples(tiles, split="train", sensors=model_config.sensors)
        steps = train_config.steps_for(len(samples))
        run = Run(config=train_config, steps=steps, seed=seed, rank=rank, ranks=ranks)
        model = build_model(_fitted(model_config, train_config, samples), seed)
        model = (model if init is None else _started(model, init)).to(device)
        optimizer = make_optimizer(model, train_config)
        checkpoint = Checkpoint(work, key | ran_on, model, optimizer)
        if len(checkpoint.rows) != done:
            raise ValueError(
                f"ranks must resume from one step, got {len(checkpoint.rows)} on rank {rank} and "
                f"{done} on rank 0: put the model folder on a disk that all machines share"
            )
        if rank == 0:
            checkpoint.check_disk_space()
            if done:
                report(f"Resuming at step {done} of {steps}{remark}")
        validation = Validation.of(tiles, run, model)
        with stop_signals() as stops:
            learn_all(run, model, samples, validation, checkpoint, stops, watch)
            if rank == 0:
                with atomic_dir(out) as part:
                    _write(part, run, model, checkpoint, ran_on, samples)
                    asked = {"model": model_config.to_json(), "train": train_config.to_json()}
                    (part / ASKED).write_text(yaml.safe_dump(asked | {"seed": seed}))
                    stamp(part, key)
                shutil.rmtree(work, ignore_errors=True)  # NFS holds the lock a moment longer
    return out


def _fitted(config: ModelConfig, training: TrainConfig, samples: Samples) -> ModelConfig:
    """The configuration with what the samples tell: band statistics (D13), missing sensors."""
    absent = [name for name in config.sensors if name not in samples.sensors]
    if absent:
        raise ValueError(
            f"tiles must hold {', '.join(config.sensors)}, got {', '.join(samples.sensors)}: "
            "curate them with --sensors"
        )
    partial = not samples.complete or training.sensor_dropout > 0
    return replace(config, band_stats=samples.band_stats(config.sensors), partial=partial)


def _started(model: ScaleAlibi, init: str | Path) -> ScaleAlibi:
    """A model of the same architecture with the weights and standardisation of a stored one."""
    stored, config = load_model(init), model.config
    held = {name: tuple(value.shape) for name, value in stored.state_dict().items()}
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if held != wanted:
        differing = sorted(dict(held.items() ^ wanted.items()))[:3]
        raise ValueError(
            f"init must hold a model of the same architecture, got other weights in {init}: "
            f"{', '.join(differing)}; leave --preset out to take that of init"
        )
    started = build_model(replace(config, band_stats=stored.config.band_stats), 0)
    started.load_state_dict(stored.state_dict())
    return started


def _check_out(out: Path, key: dict, *, overwrite: bool) -> None:
    """Refuse to replace what is no model folder of ours, and a finished run unless told to."""
    names = (CONFIG, WEIGHTS, LOG, TIMING, BEST, ASKED, MADE_FROM)
    check_replaceable(out, *names, stamped=True)
    check_replaceable(out / BEST, CONFIG, WEIGHTS)
    made = made_from(out)
    if made and not overwrite:
        raise ValueError(
            f"out must not hold another finished model, got {out}, which differs in "
            f"{', '.join(differences(made, key))}: choose another folder, or give --overwrite "
            "(overwrite=True) to replace it"
        )


def _write(
    folder: Path,
    run: Run,
    model: ScaleAlibi,
    checkpoint: Checkpoint,
    ran_on: dict[str, str],
    samples: Samples,
) -> None:
    seconds = checkpoint.seconds
    for weights, path in ((checkpoint.average, folder), (checkpoint.best, folder / BEST)):
        if weights is not None:
            model.load_state_dict(weights)
        elif path != folder:
            continue
        if model.config.whiten:
            fit_whitening(model, samples, run)
        save_model(model, path)
    checkpoint.write_log(folder / LOG)
    timing = ran_on | {
        "instructions": instructions(rank_device()),
        "attention": sorted(model.attention_used),
        "steps": run.steps,
        "seconds": seconds,
        "images_per_second": run.steps * run.config.batch / seconds,
        "waiting": checkpoint.waited / seconds,
    }
    (folder / TIMING).write_text(json.dumps(timing) + "\n")
