"""What bounds rest on: how far float32 is off, which centroids stand together, and how far they have moved."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ordclust_ray.core import panels
from ordclust_ray.core.blocks import GRID, Block, as_block, on_grid
from ordclust_ray.core.panels import Panels, grouped, packed
from ordclust_ray.core.rounding import error_bound
from ordclust_ray.kernels import LANES

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def unit(rows: Any) -> NDArray[np.float64]:
    wide = np.asarray(rows, np.float64)
    return np.asarray(on_grid(wide / np.linalg.norm(wide, axis=1, keepdims=True)))


def block_of(rows: NDArray[np.float64], dtype: str) -> Block:
    return as_block(torch.from_numpy(rows).bfloat16() if dtype == "bfloat16" else rows.astype(dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Similarities in float32


def errors(rows: NDArray[np.float64], centroids: NDArray[np.float64], dtype: str = "float32") -> NDArray[np.float64]:
    """How far `products` are from similarities without rounding."""
    block = block_of(rows, dtype)
    scales, usable = block.scales()
    assert usable.all()
    exact = block.take(scales, np.arange(len(rows))).astype(np.float64) @ centroids.T * GRID
    found = block.products(scales, centroids)
    assert found.shape == exact.shape
    return np.abs(found - exact)


@settings(PROPERTY, max_examples=100)
@given(
    dtype=st.sampled_from(DTYPES),
    n=st.integers(1, 30),
    k=st.integers(1, 40),
    d=st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 500, 2000])),
    size=st.sampled_from([-2, 0, 3]),
    seed=st.integers(0, 10_000),
)
def test_products_are_within_the_bound(dtype: str, n: int, k: int, d: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, centroids = rng.normal(size=(n, d)) * 10.0**size, unit(rng.normal(size=(k, d)))
    assert errors(rows, centroids, dtype).max() <= error_bound(d)


def adversarial(name: str, d: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and centroids for which float32 is as bad as can be."""
    rng, signs = np.random.default_rng(0), (-1.0) ** np.arange(d)
    if name == "cancels":  # halves of a sum that is 0, or nearly so
        return np.stack([signs, np.sort(signs), signs * np.linspace(1, 2, d)]), unit([np.ones(d), np.sort(signs)])
    if name == "one large":
        rows = 1e-4 * rng.normal(size=(8, d))
        rows[np.arange(8), rng.integers(0, d, 8)] = [1, -1, 30, -30, 1, 1, 100, 1e4]
        return rows, unit(np.concatenate([rows, rng.normal(size=(9, d))]))
    if name == "equal":  # every partial sum is rounded the same way
        return np.full((2, d), 1 / 3) * [[1], [-1]], unit(np.full((1, d), 1.0))
    if name == "on their centroids":
        rows = rng.normal(size=(20, d))
        return rows, unit(rows)
    if name == "falling":
        rows = np.stack([0.99 ** np.arange(d), 0.99 ** np.arange(d)[::-1], signs * 0.9 ** np.arange(d)])
        return rows, unit(np.abs(rows))
    rows = np.abs(rng.normal(size=(20, d)))  # sums that grow
    return rows, unit(np.abs(rng.normal(size=(17, d))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 3, 17, 128, 2000])
@pytest.mark.parametrize("name", ["cancels", "one large", "equal", "on their centroids", "falling", "growing"])
def test_products_of_the_worst_rows_are_within_the_bound(name: str, d: int, dtype: str) -> None:
    rows, centroids = adversarial(name, d)
    assert errors(rows, centroids, dtype).max() <= error_bound(d)


def test_bound_is_no_larger_than_needed_for_few_columns() -> None:
    """Else most rows would be compared once more without rounding."""
    worst = max(errors(*adversarial(name, 2)).max() for name in ("equal", "on their centroids", "growing"))
    assert worst > error_bound(2) / 20
    assert error_bound(128) < 1e-5
    assert error_bound(2000) < 2e-4


def test_bound_grows_with_the_columns() -> None:
    bounds = [error_bound(d) for d in range(1, 5000, 7)]
    assert all(a < b for a, b in pairwise(bounds))


