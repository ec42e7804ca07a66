"""The cluster of a feature: that of the nearest centroid.

Legend: N features, K clusters, D numbers a feature.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Assigned:
    """What is known of each feature.

    Attributes:
        clusters: of the nearest centroid.
        distances: to it, Euclidean.
        margins: how much farther the second nearest centroid is; 0 on the border between two clusters.
        seconds: the cluster of the second nearest centroid.
    """

    clusters: Int64[Tensor, "N"]
    distances: Float[Tensor, "N"]
    margins: Float[Tensor, "N"]
    seconds: Int64[Tensor, "N"]


def assign(features: Float[Tensor, "N D"], centroids: Float[Tensor, "K D"]) -> Assigned:
    """The nearest and the second nearest centroid of each feature.

    Args:
        features: any rows.
        centroids: at least two.
    """
    squares = (centroids**2).sum(dim=1) - 2 * features @ centroids.T
    nearest, places = squares.topk(2, dim=1, largest=False)
    distances = (nearest + (features**2).sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    return Assigned(places[:, 0], distances[:, 0], distances[:, 1] - distances[:, 0], places[:, 1])
