"""The Ray engine: actors hold the shards. For clustering on its own, on features of any network."""

from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.core.shard import Shard


class ShardActor:
    """A mapper: one shard, and calls of its methods by name."""

    shard: Shard

    def load(self, features: NDArray[np.floating], instance_ids: NDArray[np.int64]) -> None:
        """Takes the rows."""
        self.shard = Shard(torch.tensor(features), torch.tensor(instance_ids))

    def call(self, method: str, *arguments: Any) -> Any:
        """A method of the shard."""
        return getattr(self.shard, method)(*arguments)

    def assignments(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Instance ids and their clusters."""
        return self.shard.instance_ids.numpy(), self.shard.assignments.numpy()


class RayEngine(ShardedEngine):
    """Clusters over Ray actors, one a shard.

    Args:
        features: (n, d); rows are normalised.
        instance_ids: (n,) distinct ids; 0..n-1 where left out.
        num_shards: how many actors. The result does not depend on it.
        num_cpus: that each actor reserves.

    Raises:
        ValueError: more shards than instances or than the cluster has CPUs for, or rows that are zero or not finite.
    """

    def __init__(
        self,
        features: NDArray[np.floating],
        instance_ids: NDArray[np.int64] | None = None,
        *,
        num_shards: int,
        num_cpus: float = 1.0,
    ) -> None:
        self.num_instances = len(features)
        if not 1 <= num_shards <= self.num_instances:
            raise ValueError(f"num_shards is {num_shards}; it must be from 1 to {self.num_instances} instances")
        cpus = ray.cluster_resources().get("CPU", 0)
        if num_shards * num_cpus > cpus:
            raise ValueError(f"{num_shards} shards of {num_cpus:g} CPU each need more than the cluster's {cpus:g}")
        ids = np.arange(self.num_instances) if instance_ids is None else instance_ids
        parts = np.array_split(np.arange(self.num_instances), num_shards)
        actor = ray.remote(num_cpus=num_cpus)(ShardActor)
        self._actors = [actor.remote() for _ in parts]
        try:
            ray.get([a.load.remote(features[part], ids[part]) for a, part in zip(self._actors, parts, strict=True)])
        except BaseException as error:
            self.close()
            if isinstance(error, ValueError):  # what the shard said, without the actor's traceback
                raise getattr(error, "cause", error) from None
            raise

    def _gather(self, method: str, *arguments: Any) -> list[Any]:
        return ray.get([actor.call.remote(method, *arguments) for actor in self._actors])

    def assignments(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Instance ids in ascending order, and the cluster of each."""
        ids, clusters = zip(*ray.get([actor.assignments.remote() for actor in self._actors]), strict=True)
        order = np.argsort(np.concatenate(ids))
        return np.concatenate(ids)[order], np.concatenate(clusters)[order]

    def close(self) -> None:
        """Ends the actors."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
