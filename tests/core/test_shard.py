"""A shard against plain loops: what it reads, what it answers, and its claim that nothing it adds up is rounded."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ordclust_ray.clustering.engine import LocalEngine
from ordclust_ray.core.answers import BINS, LEVELS, Candidates, ClusterSums
from ordclust_ray.core.blocks import GRID, on_grid
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.core.shard import TOGETHER, Shard
from ordclust_ray.core.starts import STARTS, starts_together

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
Found: TypeAlias = list[tuple[int, int, int]]
"""Place in the order, id and cluster of candidates."""


def features_of(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def centroids_of(k: int, d: int, seed: int = 1) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).normal(size=(k, d))
    return np.asarray(on_grid(rows / np.linalg.norm(rows, axis=1, keepdims=True)))


def shard_of(features: Any, assignments: list[int] | None = None, ids: list[int] | None = None) -> Shard:
    instance_ids = np.arange(len(features)) if ids is None else np.array(ids)
    return Shard(features, instance_ids, None if assignments is None else np.array(assignments))


def circle(*degrees: float) -> NDArray[np.float64]:
    angles = np.deg2rad(degrees)
    return np.asarray(on_grid(np.stack([np.cos(angles), np.sin(angles)], axis=1)))


def assign(shard: Shard, centroids: NDArray[np.float64]) -> ClusterSums:
    (found,) = shard.assign((0, centroids))
    return found


def unit_rows(shard: Shard) -> list[list[int]]:
    """In units of the grid; every one of them is a whole number."""
    rows = shard.take(np.arange(len(shard.instance_ids)))
    assert (rows == np.rint(rows)).all()
    return [[int(value) for value in row] for row in rows]


def units(centroid: NDArray[np.float64]) -> list[int]:
    return [int(value) for value in (centroid / GRID).tolist()]


def dot(x: list[int], y: list[int]) -> int:
    """In units of 2^-52; Python's integers have no rounding."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def exact_sums(shard: Shard, num_clusters: int) -> list[list[int]]:
    rows, clusters = unit_rows(shard), shard.assignments.tolist()
    members = [[row for row, c in zip(rows, clusters, strict=True) if c == j] for j in range(num_clusters)]
    return [[sum(row[d] for row in own) for d in range(shard.width)] for own in members]


def places(shard: Shard, centroid: NDArray[np.float64]) -> list[int]:
    """Where each row is in the floor's order: the similarity, from -1 on, in steps of 2^-52."""
    return [dot(row, units(centroid)) + 2**53 for row in unit_rows(shard)]


def as_list(found: Candidates) -> Found:
    return list(zip(found.orders.tolist(), found.instance_ids.tolist(), found.clusters.tolist(), strict=True))


def members(shard: Shard, centroid: NDArray[np.float64]) -> Found:
    columns = places(shard, centroid), shard.instance_ids.tolist(), shard.assignments.tolist()
    return list(zip(*columns, strict=True))


def best_first(found: Found) -> Found:
    return sorted(found, key=lambda member: (-member[0], member[1]))


def assert_same(found: ClusterSums, expected: ClusterSums) -> None:
    assert found.sums.tolist() == expected.sums.tolist()
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.changed == expected.changed


def all_donors(*, but: int | None = None) -> NDArray[np.bool_]:
    return np.array([j != but for j in range(3)])


@st.composite
def shards(draw: st.DrawFn) -> Shard:
    """Small shards full of duplicates and ties, with ids in any order and every row in one of 3 clusters."""
    n = draw(st.integers(1, 15))
    row = st.tuples(*[st.integers(-1, 1)] * 3).filter(any)
    rows = draw(st.lists(row, min_size=n, max_size=n))
    ids = draw(st.lists(st.integers(0, 99), min_size=n, max_size=n, unique=True))
    clusters = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return shard_of(np.array(rows, np.float32), clusters, ids)


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def test_grid_rounds_to_the_nearest_multiple() -> None:
    values = np.array([0.0, 1.0, 0.3, -0.3, 0.4 * GRID, 0.6 * GRID, 5.4 * GRID])
    rounded = on_grid(values)
    assert (rounded / GRID % 1 == 0).all()
    assert np.abs(rounded - values).max() <= GRID / 2
    assert (rounded[-3:] / GRID).tolist() == [0.0, 1.0, 5.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_unit_rows_on_the_grid(dtype: type) -> None:
    """Every component moves by at most half a step, 7.5e-9, and by what float32 rounds: the scale and the product."""
    raw: NDArray[Any] = (features_of(500, 7) * np.logspace(-6, 6, 500)[:, None]).astype(dtype)
    rows = shard_of(raw).take(np.arange(500))
    assert rows.dtype == np.float32
    assert (rows == np.rint(rows)).all()
    exact = raw.astype(np.longdouble) / np.sqrt((raw.astype(np.longdouble) ** 2).sum(axis=1, keepdims=True))
    assert (np.abs(rows * GRID - exact) <= GRID / 2 + np.abs(exact) * 2.0**-23).all()
    np.testing.assert_allclose(np.linalg.norm(rows * GRID, axis=1), 1, rtol=2e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8])
