"""Repulsive clustering on the unit sphere (Lee & Kim 2021, section 3.3, B.1-B.3): rules, floor, loop.

The loop needs from the data only what an `Engine` answers: k x d sums for given centroids, the best candidates
for a deficient cluster, and that members be moved. Who holds the features, and where, is the engine's matter.

Legend: K clusters, D features; S_j the sum of the features of cluster j, T the sum of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ordclust_ray.core.shard import Candidates, ClusterSums, on_grid


@runtime_checkable
class Engine(Protocol):
    """Where the features are. Every method is a map over the shards and a reduce that adds or concatenates."""

    num_instances: int

    def sums(self, num_clusters: int) -> ClusterSums:
        """The sums of the clusters as they are; see `Shard.sums`."""
        ...

    def assign(self, centroids: Float64[Tensor, "K D"]) -> ClusterSums:
        """The NN rule on all instances; see `Shard.assign`."""
        ...

    def candidates(self, centroid: Float64[Tensor, "D"], wanted: int, surplus: Int64[Tensor, "K"]) -> Candidates:
        """All shards' candidates; see `Shard.candidates`."""
        ...

    def move(self, instance_ids: Int64[Tensor, "C"], cluster: int, num_clusters: int) -> ClusterSums:
        """The change that moving these instances makes; see `Shard.move`."""
        ...

    def sample(self, size: int, seed: int) -> Float[Tensor, "N D"]:
        """Features of a random sample, the same for any sharding, in an order that is the same too."""
        ...


@dataclass(frozen=True)
class Clustering:
    """Result of `repulsive_kmeans`. The assignments stay with the engine's shards.

    Attributes:
        centroids: unit vectors c_j.
        counts: members of each cluster.
        objective: J of eq. (6), at most n (1 + repulsion).
        changed: share of the instances that changed their cluster in the last iteration.
        iterations: how many there were.
        converged: whether `changed` fell to the tolerance.
    """

    centroids: Float64[Tensor, "K D"]
    counts: Int64[Tensor, "K"]
    objective: float
    changed: float
    iterations: int
    converged: bool


def centroid_rule(
    sums: Float64[Tensor, "K D"], previous: Float64[Tensor, "K D"], repulsion: float
) -> Float64[Tensor, "K D"]:
    """c_j = direction of S_j - repulsion/(k-1) (T - S_j), eq. (8).

    A direction that does not exist (an empty cluster without repulsion) leaves the previous centroid.
    """
    others = sums.sum(dim=0) - sums
    pull = sums - repulsion / max(len(sums) - 1, 1) * others
    norms = pull.norm(dim=1, keepdim=True)
    tiny = 1e-12 * (1 + sums.abs().max())
    return on_grid(torch.where(norms > tiny, pull / norms.clamp(min=tiny), previous))


def objective(sums: Float64[Tensor, "K D"], centroids: Float64[Tensor, "K D"], repulsion: float) -> float:
    """J = sum_j ( c_j.S_j - repulsion/(k-1) sum_{l != j} c_l.S_j ), eq. (6) from the cluster sums alone."""
    affinity = centroids @ sums.T
    own = affinity.diagonal().sum()
    return float(own - repulsion / max(len(sums) - 1, 1) * (affinity.sum() - own))


