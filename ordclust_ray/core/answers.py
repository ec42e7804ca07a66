"""What shards answer: arrays that are small, or as large as was asked for. Answers of several shards are put together.

Legend: K clusters, D features, C candidates, M rows.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy import ndarray

BINS, LEVELS = 512, 6
"""The places of similarities in the floor's order have 54 bits, which are looked at 9 at a time."""


def shift(depth: int) -> int:
    """How many bits of a place in the floor's order are unknown when 9 times `depth` are known."""
    return 9 * (LEVELS - depth)


@dataclass(frozen=True)
class ClusterSums:
    """What a pass returns: all that the centroids and the objective depend on. Those of shards add up.

    Attributes:
        sums: S_j, the sum of the unit features of each cluster, in units of `core.blocks.GRID`.
        counts: members of each cluster.
        changed: instances whose cluster is another one than at the end of the previous iteration.
    """

    sums: Int64[ndarray, "K D"]
    counts: Int64[ndarray, "K"]
    changed: int

    def __add__(self, other: "ClusterSums") -> "ClusterSums":
        return ClusterSums(self.sums + other.sums, self.counts + other.counts, self.changed + other.changed)


@dataclass(frozen=True)
class Candidates:
    """Instances that could move to a cluster: their place in the floor's order, their id, their cluster now."""

    orders: Int64[ndarray, "C"]
    instance_ids: Int64[ndarray, "C"]
    clusters: Int32[ndarray, "C"]

    @staticmethod
    def concatenate(parts: "list[Candidates]") -> "Candidates":
        """All the candidates of several shards."""
        columns = zip(*[(part.orders, part.instance_ids, part.clusters) for part in parts], strict=True)
        return Candidates(*[np.concatenate(column) for column in columns])

    def subset(self, rows: ndarray) -> "Candidates":
        """Some of them."""
        return Candidates(self.orders[rows], self.instance_ids[rows], self.clusters[rows])

    def first(self, limits: Int64[ndarray, "K"]) -> "Candidates":
        """In order, and of each cluster the first ones only, as many as its limit."""
        ordered = self.subset(np.lexsort((self.instance_ids, -self.orders)))
        by_cluster = np.argsort(ordered.clusters, kind="stable")
        starts = np.searchsorted(ordered.clusters[by_cluster], ordered.clusters[by_cluster])
        place = np.empty(len(by_cluster), np.int64)
        place[by_cluster] = np.arange(len(by_cluster)) - starts
        return ordered.subset(place < limits[ordered.clusters])


@dataclass(frozen=True)
class Rows:
    """Some instances: what they are ordered by, their ids, and their unit features in units of the grid."""

    keys: Float64[ndarray, "M"]
    instance_ids: Int64[ndarray, "M"]
    features: Float32[ndarray, "M D"]

    @staticmethod
    def first(parts: "list[Rows]", size: int) -> "Rows":
        """Those of several shards with the smallest keys, in their order."""
        keys, ids = (
            np.concatenate(column) for column in zip(*[(part.keys, part.instance_ids) for part in parts], strict=True)
        )
        found = [part.features for part in parts if len(part.keys)] or [parts[0].features]
        order = np.lexsort((ids, keys))[:size]
        return Rows(keys[order], ids[order], np.concatenate(found)[order])
