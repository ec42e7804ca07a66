"""The sets with ranks: ages, scores, decades."""

from ordclust_ray.datasets import balanced, faces, morph, rated
from ordclust_ray.datasets.listing import DataSet

SETS: tuple[DataSet, ...] = (*morph.SETS, *faces.SETS, *balanced.SETS, *rated.SETS)