def repulsive_kmeans(
    engine: Engine,
    centroids: Float[Tensor, "K D"],
    *,
    repulsion: float = 0.1,
    min_size: int = 0,
    max_iterations: int = 70,
    tolerance: float = 0.01,
    on_iteration: Callable[[Clustering], None] | None = None,
) -> Clustering:
    """Alternates the NN rule, the centroid rule and the floor until the memberships settle (algorithm 1, B.3).

    Without the floor no iteration lowers the objective. With it J may fall, and a member need not be nearest to
    its own centroid.

    Args:
        engine: holds the instances.
        centroids: the start; normalised here.
        repulsion: alpha >= 0; 0 is spherical k-means.
        min_size: the floor; the paper's is floor(n / 2k), see `floor_size`.
        max_iterations: the paper's code stops at 70.
        tolerance: stop when at most this share of the memberships changed in an iteration.
        on_iteration: is told the state after each iteration.

    Raises:
        ValueError: fewer instances than clusters, a floor that cannot be held, or a negative repulsion.
    """
    K, n = len(centroids), engine.num_instances
    if n < K:
        raise ValueError(f"num_clusters is {K}, but there are only {n} instances")
    if min_size * K > n:
        raise ValueError(f"{K} clusters of at least {min_size} members need more than the {n} instances")
    if max_iterations < 1:
        raise ValueError(f"max_iterations is {max_iterations}; it must be 1 or more")
    if not 0 <= repulsion < float("inf"):
        raise ValueError(f"repulsion is {repulsion}; it must be 0 or more")
    c_KD = on_grid(F.normalize(centroids.double(), dim=1))
    for iteration in range(1, max_iterations + 1):
        nearest = engine.assign(c_KD)
        c_KD = centroid_rule(nearest.sums, c_KD, repulsion)
        sums = hold_floor(engine, nearest, c_KD, min_size)
        if sums is not nearest:
            c_KD = centroid_rule(sums.sums, c_KD, repulsion)
        changed = sums.changed / n
        J, converged = objective(sums.sums, c_KD, repulsion), changed <= tolerance
        result = Clustering(c_KD, sums.counts, J, changed, iteration, converged)
        if on_iteration:
            on_iteration(result)
        if converged:
            break
    return result


def floor_size(num_instances: int, num_clusters: int, fraction: float = 0.5) -> int:
    """The least members of a cluster: floor(fraction n / k). The paper's fraction is 1/2 (B.3)."""
    return int(fraction * num_instances / num_clusters + 1e-9)  # 0.57 * 100 is a little less than 57


def hold_floor(engine: Engine, sums: ClusterSums, centroids: Float64[Tensor, "K D"], min_size: int) -> ClusterSums:
    """Fills deficient clusters, one after another, with the most similar members of those above the floor (B.3).

    A donor stops giving when it reaches the floor; ties go to the lowest instance id.
    """
    for j in torch.nonzero(sums.counts < min_size).flatten().tolist():
        wanted, surplus = min_size - int(sums.counts[j]), sums.counts - min_size
        best = engine.candidates(centroids[j], wanted, surplus).best_first()
        given = torch.zeros_like(best.clusters, dtype=torch.bool)
        for donor in best.clusters.unique().tolist():
            own = best.clusters == donor
            given |= own & (own.cumsum(dim=0) <= surplus[donor])
        sums += engine.move(best.instance_ids[given][:wanted], j, len(centroids))
    return sums


def kmeans_start(engine: Engine, num_clusters: int, seed: int, sample_size: int = 10_000) -> Float[Tensor, "K D"]:
    """Centroids of plain k-means (10 starts) on a sample of the instances: line 2 of algorithm 1.

    Args:
        engine: holds the instances.
        num_clusters: k.
        seed: of the sample and of k-means.
        sample_size: k-means runs on all instances up to this many, and on 2k at least.

    Raises:
        ValueError: fewer instances than clusters.
    """
    from sklearn.cluster import KMeans  # takes seconds, which the processes that do not cluster save

    sample = engine.sample(max(sample_size, 2 * num_clusters), seed).cpu().numpy()
    if num_clusters > len(sample):
        raise ValueError(f"num_clusters is {num_clusters}, but there are only {len(sample)} instances")
    unique = np.unique(sample, axis=0)
    if len(unique) <= num_clusters:  # duplicates: k-means has fewer distinct points than clusters
        repeated = np.resize(unique, (num_clusters, sample.shape[1]))
        return torch.from_numpy(repeated)
    labels = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(sample)
    sums = np.zeros((num_clusters, sample.shape[1]))
    np.add.at(sums, labels, sample)  # exact on the grid, where k-means' own means depend on its threads
    return torch.from_numpy(sums)
