"""How far float32 and the grid may be from exact arithmetic."""


def error_bound(width: int) -> float:
    """How far a similarity of unit vectors, computed in float32, can be from the exact one.

    Any order of d products and sums is off by at most d u / (1 - d u) for u = 2^-24 (Higham 2002, eq. 3.5); rounding
    the row, the centroid, the scale and the result to float32 adds 2^-24 each, the grid 2^-27 a component.
    """
    unit = 2.0**-24
    return 1.01 * ((width + 5) * unit / (1 - width * unit) + width**0.5 * 2.0**-27)


def longest(width: int) -> float:
    """The length of a unit row at most, once it is rounded to the grid."""
    return 1 + 2.0**-20 + width**0.5 * 2.0**-26
