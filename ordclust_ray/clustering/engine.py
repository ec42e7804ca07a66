"""What both engines share: a map over shards, and a reduce that adds or concatenates."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from ordclust_ray.core.shard import Candidates, ClusterSums


class ShardedEngine(ABC):
    """`core.repulsive_kmeans.Engine` over shards that are somewhere else.

    Attributes:
        num_instances: instances of all shards together.
    """

    num_instances: int

    @abstractmethod
    def _gather(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every shard; the results in the order of the shards."""

    def _add(self, method: str, *arguments: Any) -> ClusterSums:
        first, *others = self._gather(method, *arguments)
        return sum(others, start=first)

    def sums(self, num_clusters: int) -> ClusterSums:
        """The cluster sums of the memberships as they are."""
        return self._add("sums", num_clusters)

    def assign(self, centroids: Tensor) -> ClusterSums:
        """The NN rule on all instances."""
        return self._add("assign", centroids)

    def candidates(self, centroid: Tensor, wanted: int, surplus: Tensor) -> Candidates:
        """All shards' candidates for a deficient cluster."""
        return Candidates.concatenate(self._gather("candidates", centroid, wanted, surplus))

    def move(self, instance_ids: Tensor, cluster: int, num_clusters: int) -> ClusterSums:
        """Moves instances, and returns the change of the sums."""
        return self._add("move", instance_ids, cluster, num_clusters)

    def sample(self, size: int, seed: int) -> Tensor:
        """Features of the `size` instances with the smallest random keys, in the order of the keys."""
        keys = torch.cat(self._gather("smallest_keys", size, seed)).sort().values[:size]
        parts = self._gather("below_key", int(keys[-1]), seed)
        order = torch.cat([part[0] for part in parts]).argsort()
        return torch.cat([part[1] for part in parts])[order]
