"""Rank levels and the order of a pair of instances (Lee & Kim 2021, eq. 4 and appendix C.4).

Ranks are compared on a scale (linear, or geometric = on the logarithm) with a tolerance. Everything here
works on *levels*: the sorted distinct ranks, and an instance's rank as an index into them. The comparison
of every pair of levels is made once, in float64 and with room for rounding; all else is integers.
"""

from enum import IntEnum
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

RankScale = Literal["linear", "geometric"]

ROUNDING = 1e-9
"""Two rank differences closer than this, as a share of the ranks' range, are equal: 0.3 - 0.15 <= 0.15."""


class Order(IntEnum):
    """The order of x against y: the class that the comparator predicts."""

    GREATER = 0
    SIMILAR = 1
    LESS = 2


def similar_levels(
    levels: Float64[ndarray, "M"], tolerance: float, scale: RankScale = "linear"
) -> tuple[Int64[ndarray, "M"], Int64[ndarray, "M"]]:
    """For each level the half-open range of levels that are similar to it: |difference| <= tolerance.

    Eq. (4): y is less than x where y's level is below `first[x]`, greater from `last[x]` on, similar between.

    Args:
        levels: the distinct ranks in ascending order, in the data set's unit; positive on the geometric scale.
        tolerance: tau, in the unit of the ranks (linear) or of their natural logarithm (geometric).
        scale: "linear", or "geometric" for ages (appendix C.4).

    Returns:
        `first` and `last`, indices of levels.

    Raises:
        ValueError: levels not ascending, or not positive on the geometric scale; a negative tolerance.

    >>> first, last = similar_levels(np.array([1.0, 2.0, 3.0, 5.0]), tolerance=1.0)
    >>> first.tolist(), last.tolist()
    ([0, 0, 1, 3], [2, 3, 3, 4])
    """
    if not np.all(np.diff(levels) > 0):
        raise ValueError("rank levels must be distinct and ascending")
    if tolerance < 0:
        raise ValueError(f"rank tolerance is {tolerance}; it must be 0 or more")
    if scale == "geometric" and levels[0] <= 0:
        raise ValueError(f"the geometric scale needs ranks above 0; the lowest is {levels[0]:g}")
    theta = np.log(levels) if scale == "geometric" else levels
    reach = tolerance + ROUNDING * (theta[-1] - theta[0])
    first = np.searchsorted(theta, theta - reach, side="left")
    last = np.searchsorted(theta, theta + reach, side="right")
    return first.astype(np.int64), last.astype(np.int64)
