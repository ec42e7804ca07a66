"""Levels and orders against eq. (4), read literally for every pair of ranks."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ordclust_ray.core.order import Order, similar_levels

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)


def exact_order(x: Fraction, y: Fraction, tolerance: Fraction) -> Order:
    """Eq. (4) without rounding."""
    if x - y > tolerance:
        return Order.GREATER
    return Order.LESS if x - y < -tolerance else Order.SIMILAR


def order_of_levels(x: int, y: int, first: np.ndarray, last: np.ndarray) -> Order:
    """What the docstring of `similar_levels` says of its two arrays."""
    if y < first[x]:
        return Order.GREATER
    return Order.LESS if y >= last[x] else Order.SIMILAR


def assert_orders_are_exact(ranks: list[Fraction], tolerance: Fraction) -> None:
    first, last = similar_levels(np.array([float(r) for r in ranks]), float(tolerance))
    for x, rank_x in enumerate(ranks):
        for y, rank_y in enumerate(ranks):
            assert order_of_levels(x, y, first, last) == exact_order(rank_x, rank_y, tolerance), (rank_x, rank_y)


def test_order_numbers_are_the_comparators_classes() -> None:
    assert [Order.GREATER, Order.SIMILAR, Order.LESS] == [0, 1, 2]


def test_linear_by_hand() -> None:
    # 0 and 1 are similar, 4 and 6 too, and 6 and 7.5; 1 and 4 differ by 3, 4 and 7.5 by 3.5
    first, last = similar_levels(np.array([0.0, 1.0, 4.0, 6.0, 7.5]), tolerance=2.0)
    assert first.tolist() == [0, 0, 2, 2, 3]
    assert last.tolist() == [2, 2, 4, 5, 5]
    assert first.dtype == last.dtype == np.int64


def test_geometric_by_hand() -> None:
    # ln(11/10) = 0.095, ln(12/11) = 0.087, ln(13/12) = 0.080; ln(12/10) = 0.182, ln(13/11) = 0.167
    first, last = similar_levels(np.array([10.0, 11.0, 12.0, 13.0]), tolerance=0.1, scale="geometric")
    assert first.tolist() == [0, 0, 1, 2]
    assert last.tolist() == [2, 3, 4, 4]


def test_ages_of_morph() -> None:
    """At 16, e^0.1 times is 17.7 years; at 77, 69.7 years are as near as 77."""
    first, last = similar_levels(np.arange(16.0, 78.0), tolerance=0.1, scale="geometric")
    assert (first[0], last[0]) == (0, 2)
    assert (first[-1], last[-1]) == (70 - 16, 62)


def test_tolerance_zero_makes_only_equal_ranks_similar() -> None:
    first, last = similar_levels(np.array([0.1, 0.2, 0.3]), tolerance=0.0)
    assert first.tolist() == [0, 1, 2]
    assert last.tolist() == [1, 2, 3]


def test_one_level_is_similar_to_itself() -> None:
    first, last = similar_levels(np.array([5.0]), tolerance=0.0)
    assert (first.tolist(), last.tolist()) == ([0], [1])


def test_differences_that_equal_the_tolerance_are_similar_on_the_scale_of_aadb() -> None:
    """Scores of 0.01 and tau = 0.15: no pair may fall to rounding, as 0.3 - 0.15 > 0.15 would in float64."""
    assert_orders_are_exact([Fraction(i, 100) for i in range(101)], Fraction(15, 100))


def test_ratios_that_equal_the_tolerance_are_similar_on_the_geometric_scale() -> None:
    first, last = similar_levels(2.0 ** np.arange(12), tolerance=math.log(2), scale="geometric")
    assert first.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert last.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12]


@PROPERTY
@given(
    ranks=st.sets(st.integers(-300, 300), min_size=1, max_size=25),
    tolerance=st.integers(0, 100),
    unit=st.sampled_from([1, 10, 100, 7]),
)
def test_linear_orders_are_those_of_exact_arithmetic(ranks: set[int], tolerance: int, unit: int) -> None:
    assert_orders_are_exact([Fraction(r, unit) for r in sorted(ranks)], Fraction(tolerance, unit))


@PROPERTY
@given(ranks=st.sets(st.integers(1, 120), min_size=1, max_size=25), tolerance=st.floats(0.0, 2.0))
def test_geometric_orders_are_those_of_the_ratio(ranks: set[int], tolerance: float) -> None:
    levels = sorted(ranks)
    ratio = math.exp(tolerance)
    assume(all(abs(x / y - ratio) > 1e-6 for x in levels for y in levels if x != y))
    first, last = similar_levels(np.array(levels, dtype=np.float64), tolerance, "geometric")
    for x, rank_x in enumerate(levels):
        for y, rank_y in enumerate(levels):
            expected = Order.SIMILAR
            if x != y and max(rank_x, rank_y) / min(rank_x, rank_y) > ratio:
                expected = Order.GREATER if rank_x > rank_y else Order.LESS
            assert order_of_levels(x, y, first, last) == expected


@pytest.mark.parametrize("unit", [1e6, 1.0, 1e-3, 1e-6, 1e-10])
def test_orders_do_not_depend_on_the_unit_of_the_ranks(unit: float) -> None:
    """The room for rounding is relative to the range: metres or tenths of a nanometre, the orders are the same."""
    first, last = similar_levels(np.array([1.0, 2.0, 3.0, 5.0]) * unit, tolerance=1.0 * unit)
    assert first.tolist() == [0, 0, 1, 3]
    assert last.tolist() == [2, 3, 3, 4]


@pytest.mark.parametrize("levels", [[1.0, 1.0], [2.0, 1.0], [1.0, np.nan, 3.0]])
def test_levels_that_do_not_ascend_are_an_error(levels: list[float]) -> None:
    with pytest.raises(ValueError, match="must be distinct and ascending"):
        similar_levels(np.array(levels), tolerance=1.0)


def test_negative_tolerance_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"rank tolerance is -0\.5; it must be 0 or more"):
        similar_levels(np.array([1.0, 2.0]), tolerance=-0.5)


@pytest.mark.parametrize("lowest", [0.0, -3.0])
def test_geometric_scale_needs_positive_ranks(lowest: float) -> None:
    with pytest.raises(ValueError, match=rf"needs ranks above 0; the lowest is {lowest:g}"):
        similar_levels(np.array([lowest, 1.0]), tolerance=0.1, scale="geometric")
    similar_levels(np.array([lowest, 1.0]), tolerance=0.1, scale="linear")
