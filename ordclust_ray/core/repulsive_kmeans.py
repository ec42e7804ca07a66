"""Repulsive clustering on the unit sphere (Lee & Kim 2021, section 3.3, B.1-B.3): the rules and the loop.

The loop needs from the data only what shards answer: k x d sums for given centroids, counts for the floor, and that
members be moved. Who holds the features, and where, is the engine's matter.

Legend: K clusters, D features; S_j the sum of the features of cluster j, T the sum of all.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy import ndarray

from ordclust_ray.core.answers import ClusterSums
from ordclust_ray.core.blocks import GRID, on_grid
from ordclust_ray.core.floor import Engine, hold_floor
from ordclust_ray.core.panels import blas


@dataclass(frozen=True)
class Clustering:
    """Result of `repulsive_kmeans`. The assignments stay with the shards.

    Attributes:
        centroids: unit vectors c_j.
        sums: S_j, in units of `core.blocks.GRID`.
        counts: members of each cluster.
        objective: J of eq. (6), at most n (1 + repulsion).
        changed: share of the instances that changed their cluster in the last iteration.
        iterations: how many there were.
        converged: whether `changed` fell to the tolerance.
        assigned_to: the centroids that the instances were assigned to in the last iteration; one iteration from
            there gives the same clustering.
    """

    centroids: Float64[ndarray, "K D"]
    sums: Int64[ndarray, "K D"]
    counts: Int64[ndarray, "K"]
    objective: float
    changed: float
    iterations: int
    converged: bool
    assigned_to: Float64[ndarray, "K D"]


@dataclass(frozen=True)
class Rules:
    """How a clustering goes on, and when it ends.

    Attributes:
        repulsion: alpha >= 0; 0 is spherical k-means.
        min_size: the floor; the paper's is floor(n / 2k), see `floor_size`.
        max_iterations: the paper's code stops at 70.
        tolerance: stop when at most this share of the memberships changed in an iteration.
    """

    repulsion: float = 0.1
    min_size: int = 0
    max_iterations: int = 70
    tolerance: float = 0.01

    def check(self, num_clusters: int, num_instances: int) -> None:
        """Raises ValueError where these rules cannot be held."""
        K, n = num_clusters, num_instances
        if n < K:
            raise ValueError(f"num_clusters is {K}, but there are only {n} instances")
        if self.min_size * K > n:
            raise ValueError(f"{K} clusters of at least {self.min_size} members need more than the {n} instances")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations is {self.max_iterations}; it must be 1 or more")
        if not 0 <= self.repulsion < float("inf"):
            raise ValueError(f"repulsion is {self.repulsion}; it must be 0 or more")


def centroid_rule(
    sums: Int64[ndarray, "K D"], previous: Float64[ndarray, "K D"], repulsion: float
) -> Float64[ndarray, "K D"]:
    """c_j = direction of S_j - repulsion/(k-1) (T - S_j), eq. (8).

    A direction that does not exist (an empty cluster without repulsion) leaves the previous centroid.
    """
    own = sums * GRID
    pull = own - repulsion / max(len(sums) - 1, 1) * (own.sum(axis=0) - own)
    norms = np.linalg.norm(pull, axis=1, keepdims=True)
    tiny = 1e-12 * (1 + np.abs(own).max())
    return on_grid(np.where(norms > tiny, pull / np.maximum(norms, tiny), previous))


def objective(sums: Int64[ndarray, "K D"], centroids: Float64[ndarray, "K D"], repulsion: float) -> float:
    """J = sum_j ( c_j.S_j - repulsion/(k-1) sum_{l != j} c_l.S_j ), eq. (6) from the cluster sums alone."""
    affinity = centroids @ (sums * GRID).T
    own = float(np.trace(affinity))
    return own - repulsion / max(len(sums) - 1, 1) * (float(affinity.sum()) - own)


def floor_size(num_instances: int, num_clusters: int, fraction: float = 0.5) -> int:
    """The least members of a cluster: floor(fraction n / k). The paper's fraction is 1/2 (B.3)."""
    return int(fraction * num_instances / num_clusters + 1e-9)  # 0.57 * 100 is a little less than 57


