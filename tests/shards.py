"""Shards in one process, and features that are hard for them."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.core.shard import Shard

KINDS = ["random", "duplicates", "ties"]
Features = NDArray[np.float32] | NDArray[np.float64]


class ListEngine(ShardedEngine):
    """All shards here, one after another."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        self.num_instances = sum(len(shard.instance_ids) for shard in shards)

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(shard, method)(*arguments) for shard in self.shards]

    def assignments(self, clustering: int = 0) -> list[int]:
        """The cluster of each instance, in the order of the ids."""
        ids = np.concatenate([shard.instance_ids for shard in self.shards])
        labels = np.concatenate([shard.clusterings[clustering].labels for shard in self.shards])
        return [int(label) for label in labels[ids.argsort()]]


def engine_of(
    features: Features, num_shards: int = 1, order: NDArray[np.int64] | None = None, threads: int = 1
) -> ListEngine:
    """Shards of unequal size, of the rows in an order; the id of a row is its place in `features`."""
    rows = np.arange(len(features)) if order is None else order
    cuts = [len(rows) * i**2 // num_shards**2 for i in range(num_shards + 1)]
    parts = [rows[a:b] for a, b in pairwise(cuts)]
    return ListEngine([Shard(features[part], part, threads=threads) for part in parts])


def features_of(kind: str, n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Random directions; few directions over and over; directions between which there are many ties."""
    rng = np.random.default_rng(seed)
    if kind == "ties":
        rows = rng.integers(-1, 2, (n, d)).astype(np.float32)
        rows[~rows.any(axis=1), 0] = 1.0
        return rows
    rows = rng.normal(size=(n if kind == "random" else max(2, n // 8), d)).astype(np.float32)
    return rows if kind == "random" else rows[rng.integers(0, len(rows), n)]
