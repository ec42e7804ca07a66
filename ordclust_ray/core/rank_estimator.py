"""From images to ranks in one network: encoder, NN rule, references, comparator, MAP rule (section 3.4, B.10).

Legend: B images, S side, K clusters, M rank levels, P candidates of a cluster and level, R references that an image
is compared with at a level; features: A compared, D identity, G that are grouped.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, UInt8
from numpy import ndarray
from torch import Tensor, nn

from ordclust_ray.core import rank_rules
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.networks import Comparator, Orid, to_unit_range
from ordclust_ray.core.rank_posterior import credible_interval, entropy, rank_posterior
from ordclust_ray.core.references import nearest_candidates, own_and_margin

Grouped = Literal["identity", "order", "whole"]
RULES = ("map", "consistency", "mean", "nearest")


class Encoded(NamedTuple):
    """What the networks make of images.

    Attributes:
        compared: features that the comparator takes.
        identity: unit identity features.
        order: ORID's order features.
    """

    compared: Float[Tensor, "B A"]
    identity: Float[Tensor, "B D"]
    order: Float[Tensor, "B O"]

    def grouped(self, by: Grouped) -> Float[Tensor, "B G"]:
        """The unit features that clusters are made of: identity in the paper, the others in its B.8."""
        if by == "identity":
            return self.identity
        return F.normalize(self.order if by == "order" else torch.cat([self.order, self.identity], dim=1), dim=1)


class RankNetworks(nn.Module):
    """ORID, and the stronger comparator where there is one; else ORID compares too ("vanilla" in table 1).

    Args:
        orid: the trained networks.
        image_comparator: trained on pairs within ORID's clusters.
    """

    def __init__(self, orid: Orid, image_comparator: ImageComparator | None = None) -> None:
        super().__init__()
        self.orid, self.image_comparator = orid, image_comparator
        self.eval()

    @property
    def comparator(self) -> Comparator:
        """The head that compares."""
        return self.orid.comparator if self.image_comparator is None else self.image_comparator.comparator

    def encode(self, images: UInt8[Tensor, "B S S 3"], compared: UInt8[Tensor, "B T T 3"] | None = None) -> Encoded:
        """Features of images.

        Args:
            images: of ORID's size.
            compared: the same images in the stronger comparator's size, where there is one.
        """
        order, identity = self.orid.features(to_unit_range(images))
        if self.image_comparator is None or compared is None:
            return Encoded(order, identity, order)
        return Encoded(self.image_comparator.features(compared), identity, order)


@dataclass(frozen=True)
class Estimates:
    """What is known of each image.

    Attributes:
        ranks: the MAP estimate (33), in the data set's unit.
        other_ranks: the estimates of maximum consistency, of the posterior's expectation, and of the reference that is
            most probably similar, under those of `RULES`.
        clusters: by the NN rule (9), among those that have a reference.
        similarities: cosine to the cluster's centroid.
        margins: what it is above the cosine to the best other centroid; NaN at k = 1.
        posteriors: P(rank | references) over the rank levels (32).
        entropies: of the posteriors, in nats.
        intervals: lowest and highest rank of the credible interval.
        references: instance ids of the references y_i of each level; -1 where the cluster has none.
        orders: the most probable order against each of them.
    """

    ranks: Float64[Tensor, "B"]
    other_ranks: dict[str, Float64[Tensor, "B"]]
    clusters: Int64[Tensor, "B"]
    similarities: Float[Tensor, "B"]
    margins: Float[Tensor, "B"]
    posteriors: Float[Tensor, "B M"]
    entropies: Float[Tensor, "B"]
    intervals: Float64[Tensor, "B 2"]
    references: Int64[Tensor, "B M R"]
    orders: Int64[Tensor, "B M R"]

    def columns(self) -> dict[str, ndarray]:
        """As columns of a table: of numbers (B,), or of lists (B, length).

        `estimate` is the MAP rank, the other rules' ranks have their names; lists are `posterior` (over the rank
        levels), `references` (instance ids, -1 where there is none) and `orders` (against each), level by level.
        """
        columns = {
            "estimate": self.ranks,
            **self.other_ranks,
            "interval_low": self.intervals[:, 0],
            "interval_high": self.intervals[:, 1],
            "entropy": self.entropies,
            "cluster": self.clusters,
            "similarity": self.similarities,
            "margin": self.margins,
            "posterior": self.posteriors,
            "references": self.references.flatten(1),
            "orders": self.orders.flatten(1).to(torch.int8),
        }
        return {name: column.cpu().numpy() for name, column in columns.items()}


class RankEstimator(nn.Module):
    """Everything that an estimate needs.

    Args:
        networks: that encode and compare.
        centroids: unit vectors of the clusters.
        rank_levels: the distinct ranks, ascending.
        likelihoods: from `core.rank_posterior.level_likelihoods`.
        reference_ids: instance ids of the candidates, -1 where a place is empty.
        reference_compared: what the comparator takes of them.
        reference_identity: their identity features.
        references: r, how many of each rank an image is compared with.
        grouped: the features that the centroids are made of.
        credible_mass: of the intervals, in (0, 1].

    Raises:
        ValueError: no reference at all.
    """

    centroids: Tensor
    rank_levels: Tensor
    likelihoods: Tensor
    reference_ids: Tensor
    reference_compared: Tensor
    reference_identity: Tensor
    reference_halves: Tensor

    def __init__(
        self,
        networks: RankNetworks,
        centroids: Float[Tensor, "K G"],
        rank_levels: Float64[Tensor, "M"],
        likelihoods: Float[Tensor, "M 3 M"],
        reference_ids: Int64[Tensor, "K M P"],
        reference_compared: Float[Tensor, "K M P A"],
        reference_identity: Float[Tensor, "K M P D"],
        *,
        references: int = 1,
        grouped: Grouped = "identity",
        credible_mass: float = 0.9,
    ) -> None:
        if not bool((reference_ids >= 0).any()):
            raise ValueError("there is no reference in any cluster; at least one is needed")
        super().__init__()
        self.networks = networks
        self.references, self.grouped, self.credible_mass = references, grouped, credible_mass
        tensors = {
            "centroids": centroids.float(),
            "rank_levels": rank_levels,
            "likelihoods": likelihoods,
            "reference_ids": reference_ids,
            "reference_compared": reference_compared,
            "reference_identity": reference_identity,
        }
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        with torch.no_grad():  # once for all images: the first layer's part of every candidate
            halves = networks.comparator.half_of(reference_compared, second=True)
        self.register_buffer("reference_halves", halves, persistent=False)
        self.eval()

    def estimate(self, images: UInt8[Tensor, "B S S 3"], compared: UInt8[Tensor, "B T T 3"] | None = None) -> Estimates:
        """Cluster, references, comparisons and posterior of each image; the arguments are `RankNetworks.encode`'s."""
        return self.estimate_encoded(self.networks.encode(images, compared))

    def estimate_encoded(self, x: Encoded) -> Estimates:
        """The same from features: as many batches of comparisons as there are clusters among the images."""
        clusters, similarities, margins = self._nearest_clusters(x)
        R = min(self.references, self.reference_ids.shape[2])
        B, M = len(clusters), len(self.rank_levels)
        ids = torch.empty(B, M, R, dtype=torch.int64, device=clusters.device)
        probabilities = torch.empty(B, M, R, 3, device=clusters.device)
        for cluster in clusters.unique().tolist():
            rows = torch.nonzero(clusters == cluster)[:, 0]
            ids[rows], probabilities[rows] = self._compare(Encoded(*(part[rows] for part in x)), cluster)
        present = ids >= 0
        posterior = rank_posterior(probabilities, present, self.likelihoods)
        levels = {
            "map": rank_rules.map_level(posterior),
            "consistency": rank_rules.most_consistent_level(probabilities, present, self.likelihoods),
            "nearest": rank_rules.most_similar_level(probabilities, present),
        }
        ranks = {rule: self.rank_levels[level] for rule, level in levels.items()}
        ranks["mean"] = rank_rules.posterior_mean(posterior, self.rank_levels)
        interval = self.rank_levels[credible_interval(posterior, self.credible_mass)]
        return Estimates(
            ranks.pop("map"),
            ranks,
            clusters,
            similarities,
            margins,
            posterior,
            entropy(posterior),
            interval,
            ids,
            probabilities.argmax(dim=3),
        )

    @torch.inference_mode()
    def map_ranks(self, x: Encoded, batch_size: int = 64) -> Float64[Tensor, "B"]:
        """The MAP estimates (33) alone, from features; so many images at a time are compared with all levels."""
        batches = zip(*(part.split(batch_size) for part in x), strict=True)
        return torch.cat([self.estimate_encoded(Encoded(*batch)).ranks for batch in batches])

    def _nearest_clusters(self, x: Encoded) -> tuple[Int64[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
        """The NN rule (9); a cluster without references is passed over."""
        known = (self.reference_ids >= 0).flatten(1).any(dim=1)
        features = x.grouped(self.grouped)
        cosines = features @ self.centroids.T
        clusters = cosines.masked_fill(~known, -torch.inf).argmax(dim=1)
        return clusters, *own_and_margin(features, self.centroids, clusters)

    def _compare(self, x: Encoded, cluster: int) -> tuple[Int64[Tensor, "B M R"], Float[Tensor, "B M R 3"]]:
        """Instance ids of the references of images of one cluster (13), and p^xy against each, in one batch."""
        ids, identity = self.reference_ids[cluster], self.reference_identity[cluster]
        M, P, D = identity.shape
        similarities = (x.identity @ identity.view(M * P, D).T).view(-1, M, P).masked_fill(ids < 0, -torch.inf)
        _, places = nearest_candidates(similarities, self.references)
        level = torch.arange(M, device=ids.device)[:, None]
        comparator = self.networks.comparator
        halves = comparator.half_of(x.compared, second=False)
        sums = halves[:, None, None] + self.reference_halves[cluster][level, places]
        return ids[level, places], comparator.of_sums(sums).softmax(dim=3)
