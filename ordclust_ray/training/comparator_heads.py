"""Comparators of table 6 on features that stay as they are (Lee & Kim 2021, B.8 and B.9), in plain torch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ordclust_ray.config import RankConfig
from ordclust_ray.core.networks import Comparator, initialise
from ordclust_ray.core.order import Order, similar_levels
from ordclust_ray.core.orid_losses import comparison_loss
from ordclust_ray.core.pairs import PairSampler
from ordclust_ray.training.epochs import begin_epoch
from ordclust_ray.training.orid import base_batches

BATCH = 256
"""Pairs a step."""
LEARNING_RATE = 1e-3
"""Of Adam."""
PAIRS_AN_INSTANCE = 20
"""That an accuracy is measured on."""


@dataclass(frozen=True)
class Instances:
    """What pairs are made of.

    Attributes:
        features: (N, D) float32.
        ranks: (N,) in the data set's unit.
        clusters: (N,) int64; pairs stay within them. All the same: any two are a pair.
    """

    features: Tensor
    ranks: NDArray[np.float64]
    clusters: Tensor

    def sampler(self, rank: RankConfig) -> PairSampler:
        """Draws their pairs, whose relations are uniform, by the settings' scale and tolerance."""
        levels, codes = np.unique(self.ranks, return_inverse=True)
        similar = similar_levels(levels, rank.tolerance, rank.scale)
        columns = (torch.from_numpy(column).to(self.features.device) for column in (codes, *similar))
        level, first, last = columns
        return PairSampler(level, self.clusters, first, last)


def train_head(instances: Instances, rank: RankConfig, *, epochs: int, seed: int) -> Comparator:
    """A comparator of these features; every instance is the x of one pair an epoch, which is learnt in both orders.

    Args:
        instances: at least two.
        rank: when ranks are similar (eq. 4).
        epochs: how many.
        seed: of the first weights, the pairs and dropout: the same one gives the same weights.

    Returns:
        In evaluation mode.
    """
    torch.manual_seed(seed)
    features, sampler = instances.features, instances.sampler(rank)
    head = Comparator(features.shape[1]).apply(initialise).to(features.device)
    optimizer = torch.optim.Adam(head.parameters(), LEARNING_RATE)
    for epoch in range(epochs):
        generator = begin_epoch(seed, epoch, features.device)
        for x in base_batches(len(features), len(features), BATCH, generator):
            y, orders = sampler.draw(x, generator)
            logits = head(features[torch.cat([x, y])], features[torch.cat([y, x])])
            loss = comparison_loss(logits, torch.cat([orders, Order.LESS - orders]))  # greater and less change places
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval()


def order_accuracy(head: nn.Module, instances: Instances, rank: RankConfig, seed: int) -> float:
    """The share of right orders, in [0, 1]: the mean over those that occur, which guessing brings to 1/3.

    The arguments are `right_by_order`'s.
    """
    return float(np.nanmean(list(right_by_order(head, instances, rank, seed).values())))


@torch.no_grad()
def right_by_order(head: nn.Module, instances: Instances, rank: RankConfig, seed: int) -> dict[Order, float]:
    """How often a comparator is right, by the true order of a pair; NaN of an order that does not occur.

    Orders are drawn uniformly; one that an instance stands in with nobody gives way to another.

    Args:
        head: compares features.
        instances: others than it learnt from.
        rank: when ranks are similar.
        seed: of the pairs.
    """
    features = instances.features
    bases = torch.arange(len(features), device=features.device).repeat(PAIRS_AN_INSTANCE)
    generator = torch.Generator(features.device).manual_seed(seed)
    references, orders = instances.sampler(rank).draw(bases, generator)
    pairs = bases != references  # alone in its cluster: no pair
    batches = zip(bases[pairs].split(4096), references[pairs].split(4096), strict=True)
    said = torch.cat([head(features[x], features[y]).argmax(dim=1) for x, y in batches])
    right = (said == orders[pairs]).double()
    return {order: float(right[orders[pairs] == order].mean()) for order in Order}