def test_features_of_other_precisions(dtype: torch.dtype) -> None:
    shard = shard_of(torch.tensor([[3.0, 4.0], [0.0, 2.0]]).to(dtype))
    np.testing.assert_allclose(shard.take(np.arange(2)) * GRID, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-7)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1e-15, torch.float32),
        (1e-29, torch.float32),
        (1e25, torch.float32),
        (3.4e38, torch.float32),
        (1e-50, torch.float64),
        (1e-140, torch.float64),
        (1e50, torch.float64),
        (1e140, torch.float64),
        (6e-8, torch.float16),
        (4e4, torch.float16),
        (1e-29, torch.bfloat16),
        (3e38, torch.bfloat16),
    ],
    ids=str,
)
def test_rows_that_are_finite_and_not_zero_become_unit_rows_whatever_their_size(
    size: float, dtype: torch.dtype
) -> None:
    """Comparisons with centroids too must not overflow; the smallest numbers of a type are another test's."""
    shard = shard_of(torch.full((3, 4), size, dtype=torch.float64).to(dtype))
    assert (shard.take(np.arange(3)) * GRID).tolist() == [[0.5] * 4] * 3
    found = assign(shard, np.array([[0.5, 0.5, 0.5, -0.5], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, -0.5, -0.5]]))
    assert found.counts.tolist() == [0, 3, 0]
    assert shard.rows_read == 3


@pytest.mark.parametrize(("size", "dtype"), [(1e-35, np.float32), (1e-150, np.float64), (1e150, np.float64)], ids=str)
def test_rows_too_small_or_too_large_to_be_squared_are_named_too(size: float, dtype: type) -> None:
    """They are errors, never wrong rows."""
    features: NDArray[Any] = features_of(4, 3).astype(dtype)
    features[2] = size
    with pytest.raises(ValueError, match=r"1 feature rows are .*; first instances: \[2\]"):
        shard_of(features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, -0.0, math.nan, math.inf, -math.inf])
def test_row_that_is_zero_or_not_finite_is_an_error_that_names_it(value: float, dtype: torch.dtype) -> None:
    features = torch.from_numpy(features_of(6, 3)).to(dtype)
    features[1] = features[4] = value
    with pytest.raises(ValueError, match=r"2 feature rows are zero, NaN or infinite; first instances: \[11, 14\]"):
        shard_of(features, ids=list(range(10, 16)))


def test_one_bad_component_is_enough() -> None:
    features = features_of(4, 3)
    features[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"1 feature rows are zero, NaN or infinite; first instances: \[2\]"):
        shard_of(features)


def test_error_names_no_more_than_five_instances() -> None:
    with pytest.raises(ValueError, match=r"9 feature rows .* first instances: \[0, 1, 2, 3, 4\]"):
        shard_of(np.zeros((9, 2)))


