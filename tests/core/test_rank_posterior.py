"""The MAP rule against eq. (31)-(33) in exact fractions, and the numbers of the notes."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ordclust_ray.core import rank_posterior as posteriors
from ordclust_ray.core.order import Order, RankScale, similar_levels
from ordclust_ray.core.rank_posterior import credible_interval, entropy, level_likelihoods
from ordclust_ray.core.rank_rules import map_level

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=80)
AGES = np.arange(16.0, 78.0)


def edges_of(levels: np.ndarray, tolerance: float, scale: RankScale = "linear") -> tuple[Tensor, Tensor]:
    first, last = similar_levels(levels, tolerance, scale)
    return torch.from_numpy(first), torch.from_numpy(last)


def perfect_comparisons(first: Tensor, last: Tensor) -> Tensor:
    """One-hot orders of an instance of every level (rows) against a reference of every level."""
    M = len(first)
    orders = torch.full((M, M), int(Order.SIMILAR))
    for x in range(M):
        for i in range(M):
            if x >= last[i]:
                orders[x, i] = Order.GREATER
            elif x < first[i]:
                orders[x, i] = Order.LESS
    return torch.nn.functional.one_hot(orders, 3).float()


def all_present(instances: int, levels: int) -> Tensor:
    return torch.ones(instances, levels, dtype=torch.bool)


def rank_posterior(said: Tensor, present: Tensor, likelihoods: Tensor) -> Tensor:
    """With one reference of each level."""
    return posteriors.rank_posterior(said[:, :, None], present[:, :, None], likelihoods)


def exact_posterior(
    probabilities: list[list[float]], present: list[bool], first: list[int], last: list[int]
) -> list[Fraction]:
    """Eq. (31) and (32) literally, over the references that are present."""
    M = len(first)
    posterior = [Fraction(0)] * M
    for i in range(M):
        if not present[i]:
            continue
        intervals = {
            Order.GREATER: range(last[i], M),  # i + tau + 1 .. m
            Order.SIMILAR: range(first[i], last[i]),  # i - tau .. i + tau
            Order.LESS: range(first[i]),  # 1 .. i - tau - 1
        }
        for order, interval in intervals.items():
            for r in interval:
                posterior[r] += Fraction(probabilities[i][order]) / len(interval) / sum(present)
    return posterior


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[list[list[float]], list[bool], int, float]:
    M = draw(st.integers(1, 9))
    cell = st.lists(st.integers(0, 16), min_size=3, max_size=3).filter(any)
    probabilities = [[v / sum(cells) for v in cells] for cells in draw(st.lists(cell, min_size=M, max_size=M))]
    present = draw(st.lists(st.booleans(), min_size=M, max_size=M).filter(any))
    return probabilities, present, M, float(draw(st.integers(0, M)))


def test_likelihoods_by_hand() -> None:
    """Four ranks, tau = 1. Against a reference of rank 2: similar is 1, 2, 3; greater is 4; nothing is less."""
    likelihoods = level_likelihoods(*edges_of(np.arange(1.0, 5.0), 1.0))
    third, half = 1 / 3, 1 / 2
    expected = [
        [[0, 0, half, half], [half, half, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 1], [third, third, third, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, third, third, third], [1, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, half, half], [half, half, 0, 0]],
    ]
    torch.testing.assert_close(likelihoods, torch.tensor(expected))


def test_posterior_by_hand() -> None:
    """Four ranks, tau = 1, one reference each; every term of eq. (31) written out, in units of 1/120."""
    likelihoods = level_likelihoods(*edges_of(np.arange(1.0, 5.0), 1.0))
    said = torch.tensor([[[0.5, 0.4, 0.1], [0.2, 0.6, 0.2], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6]]])
    # reference 1: 0.4/2 on 1, 2; 0.5/2 on 3, 4; its 0.1 for less is lost
    # reference 2: 0.6/3 on 1, 2, 3; 0.2 on 4; 0.2 lost
    # reference 3: 0.6/3 on 2, 3, 4; 0.3 on 1; 0.1 lost
    # reference 4: 0.3/2 on 3, 4; 0.6/2 on 1, 2; 0.1 lost
    expected = torch.tensor([[0.2 + 0.2 + 0.3 + 0.3, 0.2 + 0.2 + 0.2 + 0.3, 0.25 + 0.2 + 0.2 + 0.15, 0.8]]) / 4
    posterior = rank_posterior(said, all_present(1, 4), likelihoods)
    torch.testing.assert_close(posterior, expected)
    assert map_level(posterior).tolist() == [0]
    assert float(posterior.sum()) == pytest.approx(1 - (0.1 + 0.2 + 0.1 + 0.1) / 4)


def test_posterior_skips_ranks_without_a_reference() -> None:
    likelihoods = level_likelihoods(*edges_of(np.arange(1.0, 5.0), 1.0))
    said = torch.tensor([[[0.5, 0.4, 0.1], [9.0, 9.0, 9.0], [0.1, 0.6, 0.3], [9.0, 9.0, 9.0]]])
    present = torch.tensor([[True, False, True, False]])
    expected = torch.tensor([[0.2 + 0.3, 0.2 + 0.2, 0.25 + 0.2, 0.25 + 0.2]]) / 2
    torch.testing.assert_close(rank_posterior(said, present, likelihoods), expected)


def test_every_row_of_the_likelihoods_is_a_uniform_distribution_or_empty() -> None:
    likelihoods = level_likelihoods(*edges_of(AGES, 0.1, "geometric"))
    totals = likelihoods.sum(dim=2)
    assert (((totals - 1).abs() < 1e-6) | (totals == 0)).all()
    for row in likelihoods.reshape(-1, 62):
        assert len(row[row > 0].unique()) <= 1
    assert (totals[:, Order.SIMILAR] > 0).all()
    assert totals[-1, Order.GREATER] == 0
    assert totals[0, Order.LESS] == 0


@PROPERTY
@given(case=comparisons())
def test_posterior_is_that_of_exact_fractions(case: tuple[list[list[float]], list[bool], int, float]) -> None:
    probabilities, present, M, tolerance = case
    first, last = edges_of(np.arange(float(M)), tolerance)
    posterior = rank_posterior(torch.tensor([probabilities]), torch.tensor([present]), level_likelihoods(first, last))
    expected = exact_posterior(probabilities, present, first.tolist(), last.tolist())
    np.testing.assert_allclose(posterior[0].numpy(), [float(p) for p in expected], atol=1e-6)
    ahead = sorted(expected)
    assume(M == 1 or ahead[-1] - ahead[-2] > 1e-5)
    assert int(map_level(posterior)) == expected.index(ahead[-1])


def test_instances_of_a_batch_do_not_mix() -> None:
    likelihoods = level_likelihoods(*edges_of(AGES, 0.1, "geometric"))
    generator = torch.Generator().manual_seed(0)
    said = torch.rand(6, 62, 3, generator=generator).softmax(dim=2)
    present = torch.rand(6, 62, generator=generator) < 0.8
    together = rank_posterior(said, present, likelihoods)
    alone = [rank_posterior(said[i : i + 1], present[i : i + 1], likelihoods) for i in range(6)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_perfect_comparator_on_ages() -> None:
    """The notes: one reference per age 16..77 and tau = 0.1 on the geometric scale give MAE 0.016."""
    first, last = edges_of(AGES, 0.1, "geometric")
    posterior = rank_posterior(perfect_comparisons(first, last), all_present(62, 62), level_likelihoods(first, last))
    error = np.abs(AGES[map_level(posterior).numpy()] - AGES)
    assert round(float(error.mean()), 3) == 0.016


def test_perfect_comparator_on_ages_is_wrong_only_where_two_ages_tie() -> None:
    """In exact arithmetic 73 and 74 are as likely as each other for a person of 74; the lower one is taken."""
    first, last = edges_of(AGES, 0.1, "geometric")
    comparisons_of_74 = perfect_comparisons(first, last)[74 - 16].tolist()
    exact = exact_posterior(comparisons_of_74, [True] * 62, first.tolist(), last.tolist())
    assert [16 + level for level, p in enumerate(exact) if p == max(exact)] == [73, 74]


def test_mass_of_an_undecided_comparator_on_ages() -> None:
    """The notes: (.3, .4, .3) everywhere gives 0.952; what is lost are the empty intervals at both ends."""
    likelihoods = level_likelihoods(*edges_of(AGES, 0.1, "geometric"))
    said = torch.tensor([0.3, 0.4, 0.3]).expand(1, 62, 3)
    mass = float(rank_posterior(said, all_present(1, 62), likelihoods).sum())
    empty_below = sum(np.log(age / 16) <= 0.1 for age in AGES)  # 16, 17
    empty_above = sum(np.log(77 / age) <= 0.1 for age in AGES)  # 70 .. 77
    assert (empty_below, empty_above) == (2, 8)
    assert mass == pytest.approx(1 - 0.3 * (2 + 8) / 62)
    assert round(mass, 3) == 0.952


@pytest.mark.parametrize(("levels", "tolerance"), [(np.arange(101) / 100, 0.15), (np.arange(1.0, 6.0), 1.0)])
def test_perfect_comparator_on_linear_scales_makes_no_error(levels: np.ndarray, tolerance: float) -> None:
    """The notes, for AADB and HCI."""
    M = len(levels)
    first, last = edges_of(levels, tolerance)
    posterior = rank_posterior(perfect_comparisons(first, last), all_present(M, M), level_likelihoods(first, last))
    assert map_level(posterior).tolist() == list(range(M))


@PROPERTY
@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=1, max_size=8),
)
def test_lowest_rank_wins_a_tie(values: list[float]) -> None:
    assert map_level(torch.tensor([values])).tolist() == [values.index(max(values))]


def test_lowest_rank_wins_a_tie_of_equal_references() -> None:
    """An undecided comparison with the middle of three ranks at tau = 0: all ranks equally likely."""
    likelihoods = level_likelihoods(*edges_of(np.arange(3.0), 0.0))
    said = torch.full((1, 3, 3), 1 / 3)
    posterior = rank_posterior(said, torch.tensor([[False, True, False]]), likelihoods)
    assert map_level(posterior).tolist() == [0]


def test_lowest_rank_wins_a_tie_that_rounding_hides() -> None:
    """Six ranks, tau = 3, one-hot comparisons: the second, fifth and sixth rank tie at 31/180."""
    first, last = edges_of(np.arange(6.0), 3.0)
    probabilities = torch.nn.functional.one_hot(torch.tensor([[0, 2, 1, 1, 1, 2]]), 3).float()
    exact = exact_posterior(probabilities[0].tolist(), [True] * 6, first.tolist(), last.tolist())
    assert [level for level, p in enumerate(exact) if p == max(exact)] == [1, 4, 5]
    posterior = rank_posterior(probabilities, all_present(1, 6), level_likelihoods(first, last))
    assert map_level(posterior).tolist() == [1]


@pytest.mark.parametrize(("num_levels", "tolerance"), [(101, 15.0), (200, 20.0)])
def test_top_of_a_smooth_posterior_is_not_a_tie(num_levels: int, tolerance: float) -> None:
    """A comparator that is surer the larger the difference: the estimate is the arg max in float64, not one below."""
    first, last = edges_of(np.arange(float(num_levels)), tolerance)
    levels = torch.arange(num_levels, dtype=torch.float64)
    difference = levels[:, None] - levels
    logits = torch.stack([difference - tolerance, torch.zeros_like(difference), -difference - tolerance], dim=2)
    said = (logits / (0.05 * num_levels)).softmax(dim=2)
    present, likelihoods = all_present(num_levels, num_levels), level_likelihoods(first, last)
    expected = rank_posterior(said, present, likelihoods.double()).argmax(dim=1)
    assert map_level(rank_posterior(said.float(), present, likelihoods)).tolist() == expected.tolist()


def test_every_reference_counts_as_much_as_another() -> None:
    """Two references of the first level and one of the second: a third of the posterior from each."""
    likelihoods = level_likelihoods(*edges_of(np.arange(2.0), 0.0))
    said = torch.tensor([[[[0.9, 0.1, 0.0], [0.5, 0.5, 0.0]], [[0.0, 0.2, 0.8], [9.0, 9.0, 9.0]]]])
    present = torch.tensor([[[True, True], [True, False]]])
    expected = torch.tensor([[0.1 + 0.5 + 0.8, 0.9 + 0.5 + 0.2]]) / 3
    torch.testing.assert_close(posteriors.rank_posterior(said, present, likelihoods), expected)


def test_without_any_mass_nothing_is_known() -> None:
    """The only reference has the lowest of four ranks, and the comparator is sure that the image has a lower one."""
    likelihoods = level_likelihoods(*edges_of(np.arange(4.0), 0.0))
    said = torch.tensor([[[0.0, 0.0, 1.0]]]).expand(1, 4, 3)
    posterior = rank_posterior(said, torch.tensor([[True, False, False, False]]), likelihoods)
    assert posterior.tolist() == [[0.0] * 4]
    assert map_level(posterior).tolist() == [0]
    assert float(entropy(posterior)) == pytest.approx(np.log(4))
    assert credible_interval(posterior, 0.9).tolist() == [[0, 3]]


def test_a_single_rank_is_certain() -> None:
    likelihoods = level_likelihoods(*edges_of(np.array([7.0]), 1.0))
    posterior = rank_posterior(torch.tensor([[[0.2, 0.5, 0.3]]]), all_present(1, 1), likelihoods)
    torch.testing.assert_close(posterior, torch.tensor([[0.5]]))  # greater and less are empty
    assert float(entropy(posterior)) == 0
    assert credible_interval(posterior, 0.9).tolist() == [[0, 0]]


@PROPERTY
@given(
    values=st.lists(st.integers(0, 16), min_size=1, max_size=9).filter(any), mass=st.sampled_from([0.3, 0.5, 0.9, 1.0])
)
def test_interval_is_the_shortest_that_holds_the_mass(values: list[int], mass: float) -> None:
    total = sum(values)
    spans = [(a, b) for a in range(len(values)) for b in range(a, len(values))]
    holding = [
        (a, b) for a, b in spans if Fraction(sum(values[a : b + 1]), total) >= Fraction(mass) - Fraction(1, 10**6)
    ]
    best = min(holding, key=lambda span: (span[1] - span[0], -sum(values[span[0] : span[1] + 1]), span[0]))
    assert credible_interval(torch.tensor([values]).float() / 7, mass).tolist() == [list(best)]


def test_entropy_by_hand() -> None:
    assert entropy(torch.tensor([[0.25, 0.25, 0.0]])).tolist() == pytest.approx([np.log(2)])
