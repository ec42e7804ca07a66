"""The processes of a training: what torch.distributed says where it is initialised; alone, one process."""

from typing import Any

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes; 1 where torch.distributed is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Rank of this process; 0 alone."""
    return dist.get_rank() if world_size() > 1 else 0


def all_gather(value: Any) -> list[Any]:
    """The value of every process, in the order of their ranks; alone, a list of one."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum over the processes, in place."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value