def test_bad_rows_are_named_whatever_block_and_thread_finds_them() -> None:
    features = features_of(20, 3)
    features[3] = features[17] = 0
    with pytest.raises(ValueError, match=r"2 feature rows .* first instances: \[103, 117\]"):
        Shard([features[:5], features[5:6], features[6:]], np.arange(100, 120), threads=3)


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones(3),
        np.ones((3, 2, 2)),
        np.float64(3.0),
        np.ones((3, 2), complex),
        np.array([["a", "b"]] * 3),
        np.array([[b"a", b"b"]] * 3),
        np.array([[1, None]] * 3),
        np.zeros((3, 2), "datetime64[s]"),
        torch.ones(3),
        torch.ones(3, 2, 2, dtype=torch.bfloat16),
        ["abc", "def", "ghi"],
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    ],
    ids=lambda wrong: f"{type(wrong).__name__}-{getattr(wrong, 'dtype', '')}-{getattr(wrong, 'shape', '')}",
)
def test_features_that_are_no_rows_of_numbers_are_an_error_of_one_line(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^features (are|have shape) .*; they must be (rows of )?numbers") as error:
        Shard(wrong, np.arange(3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n", [0, 4, 6])
def test_number_of_ids_has_to_be_that_of_the_rows(n: int) -> None:
    with pytest.raises(ValueError, match=f"there are 5 feature rows for {n} instances"):
        Shard([features_of(2, 3), features_of(3, 3)], np.arange(n))


def test_blocks_have_to_be_equally_wide() -> None:
    with pytest.raises(ValueError, match=r"3.*2|2.*3"):
        Shard([features_of(2, 3), features_of(3, 2)], np.arange(5))


def test_centroids_have_to_be_as_wide_as_the_rows() -> None:
    """Compiled loops would read, and write, beside the arrays."""
    with pytest.raises(ValueError, match=r"3.*4|4.*3"):
        assign(shard_of(features_of(5, 3)), centroids_of(2, 4))


def test_take_gives_rows_of_any_block() -> None:
    features = features_of(30, 4)
    blocks = [features[:7], features[7:7], features[7:21], features[21:]]
    expected = shard_of(features).take(np.arange(30))
    rows = np.array([0, 6, 7, 20, 21, 29])
    np.testing.assert_array_equal(Shard(blocks, np.arange(30), threads=2).take(rows), expected[rows])
    assert Shard(blocks, np.arange(30)).take(np.empty(0, np.int64)).shape == (0, 4)


# ---------------------------------------------------------------------------------------------------------------------
# Where features are


def passes(features: Any, n: int, threads: int = 1) -> list[Any]:
    """All that a shard says in some passes over 5 columns, the first ones from all over, the last ones from near."""
    shard = Shard(features, np.arange(n), threads=threads)
    said: list[Any] = [shard.take(np.arange(n)).tolist()]
    for seed in (1, 2, 3, 3):
        sums = assign(shard, centroids_of(20, 5, seed))
        said += [shard.assignments.tolist(), sums.sums.tolist(), sums.counts.tolist(), sums.changed]
    said += [shard.sums(20).sums.tolist()]
    shard.rank_for(centroids_of(1, 5, seed=9)[0], np.arange(20) % 2 == 0)
    return [*said, shard._order.tolist()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_gives_what_its_numbers_give_in_float32(dtype: torch.dtype) -> None:
    """Subnormal numbers are among them."""
    features = torch.from_numpy(features_of(300, 5) * np.logspace(-6, 2, 300, dtype=np.float32)[:, None]).to(dtype)
    expected = passes(features.float().numpy(), 300)
    assert passes(features, 300) == expected
    assert passes(list(features.split([1, 99, 200])), 300, threads=3) == expected
    if dtype == torch.float16:
        assert passes(features.numpy(), 300) == expected


def test_float64_gives_the_labels_that_its_numbers_give_in_float32() -> None:
    features = features_of(3000, 5)
    single, double = shard_of(features), shard_of(features.astype(np.float64))
    for seed in (1, 2, 2):
        assign(single, centroids_of(20, 5, seed))
        assign(double, centroids_of(20, 5, seed))
        np.testing.assert_array_equal(single.assignments, double.assignments)
    np.testing.assert_allclose(single.take(np.arange(3000)), double.take(np.arange(3000)), rtol=2.0**-22, atol=1)


def test_blocks_of_one_shard_may_differ_in_precision() -> None:
    halves = features_of(60, 5).astype(np.float16)
    blocks = [
        halves[:10],
        halves[10:20].astype(np.float32),
        torch.from_numpy(halves[20:30]),
        halves[30:40],
        torch.from_numpy(halves[40:].astype(np.float32)),
    ]
    assert passes(blocks, 60, threads=2) == passes(halves.astype(np.float32), 60)


def test_float64_blocks_beside_others_change_nothing_for_those() -> None:
    features = features_of(60, 5)
    mixed = Shard([features[:30], features[30:].astype(np.float64)], np.arange(60)).take(np.arange(60))
    np.testing.assert_array_equal(mixed[:30], shard_of(features[:30]).take(np.arange(30)))
    np.testing.assert_array_equal(mixed[30:], shard_of(features[30:].astype(np.float64)).take(np.arange(30)))


def _strided(x: NDArray[np.float32]) -> NDArray[np.float32]:
    wide = np.full((2 * len(x), 2 * x.shape[1]), 77, np.float32)
    wide[::2, 1::2] = x
    return wide[::2, 1::2]


def _read_only(x: NDArray[np.float32]) -> NDArray[np.float32]:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


LAYOUTS: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "strided": _strided,
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": _read_only,
    "big-endian": lambda x: x.astype(">f4"),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
    "tensor": lambda x: torch.from_numpy(x),
    "transposed tensor": lambda x: torch.from_numpy(np.ascontiguousarray(x.T)).T,
    "parameter": lambda x: torch.nn.Parameter(torch.from_numpy(x)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_an_array_changes_nothing_nor_is_the_array_changed(layout: str, dtype: type) -> None:
    rows = features_of(50, 5).astype(np.float16).astype(np.float32)
    features = LAYOUTS[layout](rows.copy())
    if dtype == np.float16 and layout not in ("unaligned", "parameter", "big-endian"):
        features = features.half() if isinstance(features, torch.Tensor) else features.astype(dtype, order="K")
    numbers = np.asarray(features.detach()) if isinstance(features, torch.Tensor) else features
    before, flags = numbers.copy(), str(numbers.flags)
    found, expected = passes(features, 50), passes(rows, 50)
    if layout == "big-endian":  # float64 of the same numbers: the scale is not rounded to float32
        found, expected = found[1:2], expected[1:2]
    assert found == expected
    np.testing.assert_array_equal(numbers, before)
    assert str(numbers.flags) == flags


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.bool_])
def test_whole_numbers_are_features_too(dtype: type) -> None:
    whole = np.random.default_rng(0).integers(0, 100, (80, 5)) + np.eye(5, dtype=int)[np.arange(80) % 5]
    rows: NDArray[Any] = whole.astype(dtype)
    before = rows.copy()
    assert passes(rows, 80) == passes(rows.astype(np.float64), 80)
    np.testing.assert_array_equal(rows, before)
    assert rows.flags.writeable


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_files_mapped_to_memory_are_read_where_they_are(tmp_path: Path, mode: Any, dtype: type) -> None:
    features: NDArray[Any] = features_of(50, 5).astype(dtype)
    path, raw = tmp_path / "rows.npy", tmp_path / "rows.bin"
    np.save(path, features)
    features.tofile(raw)
    content, expected = path.read_bytes(), passes(features, 50)
    mapped: list[NDArray] = [np.load(path, mmap_mode=mode), np.memmap(raw, dtype, mode, shape=(50, 5))]
    for rows in mapped:
        writeable = rows.flags.writeable
        assert passes(rows, 50) == expected
        assert passes([rows[:20], rows[20:]], 50, threads=2) == expected
        assert rows.flags.writeable == writeable
    assert (path.read_bytes(), raw.read_bytes()) == (content, features.tobytes())


class Counted:
    """A source of blocks that counts how often it was read."""

    def __init__(self, *blocks: Any) -> None:
        self.blocks, self.reads = blocks, 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return iter(self.blocks)


def test_a_pass_reads_its_source_once_for_all_clusterings() -> None:
    features = features_of(40, 3)
    source = Counted(features[:10], features[10:])
    shard = Shard(source, np.arange(40))
    source.reads = 0
    shard.assign(*((number, centroids_of(2 + number, 3)) for number in range(5)))
    assert source.reads == 1


def test_source_that_is_changed_later_is_read_again() -> None:
    """A shard keeps no rows."""
    features = features_of(10, 3)
    shard = shard_of(features)
    before = shard.take(np.arange(10))
    features *= -1
    np.testing.assert_array_equal(shard.take(np.arange(10)), -before)


# ---------------------------------------------------------------------------------------------------------------------
# Sums and the NN rule


def test_there_are_no_assignments_before_the_first_pass() -> None:
    assert shard_of(features_of(4, 2)).assignments.tolist() == [-1] * 4


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_given_assignments_are_copied(dtype: type) -> None:
    given_assignments: NDArray[Any] = np.array([0, 1, 0], dtype)
    shard = Shard(circle(0, 90, 180), np.arange(3), given_assignments)
    (centroid,) = circle(0)
    shard.rank_for(centroid, np.array([True, False]))
    shard.move(1, np.array([2**53, 2**62]), np.array([-1, -1]))
    assert given_assignments.tolist() == [0, 1, 0]
    assert shard.assignments.tolist() == [1, 1, 0]
    assign(shard, circle(180, 0))
    assert given_assignments.tolist() == [0, 1, 0]
    assert shard.assignments.tolist() == [1, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sums_are_exact(dtype: type) -> None:
    """More rows than are looked at together, and the digits of a sum without any rounding."""
    n, k = 2 * TOGETHER + 777, 3
    clusters = np.random.default_rng(0).integers(0, k, n).tolist()
    shard = shard_of(features_of(n, 2).astype(dtype), clusters)
    found = shard.sums(k)
    assert found.sums.dtype == np.int64
    assert found.sums.tolist() == exact_sums(shard, k)
    assert found.counts.tolist() == [clusters.count(j) for j in range(k)]
    assert found.changed == 0


def test_sums_of_the_largest_components_are_exact() -> None:
    """2^26 over and over: 32 of them are more than an int32 holds."""
    shard = shard_of(np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32).repeat(1000, axis=0), [0] * 1000 + [1] * 1000)
    assert shard.sums(2).sums.tolist() == [[1000 * 2**26, 0], [-1000 * 2**26, 0]]
    for centroids in (circle(0, 180), circle(180, 0), circle(0, 180)):
        assert assign(shard, centroids).sums.tolist() == exact_sums(shard, 2)


def test_sums_of_a_pass_are_exact() -> None:
    shard = shard_of(features_of(TOGETHER + 500, 3))
    found = assign(shard, centroids_of(4, 3))
    assert found.sums.tolist() == exact_sums(shard, 4)


def test_similarities_are_exact() -> None:
    """To the last of their 52 bits."""
    shard = shard_of(features_of(300, 24), [0] * 300)
    (centroid,) = centroids_of(1, 24)
    shard.rank_for(centroid, np.array([True]))
    assert shard._order.tolist() == places(shard, centroid)


def test_last_bit_of_a_similarity_is_kept() -> None:
    """Similarities from 1/2 to 1/2 + 4 steps of 2^-52, and their opposites."""
    rows = np.array([[0.5, n * GRID, 0.75**0.5] for n in range(5)])
    shard = shard_of(np.concatenate([rows, -rows]), [0] * 10)
    centroid = np.array([1.0, GRID, 0.0])
    shard.rank_for(centroid, np.array([True]))
    half = 2**51
    expected = [*(half + n for n in range(5)), *(-half - n for n in range(5))]
    assert [place - 2**53 for place in shard._order.tolist()] == expected


def test_order_of_the_rows_leaves_no_trace_in_the_sums() -> None:
    features, centroids = features_of(6000, 16), centroids_of(5, 16)
    expected = assign(shard_of(features), centroids)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(6000)
        assert_same(assign(shard_of(features[order]), centroids), expected)


def test_number_of_threads_leaves_no_trace_in_the_sums() -> None:
    features, centroids, found = features_of(5000, 64), centroids_of(6, 64), []
    for threads in (1, 2, 4):
        shard = Shard(features, np.arange(5000), threads=threads)
        found.append((assign(shard, centroids), shard.assignments, shard.sums(6).sums.tolist()))
    for sums, assignments, again in found:
        assert_same(sums, found[0][0])
        np.testing.assert_array_equal(assignments, found[0][1])
        assert again == sums.sums.tolist()


def test_more_threads_than_rows() -> None:
    shard = Shard([circle(0, 80), circle(90)], np.arange(3), threads=8)
    assert assign(shard, circle(0, 90)).counts.tolist() == [1, 2]


def test_nearest_centroid_by_loops() -> None:
    shard, centroids = shard_of(features_of(200, 5)), centroids_of(6, 5)
    assign(shard, centroids)
    for row, cluster in zip(unit_rows(shard), shard.assignments.tolist(), strict=True):
        similarities = [dot(row, units(c)) for c in centroids]
        assert cluster == similarities.index(max(similarities))


@pytest.mark.parametrize(("n", "d"), [(2 * TOGETHER + 5, 3), (20_011, 7), (150, 3000), (20, 20_000)])
def test_nearest_centroid_in_every_block(n: int, d: int) -> None:
    """The kernels look at half a megabyte of rows at a time: 18724 of seven columns, 43 of 3000, 8 of 20 000."""
    shard, centroids = shard_of(features_of(n, d)), centroids_of(4, d)
    found = assign(shard, centroids)
    similarities = shard.take(np.arange(n)).astype(np.float64) @ centroids.T
    np.testing.assert_array_equal(shard.assignments, similarities.argmax(axis=1))
    assert int(found.counts.sum()) == n


def test_ties_go_to_the_lowest_cluster() -> None:
    """45 degrees is as near to 0 as to 90, and the third centroid is the second once more."""
    shard = shard_of(np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 3.0], [0.0, -1.0]]))
    found = assign(shard, np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]))
    assert shard.assignments.tolist() == [0, 1, 1, 0]
    assert found.counts.tolist() == [2, 2, 0, 0]


