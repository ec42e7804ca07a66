"""Measures of ranks and clusters (Lee & Kim 2021, section 4, eq. 29, 30).

Legend: n instances, U clusters, V known groups, K centroids, D features.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def mean_absolute_error(estimates: Float[ndarray, "n"], ranks: Float[ndarray, "n"]) -> float:
    """MAE, in the unit of the ranks."""
    return float(np.abs(estimates - ranks).mean())


def cumulative_score(estimates: Float[ndarray, "n"], ranks: Float[ndarray, "n"], limit: float) -> float:
    """CS: the share of absolute errors up to `limit`, in [0, 1]."""
    return float((np.abs(estimates - ranks) <= limit + 1e-9).mean())


def accuracy(estimates: Float[ndarray, "n"], ranks: Float[ndarray, "n"]) -> float:
    """The share of ranks that are met exactly, in [0, 1]."""
    return cumulative_score(estimates, ranks, 0.0)


def contingency(
    clusters: Int[ndarray, "n"], groups: Int[ndarray, "n"], num_clusters: int, num_groups: int
) -> Int[ndarray, "U V"]:
    """How many instances of each group each cluster holds. Tables of shards add up."""
    table = np.bincount(clusters * num_groups + groups, minlength=num_clusters * num_groups)
    return table.reshape(num_clusters, num_groups)


def normalized_mutual_information(table: Int[ndarray, "U V"]) -> float:
    """NMI of two partitions from their contingency table, by the geometric mean of the entropies (29).

    Returns:
        In [0, 1]; 0 where one of the partitions has a single part, so that it says nothing.

    >>> normalized_mutual_information(np.array([[5, 0], [0, 7]]))
    1.0
    """
    joint = table / table.sum()
    clusters, groups = joint.sum(axis=1), joint.sum(axis=0)
    entropies = _entropy(clusters) * _entropy(groups)
    if entropies <= 0:
        return 0.0
    mutual = _entropy(clusters) + _entropy(groups) - _entropy(joint.ravel())
    return float(round(max(mutual, 0.0) / entropies**0.5, 12))


def _entropy(probabilities: Float[ndarray, "n"]) -> float:
    p = probabilities[probabilities > 0]
    return float(-(p * np.log(p)).sum())


def centroid_affinity(centroids: Float[ndarray, "K D"]) -> float:
    """CA = 2/(k(k-1)) sum_{j<l} c_j.c_l, the mean cosine of two centroids (30); lower is better, NaN at k = 1.

    >>> centroid_affinity(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    -1.0
    """
    K = len(centroids)
    if K == 1:
        return float("nan")
    affinities = centroids @ centroids.T
    return float((affinities.sum() - np.trace(affinities)) / (K * (K - 1)))


def adjusted_rand_index(table: Int[ndarray, "U V"]) -> float:
    """ARI of two partitions from their contingency table (Hubert & Arabie 1985): 1 where they agree, 0 by chance.

    >>> adjusted_rand_index(np.array([[5, 0], [0, 7]]))
    1.0
    """
    pairs, clusters, groups, everything = (
        float((counts * (counts - 1) / 2).sum())
        for counts in (table.astype(float), table.sum(axis=1), table.sum(axis=0), table.sum())
    )
    expected, highest = clusters * groups / max(everything, 1), (clusters + groups) / 2
    return 1.0 if highest == expected else (pairs - expected) / (highest - expected)


def clustering_accuracy(table: Int[ndarray, "U V"]) -> float:
    """ACC: the share of instances in the right group, where each cluster stands for one group, as well as can be.

    >>> clustering_accuracy(np.array([[0, 6], [3, 1]]))
    0.9
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def pham_f(distortions: Sequence[float], width: int) -> list[float]:
    """f(k) for k = 1, 2, ...: low where k clusters explain more than k - 1 did by chance (Pham et al. 2005, eq. 2-4).

    Args:
        distortions: sum of squared distances to the centroids at k = 1, 2, ...
        width: d, number of features.

    >>> [round(f, 3) for f in pham_f([10.0, 1.0, 0.9], width=3)]
    [1.0, 0.133, 1.137]
    """
    found, weight = [1.0], 0.0
    for k in range(2, len(distortions) + 1):
        weight = 1 - 3 / (4 * width) if k == 2 else weight + (1 - weight) / 6
        before = distortions[k - 2]
        found.append(distortions[k - 1] / (weight * before) if before > 0 else 1.0)
    return found
