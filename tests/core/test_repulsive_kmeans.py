"""DRC against algorithm 1, eq. (6), (8), (9) and B.3 in plain loops; what does not change its result; its edges."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shards import KINDS, Features, ListEngine, engine_of, features_of

from ordclust_ray.core.blocks import GRID, on_grid
from ordclust_ray.core.metrics import centroid_affinity
from ordclust_ray.core.repulsive_kmeans import (
    Clustering,
    Rules,
    centroid_rule,
    cluster_together,
    floor_size,
    objective,
    repulsive_kmeans,
)
from ordclust_ray.core.shard import Shard

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)


def start_of(features: Features, k: int, seed: int = 0) -> Features:
    return features[np.random.default_rng(seed).permutation(len(features))[:k]]


def unit(rows: Any) -> NDArray[np.float64]:
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def units(rows: Any) -> NDArray[np.int64]:
    """Sums in units of the grid."""
    return np.rint(np.asarray(rows, np.float64) / GRID).astype(np.int64)


def circle(*degrees: float) -> NDArray[np.float32]:
    angles = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Algorithm 1 by loops. Points and centroids are on the grid of `core.blocks`, where `fsum` of products is exact.

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
    rows: list[Vector] = (shard.take(np.arange(engine.num_instances)).astype(np.float64) * GRID).tolist()
    return rows


def grid_centroids(start: Features) -> list[Vector]:
    return [direction(row, otherwise=row) for row in start.astype(np.float64).tolist()]


def assert_same_as_loops(
    features: Features, start: Features, alpha: float, floor: int, tolerance: float = 0.01
) -> None:
    engine = engine_of(features)
    found = repulsive_kmeans(engine, start, repulsion=alpha, min_size=floor, tolerance=tolerance)
    expected = drc_by_loops(grid_points(engine), grid_centroids(start), alpha, floor, tolerance)
    assert engine.assignments() == expected.member
    np.testing.assert_allclose(found.centroids, expected.centroids, atol=1e-7)
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
    features = features_of("random", 40, 3) * 0.3 + np.eye(3)[0]
    start = np.array([[1.0, 0.0, 0.0], [-1.0, 0.1, 0.0], [-1.0, 0.0, 0.1], [-1.0, -0.1, 0.0], [-1.0, 0.0, -0.1]])
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
    sums = units([[3.0, 0.0], [0.0, 4.0]])
    found = centroid_rule(sums, np.zeros(sums.shape), repulsion=0.5)
    expected = [[3 / 13**0.5, -2 / 13**0.5], [-1.5 / 18.25**0.5, 4 / 18.25**0.5]]
    np.testing.assert_allclose(found, expected, atol=GRID)


def test_centroid_rule_shares_the_repulsion_between_the_other_clusters() -> None:
    """k = 3, alpha = 1: (4, 0, 0) - ((0, 2, 0) + (0, 0, 6))/2 = (4, -1, -3)."""
    sums = units([[4.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 6.0]])
    found = centroid_rule(sums, np.zeros(sums.shape), repulsion=1.0)
    np.testing.assert_allclose(found[0], np.array([4, -1, -3]) / 26**0.5, atol=GRID)


def test_centroid_rule_without_repulsion_is_the_mean_direction() -> None:
    sums = units([[3.0, 4.0], [0.0, -7.0]])
    found = centroid_rule(sums, np.zeros(sums.shape), repulsion=0.0)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, -1.0]], atol=GRID)


def test_centroids_are_unit_vectors_on_the_grid() -> None:
    sums = units(np.random.default_rng(0).normal(size=(5, 30)) * 100)
    found = centroid_rule(sums, np.zeros(sums.shape), repulsion=0.1)
    assert (found / GRID % 1 == 0).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=30**0.5 * GRID)


def test_cluster_without_a_direction_keeps_its_centroid() -> None:
    sums = units([[2.0, 0.0], [0.0, 0.0]])
    previous = np.array([[0.0, 1.0], [0.6, 0.8]])
    found = centroid_rule(sums, previous, repulsion=0.0)
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.6, 0.8]], atol=GRID)


def test_repulsion_drives_an_empty_cluster_to_the_other_side() -> None:
    sums = units([[2.0, 1.0], [0.0, 0.0], [1.0, 3.0]])
    found = centroid_rule(sums, np.zeros(sums.shape), repulsion=0.1)
    np.testing.assert_allclose(found[1], [-0.6, -0.8], atol=GRID)


def test_objective_by_hand() -> None:
    """c.S = 3 and 4; c_2.S_1 = 0.6 x 3 and c_1.S_2 = 0: J = 3 + 3.2 - (1.8 + 0)/2."""
    sums = units([[3.0, 0.0], [0.0, 4.0]])
    centroids = np.array([[1.0, 0.0], [0.6, 0.8]])
    assert objective(sums, centroids, repulsion=0.5) == pytest.approx(3 + 3.2 - 0.5 * 1.8)


@PROPERTY
@given(k=st.integers(1, 5), alpha=st.floats(0, 3), seed=st.integers(0, 10_000))
def test_objective_from_the_sums_is_that_of_the_instances(k: int, alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = ListEngine([Shard(features_of("random", 30, 4, seed), np.arange(30), rng.integers(0, k, 30))])
    centroids = on_grid(unit(rng.normal(size=(k, 4))))
    found = objective(engine.add("sums", k).sums, centroids, alpha)
    expected = eq_6(grid_points(engine), engine.assignments(), centroids.tolist(), alpha)
    assert found == pytest.approx(expected, abs=1e-9)


@PROPERTY
@given(k=st.integers(1, 5), alpha=st.floats(0, 3), seed=st.integers(0, 10_000))
def test_no_centroids_are_better_than_those_of_the_rule(k: int, alpha: float, seed: int) -> None:
    """B.1: given the memberships, eq. (8) maximises eq. (6)."""
    rng = np.random.default_rng(seed)
    sums = units(rng.normal(size=(k, 3)) * 10)
    best = objective(sums, centroid_rule(sums, np.zeros(sums.shape), alpha), alpha)
    for _ in range(20):
        other = unit(rng.normal(size=(k, 3)))
        assert objective(sums, other, alpha) <= best + 1e-5


@PROPERTY
@given(k=st.integers(1, 4), alpha=st.floats(0, 3), seed=st.integers(0, 10_000))
def test_no_memberships_are_better_than_those_of_the_nearest_centroid(k: int, alpha: float, seed: int) -> None:
    """B.2: given the centroids, eq. (9) maximises eq. (6)."""
    rng = np.random.default_rng(seed)
    engine = engine_of(features_of("random", 12, 3, seed))
    centroids = on_grid(unit(rng.normal(size=(k, 3))))
    engine.add("assign", (0, centroids))
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
    features = np.tile([[1.0, 0.0], [-1.0, 0.0]], (5, 1))
    found = repulsive_kmeans(engine_of(features), features[:2], repulsion=0.3)
    assert found.objective == pytest.approx(10 * 1.3)
    assert centroid_affinity(found.centroids) == -1.0


def test_full_repulsion_makes_two_centroids_opposite() -> None:
    """At alpha = 1 and k = 2, eq. (8) gives c_1 = -c_2 for any sums, the equilibrium of eq. (11)."""
    features = features_of("random", 100, 6)
    found = repulsive_kmeans(engine_of(features), features[:2], repulsion=1.0)
    assert np.array_equal(found.centroids[0], -found.centroids[1])


def test_repulsion_spreads_the_centroids() -> None:
    features = features_of("random", 300, 8) + 2 * np.eye(8)[0]
    affinities = [
        centroid_affinity(repulsive_kmeans(engine_of(features), features[:3], repulsion=alpha).centroids)
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
    similarities = np.array(grid_points(engine)) @ found.centroids.T
    own = similarities[np.arange(80), np.array(engine.assignments())]
    assert np.array_equal(own, similarities.max(axis=1))


# ---------------------------------------------------------------------------------------------------------------------
# What does not change the result


def clustering_of(engine: ListEngine, start: Features, floor: int, iterations: int = 8) -> tuple[Clustering, list[int]]:
    found = repulsive_kmeans(engine, start, repulsion=0.1, min_size=floor, tolerance=0.0, max_iterations=iterations)
    return found, engine.assignments()


def assert_identical(found: tuple[Clustering, list[int]], expected: tuple[Clustering, list[int]]) -> None:
    """To the last bit."""
    assert np.array_equal(found[0].centroids, expected[0].centroids)
    assert np.array_equal(found[0].counts, expected[0].counts)
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
    order = np.random.default_rng(0).permutation(500)
    expected = clustering_of(engine_of(features), start_of(features, 5), floor)
    assert_identical(clustering_of(engine_of(features, 3, order), start_of(features, 5), floor), expected)


def test_number_of_threads_changes_nothing() -> None:
    features = features_of("random", 5000, 64)
    found = []
    for threads in (1, 2, 4):
        engine = engine_of(features, num_shards=2, threads=threads)
        found.append(clustering_of(engine, start_of(features, 4), floor=1200, iterations=3))
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
    order = np.random.default_rng(seed).permutation(n)
    engine = ListEngine([Shard(features[part], part) for part in np.array_split(order, shards)])
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
    assert np.array_equal(second.centroids, first.centroids[[2, 0, 1]])
    assert renamed == [[1, 2, 0][j] for j in member]


def test_length_of_the_start_does_not_count() -> None:
    features = features_of("random", 100, 5)
    start = start_of(features, 3)
    lengthened = start * np.array([[0.25], [4.0], [64.0]], np.float32)
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
    (mean,) = unit(unit(features).sum(axis=0, keepdims=True))
    np.testing.assert_allclose(found.centroids[0], mean, atol=1e-6)
    cosines = unit(features) @ mean
    assert found.objective == pytest.approx(float(cosines.sum()))


@pytest.mark.parametrize("floor", [0, 1])
def test_as_many_clusters_as_instances(floor: int) -> None:
    features = circle(0, 50, 100, 150, 200)
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features, repulsion=0.0, min_size=floor)
    assert engine.assignments() == [0, 1, 2, 3, 4]
    assert found.objective == pytest.approx(5.0)
    np.testing.assert_allclose(found.centroids, features, atol=1e-7)


def test_images_that_are_all_the_same_share_a_cluster() -> None:
    features = np.tile([[3.0, 4.0]], (9, 1))
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features[:3], repulsion=0.0)
    assert engine.assignments() == [0] * 9
    assert found.converged
    np.testing.assert_allclose(found.centroids, [[0.6, 0.8]] * 3, atol=1e-7)


def test_floor_divides_images_that_are_all_the_same() -> None:
    """All in cluster 0 by the NN rule; clusters 1 and 2 take three each, the lowest ids first."""
    features = np.tile([[3.0, 4.0]], (9, 1))
    engine = engine_of(features)
    found = repulsive_kmeans(engine, features[:3], repulsion=0.0, min_size=3)
    assert engine.assignments() == [1, 1, 1, 2, 2, 2, 0, 0, 0]
    assert found.counts.tolist() == [3, 3, 3]
    assert found.objective == pytest.approx(9.0)


def test_empty_cluster_without_repulsion_stays_where_it_was() -> None:
    engine = engine_of(circle(0, 10, 20))
    found = repulsive_kmeans(engine, circle(10, 200), repulsion=0.0)
    assert found.counts.tolist() == [3, 0]
    np.testing.assert_allclose(found.centroids, circle(10, 200), atol=1e-7)
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


@pytest.mark.parametrize("repulsion", [math.inf, math.nan])
def test_repulsion_without_a_size_is_an_error(repulsion: float) -> None:
    with pytest.raises(ValueError, match=rf"repulsion is {repulsion}; it must be 0 or more"):
        repulsive_kmeans(engine_of(circle(0, 1, 2)), circle(0, 1), repulsion=repulsion)


def test_no_iterations_are_an_error() -> None:
    with pytest.raises(ValueError, match="max_iterations is 0; it must be 1 or more"):
        repulsive_kmeans(engine_of(circle(0, 1, 2)), circle(0, 1), max_iterations=0)


@pytest.mark.parametrize("floor", [0, 20])
def test_one_iteration_from_where_the_last_began_is_the_same_clustering(floor: int) -> None:
    features = features_of("random", 100, 5)
    expected, member = clustering_of(engine_of(features), start_of(features, 4), floor, iterations=3)
    assert not np.array_equal(expected.assigned_to, expected.centroids)
    found, again = clustering_of(engine_of(features), expected.assigned_to, floor, iterations=1)
    assert again == member
    assert np.array_equal(found.centroids, expected.centroids)
    assert np.array_equal(found.counts, expected.counts)
    assert found.objective == expected.objective


# ---------------------------------------------------------------------------------------------------------------------
# Several clusterings of the same instances


def assert_same_together(engine_like: Callable[[], ListEngine], starts: dict[int, tuple[Features, Rules]]) -> None:
    """Bit by bit, in every iteration, whatever the others do and however early they end."""
    states: dict[int, list[Clustering]] = {number: [] for number in starts}
    together = engine_like()
    found = cluster_together(together, starts, lambda number, state: states[number].append(state))
    assert list(found) == list(starts)
    for number, (start, rules) in starts.items():
        alone, history = engine_like(), list[Clustering]()
        expected = repulsive_kmeans(alone, start, **vars(rules), on_iteration=history.append)
        assert_identical((found[number], together.assignments(number)), (expected, alone.assignments()))
        assert len(states[number]) == len(history)
        for state, other in zip(states[number], history, strict=True):
            assert_identical((state, []), (other, []))
            assert np.array_equal(state.assigned_to, other.assigned_to)
            assert state.converged == other.converged


@settings(PROPERTY, max_examples=20)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(20, 60),
    shards=st.integers(1, 3),
    threads=st.integers(1, 2),
    ks=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_clusterings_together_are_what_they_are_alone(
    kind: str, n: int, shards: int, threads: int, ks: list[int], share: float, seed: int
) -> None:
    features, rng = features_of(kind, n, 4, seed), np.random.default_rng(seed)
    starts = {}
    for number, k in zip(rng.permutation(9).tolist(), ks, strict=False):
        floor = floor_size(n, k, share) if rng.random() < 0.7 else 0
        tolerance, iterations = float(rng.choice([0, 0.01, 0.3])), int(rng.integers(1, 8))
        starts[number] = (
            start_of(features, k, seed),
            Rules(float(rng.choice([0, 0.1, 1])), floor, iterations, tolerance),
        )
    assert_same_together(lambda: engine_of(features, shards, threads=threads), starts)


def test_clusterings_together_of_more_rows_than_are_read_at_once() -> None:
    """All look at some thousand rows before the next are read; some rows of these have to be read, and some not."""
    features = features_of("random", 11_000, 6)
    starts = {k: (start_of(features, k), Rules(min_size=floor_size(11_000, k), max_iterations=6)) for k in (3, 17, 40)}
    assert_same_together(lambda: engine_of(features, num_shards=2, threads=2), dict(starts))


class CountingEngine(ListEngine):
    """Counts the calls of each method."""

    def __init__(self, shards: list[Shard]) -> None:
        super().__init__(shards)
        self.calls: dict[str, int] = {}

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        self.calls[method] = self.calls.get(method, 0) + 1
        return super().gather(method, *arguments)


def test_one_pass_an_iteration_for_all_clusterings() -> None:
    features = features_of("random", 300, 4)
    engine = CountingEngine(engine_of(features, 2).shards)
    found = cluster_together(engine, {k: (start_of(features, k), Rules(tolerance=0.0)) for k in (2, 5, 9)})
    assert engine.calls["assign"] == max(state.iterations for state in found.values())
    assert len({state.iterations for state in found.values()}) > 1


def test_same_start_twice_gives_the_same_twice() -> None:
    features = features_of("ties", 60, 3)
    engine = engine_of(features)
    start = start_of(features, 5), Rules(min_size=6)
    found = cluster_together(engine, {3: start, 1: start})
    assert_identical((found[3], engine.assignments(3)), (found[1], engine.assignments(1)))


def test_rules_are_checked_before_the_first_pass() -> None:
    features = circle(0, 1, 2, 3)
    engine = CountingEngine(engine_of(features).shards)
    with pytest.raises(ValueError, match="2 clusters of at least 3 members need more than the 4 instances"):
        cluster_together(engine, {0: (features[:3], Rules()), 1: (features[:2], Rules(min_size=3))})
    assert engine.calls == {}


def test_no_clusterings_are_no_work() -> None:
    assert cluster_together(engine_of(circle(0, 1)), {}) == {}
