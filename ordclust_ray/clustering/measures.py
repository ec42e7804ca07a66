"""How good clusters of sharded features are, with known classes and without; the same in every process."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ordclust_ray.core.metrics import (
    adjusted_rand_index,
    clustering_accuracy,
    contingency,
    normalized_mutual_information,
)
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.processes import all_gather, all_reduce_sum

SIMILARITIES = 2**24
"""In memory at a time, while neighbours are looked for."""


def class_measures(
    assignments: NDArray[np.int64], labels: NDArray[np.int64], num_clusters: int, num_classes: int
) -> dict[str, float]:
    """ACC, NMI and ARI in [0, 1], over the rows of all processes whose class is known.

    Args:
        assignments: (N,) clusters of this process's rows.
        labels: (N,) their classes, -1 where unknown.
        num_clusters: k.
        num_classes: known ones.

    Returns:
        `acc`, `nmi`, `ari`; nothing where no class is known.
    """
    known = labels >= 0
    table = np.sum(all_gather(contingency(assignments[known], labels[known], num_clusters, num_classes)), axis=0)
    if not table.sum():
        return {}
    return {
        "acc": clustering_accuracy(table),
        "nmi": normalized_mutual_information(table),
        "ari": adjusted_rand_index(table),
    }


def plain_measures(
    rows: Tensor,
    first: int,
    num_rows: int,
    assignments: NDArray[np.int64],
    num_clusters: int,
    *,
    sample: int,
    seed: int,
) -> dict[str, Any]:
    """What can be said without a known class.

    Args:
        rows: (N, D) unit features of this process.
        first: number of the first of them, counted over all processes.
        num_rows: of all processes.
        assignments: (N,) their clusters.
        num_clusters: k.
        sample: about how many rows the next two are computed for.
        seed: of the sample.

    Returns:
        `silhouette` in [-1, 1], of the sample within itself, None where that has a single cluster;
        `nearest_same_cluster`, the share of the sample whose nearest other row, by cosine, of all rows is in the same
        cluster; `cluster_sizes`.
    """
    numbers = np.arange(first, first + len(rows))
    chosen = random_keys(numbers, seed) <= np.uint64(min(1.0, sample / num_rows) * (2**64 - 2**11))
    own = rows[torch.from_numpy(chosen).to(rows.device)]
    everyone = all_gather((own.cpu(), numbers[chosen], assignments[chosen]))
    features = torch.cat([part[0] for part in everyone])
    ids, clusters = (np.concatenate([part[i] for part in everyone]) for i in (1, 2))
    best, places = nearest_rows(features.to(rows.device), rows, torch.from_numpy(ids - first).to(rows.device))
    found = all_gather((best.cpu().numpy(), assignments[places.cpu().numpy()]))
    similarities, neighbours = (np.stack([part[i] for part in found]) for i in (0, 1))
    neighbour = np.take_along_axis(neighbours, similarities.argmax(axis=0)[None], axis=0)[0]
    sizes = all_reduce_sum(torch.from_numpy(np.bincount(assignments, minlength=num_clusters)).to(rows.device))
    return {
        "silhouette": _silhouette(features.numpy(), clusters),
        "nearest_same_cluster": float((neighbour == clusters).mean()),
        "cluster_sizes": sizes.tolist(),
    }


def nearest_rows(queries: Tensor, rows: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The most similar row of each query, other than itself.

    Args:
        queries: (Q, D) unit features.
        rows: (N, D) unit features.
        own: (Q,) place of each query among the rows; outside of 0..N-1 where it is not among them.

    Returns:
        Its similarity (Q,), -inf where there is no other row, and its place (Q,).
    """
    best = queries.new_full((len(queries),), -torch.inf)
    places = torch.zeros_like(own)
    step = max(1, SIMILARITIES // max(len(queries), 1))
    for start in range(0, len(rows), step):
        similarities = queries @ rows[start : start + step].T
        column = own - start
        here = ((column >= 0) & (column < similarities.shape[1])).nonzero().squeeze(1)
        similarities[here, column[here]] = -torch.inf
        highest, place = similarities.max(dim=1)
        places = torch.where(highest > best, place + start, places)
        best = torch.maximum(best, highest)
    return best, places


def _silhouette(features: NDArray[np.float32], clusters: NDArray[np.int64]) -> float | None:
    """Of Rousseeuw (1987)."""
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(clusters)) < len(clusters):
        return None
    return float(silhouette_score(features, clusters))
