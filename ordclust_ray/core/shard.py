"""A mapper's share of the instances, and the three passes over it that clustering needs.

Sums that do not depend on who adds them: unit features and centroids are rounded to multiples of 2^-26. Then a
product of two is a multiple of 2^-52 and a partial dot product at most 1, a partial sum of features a multiple of
2^-26 and at most n: float64 holds both exactly for n up to 2^27 (134 million). So similarities and sums have no
rounding error, hence the same bits in any order, for any number of shards, threads, machines and GPUs. The
rounding moves a component by at most 7.5e-9, less than float32 does at 0.125.

Legend: N instances of the shard, B of a block, D features, K clusters.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from ordclust_ray.core.random_keys import random_keys

GRID = 2.0**-26
BLOCK = 4096
"""Rows read at a time: the block and its float64 copy stay in the cache."""


def on_grid(unit_features: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    """Unit features rounded to the grid on which sums and dot products are exact."""
    return (unit_features / GRID).round() * GRID


@dataclass(frozen=True)
class ClusterSums:
    """What a pass returns: all that the centroids and the objective depend on. Sums of shards add up.

    Attributes:
        sums: S_j, the sum of the features of each cluster.
        counts: members of each cluster.
        changed: instances whose cluster is another one than at the end of the previous iteration.
    """

    sums: Float64[Tensor, "K D"]
    counts: Int64[Tensor, "K"]
    changed: int

    def __add__(self, other: "ClusterSums") -> "ClusterSums":
        return ClusterSums(self.sums + other.sums, self.counts + other.counts, self.changed + other.changed)


@dataclass(frozen=True)
class Candidates:
    """Instances that could move to a cluster: their similarity to its centroid, their id, their cluster now."""

    similarities: Float64[Tensor, "C"]
    instance_ids: Int64[Tensor, "C"]
    clusters: Int64[Tensor, "C"]

    @staticmethod
    def concatenate(parts: "list[Candidates]") -> "Candidates":
        """All the candidates of several shards."""
        return Candidates(
            torch.cat([p.similarities for p in parts]),
            torch.cat([p.instance_ids for p in parts]),
            torch.cat([p.clusters for p in parts]),
        )

    def best_first(self) -> "Candidates":
        """Ordered by falling similarity, then by id."""
        by_id = torch.argsort(self.instance_ids)
        order = by_id[torch.argsort(self.similarities[by_id], descending=True, stable=True)]
        return Candidates(self.similarities[order], self.instance_ids[order], self.clusters[order])


class Shard:
    """The features of some instances and the cluster of each.

    Args:
        features: non-zero rows; they are normalised to unit length.
        instance_ids: distinct ids of the rows.
        assignments: the cluster of each row; -1 or left out where there is none yet.

    Raises:
        ValueError: a row is zero or not finite.
    """

    def __init__(
        self,
        features: Float[Tensor, "N D"],
        instance_ids: Int64[Tensor, "N"],
        assignments: Int64[Tensor, "N"] | None = None,
    ) -> None:
        unit = torch.cat([_unit_rows(rows) for rows in features.split(BLOCK)])
        bad = ~unit.isfinite().all(dim=1)
        if bad.any():
            raise ValueError(
                f"{int(bad.sum())} feature rows are zero or not finite; first instances: "
                f"{instance_ids[bad][:5].tolist()}"
            )
        self.features: Float32[Tensor, "N D"] = on_grid(unit)
        self.instance_ids = instance_ids
        self.assignments = torch.full_like(instance_ids, -1) if assignments is None else assignments.clone()
        self._before = self.assignments.clone()
        self._sorted_ids, self._row_of = torch.sort(instance_ids)

    def sums(self, num_clusters: int) -> ClusterSums:
        """The cluster sums of the memberships as they are; none may be -1."""
        sums = torch.zeros(num_clusters, self.features.shape[1], dtype=torch.float64, device=self.features.device)
        for start in range(0, len(self.features), BLOCK):
            rows = slice(start, start + BLOCK)
            sums.index_add_(0, self.assignments[rows], self.features[rows].double())
        return ClusterSums(sums, torch.bincount(self.assignments, minlength=num_clusters), 0)

    def assign(self, centroids: Float64[Tensor, "K D"]) -> ClusterSums:
        """The NN rule (9) and the cluster sums, in one read of the features. Ties go to the lowest cluster."""
        K, D = centroids.shape
        sums = torch.zeros(K, D, dtype=torch.float64, device=self.features.device)
        self._before.copy_(self.assignments)
        for start in range(0, len(self.features), BLOCK):
            block = self.features[start : start + BLOCK].double()
            own = (block @ centroids.T).argmax(dim=1)
            self.assignments[start : start + BLOCK] = own
            sums.index_add_(0, own, block)
        counts = torch.bincount(self.assignments, minlength=K)
        return ClusterSums(sums, counts, int((self.assignments != self._before).sum()))

    def candidates(self, centroid: Float64[Tensor, "D"], wanted: int, surplus: Int64[Tensor, "K"]) -> Candidates:
        """Those members that the greedy rule of the floor (B.3) could move to a deficient cluster.

        From cluster l it can take at most min(wanted, surplus[l]) members, and then the most similar ones: no
        others have to leave the shard.

        Args:
            centroid: c_j of the deficient cluster.
            wanted: how many members it lacks.
            surplus: how many members each cluster has above the floor.
        """
        parts = []
        for donor in torch.nonzero(surplus > 0).flatten().tolist():
            members = torch.nonzero(self.assignments == donor).flatten()
            similarities = torch.cat([self.features[rows].double() @ centroid for rows in members.split(BLOCK)])
            limit = min(wanted, int(surplus[donor]))
            found = Candidates(similarities, self.instance_ids[members], torch.full_like(members, donor))
            best = found.best_first()
            parts.append(Candidates(best.similarities[:limit], best.instance_ids[:limit], best.clusters[:limit]))
        return Candidates.concatenate(parts)

    def move(self, instance_ids: Int64[Tensor, "C"], cluster: int, num_clusters: int) -> ClusterSums:
        """Gives these instances, as far as they are here, to a cluster.

        Returns:
            The change of the cluster sums, counts and memberships.
        """
        rows = self._row_of[torch.isin(self._sorted_ids, instance_ids)]
        old, features = self.assignments[rows], self.features[rows].double()
        changed_before = (self.assignments[rows] != self._before[rows]).sum()
        self.assignments[rows] = cluster
        changed = (self.assignments[rows] != self._before[rows]).sum() - changed_before
        sums = torch.zeros(num_clusters, features.shape[1], dtype=torch.float64, device=features.device)
        sums.index_add_(0, old, -features)
        sums[cluster] += features.sum(dim=0)
        counts = -torch.bincount(old, minlength=num_clusters)
        counts[cluster] += len(rows)
        return ClusterSums(sums, counts, int(changed))

    def smallest_keys(self, size: int, seed: int) -> Int64[Tensor, "S"]:
        """The up to `size` smallest random keys of the shard's instances, for a sample that all shards agree on."""
        return self._keys(seed).sort().values[:size]

    def below_key(self, limit: int, seed: int) -> tuple[Int64[Tensor, "S"], Float32[Tensor, "S D"]]:
        """Keys and features of the instances with keys up to a limit."""
        keys = self._keys(seed)
        rows = torch.nonzero(keys <= limit).flatten()
        return keys[rows].cpu(), self.features[rows.to(self.features.device)].cpu()

    def _keys(self, seed: int) -> Int64[Tensor, "N"]:
        keys = random_keys(self.instance_ids.cpu().numpy(), seed) >> np.uint64(1)
        return torch.from_numpy(keys.astype(np.int64))


def _unit_rows(features: Float[Tensor, "B D"]) -> Float32[Tensor, "B D"]:
    """Unit rows, however large or small; NaN where a row is zero or not finite."""
    wide = features.double()
    scaled = wide / wide.abs().amax(dim=1, keepdim=True)
    return (scaled / scaled.norm(dim=1, keepdim=True)).float()
