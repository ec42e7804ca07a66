"""A shard against plain loops, and its claim that sums and similarities have no rounding error."""

import math
from typing import TypeAlias

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.core.shard import BLOCK, GRID, Candidates, ClusterSums, Shard, on_grid

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
Found: TypeAlias = list[tuple[float, int, int]]
"""Similarity, id and cluster of candidates."""


def features_of(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def centroids_of(k: int, d: int, seed: int = 1) -> Tensor:
    return on_grid(F.normalize(features_of(k, d, seed).double(), dim=1))


def shard_of(features: Tensor, assignments: list[int] | None = None, ids: list[int] | None = None) -> Shard:
    instance_ids = torch.arange(len(features)) if ids is None else torch.tensor(ids)
    return Shard(features, instance_ids, None if assignments is None else torch.tensor(assignments))


def circle(*degrees: float) -> Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def exact_dot(x: Tensor, y: Tensor) -> float:
    """Products of two numbers of the grid are exact in float64, and `fsum` adds without rounding."""
    return math.fsum(a * b for a, b in zip(x.double().tolist(), y.tolist(), strict=True))


def exact_sums(shard: Shard, num_clusters: int) -> list[list[float]]:
    rows, clusters = shard.features.tolist(), shard.assignments.tolist()
    members = [[row for row, c in zip(rows, clusters, strict=True) if c == j] for j in range(num_clusters)]
    return [[math.fsum(row[d] for row in own) for d in range(len(rows[0]))] for own in members]


def as_list(candidates: Candidates) -> Found:
    columns = candidates.similarities.tolist(), candidates.instance_ids.tolist(), candidates.clusters.tolist()
    return list(zip(*columns, strict=True))


def assert_same(found: ClusterSums, expected: ClusterSums) -> None:
    assert torch.equal(found.sums, expected.sums)
    assert torch.equal(found.counts, expected.counts)
    assert found.changed == expected.changed


@st.composite
def shards(draw: st.DrawFn) -> Shard:
    """Small shards full of duplicates and ties, with ids in any order and every row in one of 3 clusters."""
    n = draw(st.integers(1, 15))
    row = st.tuples(*[st.integers(-1, 1)] * 3).filter(any)
    rows = draw(st.lists(row, min_size=n, max_size=n))
    ids = draw(st.lists(st.integers(0, 99), min_size=n, max_size=n, unique=True))
    clusters = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    return shard_of(torch.tensor(rows, dtype=torch.float32), clusters, ids)


def test_grid_rounds_to_the_nearest_multiple() -> None:
    values = torch.tensor([0.0, 1.0, 0.3, -0.3, 0.4 * GRID, 0.6 * GRID, 5.4 * GRID], dtype=torch.float64)
    rounded = on_grid(values)
    assert (rounded / GRID).frac().abs().max() == 0
    assert (rounded - values).abs().max() <= GRID / 2
    assert (rounded[-3:] / GRID).tolist() == [0.0, 1.0, 5.0]


def test_features_are_unit_rows_on_the_grid() -> None:
    """Every component moves by at most half a step, 7.5e-9, after it was rounded to float32."""
    raw = features_of(500, 7) * torch.logspace(-6, 6, 500)[:, None]
    features = shard_of(raw).features
    assert features.dtype == torch.float32
    assert (features.double() / GRID).frac().abs().max() == 0
    exact = F.normalize(raw.double(), dim=1).float()
    assert float((features - exact).abs().max()) <= GRID / 2 < 7.5e-9
    torch.testing.assert_close(features.norm(dim=1), torch.ones(500))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_features_of_other_precisions(dtype: torch.dtype) -> None:
    shard = shard_of(torch.tensor([[3.0, 4.0], [0.0, -2.0]], dtype=dtype))
    torch.testing.assert_close(shard.features, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1e-15, torch.float32),
        (1e25, torch.float32),
        (1e-50, torch.float64),
        (1e50, torch.float64),
        (4e4, torch.float16),
    ],
    ids=str,
)
def test_rows_that_are_finite_and_not_zero_become_unit_rows_whatever_their_size(
    size: float, dtype: torch.dtype
) -> None:
    shard = shard_of(torch.full((3, 4), size, dtype=torch.float64).to(dtype))
    assert shard.features.tolist() == [[0.5] * 4] * 3


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf])
def test_row_that_is_zero_or_not_finite_is_an_error_that_names_it(value: float) -> None:
    features = features_of(6, 3)
    features[1] = features[4] = value
    with pytest.raises(ValueError, match=r"2 feature rows are zero or not finite; first instances: \[11, 14\]"):
        shard_of(features, ids=list(range(10, 16)))


def test_one_bad_component_is_enough() -> None:
    features = features_of(4, 3)
    features[2, 1] = math.nan
    with pytest.raises(ValueError, match=r"1 feature rows are zero or not finite; first instances: \[2\]"):
        shard_of(features)


def test_error_names_no_more_than_five_instances() -> None:
    with pytest.raises(ValueError, match=r"9 feature rows .* first instances: \[0, 1, 2, 3, 4\]"):
        shard_of(torch.zeros(9, 2))


