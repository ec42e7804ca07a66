"""`training.comparator_heads`: comparators of features that stay as they are."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ordclust_ray.config import RankConfig
from ordclust_ray.core.order import Order
from ordclust_ray.training.comparator_heads import Instances, order_accuracy, train_head

RANK, DIM = RankConfig(), 16


def planted(seed: int, size: int = 600, *, ordered: bool = True) -> Instances:
    """Ranks 0 to 4, along one direction of noisy features, or nowhere in them; two clusters."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.randint(5, (size,), generator=generator)
    features = torch.randn(size, DIM, generator=generator)
    if ordered:
        features[:, 0] = ranks + 0.05 * features[:, 0]
    return Instances(features, ranks.double().numpy(), torch.arange(size) % 2)


def drawn(instances: Instances) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The x, y and order of many pairs."""
    x = torch.arange(len(instances.features)).repeat(5)
    return x, *instances.sampler(RANK).draw(x, torch.Generator().manual_seed(0))


def test_order_that_is_in_the_features_is_learnt() -> None:
    head = train_head(planted(0), RANK, epochs=60, seed=0)
    assert order_accuracy(head, planted(1), RANK, seed=0) > 0.95


def test_without_order_in_the_features_comparing_is_guessing() -> None:
    head = train_head(planted(0, ordered=False), RANK, epochs=60, seed=0)
    assert 0.2 < order_accuracy(head, planted(1, ordered=False), RANK, seed=0) < 0.45


def test_same_seed_gives_the_same_weights() -> None:
    instances = planted(0, 100)
    first, again, other = (train_head(instances, RANK, epochs=2, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.3.weight"], other["layers.3.weight"])


def test_pairs_stay_within_clusters_and_have_the_order_of_their_ranks() -> None:
    instances = planted(0)
    x, y, orders = drawn(instances)
    assert torch.equal(instances.clusters[x], instances.clusters[y])
    assert not torch.equal(x, y)
    ranks = torch.from_numpy(instances.ranks)
    expected = (1 - (ranks[x] - ranks[y]).sign()).long()
    assert torch.equal(orders, expected)


def test_tolerance_and_scale_of_the_settings_hold() -> None:
    """Ages 10, 20 and 21: on the geometric scale with tolerance 0.1 the last two are similar."""
    ranks: NDArray[np.float64] = np.repeat([10.0, 20.0, 21.0], 20)
    instances = Instances(torch.zeros(60, DIM), ranks, torch.zeros(60, dtype=torch.int64))
    x = torch.arange(60).repeat(5)
    y, orders = instances.sampler(RankConfig(tolerance=0.1, scale="geometric")).draw(
        x, torch.Generator().manual_seed(0)
    )
    similar = orders == Order.SIMILAR
    assert torch.equal(similar, torch.from_numpy((ranks[x] > 15) == (ranks[y] > 15)))


def test_accuracy_is_the_mean_over_the_orders() -> None:
    """A head that says "greater" whatever it sees is right of all the greater and of none of the others."""
    instances = planted(0)
    head = train_head(instances, RANK, epochs=1, seed=0)
    with torch.no_grad():
        head.get_parameter("layers.3.weight").zero_()
        head.get_parameter("layers.3.bias").copy_(torch.tensor([1.0, 0.0, 0.0]))
    assert order_accuracy(head, instances, RANK, seed=0) == pytest.approx(1 / 3)