def normalised(centroids: Float[ndarray, "K D"]) -> Float64[ndarray, "K D"]:
    """Unit vectors on the grid; those that are so already stay as they are."""
    wide = np.asarray(centroids, np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    done = (on_grid(wide) == wide).all(axis=1, keepdims=True) & (abs(norms - 1) < wide.shape[1] ** 0.5 * GRID)
    return np.where(done, wide, on_grid(wide / np.where(norms > 0, norms, 1)))


def repulsive_kmeans(
    engine: Engine,
    centroids: Float[ndarray, "K D"],
    *,
    repulsion: float = Rules.repulsion,
    min_size: int = Rules.min_size,
    max_iterations: int = Rules.max_iterations,
    tolerance: float = Rules.tolerance,
    on_iteration: Callable[[Clustering], None] | None = None,
) -> Clustering:
    """Alternates the NN rule, the centroid rule and the floor until the memberships settle (algorithm 1, B.3).

    Without the floor no iteration lowers the objective. With it J may fall, and a member need not be nearest to
    its own centroid.

    Args:
        engine: holds the instances; this is its clustering 0.
        centroids: the start; normalised here.
        repulsion: see `Rules`, as the next three.
        min_size: the floor.
        max_iterations: 1 or more.
        tolerance: a share of the instances.
        on_iteration: is told the state after each iteration.

    Raises:
        ValueError: fewer instances than clusters, or rules that cannot be held.
    """
    rules = Rules(repulsion, min_size, max_iterations, tolerance)
    tell = None if on_iteration is None else lambda number, state: on_iteration(state)
    return cluster_together(engine, {0: (centroids, rules)}, tell)[0]


def cluster_together(
    engine: Engine,
    starts: Mapping[int, tuple[Float[ndarray, "_ D"], Rules]],
    on_iteration: Callable[[int, Clustering], None] | None = None,
) -> dict[int, Clustering]:
    """Several clusterings of the same instances, which are read once an iteration for all of them.

    Args:
        engine: holds the instances.
        starts: start and rules of each clustering, by number.
        on_iteration: is told the number of a clustering and its state after each iteration.
    """
    runs = {
        number: _iterations(engine, number, start, rules, on_iteration) for number, (start, rules) in starts.items()
    }
    wanted, results = {number: next(run) for number, run in runs.items()}, {}
    with blas().limit(limits=1, user_api="blas"):
        while wanted:
            for number, nearest in zip(list(wanted), engine.add("assign", *wanted.items()), strict=True):
                try:
                    wanted[number] = runs[number].send(nearest)
                except StopIteration as stop:
                    results[number] = stop.value
                    del wanted[number]
    return {number: results[number] for number in starts}


def _iterations(
    engine: Engine,
    number: int,
    start: Float[ndarray, "K D"],
    rules: Rules,
    on_iteration: Callable[[int, Clustering], None] | None,
) -> Generator[Float64[ndarray, "K D"], ClusterSums, Clustering]:
    """Yields centroids, is sent what the NN rule makes of them."""
    n = engine.num_instances
    rules.check(len(start), n)
    c_KD = normalised(start)
    for iteration in range(1, rules.max_iterations + 1):
        before = c_KD
        nearest = yield c_KD
        c_KD = centroid_rule(nearest.sums, c_KD, rules.repulsion)
        sums = hold_floor(engine, nearest, c_KD, rules.min_size, number)
        if sums is not nearest:
            c_KD = centroid_rule(sums.sums, c_KD, rules.repulsion)
        changed = sums.changed / n
        J, converged = objective(sums.sums, c_KD, rules.repulsion), changed <= rules.tolerance
        result = Clustering(c_KD, sums.sums, sums.counts, J, changed, iteration, converged, before)
        if on_iteration:
            on_iteration(number, result)
        if converged:
            break
    return result
