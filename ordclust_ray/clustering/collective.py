"""The in-training engine: the workers of a training run are the mappers, each on its own shard, where it is."""

from typing import Any

import numpy as np
import torch

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.core.answers import ClusterSums
from ordclust_ray.core.shard import Shard
from ordclust_ray.processes import all_gather, all_reduce_sum


class CollectiveEngine(ShardedEngine):
    """Clusters over torch.distributed, or alone where that is not initialised.

    Every worker makes the same calls in the same order and gets the same answers. Sums travel by all-reduce:
    k x d integers.

    Args:
        shard: this worker's instances.
        device: where the processes' backend wants tensors.
    """

    def __init__(self, shard: Shard, device: torch.device | None = None) -> None:
        self.shard, self._device = shard, device or torch.device("cpu")
        self.num_instances = sum(all_gather(len(shard.instance_ids)))

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        """By way of the CPU, pickled: for what is small."""
        return all_gather(getattr(self.shard, method)(*arguments))

    def add(self, method: str, *arguments: Any) -> Any:
        """See `ShardedEngine.add`."""
        return self._sum(getattr(self.shard, method)(*arguments))

    def _sum(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._sum(part) for part in value]
        if isinstance(value, ClusterSums):
            flat = self._sum(np.concatenate([value.sums.ravel(), value.counts, [value.changed]]))
            sums, counts = flat[: value.sums.size], flat[value.sums.size : -1]
            return ClusterSums(sums.reshape(value.sums.shape), counts, int(flat[-1]))
        return all_reduce_sum(torch.from_numpy(np.array(value)).to(self._device)).cpu().numpy()
