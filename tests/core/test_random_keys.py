"""Random keys against splitmix64 in Python's integers, and what a shuffle needs of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordclust_ray.core.random_keys import random_keys

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=100)
WORD = 2**64


def splitmix64(state: int) -> int:
    """The next number after `state`: Steele, Lea & Flood (2014), figure 17 with the constants of Vigna's C code."""
    z = (state + 0x9E3779B97F4A7C15) % WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WORD
    return z ^ (z >> 31)


def test_published_first_number() -> None:
    """splitmix64 from state 0 starts with 0xE220A8397B1DCDAF; this id brings the state back to 0 at seed 0."""
    first = 0xE220A8397B1DCDAF
    assert splitmix64(0) == first
    assert random_keys(np.array([WORD - first]), seed=0).tolist() == [first]


@PROPERTY
@given(ids=st.lists(st.integers(0, 2**62), max_size=20), seed=st.integers(0, 2**63 - 1))
def test_keys_are_splitmix64_of_id_and_seed(ids: list[int], seed: int) -> None:
    expected = [splitmix64((i + splitmix64(seed)) % WORD) for i in ids]
    keys = random_keys(np.array(ids, dtype=np.int64), seed)
    assert keys.dtype == np.uint64
    assert keys.tolist() == expected


def test_key_belongs_to_the_instance_wherever_it_is() -> None:
    ids = np.arange(1000)
    everywhere = random_keys(ids, seed=3)
    order = np.random.default_rng(0).permutation(1000)
    np.testing.assert_array_equal(random_keys(ids[order], seed=3), everywhere[order])
    parts = [random_keys(part, seed=3) for part in np.array_split(ids, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), everywhere)


def test_keys_are_distinct() -> None:
    keys = np.concatenate([random_keys(np.arange(50_000), seed) for seed in (0, 1)])
    assert len(np.unique(keys)) == 100_000


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_every_bit_is_a_fair_coin(seed: int) -> None:
    n = 40_000
    keys = random_keys(np.arange(n), seed)
    shares = np.array([((keys >> np.uint64(bit)) & np.uint64(1)).mean() for bit in range(64)])
    assert np.abs(shares - 0.5).max() < 4.5 * 0.5 / n**0.5


def test_keys_fill_their_range_evenly() -> None:
    """Chi-square over 100 equal intervals has mean 99 and variance 198; here its mean over 50 seeds."""
    statistics = []
    for seed in range(50):
        keys = random_keys(np.arange(20_000), seed)
        observed = np.bincount((keys >> np.uint64(32)).astype(np.int64) * 100 >> 32, minlength=100)
        statistics.append(((observed - 200.0) ** 2 / 200).sum())
    assert abs(np.mean(statistics) - 99) < 4 * (198 / 50) ** 0.5


def test_samples_of_two_seeds_have_nothing_to_do_with_each_other() -> None:
    """Two samples of a tenth share a tenth of their members: 1000 of 10,000, give or take 29."""
    samples = [set(np.argsort(random_keys(np.arange(100_000), seed))[:10_000].tolist()) for seed in (0, 1)]
    assert abs(len(samples[0] & samples[1]) - 1000) < 4 * 29


def test_sorting_by_the_key_shuffles() -> None:
    """Rank correlation with the ids: 0 give or take n^-1/2."""
    n = 20_000
    places = np.argsort(np.argsort(random_keys(np.arange(n), seed=0)))
    assert abs(np.corrcoef(places, np.arange(n))[0, 1]) < 4 / n**0.5
