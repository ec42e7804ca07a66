"""From images to clusters in one network: features, and the nearest centroid (Tao, Takagi & Nakata 2021, section 4).

Legend: B images, S side, K clusters, D features.
"""

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ordclust_ray.core.augmentation import to_float
from ordclust_ray.core.feature_networks import FeatureNetwork
from ordclust_ray.core.nearest_centroid import Assigned, assign


class FeatureClusters(nn.Module):
    """Assigns images to the clusters of a training; it is not trained itself.

    Args:
        network: the trained network.
        centroids: of the clusters.
    """

    centroids: Tensor

    def __init__(self, network: FeatureNetwork, centroids: Float[Tensor, "K D"]) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.register_buffer("centroids", centroids.float())
        self.eval()

    def assigned(self, images: UInt8[Tensor, "B S S 3"]) -> Assigned:
        """The clusters of images."""
        return assign(self.network(to_float(images)), self.centroids)
