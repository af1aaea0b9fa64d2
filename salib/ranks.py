"""The processes of one run: which rank this is, on which device, and what they agree on."""

import os

import torch
from torch import Tensor


def join_ranks() -> tuple[int, int]:
    """Number of this process and of all that `torchrun` started; 0 of 1 without it."""
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    if ranks == 1:
        return 0, 1
    if not torch.distributed.is_initialized():
        device = own_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), ranks


def own_device() -> torch.device:
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


def mean_over_ranks(values: Tensor, ranks: int) -> Tensor:
    """The mean of what each rank holds; overwrites `values`."""
    if ranks > 1:
        torch.distributed.all_reduce(values)
    return values / ranks


def check_same_step(step: int, ranks: int) -> None:
    """See that all ranks go on from one state, which rank 0 saved where all can read it.

    Raises:
        ValueError: if another rank begins at another step.
    """
    mean = mean_over_ranks(
        torch.tensor(step, dtype=torch.float64, device=own_device()), ranks
    ).item()
    if mean != step:
        raise ValueError(
            f"ranks must go on from one step, got {step} here and {mean:g} on average: put the "
            "model folder on a disk that all machines share, or begin in another folder"
        )
