"""How often a comparator is right of held-out pairs: known ones, whose answers are worked out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ordclust_ray.config import RankConfig
from ordclust_ray.core.image_comparator import FEATURES
from ordclust_ray.reports.comparator_table import pair_accuracy
from ordclust_ray.training.comparator_heads import Instances


class Differences(nn.Module):
    """A comparator that knows ranks: they are the features' first numbers."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Greater, similar, less where the difference is above, within, below 0.5."""
        more = x[:, 0] - y[:, 0]
        return torch.stack([more, torch.full_like(more, 0.5), -more], dim=1)


class Always(nn.Module):
    """A comparator that always says the same."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Greater."""
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(x), 3)


def images(offset: float = 0.0, count: int = 60) -> Instances:
    """Ranks 1 to 5 in two clusters; the features of the second are off by something."""
    ranks, clusters = np.arange(count) % 5 + 1.0, np.arange(count) // 5 % 2
    features = torch.zeros(count, FEATURES)
    features[:, 0] = torch.from_numpy(ranks + offset * clusters)
    return Instances(features, ranks.astype(np.float64), torch.from_numpy(clusters))


def test_one_that_knows_the_ranks_is_always_right() -> None:
    found = pair_accuracy(Differences(), images(), RankConfig(), seed=0)
    assert found == {"held-out accuracy": 1.0, "of greater": 1.0, "of similar": 1.0, "of less": 1.0}


def test_images_of_different_clusters_are_not_compared() -> None:
    """This one is right within clusters only."""
    assert pair_accuracy(Differences(), images(offset=100.0), RankConfig(), 0)["held-out accuracy"] == 1.0


def test_one_answer_is_right_of_a_third() -> None:
    found = pair_accuracy(Always(), images(), RankConfig(), seed=0)
    assert found["held-out accuracy"] == pytest.approx(1 / 3)
    assert (found["of greater"], found["of similar"], found["of less"]) == (1.0, 0.0, 0.0)


def test_tolerance_and_scale_are_those_given() -> None:
    """With tau = 1 neighbours are similar, which this one does not know."""
    found = pair_accuracy(Differences(), images(), RankConfig(tolerance=1.0), seed=0)
    assert (found["of greater"], found["of less"]) == (1.0, 1.0)
    assert 0.2 < found["of similar"] < 0.6  # the same rank is one of two or three similar ones
    geometric = RankConfig(scale="geometric", tolerance=math.log(1.3))  # 4 and 5 are similar, no other two
    assert found["of similar"] < pair_accuracy(Differences(), images(), geometric, 0)["of similar"] < 1.0


def test_a_relation_that_does_not_occur_is_not_measured() -> None:
    distinct = images(count=5)
    found = pair_accuracy(Differences(), distinct, RankConfig(), seed=0)
    assert math.isnan(found["of similar"])
    assert found["held-out accuracy"] == 1.0


def test_an_image_alone_in_its_cluster_is_left_out() -> None:
    few = images(count=6)  # the sixth alone is of the second cluster
    found = pair_accuracy(Differences(), few, RankConfig(), seed=0)
    assert math.isnan(found["of similar"])
