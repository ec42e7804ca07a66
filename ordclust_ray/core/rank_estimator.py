"""From images to ranks in one network: encoder, NN rule, references, comparator, MAP rule (section 3.4, B.10).

Legend: B images, S side, K clusters, M rank levels, P candidates of a cluster and level, A order and D identity
features.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor, nn

from ordclust_ray.core.networks import Orid, to_unit_range
from ordclust_ray.core.rank_posterior import map_level, rank_posterior
from ordclust_ray.core.references import nearest_candidates


@dataclass(frozen=True)
class Estimates:
    """What is known of each image.

    Attributes:
        ranks: the MAP estimate, in the data set's unit.
        clusters: by the NN rule (9), among those that have a reference.
        similarities: cosine to the cluster's centroid.
        posteriors: P(rank | references) over the rank levels.
        references: instance id of the reference y_i of each level; -1 where the cluster has none.
    """

    ranks: Float64[Tensor, "B"]
    clusters: Int64[Tensor, "B"]
    similarities: Float[Tensor, "B"]
    posteriors: Float[Tensor, "B M"]
    references: Int64[Tensor, "B M"]


class RankEstimator(nn.Module):
    """Estimates ranks by ORID's own comparator ("vanilla" in table 1).

    Args:
        orid: the trained networks.
        centroids: unit vectors of the clusters.
        rank_levels: the distinct ranks, ascending.
        likelihoods: from `core.rank_posterior.level_likelihoods`.
        reference_ids: instance ids of the candidates, -1 where a place is empty.
        reference_order: their order features.
        reference_identity: their identity features.

    Raises:
        ValueError: no reference at all.
    """

    orid: Orid
    centroids: Tensor
    rank_levels: Tensor
    likelihoods: Tensor
    reference_ids: Tensor
    reference_order: Tensor
    reference_identity: Tensor

    def __init__(
        self,
        orid: Orid,
        centroids: Float[Tensor, "K D"],
        rank_levels: Float64[Tensor, "M"],
        likelihoods: Float[Tensor, "M 3 M"],
        reference_ids: Int64[Tensor, "K M P"],
        reference_order: Float[Tensor, "K M P A"],
        reference_identity: Float[Tensor, "K M P D"],
    ) -> None:
        if not bool((reference_ids >= 0).any()):
            raise ValueError("there is no reference in any cluster; at least one is needed")
        super().__init__()
        self.orid = orid
        tensors = {
            "centroids": centroids.float(),
            "rank_levels": rank_levels,
            "likelihoods": likelihoods,
            "reference_ids": reference_ids,
            "reference_order": reference_order,
            "reference_identity": reference_identity,
        }
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        self.eval()

    def estimate(self, images: UInt8[Tensor, "B S S 3"]) -> Estimates:
        """Cluster, references, comparisons and posterior of each image."""
        order, identity = self.orid.features(to_unit_range(images))
        known = (self.reference_ids >= 0).flatten(1).any(dim=1)  # a cluster without members estimates nothing
        closest = (identity @ self.centroids.T).masked_fill(~known, -torch.inf).max(dim=1)
        _, places = self._references(identity, closest.indices)
        rows, levels = closest.indices[:, None], torch.arange(len(self.rank_levels), device=images.device)
        ids = self.reference_ids[rows, levels, places]
        reference_order = self.reference_order[rows, levels, places]
        order_probabilities = self._compare(order, reference_order)
        posterior = rank_posterior(order_probabilities, ids >= 0, self.likelihoods)
        ranks = self.rank_levels[map_level(posterior)]
        return Estimates(ranks, closest.indices, closest.values, posterior, ids)

    def _references(
        self, identity: Float[Tensor, "B D"], clusters: Int64[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B M"], Int64[Tensor, "B M"]]:
        """The candidate of each level that is most similar to each image, in its own cluster (13)."""
        K, M, P, D = self.reference_identity.shape
        similarities = (identity @ self.reference_identity.reshape(K * M * P, D).T).view(-1, K, M, P)
        empty: Bool[Tensor, "K M P"] = self.reference_ids < 0
        return nearest_candidates(similarities.masked_fill(empty, -torch.inf), clusters)

    def _compare(self, x: Float[Tensor, "B A"], y: Float[Tensor, "B M A"]) -> Float[Tensor, "B M 3"]:
        B, M, A = y.shape
        both = x[:, None].expand(B, M, A).reshape(B * M, A), y.reshape(B * M, A)
        return self.orid.comparator(*both).view(B, M, 3).softmax(dim=2)

    def forward(self, images: UInt8[Tensor, "B S S 3"]) -> Float64[Tensor, "B 2"]:
        """Rank and cluster of each image, for use elsewhere."""
        found = self.estimate(images)
        return torch.stack([found.ranks, found.clusters.to(found.ranks.dtype)], dim=1)
