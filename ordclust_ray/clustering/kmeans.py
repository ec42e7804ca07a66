"""k-means on unit rows that are sharded over the processes: the clusters of IDFD (Tao et al. 2021, section 4)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ordclust_ray.core.nearest_centroid import assign
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.processes import all_gather, process_rank

SQUARED, COSINES = "squared distances", "cosines"
MAX_ITERATIONS, TOLERANCE, ROWS_AT_A_TIME = 300, 1e-4, 2**16
TOGETHER = 4
"""Starts at a time: each remembers some numbers of every row."""


@dataclass(frozen=True)
class Clusters:
    """Where k-means ended.

    Attributes:
        assignments: (N,) cluster of each row of this process: that of the nearest centroid.
        centroids: (K, D) float32.
        objective: what the best of the starts was chosen by: `SQUARED` distances to means, by scikit-learn in one
            process, or `COSINES` to mean directions, over all processes.
    """

    assignments: NDArray[np.int64]
    centroids: NDArray[np.float32]
    objective: str


def kmeans(rows: torch.Tensor, first: int, num_clusters: int, *, starts: int, seed: int, sklearn_rows: int) -> Clusters:
    """The best of several starts; the same in every process.

    Args:
        rows: (N, D) float32 of this process, of unit norm, on the device that the processes talk by.
        first: number of the first of them, counted over all processes.
        num_clusters: k.
        starts: how many.
        seed: of the starts.
        sklearn_rows: up to so many rows of all processes are gathered, for scikit-learn.

    Raises:
        ValueError: fewer rows than clusters.
    """
    total = sum(all_gather(len(rows)))
    if total < num_clusters:
        raise ValueError(f"{num_clusters} clusters need at least as many rows; there are {total}")
    if total <= sklearn_rows:
        centroids, objective = _in_one_process(rows.cpu().numpy(), num_clusters, starts, seed), SQUARED
    else:
        centroids, objective = _where_they_are(rows, first, num_clusters, starts, seed), COSINES
    on_device = torch.from_numpy(centroids).to(rows)
    found = [assign(part, on_device).clusters for part in rows.split(ROWS_AT_A_TIME)]
    return Clusters(torch.cat(found).cpu().numpy(), centroids, objective)


def _in_one_process(rows: NDArray[np.float32], num_clusters: int, starts: int, seed: int) -> NDArray[np.float32]:
    """The centroids by scikit-learn."""
    from sklearn.cluster import KMeans

    everyone, centroids = all_gather(rows), None
    if process_rank() == 0:
        with threadpool_limits(torch.get_num_threads()):
            centroids = (
                KMeans(num_clusters, n_init=starts, random_state=seed).fit(np.concatenate(everyone)).cluster_centers_
            )
    return all_gather(centroids)[0].astype(np.float32)


def _where_they_are(rows: torch.Tensor, first: int, num_clusters: int, starts: int, seed: int) -> NDArray[np.float32]:
    """The centroids by repulsive k-means without repulsion and floor; a few starts share a read of the rows."""
    from ordclust_ray.clustering.collective import CollectiveEngine  # the compiled kernels load only where needed
    from ordclust_ray.core.repulsive_kmeans import Clustering, Rules, cluster_together
    from ordclust_ray.core.shard import Shard
    from ordclust_ray.core.starts import starts_together

    ids = np.arange(first, first + len(rows))
    engine = CollectiveEngine(Shard(rows.cpu(), ids, threads=torch.get_num_threads()), rows.device)
    rules = Rules(repulsion=0.0, min_size=0, max_iterations=MAX_ITERATIONS, tolerance=TOLERANCE)
    results: list[Clustering] = []
    for first_start in range(0, starts, TOGETHER):
        begun = {}
        for number, start in enumerate(range(first_start, min(first_start + TOGETHER, starts))):
            (centroids,) = starts_together(engine, "k-means||", [num_clusters], another_seed(seed, start))
            begun[number] = all_gather(centroids)[0], rules
        results += cluster_together(engine, begun).values()
    return max(results, key=lambda result: result.objective).centroids.astype(np.float32)