def test_ties_over_panels_go_to_the_lowest_cluster() -> None:
    """48 centroids alternate between two directions; every row is as near to 24 of them."""
    shard = shard_of(circle(0, 40, 50, 90, 200))
    assign(shard, np.tile(circle(90, 0), (24, 1)))
    assert shard.assignments.tolist() == [1, 1, 0, 0, 0]


def test_empty_cluster_has_a_zero_sum() -> None:
    found = assign(shard_of(circle(0, 10, 20)), circle(10, 190))
    assert found.counts.tolist() == [3, 0]
    assert found.sums[1].tolist() == [0, 0]


def test_changes_are_counted_against_the_iteration_before() -> None:
    shard = shard_of(circle(0, 30, 60, 90))
    west, east = circle(0, 90), circle(0, 40)
    assert assign(shard, west).changed == 4  # there was no cluster before
    assert assign(shard, west).changed == 0
    assert shard.assignments.tolist() == [0, 0, 1, 1]
    assert assign(shard, east).changed == 1
    assert shard.assignments.tolist() == [0, 1, 1, 1]


def test_first_pass_after_given_assignments_counts_from_them() -> None:
    shard = shard_of(circle(0, 30, 60, 90), [0, 0, 0, 0])
    assert assign(shard, circle(0, 90)).changed == 2


