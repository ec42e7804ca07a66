"""Bounds by sketches hold for any rows, directions and centroids, and are tight where they can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ordclust_ray.core.blocks import GRID, as_block, on_grid
from ordclust_ray.core.sketch import Sketch, size

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)


def rows_of(n: int, d: int, rank: int, noise: float, seed: int) -> NDArray[np.float32]:
    """Unit rows in a space of some dimensions, up to noise; in units of the grid."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) / rank**0.5 + noise * rng.normal(size=(n, d))
    block = as_block(x.astype(np.float32))
    return block.take(block.scales()[0], np.arange(n))


def sketch_of(rows: NDArray[np.float32]) -> Sketch:
    return Sketch.of_sample(rows * np.float32(GRID))


def centroids_of(rows: NDArray[np.float32], k: int, members: int, seed: int) -> NDArray[np.float64]:
    """Directions of the sums of some rows."""
    rng = np.random.default_rng(seed)
    sums = np.stack([rows[rng.integers(0, len(rows), members)].sum(axis=0, dtype=np.float64) for _ in range(k)])
    return np.asarray(on_grid(sums / np.linalg.norm(sums, axis=1, keepdims=True)))


def bounds(sketch: Sketch, centroids: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the similarity of each row to each centroid, in float32 as the kernels compute them."""
    coordinates = sketch.of_centroids(centroids)
    upper = sketch.rows @ coordinates.T
    lower = upper - np.float32(2) * coordinates[:, -1] * sketch.rows[:, -1:]
    return lower.astype(np.float64) - sketch.error, upper.astype(np.float64) + sketch.error


@PROPERTY
@given(
    n=st.integers(1, 60),
    d=st.sampled_from([64, 65, 200, 512, 1000]),
    rank=st.sampled_from([1, 3, 40]),
    noise=st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 3.0]),
    members=st.sampled_from([1, 2, 30]),
    seed=st.integers(0, 10_000),
)
def test_similarities_are_within_bounds(n: int, d: int, rank: int, noise: float, members: int, seed: int) -> None:
    rows = rows_of(n, d, rank, noise, seed)
    centroids = centroids_of(rows, 7, members, seed)
    sketch = sketch_of(rows)
    exact = rows.astype(np.float64) @ centroids.T * GRID
    lower, upper = bounds(sketch, centroids)
    assert (lower <= exact).all()
    assert (exact <= upper).all()
    others = rows_of(20, d, rank, noise, seed + 1)  # that had no part in the choice of directions
    block = as_block(others)
    found = block.products(np.ones(20, np.float32), sketch.directions.T)
    away = Sketch(sketch.directions, sketch.of_rows(found))
    exact = others.astype(np.float64) @ centroids.T * GRID
    lower, upper = bounds(away, centroids)
    assert (lower <= exact).all()
    assert (exact <= upper).all()


@pytest.mark.parametrize("d", [64, 896])
def test_bounds_are_tight_within_the_space_of_the_rows(d: int) -> None:
    rows = rows_of(500, d, 5, 0.0, 0)
    lower, upper = bounds(sketch_of(rows), centroids_of(rows, 9, 20, 0))
    assert (upper - lower).max() < 0.01


@pytest.mark.parametrize("d", [64, 512])
def test_directions_are_orthonormal_numbers_of_float32(d: int) -> None:
    for rank, n in ((1, 3), (100, 200)):
        directions = sketch_of(rows_of(n, d, rank, 0.1, 0)).directions
        assert directions.shape == (d, size(d) - 1)
        np.testing.assert_allclose(directions.T @ directions, np.eye(size(d) - 1), atol=1e-6)
        np.testing.assert_array_equal(directions, directions.astype(np.float32))


def test_directions_are_those_of_most_length() -> None:
    """Of ten, each less than the one before, the first five hold as much as those of the eigenvalues."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(100, 100)))[0]
    x = (rng.normal(size=(2000, 100)) * 0.7 ** np.arange(100)) @ axes.T
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    found = Sketch.of_sample(x).directions
    best = np.linalg.eigvalsh(x.T @ x)[::-1][: size(100) - 1].sum()
    assert ((x @ found) ** 2).sum() > 0.999 * best


def test_telling_is_the_share_of_rows_with_one_possible_centroid() -> None:
    rows = rows_of(300, 64, 20, 0.05, 0)
    sketch, centroids = sketch_of(rows), centroids_of(rows, 6, 10, 0)
    lower, upper = bounds(sketch, centroids)
    expected = sum(sum(up >= max(low) for up in ups) == 1 for low, ups in zip(lower, upper, strict=True)) / 300
    assert 0.1 < expected < 0.9
    assert sketch.telling(centroids) == pytest.approx(expected, abs=0.01)
    assert sketch.telling(centroids[:1]) == 1
    assert Sketch(sketch.directions, sketch.rows[:0]).telling(centroids) == 0