def test_there_are_no_assignments_before_the_first_pass() -> None:
    assert shard_of(features_of(4, 2)).assignments.tolist() == [-1] * 4


def test_given_assignments_are_copied() -> None:
    given_assignments = torch.tensor([0, 1, 0])
    shard = Shard(features_of(3, 2), torch.arange(3), given_assignments)
    shard.move(torch.tensor([0]), cluster=1, num_clusters=2)
    assert given_assignments.tolist() == [0, 1, 0]
    assert shard.assignments.tolist() == [1, 1, 0]


def test_sums_are_exact() -> None:
    """More rows than two blocks, and the bits of a sum without any rounding."""
    n, k = 2 * BLOCK + 777, 3
    shard = shard_of(features_of(n, 2), np.random.default_rng(0).integers(0, k, n).tolist())
    found = shard.sums(k)
    assert found.sums.tolist() == exact_sums(shard, k)
    assert found.counts.tolist() == [shard.assignments.tolist().count(j) for j in range(k)]
    assert found.changed == 0


def test_sums_of_a_pass_are_exact() -> None:
    shard = shard_of(features_of(BLOCK + 500, 3))
    found = shard.assign(centroids_of(4, 3))
    assert found.sums.tolist() == exact_sums(shard, 4)


def test_similarities_are_exact() -> None:
    shard = shard_of(features_of(300, 24), [0] * 300)
    (centroid,) = centroids_of(1, 24)
    found = shard.candidates(centroid, wanted=300, surplus=torch.tensor([300]))
    assert len(found.instance_ids) == 300
    for similarity, row in zip(found.similarities.tolist(), found.instance_ids.tolist(), strict=True):
        assert similarity == exact_dot(shard.features[row], centroid)


def test_order_of_the_rows_leaves_no_trace_in_the_sums() -> None:
    features, centroids = features_of(6000, 16), centroids_of(5, 16)
    expected = shard_of(features).assign(centroids)
    for seed in range(3):
        order = torch.randperm(6000, generator=torch.Generator().manual_seed(seed))
        assert_same(shard_of(features[order]).assign(centroids), expected)


def test_number_of_threads_leaves_no_trace_in_the_sums() -> None:
    features, centroids = features_of(5000, 64), centroids_of(6, 64)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            shard = shard_of(features)
            found.append((shard.assign(centroids), shard.assignments))
    finally:
        torch.set_num_threads(before)
    for sums, assignments in found[1:]:
        assert_same(sums, found[0][0])
        assert torch.equal(assignments, found[0][1])


def test_nearest_centroid_by_loops() -> None:
    shard, centroids = shard_of(features_of(200, 5)), centroids_of(6, 5)
    shard.assign(centroids)
    for row, cluster in zip(shard.features, shard.assignments.tolist(), strict=True):
        similarities = [exact_dot(row, c) for c in centroids]
        assert cluster == similarities.index(max(similarities))


def test_nearest_centroid_in_every_block() -> None:
    n = 2 * BLOCK + 5
    shard, centroids = shard_of(features_of(n, 3)), centroids_of(4, 3)
    found = shard.assign(centroids)
    assert torch.equal(shard.assignments, (shard.features.double() @ centroids.T).argmax(dim=1))
    assert int(found.counts.sum()) == n


def test_ties_go_to_the_lowest_cluster() -> None:
    """45 degrees is as near to 0 as to 90, and the third centroid is the second once more."""
    shard = shard_of(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 3.0], [0.0, -1.0]]))
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    found = shard.assign(centroids)
    assert shard.assignments.tolist() == [0, 1, 1, 0]
    assert found.counts.tolist() == [2, 2, 0, 0]


def test_empty_cluster_has_a_zero_sum() -> None:
    found = shard_of(circle(0, 10, 20)).assign(circle(10, 190).double())
    assert found.counts.tolist() == [3, 0]
    assert found.sums[1].tolist() == [0.0, 0.0]


def test_changes_are_counted_against_the_iteration_before() -> None:
    shard = shard_of(circle(0, 30, 60, 90))
    west, east = circle(0, 90).double(), circle(0, 40).double()
    assert shard.assign(west).changed == 4  # there was no cluster before
    assert shard.assign(west).changed == 0
    assert shard.assignments.tolist() == [0, 0, 1, 1]
    assert shard.assign(east).changed == 1
    assert shard.assignments.tolist() == [0, 1, 1, 1]


def test_first_pass_after_given_assignments_counts_from_them() -> None:
    shard = shard_of(circle(0, 30, 60, 90), [0, 0, 0, 0])
    assert shard.assign(circle(0, 90).double()).changed == 2