def test_moves_change_the_count_of_changes() -> None:
    """What counts is whether a member is elsewhere than at the end of the iteration before, not how often it moved."""
    shard = shard_of(circle(0, 30, 60, 90))
    nowhere, everyone = 2**62, -1

    def give(cluster: int, *orders: int) -> int:
        return shard.move(cluster, np.array(orders), np.full(3, -1)).changed

    assign(shard, circle(0, 90, 270))  # 0, 0, 1, 1
    assert assign(shard, circle(0, 40, 270)).changed == 1  # instance 1: 0 -> 1
    shard.rank_for(circle(30)[0], np.array([False, True, True]))
    assert give(2, nowhere, 2**53 + int(0.9 * 2**52), nowhere) == 0  # instance 1 is still elsewhere
    assert shard.assignments.tolist() == [0, 2, 1, 1]
    shard.rank_for(circle(30)[0], np.array([False, True, True]))
    assert give(0, nowhere, nowhere, everyone) == -1  # where it was
    assert give(0, nowhere, everyone, nowhere) == 2
    assert assign(shard, circle(0, 90, 270)).changed == 2  # 0, 0, 0, 0 -> 0, 0, 1, 1


def test_clustering_that_begins_anew_has_forgotten_everything() -> None:
    """Another number of clusters included."""
    shard = shard_of(circle(0, 20, 60, 90))
    assign(shard, circle(0, 90))
    shard.begin(0)
    assert shard.assignments.tolist() == [-1] * 4
    found = assign(shard, circle(0, 60, 90))
    assert (found.changed, found.counts.tolist()) == (4, [2, 1, 1])
    assert found.sums.tolist() == exact_sums(shard, 3)


