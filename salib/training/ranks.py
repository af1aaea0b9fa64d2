"""The processes of one run: which rank this is, on which device, and what they agree on."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=2)
"""For another rank: the first one hashes the archives before all begin."""


def join_ranks() -> tuple[int, int]:
    """Number of this process and of all that `torchrun` started; 0 of 1 without it.

    Raises:
        OSError: if the address where ranks meet is taken, or cannot be reached.
    """
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    if ranks == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        device = rank_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        try:
            torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT)
        except torch.distributed.DistNetworkError as error:
            where = ":".join(os.environ.get(f"MASTER_{part}", "?") for part in ("ADDR", "PORT"))
            raise OSError(
                f"Could not meet the other ranks at {where} ({str(error).splitlines()[0]}): start "
                "torchrun with --standalone, or with another --master-port"
            ) from error
    return torch.distributed.get_rank(), ranks


def rank_device() -> torch.device:
    """The GPU of this rank, or the processor.

    Raises:
        ValueError: if the machine runs more ranks than it has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    rank, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if rank >= gpus:
        raise ValueError(
            f"ranks of a machine must not exceed its GPUs, got LOCAL_RANK={rank} and {gpus}: "
            f"start torchrun with --nproc-per-node={gpus}"
        )
    return torch.device("cuda", rank)


def drawing_threads(device: torch.device) -> int:
    """Threads that draw batches: a GPU takes several a second, a processor needs its cores.

    Each holds a batch on the device, 150 MB for 32 samples at the paper's size.
    """
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(8, (os.cpu_count() or 1) // ranks_here)) if device.type == "cuda" else 1


def from_first_rank(make: Callable[[], T], rank: int, ranks: int) -> T:
    """What rank 0 makes, on every rank; a wrong input that it meets is raised on every rank."""
    if ranks == 1:
        return make()
    made: list = [None]
    if rank == 0:
        try:
            made = [make()]
        except (ValueError, OSError) as error:
            made = [error]
    torch.distributed.broadcast_object_list(made)
    if isinstance(made[0], Exception):
        raise made[0]
    return made[0]


def average_gradients(model: nn.Module, told: Tensor, ranks: int) -> Tensor:
    """Give every rank the mean gradient of all, and return the mean of what each tells.

    The gradient of weights that no sample of a rank used is 0. There is one exchange: after it
    every rank takes the same step, or, if another is lost, none does.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    if ranks > 1:
        parts = [*(weight.grad for weight in weights if weight.grad is not None), told]
        whole = parameters_to_vector(parts)
        torch.distributed.all_reduce(whole)
        vector_to_parameters(whole / ranks, parts)
    return told


def mean_over_ranks(values: Tensor, ranks: int) -> Tensor:
    """The mean of what each rank holds; overwrites `values`."""
    if ranks > 1:
        torch.distributed.all_reduce(values)
    return values / ranks
