"""Baselines against exhaustive search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordclust_ray.core import baselines

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=100)


def test_median_rank_by_hand() -> None:
    assert baselines.median_rank(np.array([1.0, 2.0, 2.0, 7.0, 9.0]), np.array([1.0, 2.0, 7.0, 9.0])) == 2.0


def test_median_rank_is_a_level_even_between_two_of_them() -> None:
    # the median is 4.5: 2 and 7 are as good, and so is 4 between them, the nearest
    levels = np.array([1.0, 2.0, 4.0, 7.0, 8.0])
    assert baselines.median_rank(np.array([1.0, 2.0, 7.0, 8.0]), levels) == 4.0


@PROPERTY
@given(ranks=st.lists(st.integers(0, 20), min_size=1, max_size=15), others=st.sets(st.integers(0, 20)))
def test_no_constant_has_a_lower_error_than_the_median_rank(ranks: list[int], others: set[int]) -> None:
    train = np.array(ranks, dtype=np.float64)
    levels = np.array(sorted({*ranks, *others}), dtype=np.float64)
    errors = {level: sum(abs(level - rank) for rank in ranks) for level in levels.tolist()}
    assert errors[baselines.median_rank(train, levels)] == min(errors.values())


def test_nearest_pixels_by_loops() -> None:
    rng = np.random.default_rng(0)
    train, images = (rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8) for n in (30, 12))
    ranks = rng.permutation(30).astype(np.float64)
    expected = []
    for image in images.astype(np.int64):
        distances = [int(((image - other) ** 2).sum()) for other in train.astype(np.int64)]
        expected.append(ranks[distances.index(min(distances))])
    assert baselines.nearest_pixels(train, ranks, images).tolist() == expected


def test_nearest_pixels_of_a_training_image_is_itself() -> None:
    train = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    ranks = np.arange(20.0)
    assert baselines.nearest_pixels(train, ranks, train).tolist() == ranks.tolist()


def test_pixel_clusters_finds_dark_grey_and_bright_images() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 3, 60)
    noise = rng.integers(-8, 9, (60, 4, 4, 3))
    images = (np.array([20, 128, 235])[groups][:, None, None, None] + noise).astype(np.uint8)
    clusters = baselines.pixel_clusters(images, num_clusters=3, seed=0)
    assert clusters.dtype == np.int64
    assert len({*zip(clusters.tolist(), groups.tolist(), strict=True)}) == 3


@pytest.mark.parametrize("seed", [0, 1])
def test_pixel_clusters_repeats_itself(seed: int) -> None:
    images = np.random.default_rng(3).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    clusters = baselines.pixel_clusters(images, num_clusters=4, seed=seed)
    np.testing.assert_array_equal(clusters, baselines.pixel_clusters(images, num_clusters=4, seed=seed))
    assert set(clusters.tolist()) == {0, 1, 2, 3}