# ---------------------------------------------------------------------------------------------------------------------
# Panels


@PROPERTY
@given(
    k=st.integers(1, 150),
    d=st.integers(1, 6),
    kind=st.sampled_from(["random", "few", "one", "zero"]),
    seed=st.integers(0, 10_000),
)
def test_every_cluster_stands_in_one_panel(k: int, d: int, kind: str, seed: int) -> None:
    """Of 16 at most, in ascending order, and in as few panels as there can be."""
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(k, d))
    if kind == "few":
        centroids = centroids[rng.integers(0, min(k, 3), k)]
    elif kind in ("one", "zero"):
        centroids = np.tile(centroids[:1] * (kind == "one"), (k, 1))
    groups = grouped(centroids)
    assert sorted(np.concatenate(groups).tolist()) == list(range(k))
    assert all(group.tolist() == sorted(group.tolist()) and 0 < len(group) <= LANES for group in groups)
    assert len(groups) == -(-k // LANES)


def test_centroids_that_are_alike_share_a_panel() -> None:
    """Three bundles of 16, shuffled; the one in the middle is nearer to both of the others."""
    rng = np.random.default_rng(0)
    bundle = rng.permutation(48) % 3
    centroids = unit(np.eye(3)[bundle] + [0.2, 0, 0] + 0.05 * rng.normal(size=(48, 3)))
    assert sorted(np.unique(bundle[group]).tolist() for group in grouped(centroids)) == [[0], [1], [2]]


@PROPERTY
@given(k=st.integers(1, 40), d=st.integers(1, 9), seed=st.integers(0, 10_000))
def test_packed_panels_by_loops(k: int, d: int, seed: int) -> None:
    """Component by component, that of 8 or 16 centroids side by side, and nothing behind them."""
    rng = np.random.default_rng(seed)
    centroids, dealt = unit(rng.normal(size=(k, d)) + 1e-9), rng.permutation(k)
    groups = [dealt[i : i + 11] for i in range(0, k, 11)]
    found = packed(centroids, groups)
    assert found.shape == (len(groups), d, LANES)
    assert found.dtype == np.float32
    for panel, group in zip(found, groups, strict=True):
        lanes = 16 if len(group) > 8 else 8
        expected = np.zeros(d * LANES, np.float32)
        for i in range(d):
            for lane, j in enumerate(group):
                expected[i * lanes + lane] = centroids[j, i]
        np.testing.assert_array_equal(panel.reshape(-1), expected)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 7), (100, 33)])
def test_packed_panels_begin_at_a_cache_line(shape: tuple[int, int]) -> None:
    for _ in range(5):
        assert packed(np.ones(shape), grouped(np.ones(shape))).ctypes.data % 64 == 0


def test_panels_know_where_each_centroid_is() -> None:
    centroids = unit(np.random.default_rng(0).normal(size=(37, 4)))
    made = Panels(centroids)
    for p, group in enumerate(made.groups):
        assert made.centroids.members[p, : len(group)].tolist() == group.tolist()
        assert made.centroids.widths[p] == len(group)
        assert {*made.centroids.panel_of[group].tolist()} == {p}
        assert made.centroids.lane_of[group].tolist() == list(range(len(group)))
    np.testing.assert_array_equal(made.centroids.exact, centroids)
    assert made.centroids.error == error_bound(4)
    for drift in (made.centroids.own_drift, made.centroids.drift, made.centroids.panel_drift):
        assert not drift.any()


# ---------------------------------------------------------------------------------------------------------------------
# Drifts

LONGER = 1 + 2.0**-20 + 3**0.5 * 2.0**-26  # of three numbers a row
"""Rows are not quite of unit length: a movement may count by this much more."""


def near(made: Panels) -> NDArray[np.float64]:
    """How far the one that moved most of the others of a centroid's panel has moved, in all."""
    own = made.centroids
    return own.drift[np.arange(len(own.own_drift)), own.panel_of] - own.own_drift


