"""Random numbers that belong to an instance: the same in every process, on every machine, for any sharding."""

import numpy as np
from jaxtyping import Int64, UInt64
from numpy import ndarray


def random_keys(instance_ids: Int64[ndarray, "N"], seed: int) -> UInt64[ndarray, "N"]:
    """One uniform 64-bit number an instance and seed: splitmix64 (Steele, Lea & Flood 2014) of both.

    Sorting by the key is a seeded shuffle, and the smallest keys are a seeded sample, whoever holds which rows.

    >>> a, b = random_keys(np.array([7]), seed=0), random_keys(np.array([3, 7]), seed=0)
    >>> bool(a[0] == b[1])
    True
    """
    with np.errstate(over="ignore"):
        return _mix(instance_ids.astype(np.uint64) + _mix(np.full(1, seed, dtype=np.uint64)))


def another_seed(seed: int, purpose: int) -> int:
    """A seed for one of several uses of a seed: those of neighbouring seeds have nothing in common."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])


def _mix(x: UInt64[ndarray, "N"]) -> UInt64[ndarray, "N"]:
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
