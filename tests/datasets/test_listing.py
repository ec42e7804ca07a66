"""Shares of whole keys, against numbers worked out by hand; what a wrong folder is told."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.listing import left_out, require_layout, shares

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=80)


def test_shares_by_hand() -> None:
    """a (4) to the first of equals; b (3) to the other; c (2) to the other, which lacks 2, not 1; d to the first."""
    keys = list("aaaabbbccd")
    parts = dict(zip(keys, shares(keys, (0.5, 0.5)).tolist(), strict=True))
    assert parts == {"a": 0, "b": 1, "c": 1, "d": 0}


def test_shares_of_single_keys_are_as_large_as_asked_for() -> None:
    keys = [f"image {i}" for i in range(100)]
    assert np.bincount(shares(keys, (0.8, 0.2))).tolist() == [80, 20]
    assert np.bincount(shares(keys, [0.2] * 5)).tolist() == [20] * 5


def test_a_seed_draws_other_shares_of_the_same_size() -> None:
    keys = [str(i) for i in range(100)]
    one, other = shares(keys, (0.8, 0.2), seed=1), shares(keys, (0.8, 0.2), seed=2)
    assert (one != other).any()
    np.testing.assert_array_equal(one, shares(keys, (0.8, 0.2), seed=1))
    assert one.sum() == other.sum() == 20


@PROPERTY
@given(
    keys=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=40),
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_keys_stay_whole_and_no_part_has_a_key_too_many(keys: list[str], weights: list[int], order: object) -> None:
    parts = [weight / sum(weights) for weight in weights]
    of = shares(keys, parts)
    assert len(of) == len(keys)
    assert all(len({part for key, part in zip(keys, of, strict=True) if key == one}) == 1 for one in keys)
    largest = max(keys.count(one) for one in keys)
    sizes = np.bincount(of, minlength=len(parts))
    assert (sizes < np.array(parts) * len(keys) + largest).all()
    shuffled = list(range(len(keys)))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(shares([keys[i] for i in shuffled], parts), of[shuffled])


def test_no_keys_no_shares() -> None:
    assert shares([], (0.8, 0.2)).tolist() == []


def told(source: Path) -> str:
    with pytest.raises(InputError) as error:
        require_layout(source, exists=False, layout="a.txt and b/", title="the set")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wrong_source_is_told_what_was_expected_and_what_is_there(tmp_path: Path) -> None:
    require_layout(tmp_path, exists=True, layout="a.txt", title="the set")
    assert told(tmp_path) == f"'{tmp_path}' is not the set as it comes (a.txt and b/); it holds nothing"
    for name in "gfedcba":
        (tmp_path / name).touch()
    assert told(tmp_path).endswith("it holds 'a', 'b', 'c', 'd', 'e'")
    assert told(tmp_path / "a").endswith("(a.txt and b/); it is a file")
    assert told(tmp_path / "z") == f"there is no '{tmp_path / 'z'}'"


def test_left_out_has_its_columns_without_rows() -> None:
    assert left_out().columns.tolist() == ["source", "reason"]
    assert left_out([("x", "y")]).to_dict("records") == [{"source": "x", "reason": "y"}]