def test_moves_change_the_count_of_changes() -> None:
    """What counts is whether a member is elsewhere than at the end of the iteration before, not how often it moved."""
    shard = shard_of(circle(0, 30, 60, 90))
    shard.assign(circle(0, 90).double())  # 0, 0, 1, 1
    assert shard.assign(circle(0, 40).double()).changed == 1  # instance 1: 0 -> 1
    assert shard.move(torch.tensor([1]), 2, 3).changed == 0  # still elsewhere
    assert shard.move(torch.tensor([1]), 0, 3).changed == -1  # where it was
    assert shard.move(torch.tensor([2, 3]), 0, 3).changed == 2
    assert shard.assign(circle(0, 90).double()).changed == 2  # 0, 0, 0, 0 -> 0, 0, 1, 1


@PROPERTY
@given(shard=shards(), wanted=st.integers(0, 6), surplus=st.lists(st.integers(-3, 6), min_size=3, max_size=3))
def test_candidates_are_the_best_of_every_donor(shard: Shard, wanted: int, surplus: list[int]) -> None:
    (centroid,) = centroids_of(1, 3)
    if not any(s > 0 for s in surplus):
        surplus[0] = 1
    expected: Found = []
    for donor in range(3):
        members = [
            (exact_dot(row, centroid), i, c)
            for row, i, c in zip(shard.features, shard.instance_ids.tolist(), shard.assignments.tolist(), strict=True)
            if c == donor
        ]
        expected += sorted(members, key=lambda m: (-m[0], m[1]))[: min(wanted, max(surplus[donor], 0))]
    found = as_list(shard.candidates(centroid, wanted, torch.tensor(surplus)))
    assert sorted(found) == sorted(expected)


def test_candidates_by_hand() -> None:
    """Cluster 0 may give one, cluster 1 none, cluster 2 as many as are wanted."""
    shard = shard_of(circle(50, 45, 10, 80, 140, 150, 120), [0, 0, 0, 1, 2, 2, 2])
    found = shard.candidates(circle(90).double()[0], wanted=2, surplus=torch.tensor([1, 0, 5]))
    assert sorted(i for _, i, _ in as_list(found)) == [0, 4, 6]


@PROPERTY
@given(shard=shards())
def test_best_first_orders_by_similarity_and_then_by_id(shard: Shard) -> None:
    found = shard.candidates(centroids_of(1, 3)[0], wanted=15, surplus=torch.tensor([15, 15, 15]))
    assert as_list(found.best_first()) == sorted(as_list(found), key=lambda m: (-m[0], m[1]))


def test_concatenate_keeps_rows_together() -> None:
    parts = [shard_of(circle(10 * i, 100), [i, 0], [i, 10 + i]) for i in (0, 1, 2)]
    found = [part.candidates(circle(0).double()[0], 9, torch.tensor([9, 9, 9])) for part in parts]
    assert as_list(Candidates.concatenate(found)) == [m for part in found for m in as_list(part)]


@PROPERTY
@given(shard=shards(), data=st.data())
def test_move_returns_the_change_of_the_sums(shard: Shard, data: st.DataObject) -> None:
    """Wherever the members come from, and whatever ids of other shards are named."""
    cluster = data.draw(st.integers(0, 2))
    moved = data.draw(st.lists(st.integers(0, 120), unique=True))
    before, old = shard.sums(3), shard.assignments.tolist()
    change = shard.move(torch.tensor(moved, dtype=torch.int64), cluster, 3)
    after = shard.sums(3)
    ids = shard.instance_ids.tolist()
    assert shard.assignments.tolist() == [cluster if i in moved else c for i, c in zip(ids, old, strict=True)]
    assert torch.equal(before.sums + change.sums, after.sums)
    assert torch.equal(before.counts + change.counts, after.counts)
    assert change.changed == sum(i in moved and c != cluster for i, c in zip(ids, old, strict=True))


def test_shard_without_instances_adds_nothing() -> None:
    """A worker that got no instance answers every question of the loop."""
    shard = Shard(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    nothing = ClusterSums(torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64), 0)
    assert_same(shard.assign(circle(0, 90, 180).double()), nothing)
    assert_same(shard.sums(3), nothing)
    assert as_list(shard.candidates(circle(0).double()[0], 2, torch.tensor([1, 0, 0]))) == []
    assert_same(shard.move(torch.tensor([5]), 1, 3), nothing)


def test_sums_add_up_over_shards() -> None:
    features, centroids = features_of(100, 4), centroids_of(3, 4)
    whole = shard_of(features).assign(centroids)
    first, second = (shard_of(part).assign(centroids) for part in features.split([37, 63]))
    assert_same(first + second, whole)
    assert whole.changed == 100


def test_sample_is_that_of_the_smallest_keys() -> None:
    ids = [5, 900, 17, 3, 44, 62]
    shard = shard_of(features_of(6, 3), ids=ids)
    keys = (random_keys(np.array(ids), seed=9) >> np.uint64(1)).astype(np.int64).tolist()
    assert shard.smallest_keys(3, seed=9).tolist() == sorted(keys)[:3]
    assert shard.smallest_keys(10, seed=9).tolist() == sorted(keys)
    limit = sorted(keys)[3]
    found, features = shard.below_key(limit, seed=9)
    rows = [row for row, key in enumerate(keys) if key <= limit]
    assert found.tolist() == [keys[row] for row in rows]
    assert torch.equal(features, shard.features[rows])
