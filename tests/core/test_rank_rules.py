"""The rules beside MAP: worked by hand, and a perfect comparator."""

import numpy as np
import pytest
import torch

from ordclust_ray.core.order import Order, similar_levels
from ordclust_ray.core.rank_posterior import level_likelihoods, rank_posterior
from ordclust_ray.core.rank_rules import map_level, most_consistent_level, most_similar_level, posterior_mean

FOUR = np.arange(1.0, 5.0)


def likelihoods_of(levels: np.ndarray, tolerance: float) -> torch.Tensor:
    return level_likelihoods(*(torch.from_numpy(edge) for edge in similar_levels(levels, tolerance)))


def test_most_consistent_by_hand() -> None:
    """Four ranks, tau = 0: greater than 1, similar to 2 (barely), greater than 3, less than 4.

    Rank 3 agrees with the first and the last, rank 2 with these and the second, rank 4 with the first and the third.
    """
    said = torch.tensor([[[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.9, 0.1, 0.0], [0.1, 0.1, 0.8]]])[:, :, None]
    present = torch.ones(1, 4, 1, dtype=torch.bool)
    assert most_consistent_level(said, present, likelihoods_of(FOUR, 0.0)).tolist() == [1]
    present[0, 1] = False  # then ranks 2, 3 and 4 agree with two each: the lowest wins
    assert most_consistent_level(said, present, likelihoods_of(FOUR, 0.0)).tolist() == [1]
    said[0, 2, 0] = torch.tensor([0.1, 0.8, 0.1])  # similar to 3: rank 3 agrees with all three
    assert most_consistent_level(said, present, likelihoods_of(FOUR, 0.0)).tolist() == [2]


def test_consistency_does_not_see_how_sure_a_comparison_is() -> None:
    """MAP follows the one sure comparison, maximum consistency the two that hardly say anything."""
    likelihoods = likelihoods_of(np.arange(2.0), 0.0)
    said = torch.tensor([[[[0.0, 1.0, 0.0]] * 1, [[0.0, 0.4, 0.35]] * 1]])  # the second: similar, by little
    said = torch.cat([said, said], dim=2)
    said[0, 0, 1] = torch.tensor([0.51, 0.49, 0.0])
    present = torch.ones(1, 2, 2, dtype=torch.bool)
    assert map_level(rank_posterior(said, present, likelihoods)).tolist() == [0]
    assert most_consistent_level(said, present, likelihoods).tolist() == [1]


def test_the_most_similar_reference_gives_its_rank() -> None:
    said = torch.tensor([[[[0.5, 0.5, 0.0], [0.1, 0.8, 0.1]], [[0.0, 0.7, 0.3], [0.0, 0.9, 0.1]]]])
    assert most_similar_level(said, torch.ones(1, 2, 2, dtype=torch.bool)).tolist() == [1]
    assert most_similar_level(said, torch.tensor([[[True, True], [True, False]]])).tolist() == [0]


def test_mean_of_a_posterior_whose_mass_is_not_one() -> None:
    ranks = torch.tensor([1.0, 2.0, 10.0], dtype=torch.float64)
    assert posterior_mean(torch.tensor([[0.2, 0.2, 0.1], [0.0, 0.0, 0.0]]), ranks).tolist() == pytest.approx(
        [3.2, 13 / 3]
    )


@pytest.mark.parametrize(("levels", "tolerance"), [(np.arange(101) / 100, 0.15), (np.arange(1.0, 6.0), 1.0)])
def test_a_perfect_comparator_makes_no_error_by_consistency_either(levels: np.ndarray, tolerance: float) -> None:
    first, last = similar_levels(levels, tolerance)
    level = np.arange(len(levels))
    orders = np.where(
        level[:, None] >= last, Order.GREATER, np.where(level[:, None] < first, Order.LESS, Order.SIMILAR)
    )
    said = torch.nn.functional.one_hot(torch.from_numpy(orders.astype(np.int64)), 3).float()[:, :, None]
    present = torch.ones(len(levels), len(levels), 1, dtype=torch.bool)
    assert most_consistent_level(said, present, likelihoods_of(levels, tolerance)).tolist() == level.tolist()