def test_drifts_by_hand() -> None:
    """Three centroids of one panel move by 3/8, 1/4 and 0; then by 0, 1/2 and 1/8."""
    start = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    made = Panels(start)
    first = start + np.array([[3 / 8, 0], [0, -1 / 4], [0, 0]])
    assert made.move(first)
    np.testing.assert_allclose(made.centroids.own_drift, [3 / 8, 1 / 4, 0], rtol=1e-5)
    np.testing.assert_allclose(near(made), [1 / 4, 3 / 8, 3 / 8], rtol=1e-5)  # the most of the others
    np.testing.assert_allclose(made.centroids.panel_drift, [3 / 8], rtol=1e-5)
    second = first + np.array([[0, 0], [1 / 2, 0], [0, 1 / 8]])
    assert made.move(second)
    np.testing.assert_allclose(made.centroids.own_drift, [3 / 8, 3 / 4, 1 / 8], rtol=1e-5)
    np.testing.assert_allclose(near(made), [1 / 4 + 1 / 2, 3 / 8 + 1 / 8, 3 / 8 + 1 / 2], rtol=1e-5)
    np.testing.assert_allclose(made.centroids.panel_drift, [3 / 8 + 1 / 2], rtol=1e-5)
    np.testing.assert_array_equal(made.centroids.exact, second)
    np.testing.assert_array_equal(made.centroids.panels, packed(second, made.groups))


def test_centroid_that_is_alone_in_its_panel_has_none_near() -> None:
    made = Panels(np.array([[1.0, 0.0]]))
    made.move(np.array([[0.0, 1.0]]))
    assert near(made).tolist() == [0.0]
    assert made.centroids.own_drift.tolist() == made.centroids.panel_drift.tolist() == [pytest.approx(2**0.5)]


@PROPERTY
@given(k=st.integers(1, 50), passes=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_drifts_by_loops(k: int, passes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centroids = unit(rng.normal(size=(k, 3)))
    made = Panels(centroids)
    groups = [group.tolist() for group in made.groups]
    own, others, whole = [0.0] * k, [0.0] * k, [0.0] * len(groups)
    for _ in range(passes):
        still = rng.random((k, 1)) < 0.3
        after = np.where(still, centroids, unit(centroids + 0.1 * rng.normal(size=(k, 3))))
        moved = [LONGER * float(np.sqrt(((a - b) ** 2).sum())) for a, b in zip(after, centroids, strict=True)]
        made.move(after)
        centroids = after
        for p, group in enumerate(groups):
            whole[p] += max(moved[j] for j in group)
            for j in group:
                own[j] += moved[j]
                others[j] += max([moved[other] for other in group if other != j], default=0.0)
    np.testing.assert_allclose(made.centroids.own_drift, own, rtol=1e-12)
    np.testing.assert_allclose(near(made), others, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(made.centroids.panel_drift, whole, rtol=1e-12)
    for j, p in product(range(k), range(len(groups))):
        if made.centroids.panel_of[j] != p:
            assert made.centroids.drift[j, p] == pytest.approx(own[j] + whole[p], rel=1e-12)
    assert [group.tolist() for group in made.groups] == groups


def test_bounds_go_on_up_to_the_farthest_way() -> None:
    """Two opposite centroids change places: 2 for each, 4 for both together."""
    poles = np.array([[1.0, 0.0], [-1.0, 0.0]])
    made = Panels(poles)
    assert panels.FARTHEST == 8
    assert made.move(-poles)
    assert not made.move(poles)


@pytest.mark.parametrize("d", [2, 100, 10_000])
def test_unit_rows_are_hardly_longer_than_drifts_take_them_for(d: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(20, d)), np.ones((1, d)), rng.integers(-1, 2, (20, d)) + 1e-3])
    for dtype in DTYPES:
        block = block_of(rows, dtype)
        scales, _ = block.scales()
        lengths = np.linalg.norm(block.take(scales, np.arange(len(rows))).astype(np.float64) * GRID, axis=1)
        assert lengths.max() <= LONGER