def test_clusterings_do_not_know_of_each_other() -> None:
    shard, alone = shard_of(features_of(200, 4)), [shard_of(features_of(200, 4)) for _ in range(3)]
    for seed in range(6):
        centroids = [centroids_of(k, 4, seed) for k in (2, 20, 5)]
        wanted = [0, 2] if seed == 3 else [0, 1, 2]  # one of them misses a pass
        found = shard.assign(*((number, centroids[number]) for number in wanted))
        for number, sums in zip(wanted, found, strict=True):
            assert_same(sums, assign(alone[number], centroids[number]))
            np.testing.assert_array_equal(shard.clusterings[number].labels, alone[number].assignments)
            assert_same(shard.sums(len(sums.counts), number), alone[number].sums(len(sums.counts)))


# ---------------------------------------------------------------------------------------------------------------------
# What the floor asks


@PROPERTY
@given(shard=shards(), limits=st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_candidates_are_the_best_of_every_donor(shard: Shard, limits: list[int]) -> None:
    (centroid,) = centroids_of(1, 3)
    expected: Found = []
    for donor in range(3):
        own = [member for member in members(shard, centroid) if member[2] == donor]
        expected += best_first(own)[: limits[donor]]
    shard.rank_for(centroid, np.array(limits) > 0)
    found = as_list(shard.candidates(0, np.zeros(3, np.int64), np.array(limits)))
    assert found == best_first(expected)


def test_candidates_by_hand() -> None:
    """Cluster 0 may give one, cluster 1 none, cluster 2 as many as are wanted."""
    shard = shard_of(circle(50, 45, 10, 80, 140, 150, 120), [0, 0, 0, 1, 2, 2, 2])
    shard.rank_for(circle(90)[0], np.array([True, False, True]))
    found = shard.candidates(0, np.zeros(3, np.int64), np.array([1, 0, 2]))
    assert [i for _, i, _ in as_list(found)] == [6, 0, 4]


@PROPERTY
@given(shard=shards(), depth=st.integers(0, LEVELS - 1), chosen=st.lists(st.integers(0, 14), min_size=3, max_size=3))
def test_histogram_counts_what_is_within_the_windows(shard: Shard, depth: int, chosen: list[int]) -> None:
    """A window is what shares the first 9 * depth of 54 bits; its parts differ in the next 9 bits."""
    (centroid,) = centroids_of(1, 3)
    order, clusters = places(shard, centroid), shard.assignments.tolist()
    windows = [order[i % len(order)] >> (54 - 9 * depth) for i in chosen]
    expected = np.zeros((3, BINS), int)
    within = []
    for member in members(shard, centroid):
        place, _, own = member
        if own != 1 and place >> (54 - 9 * depth) == windows[own]:
            expected[own, (place >> (45 - 9 * depth)) % 512] += 1
            within.append(member)
    shard.rank_for(centroid, all_donors(but=1))
    np.testing.assert_array_equal(shard.histogram(depth, np.array(windows)), expected)
    assert as_list(shard.candidates(depth, np.array(windows), np.full(3, 15))) == best_first(within)
    assert [place >= 0 for place in shard._order.tolist()] == [own != 1 for own in clusters]


@PROPERTY
@given(shard=shards())
def test_first_orders_by_similarity_and_then_by_id(shard: Shard) -> None:
    (centroid,) = centroids_of(1, 3)
    shard.rank_for(centroid, all_donors())
    found = shard.candidates(0, np.zeros(3, np.int64), np.full(3, 15))
    shuffled = found.subset(np.random.default_rng(0).permutation(len(found.orders)))
    assert as_list(shuffled.first(np.full(3, 15))) == best_first(members(shard, centroid))


def test_concatenate_keeps_rows_together() -> None:
    parts = [shard_of(circle(10 * i, 100), [i, 0], [i, 10 + i]) for i in (0, 1, 2)]
    for part in parts:
        part.rank_for(circle(0)[0], all_donors())
    found = [part.candidates(0, np.zeros(3, np.int64), np.full(3, 9)) for part in parts]
    assert as_list(Candidates.concatenate(found)) == [m for part in found for m in as_list(part)]


@PROPERTY
@given(shard=shards(), passed=st.booleans(), data=st.data())
def test_move_returns_the_change_of_the_sums(shard: Shard, passed: bool, data: st.DataObject) -> None:
    """Wherever the members come from, and whatever ids of other shards are named."""
    at_first = shard.assignments.tolist()
    if passed:
        assign(shard, centroids_of(3, 3, seed=5))
    cluster, (centroid,) = data.draw(st.integers(0, 2)), centroids_of(1, 3)
    listed = members(shard, centroid)
    orders = [data.draw(st.sampled_from([0, 2**60, *(place for place, _, _ in listed)])) for _ in range(3)]
    last = [data.draw(st.integers(0, 120)) for _ in range(3)]
    moved = [
        own != cluster and (place > orders[own] or (place == orders[own] and i <= last[own]))
        for place, i, own in listed
    ]
    before, old = shard.sums(3), shard.assignments.tolist()
    shard.rank_for(centroid, all_donors(but=cluster))
    change = shard.move(cluster, np.array(orders), np.array(last))
    after = shard.sums(3)
    assert shard.assignments.tolist() == [cluster if gone else c for gone, c in zip(moved, old, strict=True)]
    assert (before.sums + change.sums).tolist() == after.sums.tolist() == exact_sums(shard, 3)
    assert (before.counts + change.counts).tolist() == after.counts.tolist()
    elsewhere = [sum(a != b for a, b in zip(at_first, now, strict=True)) for now in (old, shard.assignments.tolist())]
    assert change.changed == elsewhere[1] - elsewhere[0]
    if passed:  # the next pass goes on from the sums as they are now
        assert assign(shard, centroids_of(3, 3, seed=6)).sums.tolist() == exact_sums(shard, 3)


def test_many_moves_at_once() -> None:
    n = TOGETHER + 100
    shard = shard_of(features_of(n, 3), [0] * n)
    shard.rank_for(centroids_of(1, 3)[0], np.array([True, False]))
    change = shard.move(1, np.array([-1, 2**62]), np.array([0, 0]))
    assert change.counts.tolist() == [-n, n]
    assert (-change.sums[0]).tolist() == change.sums[1].tolist() == exact_sums(shard, 2)[1]


@pytest.mark.parametrize(
    "source", [np.zeros((0, 2), np.float32), [np.zeros((0, 2))], [np.zeros((0, 2), np.float16)] * 2]
)
def test_shard_without_instances_adds_nothing(source: Any) -> None:
    """A worker that got no instance answers every question of the loop, the floor and the starts."""
    for threads in (1, 2):
        shard = Shard(source, np.zeros(0, np.int64), threads=threads)
        nothing = ClusterSums(np.zeros((3, 2), np.int64), np.zeros(3, np.int64), 0)
        zeros = np.zeros(3, np.int64)
        assert_same(assign(shard, circle(0, 90, 180)), nothing)
        assert_same(shard.sums(3), nothing)
        shard.rank_for(circle(0)[0], np.array([True, False, False]))
        assert shard.histogram(0, zeros).shape == (3, BINS)
        assert as_list(shard.candidates(0, zeros, np.array([1, 0, 0]))) == []
        assert_same(shard.move(1, zeros, zeros), nothing)
        for rows in (shard.sample(5, 0), shard.race(5, 0), shard.draw(1.0, 0)):
            assert rows.features.shape == (0, 2)
        shard.restart()
        assert shard.potentials(circle(0, 90)).tolist() == [0, 0]
        shard.choose(1)
        assert shard.cover(circle(0, 90)) == 0
        assert shard.tally(circle(0, 90)).tolist() == [0, 0]


def test_sums_add_up_over_shards() -> None:
    features, centroids = features_of(100, 4), centroids_of(3, 4)
    whole = assign(shard_of(features), centroids)
    first, second = (assign(shard_of(part), centroids) for part in (features[:37], features[37:]))
    assert_same(first + second, whole)
    assert whole.changed == 100


def test_sample_is_that_of_the_smallest_keys() -> None:
    ids = [5, 900, 17, 3, 44, 62]
    shard = shard_of(features_of(6, 3), ids=ids)
    keys = (random_keys(np.array(ids), seed=9) >> np.uint64(1)).astype(np.float64)
    for size in (1, 3, 6, 10):
        rows = sorted(np.argsort(keys)[:size].tolist())
        found = shard.sample(size, seed=9)
        assert found.keys.tolist() == keys[rows].tolist()
        assert found.instance_ids.tolist() == [ids[row] for row in rows]
        np.testing.assert_array_equal(found.features, shard.take(np.array(rows)))


def test_the_floor_reads_the_features_once_for_all_that_move() -> None:
    features = features_of(3 * TOGETHER, 3)
    source = Counted(*np.array_split(features, 5))
    shard, ids = Shard(source, np.arange(len(features))), np.arange(len(features))
    shard.assign((0, centroids_of(2, 3)))
    shard.rank_for(centroids_of(2, 3)[1], np.array([True, False]))
    source.reads = 0
    moved = shard.move(1, np.array([-1, 0]), np.array([ids.max(), 0]))
    assert source.reads == 1
    assert moved.counts[1] > TOGETHER
    assert moved.sums[1].tolist() == (-moved.sums[0]).tolist()
    np.testing.assert_array_equal(shard.clusterings[0].sums, exact_sums(shard, 2))


@pytest.mark.parametrize("k", [3, 50])
def test_how_often_a_start_reads_the_features(k: int) -> None:
    source = Counted(features_of(3000, 8))
    engine = LocalEngine(Shard(source, np.arange(3000)))
    reads = {}
    for name, start in STARTS.items():
        source.reads = 0
        start(engine, k, 0)
        reads[name] = source.reads
    assert reads == {"k-means++": 2 * k, "k-means||": 12, "k-means": 1, "random": 1}
    for name in STARTS:
        source.reads = 0
        starts_together(engine, name, [2, k, 3], 0)
        assert source.reads == reads[name], "no more than for the largest"
