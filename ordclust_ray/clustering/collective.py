"""The in-training engine: the workers of a training run are the mappers, each on its own shard, where it is."""

from typing import Any

import torch
import torch.distributed as dist

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.core.shard import Candidates, ClusterSums, Shard


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


class CollectiveEngine(ShardedEngine):
    """Clusters over torch.distributed, or alone where that is not initialised.

    Every worker makes the same calls in the same order and gets the same answers. Sums travel by all-reduce:
    k x d numbers, exact whatever the order of the additions (see `core.shard`).

    Args:
        shard: this worker's instances.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.num_instances = sum(all_gather(len(shard.instance_ids)))

    def _gather(self, method: str, *arguments: Any) -> list[Any]:
        """The parts travel by way of the CPU: a tensor of another process's GPU cannot be used here."""
        own = getattr(self.shard, method)(*arguments)
        return [_moved(part, self.shard.features.device) for part in all_gather(_moved(own, torch.device("cpu")))]

    def _add(self, method: str, *arguments: Any) -> ClusterSums:
        own: ClusterSums = getattr(self.shard, method)(*arguments)
        integers = torch.cat([own.counts, own.counts.new_tensor([own.changed])])
        integers = all_reduce_sum(integers)
        return ClusterSums(all_reduce_sum(own.sums), integers[:-1], int(integers[-1]))


def _moved(part: Any, device: torch.device) -> Any:
    """What a shard's method returns, on another device: a tensor, candidates, or a tuple of tensors."""
    if isinstance(part, torch.Tensor):
        return part.to(device)
    if isinstance(part, Candidates):
        return Candidates(part.similarities.to(device), part.instance_ids.to(device), part.clusters.to(device))
    return tuple(tensor.to(device) for tensor in part)
