"""Centroids to start from: k-means++ and k-means|| on the sphere, plain k-means on a sample, random instances.

All of them read the instances by way of an engine, and give the same centroids for any sharding.

Legend: K clusters, D features, T trials, C candidates.
"""

import warnings
from collections.abc import Callable, Sequence
from math import log

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from ordclust_ray.core.answers import Rows
from ordclust_ray.core.blocks import GRID
from ordclust_ray.core.floor import Engine
from ordclust_ray.core.random_keys import another_seed

ROUNDS = 5
"""Of k-means||; Bahmani et al. (2012) find five enough."""


def kmeans_plus_plus(engine: Engine, num_clusters: int, seed: int) -> Float64[ndarray, "K D"]:
    """Instances far from each other, one after another (Arthur & Vassilvitskii 2007), greedily.

    Each is the best of 2 + log k instances that are drawn with the probability of their distance 1 - cos to the
    nearest one chosen before.
    """
    _check(engine, num_clusters)
    engine.gather("restart")
    trials = random_instances(engine, 1, seed)
    chosen = []
    for step in range(1, num_clusters + 1):
        best = int(engine.add("potentials", trials).argmin())
        engine.gather("choose", best)
        chosen.append(trials[best])
        if step < num_clusters:
            trials = _drawn(engine, 2 + int(log(num_clusters)), another_seed(seed, step))
    return np.stack(chosen)


def _drawn(engine: Engine, size: int, seed: int) -> Float64[ndarray, "T D"]:
    """Instances that are no duplicates of chosen ones; one that is where all are."""
    drawn = Rows.first(engine.gather("race", size, seed), size)
    apart = np.isfinite(drawn.keys)
    apart[0] = True
    return _features(drawn)[apart]


def kmeans_parallel(engine: Engine, num_clusters: int, seed: int) -> Float64[ndarray, "K D"]:
    """k-means|| (Bahmani et al. 2012): some 2k instances a round, then plain k-means on the weighted candidates.

    How often it reads the instances does not depend on k.
    """
    return _means(*_candidates(engine, num_clusters, seed), num_clusters, seed)


def _candidates(engine: Engine, num_clusters: int, seed: int) -> tuple[Float64[ndarray, "C D"], Int64[ndarray, "C"]]:
    """Instances far from each other, and how many instances are nearest to each."""
    _check(engine, num_clusters)
    engine.gather("restart")
    candidates = fresh = random_instances(engine, 1, seed)
    for step in range(1, ROUNDS + 1):
        total = float(engine.add("cover", fresh)) * 2.0**-30
        if total > 0:
            drawn = engine.gather("draw", 2 * num_clusters / total, another_seed(seed, step))
            fresh = _features(Rows.first(drawn, 20 * num_clusters))
            candidates = np.concatenate([candidates, fresh])
    return candidates, engine.add("tally", candidates)


def kmeans_on_sample(
    engine: Engine, num_clusters: int, seed: int, sample_size: int = 10_000
) -> Float64[ndarray, "K D"]:
    """Plain k-means (10 starts) on a sample of the instances, of 2k at least: line 2 of algorithm 1."""
    return _means(*_sample(engine, num_clusters, seed, sample_size), num_clusters, seed)


def _sample(
    engine: Engine, num_clusters: int, seed: int, sample_size: int = 10_000
) -> tuple[Float64[ndarray, "C D"], Int64[ndarray, "C"]]:
    """Instances, each of which counts as one."""
    _check(engine, num_clusters)
    size = max(sample_size, 2 * num_clusters)
    sample = random_instances(engine, min(size, engine.num_instances), seed)
    return sample, np.ones(len(sample), np.int64)


def random_instances(engine: Engine, num_clusters: int, seed: int) -> Float64[ndarray, "K D"]:
    """Distinct instances, each as likely as any other."""
    _check(engine, num_clusters)
    return _features(Rows.first(engine.gather("sample", num_clusters, seed), num_clusters))


def _check(engine: Engine, num_clusters: int) -> None:
    if num_clusters > engine.num_instances:
        raise ValueError(f"num_clusters is {num_clusters}, but there are only {engine.num_instances} instances")


def _features(rows: Rows) -> Float64[ndarray, "C D"]:
    return rows.features.astype(np.float64) * GRID


STARTS: dict[str, Callable[[Engine, int, int], Float64[ndarray, "K D"]]] = {
    "k-means++": kmeans_plus_plus,
    "k-means||": kmeans_parallel,
    "k-means": kmeans_on_sample,
    "random": random_instances,
}


def starts_together(engine: Engine, init: str, all_k: Sequence[int], seed: int) -> list[Float64[ndarray, "_ D"]]:
    """A start for each number of clusters; the instances are read as often as for the largest alone.

    Args:
        engine: holds the instances.
        init: a name of `STARTS`.
        all_k: numbers of clusters.
        seed: of all of them.
    """
    most = max(all_k)
    if init in ("k-means++", "random"):  # the first ones of a longer list are a start, too
        found = STARTS[init](engine, most, seed)
        return [found[:k] for k in all_k]
    points, weights = {"k-means||": _candidates, "k-means": _sample}[init](engine, most, seed)
    return [_means(points, weights, k, seed) for k in all_k]


def _means(
    points: Float64[ndarray, "C D"], weights: Int64[ndarray, "C"], num_clusters: int, seed: int
) -> Float64[ndarray, "K D"]:
    """Weighted sums of the clusters of plain k-means; repeated points where fewer are distinct than clusters."""
    # Takes seconds, which processes that do not start a clustering save.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    unique = np.unique(points[weights > 0], axis=0)
    if len(unique) <= num_clusters:
        return np.resize(unique, (num_clusters, points.shape[1]))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # points that differ too little for it
        labels = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(points, sample_weight=weights)
    sums = np.zeros((num_clusters, points.shape[1]))
    np.add.at(sums, labels, points * weights[:, None])  # on the grid: k-means' own means depend on its threads
    empty = np.bincount(labels, weights, minlength=num_clusters) == 0
    sums[empty] = unique[: empty.sum()]
    return sums
