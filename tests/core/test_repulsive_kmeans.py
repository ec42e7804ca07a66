"""DRC against algorithm 1, eq. (6), (8), (9) and B.3 in plain loops; what does not change its result; its edges."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.core.metrics import centroid_affinity
from ordclust_ray.core.repulsive_kmeans import (
    Clustering,
    centroid_rule,
    floor_size,
    hold_floor,
    kmeans_start,
    objective,
    repulsive_kmeans,
)
from ordclust_ray.core.shard import GRID, Shard, on_grid

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
KINDS = ["random", "duplicates", "ties"]


class ListEngine(ShardedEngine):
    """All shards here, one after another."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        self.num_instances = sum(len(shard.instance_ids) for shard in shards)

    def _gather(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(shard, method)(*arguments) for shard in self.shards]

    def assignments(self) -> list[int]:
        """The cluster of each instance, in the order of the ids."""
        ids = torch.cat([shard.instance_ids for shard in self.shards])
        return torch.cat([shard.assignments for shard in self.shards])[ids.argsort()].tolist()


def engine_of(features: Tensor, num_shards: int = 1, order: Tensor | None = None) -> ListEngine:
    """Shards of unequal size, of the rows in an order; the id of a row is its place in `features`."""
    rows = torch.arange(len(features)) if order is None else order
    cuts = [len(rows) * i**2 // num_shards**2 for i in range(num_shards + 1)]
    parts = [rows[a:b] for a, b in pairwise(cuts)]
    return ListEngine([Shard(features[part], part) for part in parts])


def features_of(kind: str, n: int, d: int, seed: int = 0) -> Tensor:
    """Random directions; few directions over and over; directions between which there are many ties."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "ties":
        rows = torch.randint(-1, 2, (n, d), generator=generator).float()
        rows[rows.abs().sum(dim=1) == 0, 0] = 1.0
        return rows
    rows = torch.randn(n if kind == "random" else max(2, n // 8), d, generator=generator)
    return rows if kind == "random" else rows[torch.randint(0, len(rows), (n,), generator=generator)]


def start_of(features: Tensor, k: int, seed: int = 0) -> Tensor:
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:k]]


def circle(*degrees: float) -> Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


# ---------------------------------------------------------------------------------------------------------------------
# Algorithm 1 by loops. Points and centroids are on the grid of `core.shard`, where `fsum` of products is exact.

Vector = list[float]


def dot(x: Vector, y: Vector) -> float:
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def direction(v: Vector, otherwise: Vector) -> Vector:
    norm = math.sqrt(math.fsum(a * a for a in v))
    return [round(a / norm / GRID) * GRID for a in v] if norm > 1e-9 else otherwise


def eq_6(points: list[Vector], member: list[int], centroids: list[Vector], alpha: float) -> float:
    """J, instance by instance."""
    total, k = 0.0, len(centroids)
    for x, j in zip(points, member, strict=True):
        total += dot(x, centroids[j])
        total -= alpha / max(k - 1, 1) * sum(dot(x, centroids[other]) for other in range(k) if other != j)
    return total


def eq_8(points: list[Vector], member: list[int], centroids: list[Vector], alpha: float) -> list[Vector]:
    """The centroid rule; a cluster whose direction does not exist keeps its centroid."""
    k, found = len(centroids), []
    for j in range(k):
        weights = [1.0 if own == j else -alpha / max(k - 1, 1) for own in member]
        sums = [math.fsum(w * x[d] for w, x in zip(weights, points, strict=True)) for d in range(len(points[0]))]
        found.append(direction(sums, otherwise=centroids[j]))
    return found


def eq_9(points: list[Vector], centroids: list[Vector]) -> list[int]:
    """The NN rule; ties to the lowest cluster."""
    member = []
    for x in points:
        similarities = [dot(x, c) for c in centroids]
        member.append(similarities.index(max(similarities)))
    return member


def b_3(points: list[Vector], member: list[int], centroids: list[Vector], floor: int) -> list[int]:
    """One deficient cluster after another takes, one by one, the most similar member of a cluster above the floor."""
    member = list(member)
    for j in range(len(centroids)):
        while member.count(j) < floor:
            free = [i for i, own in enumerate(member) if own != j and member.count(own) > floor]
            member[min(free, key=lambda i: (-dot(points[i], centroids[j]), i))] = j
    return member


@dataclass
class ByLoops:
    member: list[int]
    centroids: list[Vector]
    objective: float
    changed: float
    iterations: int


def drc_by_loops(
    points: list[Vector], centroids: list[Vector], alpha: float, floor: int, tolerance: float = 0.01
) -> ByLoops:
    """NN, centroids, floor, centroids again if anything moved; until fewer than 1% change, at most 70 times."""
    member, iterations, changed = [-1] * len(points), 0, 1.0
    while iterations < 70 and changed > tolerance:
        before, member = member, eq_9(points, centroids)
        centroids = eq_8(points, member, centroids, alpha)
        held = b_3(points, member, centroids, floor)
        if held != member:
            centroids = eq_8(points, held, centroids, alpha)
        member = held
        changed = sum(a != b for a, b in zip(before, member, strict=True)) / len(points)
        iterations += 1
    return ByLoops(member, centroids, eq_6(points, member, centroids, alpha), changed, iterations)


def grid_points(engine: ListEngine) -> list[Vector]:
    (shard,) = engine.shards
    return shard.features.double().tolist()


def grid_centroids(start: Tensor) -> list[Vector]:
    return on_grid(F.normalize(start.double(), dim=1)).tolist()


def assert_same_as_loops(features: Tensor, start: Tensor, alpha: float, floor: int, tolerance: float = 0.01) -> None:
    engine = engine_of(features)
    found = repulsive_kmeans(engine, start, repulsion=alpha, min_size=floor, tolerance=tolerance)
    expected = drc_by_loops(grid_points(engine), grid_centroids(start), alpha, floor, tolerance)
    assert engine.assignments() == expected.member
    np.testing.assert_allclose(found.centroids.numpy(), expected.centroids, atol=1e-7)
    assert found.counts.tolist() == [expected.member.count(j) for j in range(len(start))]
    assert found.objective == pytest.approx(expected.objective, abs=1e-9 * len(features))
    assert (found.iterations, found.changed) == (expected.iterations, expected.changed)
    assert found.converged == (expected.changed <= tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("floor", ["none", "paper", "highest"])
def test_clustering_by_loops(kind: str, alpha: float, floor: str) -> None:
    for seed in range(3):
        n, k = 41, 3 + seed
        features = features_of(kind, n, 4, seed)
        min_size = {"none": 0, "paper": floor_size(n, k), "highest": n // k}[floor]
        assert_same_as_loops(features, start_of(features, k, seed), alpha, min_size)


def test_clustering_by_loops_where_the_start_leaves_most_clusters_empty() -> None:
    """Four centroids on the far side of the data: the floor fills one cluster after another."""
    features = features_of("random", 40, 3) * 0.3 + torch.tensor([1.0, 0.0, 0.0])
    start = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.1, 0.0], [-1.0, 0.0, 0.1], [-1.0, -0.1, 0.0], [-1.0, 0.0, -0.1]])
    for floor in (0, 4, 8):
        assert_same_as_loops(features, start, alpha=0.1, floor=floor)


@settings(PROPERTY, max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 20),
    k=st.integers(1, 6),
    alpha=st.sampled_from([0.0, 0.05, 0.1, 0.5, 2.0]),
    seed=st.integers(0, 10_000),
    share=st.floats(0.0, 1.0),
)
def test_clustering_by_loops_of_small_sets(kind: str, n: int, k: int, alpha: float, seed: int, share: float) -> None:
    k = min(k, n)
    features = features_of(kind, n, 3, seed)
    assert_same_as_loops(features, start_of(features, k, seed), alpha, floor_size(n, k, share), tolerance=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# The rules


def test_centroid_rule_by_hand() -> None:
    """k = 2, alpha = 1/2: (3, 0) - (0, 4)/2 = (3, -2) and (0, 4) - (3, 0)/2 = (-1.5, 4)."""
    sums = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    found = centroid_rule(sums, torch.zeros_like(sums), repulsion=0.5)
    expected = [[3 / 13**0.5, -2 / 13**0.5], [-1.5 / 18.25**0.5, 4 / 18.25**0.5]]
    np.testing.assert_allclose(found.numpy(), expected, atol=GRID)


def test_centroid_rule_shares_the_repulsion_between_the_other_clusters() -> None:
    """k = 3, alpha = 1: (4, 0, 0) - ((0, 2, 0) + (0, 0, 6))/2 = (4, -1, -3)."""
    sums = torch.tensor([[4.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 6.0]], dtype=torch.float64)
    found = centroid_rule(sums, torch.zeros_like(sums), repulsion=1.0)
    np.testing.assert_allclose(found[0].numpy(), np.array([4, -1, -3]) / 26**0.5, atol=GRID)


def test_centroid_rule_without_repulsion_is_the_mean_direction() -> None:
    sums = torch.tensor([[3.0, 4.0], [0.0, -7.0]], dtype=torch.float64)
    found = centroid_rule(sums, torch.zeros_like(sums), repulsion=0.0)
    np.testing.assert_allclose(found.numpy(), [[0.6, 0.8], [0.0, -1.0]], atol=GRID)


def test_centroids_are_unit_vectors_on_the_grid() -> None:
    sums = torch.randn(5, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    found = centroid_rule(sums, torch.zeros_like(sums), repulsion=0.1)
    assert (found / GRID).frac().abs().max() == 0
    np.testing.assert_allclose(found.norm(dim=1).numpy(), 1.0, atol=30**0.5 * GRID)


def test_cluster_without_a_direction_keeps_its_centroid() -> None:
    sums = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    previous = torch.tensor([[0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
    found = centroid_rule(sums, previous, repulsion=0.0)
    np.testing.assert_allclose(found.numpy(), [[1.0, 0.0], [0.6, 0.8]], atol=GRID)


def test_repulsion_drives_an_empty_cluster_to_the_other_side() -> None:
    sums = torch.tensor([[2.0, 1.0], [0.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    found = centroid_rule(sums, torch.zeros_like(sums), repulsion=0.1)
    np.testing.assert_allclose(found[1].numpy(), [-0.6, -0.8], atol=GRID)


def test_objective_by_hand() -> None:
    """c.S = 3 and 4; c_2.S_1 = 0.6 x 3 and c_1.S_2 = 0: J = 3 + 3.2 - (1.8 + 0)/2."""
    sums = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    centroids = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    assert objective(sums, centroids, repulsion=0.5) == pytest.approx(3 + 3.2 - 0.5 * 1.8)


@PROPERTY
@given(k=st.integers(1, 5), alpha=st.floats(0, 3), seed=st.integers(0, 10_000))
def test_objective_from_the_sums_is_that_of_the_instances(k: int, alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = engine_of(features_of("random", 30, 4, seed))
    (shard,) = engine.shards
    shard.assignments = torch.from_numpy(rng.integers(0, k, 30))
    centroids = on_grid(F.normalize(torch.from_numpy(rng.normal(size=(k, 4))), dim=1))
    found = objective(engine.sums(k).sums, centroids, alpha)
    expected = eq_6(grid_points(engine), engine.assignments(), centroids.tolist(), alpha)
    assert found == pytest.approx(expected, abs=1e-9)


@PROPERTY
@given(k=st.integers(1, 5), alpha=st.floats(0, 3), seed=st.integers(0, 10_000))
def test_no_centroids_are_better_than_those_of_the_rule(k: int, alpha: float, seed: int) -> None:
    """B.1: given the memberships, eq. (8) maximises eq. (6)."""
    rng = np.random.default_rng(seed)
    sums = torch.from_numpy(rng.normal(size=(k, 3)) * 10)
    best = objective(sums, centroid_rule(sums, torch.zeros_like(sums), alpha), alpha)
    for _ in range(20):
        other = F.normalize(torch.from_numpy(rng.normal(size=(k, 3))), dim=1)
        assert objective(sums, other, alpha) <= best + 1e-5


@PROPERTY
@given(k=st.integers(1, 4), alpha=st.floats(0, 3), seed=st.integers(0, 10_000))
def test_no_memberships_are_better_than_those_of_the_nearest_centroid(k: int, alpha: float, seed: int) -> None:
    """B.2: given the centroids, eq. (9) maximises eq. (6)."""
    rng = np.random.default_rng(seed)
    engine = engine_of(features_of("random", 12, 3, seed))
    centroids = on_grid(F.normalize(torch.from_numpy(rng.normal(size=(k, 3))), dim=1))
    engine.assign(centroids)
    points = grid_points(engine)
    best = eq_6(points, engine.assignments(), centroids.tolist(), alpha)
    for _ in range(20):
        assert eq_6(points, rng.integers(0, k, 12).tolist(), centroids.tolist(), alpha) <= best + 1e-9


@PROPERTY
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(4, 60),
    k=st.integers(1, 4),
    alpha=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_objective_never_falls_and_stays_below_its_bound(kind: str, n: int, k: int, alpha: float, seed: int) -> None:
    features = features_of(kind, n, 5, seed)
    history: list[float] = []
    repulsive_kmeans(
        engine_of(features),
        start_of(features, k, seed),
        repulsion=alpha,
        tolerance=0.0,
        on_iteration=lambda state: history.append(state.objective),
    )
    grid_error = 1e-7 * n
    assert all(after >= before - grid_error for before, after in pairwise(history))
    assert history[-1] <= n * (1 + alpha) + grid_error


def test_bound_is_reached_by_two_opposite_points() -> None:
    """Every instance on its centroid, the other centroid opposite: J = n (1 + alpha)."""
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(5, 1)
    found = repulsive_kmeans(engine_of(features), features[:2], repulsion=0.3)
    assert found.objective == pytest.approx(10 * 1.3)
    assert centroid_affinity(found.centroids.numpy()) == -1.0


def test_full_repulsion_makes_two_centroids_opposite() -> None:
    """At alpha = 1 and k = 2, eq. (8) gives c_1 = -c_2 for any sums, the equilibrium of eq. (11)."""
    features = features_of("random", 100, 6)
    found = repulsive_kmeans(engine_of(features), features[:2], repulsion=1.0)
    assert torch.equal(found.centroids[0], -found.centroids[1])


def test_repulsion_spreads_the_centroids() -> None:
    features = features_of("random", 300, 8) + torch.tensor([2.0, *[0.0] * 7])
    affinities = [
        centroid_affinity(repulsive_kmeans(engine_of(features), features[:3], repulsion=alpha).centroids.numpy())
        for alpha in (0.0, 0.1, 0.3)
    ]
    assert affinities[0] > affinities[1] > affinities[2]


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_floor_every_member_is_nearest_to_its_own_centroid(kind: str) -> None:
    features = features_of(kind, 80, 4)
    engine = engine_of(features)
    found = repulsive_kmeans(engine, start_of(features, 4), tolerance=0.0)
    assert found.converged
    assert found.changed == 0.0
    similarities = torch.tensor(grid_points(engine), dtype=torch.float64) @ found.centroids.T
    own = similarities[torch.arange(80), torch.tensor(engine.assignments())]
    assert torch.equal(own, similarities.amax(dim=1))


# ---------------------------------------------------------------------------------------------------------------------
# The floor


def held(features: Tensor, member: list[int], centroids: Tensor, floor: int) -> tuple[ListEngine, list[int]]:
    engine = engine_of(features, num_shards=2)
    for shard in engine.shards:
        shard.assignments = torch.tensor(member)[shard.instance_ids]
    sums = hold_floor(engine, engine.sums(len(centroids)), centroids.double(), floor)
    again = engine.sums(len(centroids))
    assert torch.equal(sums.sums, again.sums)
    assert torch.equal(sums.counts, again.counts)
    return engine, engine.assignments()


def test_deficient_cluster_takes_its_most_similar() -> None:
    _, member = held(circle(0, 10, 20, 30, 40), [0] * 5, circle(0, 90), floor=2)
    assert member == [0, 0, 0, 1, 1]


def test_floor_ties_go_to_the_lowest_id() -> None:
    _, member = held(circle(40, 40, 0, 40, 40), [0] * 5, circle(0, 90), floor=2)
    assert member == [1, 1, 0, 0, 0]


def test_donor_stops_giving_at_the_floor() -> None:
    """45 degrees is nearer to the deficient cluster at 90 than 140, but its cluster has no more than two left."""
    features = circle(50, 45, 0, 140, 150, 170, 180)
    _, member = held(features, [0, 0, 0, 1, 1, 1, 1], circle(0, 180, 90), floor=2)
    assert member == [2, 0, 0, 2, 1, 1, 1]


def test_clusters_are_filled_one_after_another() -> None:
    """Both want the instance at 80 degrees, the second more than the first; the first takes it and keeps it."""
    _, member = held(circle(0, 5, 60, 80), [0, 0, 0, 0], circle(0, 72, 85), floor=1)
    assert member == [0, 0, 2, 1]


def test_cluster_at_the_floor_gives_nothing_away() -> None:
    """The instance at 100 degrees is the only one of its cluster; 20 is the nearest of the others."""
    _, member = held(circle(0, 10, 20, 100), [0, 0, 0, 1], circle(0, 100, 101), floor=1)
    assert member == [0, 0, 2, 1]


def test_nothing_moves_where_no_cluster_is_deficient() -> None:
    engine = engine_of(circle(0, 10, 90, 100))
    sums = engine.assign(circle(0, 90).double())
    assert hold_floor(engine, sums, circle(0, 90).double(), 2) is sums


@PROPERTY
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 50),
    k=st.integers(2, 6),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 10_000),
)
def test_every_cluster_holds_the_floor_in_every_iteration(kind: str, n: int, k: int, share: float, seed: int) -> None:
    k = min(k, n)
    features, floor = features_of(kind, n, 4, seed), floor_size(n, k, share)
    states: list[Clustering] = []
    engine = engine_of(features, num_shards=3)
    repulsive_kmeans(engine, start_of(features, k, seed), min_size=floor, on_iteration=states.append)
    for state in states:
        assert int(state.counts.min()) >= floor
        assert int(state.counts.sum()) == n
    assert states[-1].counts.tolist() == [engine.assignments().count(j) for j in range(k)]


@pytest.mark.parametrize(
    ("n", "k", "fraction", "expected"),
    [(100, 2, 0.5, 25), (101, 2, 0.5, 25), (59, 6, 0.5, 4), (9, 3, 1.0, 3), (5, 3, 0.0, 0)],
)
def test_floor_size(n: int, k: int, fraction: float, expected: int) -> None:
    assert floor_size(n, k, fraction) == expected


def test_papers_floor_size_for_all_small_sets() -> None:
    assert all(floor_size(n, k) == n // (2 * k) for n in range(200) for k in range(1, 20))


# ---------------------------------------------------------------------------------------------------------------------
# What does not change the result


def clustering_of(engine: ListEngine, start: Tensor, floor: int, iterations: int = 8) -> tuple[Clustering, list[int]]:
    found = repulsive_kmeans(engine, start, repulsion=0.1, min_size=floor, tolerance=0.0, max_iterations=iterations)
    return found, engine.assignments()


def assert_identical(found: tuple[Clustering, list[int]], expected: tuple[Clustering, list[int]]) -> None:
    """To the last bit."""
    assert torch.equal(found[0].centroids, expected[0].centroids)
    assert torch.equal(found[0].counts, expected[0].counts)
    assert found[0].objective == expected[0].objective
    assert (found[0].changed, found[0].iterations) == (expected[0].changed, expected[0].iterations)
    assert found[1] == expected[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floored", [False, True])
@pytest.mark.parametrize(("n", "k", "d"), [(60, 4, 3), (997, 5, 12)])
def test_number_of_shards_changes_nothing(kind: str, floored: bool, n: int, k: int, d: int) -> None:
    features = features_of(kind, n, d)
    floor = n // k if floored else 0
    expected = clustering_of(engine_of(features), start_of(features, k), floor)
    for num_shards in (2, 7):
        assert_identical(clustering_of(engine_of(features, num_shards), start_of(features, k), floor), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floored", [False, True])
def test_order_of_the_rows_changes_nothing(kind: str, floored: bool) -> None:
    features = features_of(kind, 500, 6)
    floor = 500 // 5 if floored else 0
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    expected = clustering_of(engine_of(features), start_of(features, 5), floor)
    assert_identical(clustering_of(engine_of(features, 3, order), start_of(features, 5), floor), expected)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_number_of_threads_changes_nothing() -> None:
    features = features_of("random", 5000, 64)
    found = []
    for threads in (1, 2, 4):
        with torch_threads(threads):
            found.append(clustering_of(engine_of(features), start_of(features, 4), floor=1200, iterations=3))
    assert_identical(found[1], found[0])
    assert_identical(found[2], found[0])


@settings(PROPERTY, max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 40),
    k=st.integers(1, 5),
    shards=st.integers(1, 6),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_shards_and_order_change_nothing(kind: str, n: int, k: int, shards: int, share: float, seed: int) -> None:
    k, shards = min(k, n), min(shards, n)
    features, floor = features_of(kind, n, 3, seed), floor_size(n, min(k, n), share)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    engine = ListEngine([Shard(features[part], part) for part in order.tensor_split(shards)])
    expected = clustering_of(engine_of(features), start_of(features, k), floor)
    assert_identical(clustering_of(engine, start_of(features, k), floor), expected)


def test_more_shards_than_instances_change_nothing() -> None:
    """Some of them are empty, also while the floor moves members."""
    features = circle(0, 10, 20, 30, 40)
    expected = clustering_of(engine_of(features), circle(0, 180), floor=2)
    assert_identical(clustering_of(engine_of(features, num_shards=7), circle(0, 180), floor=2), expected)


def test_order_of_the_clusters_is_that_of_the_start() -> None:
    features = features_of("random", 200, 5)
    first, member = clustering_of(engine_of(features), features[:3], floor=0)
    second, renamed = clustering_of(engine_of(features), features[[2, 0, 1]], floor=0)
    assert torch.equal(second.centroids, first.centroids[[2, 0, 1]])
    assert renamed == [[1, 2, 0][j] for j in member]


def test_length_of_the_start_does_not_count() -> None:
    features = features_of("random", 100, 5)
    start = start_of(features, 3)
    lengthened = start * torch.tensor([[0.25], [4.0], [64.0]])
    assert_identical(
        clustering_of(engine_of(features), lengthened, floor=0), clustering_of(engine_of(features), start, floor=0)
    )


# ---------------------------------------------------------------------------------------------------------------------
# Edges


def test_one_cluster_is_the_mean_direction() -> None:
    features = features_of("random", 50, 4)
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features[:1], repulsion=0.5)
    assert engine.assignments() == [0] * 50
    mean = F.normalize(F.normalize(features.double(), dim=1).sum(dim=0), dim=0)
    np.testing.assert_allclose(found.centroids[0].numpy(), mean.numpy(), atol=1e-6)
    cosines = F.normalize(features.double(), dim=1) @ mean
    assert found.objective == pytest.approx(float(cosines.sum()))


@pytest.mark.parametrize("floor", [0, 1])
def test_as_many_clusters_as_instances(floor: int) -> None:
    features = circle(0, 50, 100, 150, 200)
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features, repulsion=0.0, min_size=floor)
    assert engine.assignments() == [0, 1, 2, 3, 4]
    assert found.objective == pytest.approx(5.0)
    np.testing.assert_allclose(found.centroids.numpy(), features.numpy(), atol=1e-7)


def test_images_that_are_all_the_same_share_a_cluster() -> None:
    features = torch.tensor([[3.0, 4.0]]).repeat(9, 1)
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features[:3], repulsion=0.0)
    assert engine.assignments() == [0] * 9
    assert found.converged
    np.testing.assert_allclose(found.centroids.numpy(), [[0.6, 0.8]] * 3, atol=1e-7)


def test_floor_divides_images_that_are_all_the_same() -> None:
    """All in cluster 0 by the NN rule; clusters 1 and 2 take three each, the lowest ids first."""
    features = torch.tensor([[3.0, 4.0]]).repeat(9, 1)
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features[:3], repulsion=0.0, min_size=3)
    assert engine.assignments() == [1, 1, 1, 2, 2, 2, 0, 0, 0]
    assert found.counts.tolist() == [3, 3, 3]
    assert found.objective == pytest.approx(9.0)


def test_empty_cluster_without_repulsion_stays_where_it_was() -> None:
    engine = engine_of(circle(0, 10, 20))
    found = repulsive_kmeans(engine, circle(10, 200), repulsion=0.0)
    assert found.counts.tolist() == [3, 0]
    np.testing.assert_allclose(found.centroids.numpy(), circle(10, 200).double().numpy(), atol=1e-7)
    assert found.objective == pytest.approx(1 + 2 * math.cos(math.radians(10)))


def test_iterations_end_at_their_maximum() -> None:
    features = features_of("random", 400, 3)
    states: list[Clustering] = []
    found = repulsive_kmeans(
        engine_of(features), features[:5], tolerance=0.0, max_iterations=2, on_iteration=states.append
    )
    assert [state.iterations for state in states] == [1, 2]
    assert found is states[-1]
    assert found.changed > 0
    assert not found.converged


def test_iterations_end_when_few_memberships_change() -> None:
    features = features_of("random", 400, 3)
    states: list[Clustering] = []
    found = repulsive_kmeans(engine_of(features), features[:5], tolerance=0.05, on_iteration=states.append)
    assert states[0].changed == 1.0
    assert all(state.changed > 0.05 for state in states[:-1])
    assert found.changed <= 0.05
    assert [state.converged for state in states] == [False] * (len(states) - 1) + [True]


def test_more_clusters_than_instances_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_clusters is 4, but there are only 3 instances"):
        repulsive_kmeans(engine_of(circle(0, 1, 2)), circle(0, 1, 2, 3))


def test_floor_that_cannot_be_held_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 clusters of at least 3 members need more than the 5 instances"):
        repulsive_kmeans(engine_of(circle(0, 1, 2, 3, 4)), circle(0, 1), min_size=3)


def test_negative_repulsion_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"repulsion is -0\.1; it must be 0 or more"):
        repulsive_kmeans(engine_of(circle(0, 1, 2)), circle(0, 1), repulsion=-0.1)


# ---------------------------------------------------------------------------------------------------------------------
# The start


def planted(n: int, k: int, d: int, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Groups around k axes."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(0, k, (n,), generator=generator)
    return torch.eye(d)[groups] + 0.05 * torch.randn(n, d, generator=generator), groups.tolist()


def test_start_finds_planted_groups() -> None:
    features, _ = planted(300, 4, 6)
    centroids = F.normalize(kmeans_start(engine_of(features), 4, seed=0), dim=1)
    assert sorted(centroids.argmax(dim=1).tolist()) == [0, 1, 2, 3]
    assert centroids.amax(dim=1).min() > 0.99


def test_start_and_clustering_recover_planted_groups() -> None:
    features, groups = planted(300, 4, 6)
    engine = engine_of(features, num_shards=3)
    repulsive_kmeans(engine, kmeans_start(engine, 4, seed=1), min_size=floor_size(300, 4))
    assert len({*zip(engine.assignments(), groups, strict=True)}) == 4


def test_start_on_all_instances_is_the_mean_of_groups() -> None:
    """Two tight groups: k-means' centroids are in the direction of their means."""
    features = circle(0, 2, 4, 90, 92, 94)
    centroids = kmeans_start(engine_of(features), 2, seed=0)
    found = centroids[centroids[:, 0].argsort(descending=True)]
    means = torch.stack([features[:3].mean(dim=0), features[3:].mean(dim=0)])
    torch.testing.assert_close(F.normalize(found, dim=1).float(), F.normalize(means, dim=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample_size", [50, 10_000])
def test_start_does_not_depend_on_the_shards_or_the_order(kind: str, sample_size: int) -> None:
    features = features_of(kind, 200, 4)
    expected = kmeans_start(engine_of(features), 3, seed=5, sample_size=sample_size)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    for num_shards in (1, 2, 7):
        engine = engine_of(features, num_shards, order)
        assert torch.equal(kmeans_start(engine, 3, seed=5, sample_size=sample_size), expected)


def test_start_does_not_depend_on_the_number_of_threads() -> None:
    engine = engine_of(features_of("random", 600, 16))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(kmeans_start(engine, 4, seed=0))
    assert torch.equal(found[0], found[1])


def test_sample_is_of_the_given_size_and_of_different_instances_by_seed() -> None:
    features = features_of("random", 200, 4)
    engine = engine_of(features, 3)
    samples = [{*map(tuple, engine.sample(40, seed).tolist())} for seed in (0, 1)]
    everything = {tuple(row) for shard in engine.shards for row in shard.features.tolist()}
    assert [len(sample) for sample in samples] == [40, 40]
    assert all(sample <= everything for sample in samples)
    assert samples[0] != samples[1]


def test_start_of_images_that_are_all_the_same() -> None:
    features = torch.tensor([[3.0, 4.0]]).repeat(6, 1)
    torch.testing.assert_close(kmeans_start(engine_of(features), 3, seed=0), torch.tensor([[0.6, 0.8]] * 3))


def test_start_with_fewer_distinct_images_than_clusters_repeats_them() -> None:
    features = circle(0, 90).repeat(4, 1)
    found = kmeans_start(engine_of(features), 3, seed=0)
    assert {tuple(row) for row in found.round(decimals=6).tolist()} == {(1.0, 0.0), (0.0, 1.0)}
    assert found.shape == (3, 2)


def test_start_with_as_many_clusters_as_instances_is_the_instances() -> None:
    features = circle(0, 70, 140)
    found = kmeans_start(engine_of(features), 3, seed=0)
    distances = torch.cdist(found, features)
    assert distances.amin(dim=0).max() < 1e-6


def test_start_of_more_clusters_than_instances_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_clusters is 4, but there are only 3 instances"):
        kmeans_start(engine_of(circle(0, 1, 2)), 4, seed=0)
