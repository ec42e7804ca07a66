"""Clusters have no order: those of a run get the numbers of the published clusters that hold the same groups."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ordclust_ray.reproduction.cells import Cell, Measured

ClusterSizes = dict[tuple[int, str], float]
"""Instances by cluster and known group."""
PublishedClusters = dict[Cell, ClusterSizes]
"""By the cell of seed 0."""
NAME = "cluster {} of {}"


def cluster_of(measure: str) -> tuple[int, str] | None:
    """Cluster and group that a measure counts, if it does.

    >>> cluster_of("cluster 2 of male")
    (2, 'male')
    """
    found = re.fullmatch(NAME.format(r"(\d+)", "(.+)"), measure)
    return (int(found[1]), found[2]) if found else None


def matched(published: PublishedClusters, results: Mapping[Cell, Measured]) -> dict[Cell, Measured]:
    """Results with the clusters of published cells numbered as they are there; all others as they were."""
    sizes = {cell: published.get(replace(cell, seed=0), {}) for cell in results}
    return {cell: _renumbered(run, sizes[cell]) if sizes[cell] else run for cell, run in results.items()}


def _renumbered(run: Measured, published: ClusterSizes) -> Measured:
    """One run's; a cluster beyond the published number of them is left out."""
    own = {place: value for name, value in run.measures.items() if (place := cluster_of(name))}
    numbers = _numbers(published, own)
    measures = {name: value for name, value in run.measures.items() if not cluster_of(name)}
    renamed = {NAME.format(numbers[j], group): value for (j, group), value in own.items() if j in numbers}
    return replace(run, measures=measures | renamed)


def _numbers(published: ClusterSizes, own: ClusterSizes) -> dict[int, int]:
    """Published numbers of a run's clusters, so that as many instances as possible lie where the paper's do.

    A group's instances count in a published cluster by the share of the group that the paper has there.
    """
    from scipy.optimize import linear_sum_assignment

    if not own:
        return {}
    theirs, ours = (sorted({j for j, _ in sizes}) for sizes in (published, own))
    groups = sorted({group for _, group in published} & {group for _, group in own})
    sizes = np.array([[published.get((j, group), 0) for group in groups] for j in theirs], dtype=float)
    held = np.array([[own.get((j, group), 0) for group in groups] for j in ours], dtype=float)
    shares = sizes / sizes.sum(axis=0).clip(min=1)
    rows, columns = linear_sum_assignment(shares @ held.T, maximize=True)
    return {ours[column]: theirs[row] for row, column in zip(rows, columns, strict=True)}
