"""The floor (B.3) against the greedy rule in a plain loop over whole numbers; what leaves the shards for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.core import floor as floor_module
from ordclust_ray.core.answers import LEVELS
from ordclust_ray.core.blocks import GRID, on_grid
from ordclust_ray.core.floor import hold_floor
from ordclust_ray.core.repulsive_kmeans import Clustering, floor_size, repulsive_kmeans
from ordclust_ray.core.shard import Shard

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
KINDS = ["random", "duplicates", "ties", "close", "opposite"]
SENT = [0, 3, 4096]
"""How many candidates are sent: none, so that all 54 bits are counted; few; all of a small set."""


class ListEngine(ShardedEngine):
    """All shards here, one after another. Remembers which calls were made, and how many candidates were sent."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards
        self.num_instances = sum(len(shard.instance_ids) for shard in shards)
        self.calls: list[str] = []
        self.sent = 0

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        self.calls.append(method)
        answers = [getattr(shard, method)(*arguments) for shard in self.shards]
        if method == "candidates":
            self.sent += sum(len(answer.orders) for answer in answers)
        return answers

    def assignments(self, clustering: int = 0) -> list[int]:
        """The cluster of each instance, in the order of the ids."""
        ids = np.concatenate([shard.instance_ids for shard in self.shards])
        labels = np.concatenate([shard.clusterings[clustering].labels for shard in self.shards])
        return [int(label) for label in labels[ids.argsort()]]


def engine_of(
    features: NDArray[np.floating],
    num_shards: int = 1,
    member: list[int] | None = None,
    ids: NDArray[np.int64] | None = None,
    order: NDArray[np.int64] | None = None,
) -> ListEngine:
    """Shards of unequal size, of the rows in an order; the id of a row is its place in `features`, or as given."""
    rows = np.arange(len(features)) if order is None else order
    ids = np.arange(len(features)) if ids is None else ids
    cuts = [len(rows) * i**2 // num_shards**2 for i in range(num_shards + 1)]
    parts = [rows[a:b] for a, b in pairwise(cuts)]
    labels = [None if member is None else np.array(member)[part] for part in parts]
    return ListEngine([Shard(features[part], ids[part], own) for part, own in zip(parts, labels, strict=True)])


@contextmanager
def sending(candidates: int) -> Iterator[None]:
    """Forces the counting rounds on small data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor_module, "SENT", candidates)
        yield


def features_of(kind: str, n: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    """Random directions; few of them over and over; with many ties; hardly different ones; both ends of the order."""
    rng = np.random.default_rng(seed)
    if kind == "ties":
        rows = rng.integers(-1, 2, (n, d)).astype(np.float64)
        rows[~rows.any(axis=1), 0] = 1.0
        return rows
    if kind == "close":  # similarities to the first axis, or nearly so, differ in their last bits
        rows = np.tile([0.5, *[0.0] * (d - 2), 0.75**0.5], (n, 1))
        rows[:, 1:-1] = GRID * rng.integers(-4, 5, (n, d - 2))
        return rows
    if kind == "opposite":
        return np.asarray(np.eye(d)[rng.integers(0, 2, n)] * rng.choice([-1.0, 1.0], (n, 1)))
    rows = rng.normal(size=(n if kind == "random" else max(2, n // 8), d))
    return rows if kind == "random" else rows[rng.integers(0, len(rows), n)]


def centroids_of(kind: str, k: int, d: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if kind != "close":
        return unit(rng.normal(size=(k, d)))
    return np.asarray(np.eye(d)[0] + GRID * rng.integers(-2, 3, (k, d)) * [0, *[1] * (d - 2), 0])


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(on_grid(rows / np.linalg.norm(rows, axis=1, keepdims=True)))


def circle(*degrees: float) -> NDArray[np.float64]:
    angles = np.deg2rad(degrees)
    return np.asarray(on_grid(np.stack([np.cos(angles), np.sin(angles)], axis=1)))


def similarities(features: NDArray[np.floating], centroids: NDArray[np.float64]) -> list[list[int]]:
    """Of each row to each centroid, in steps of 2^-52. Python's integers have no rounding."""
    rows = Shard(features, np.arange(len(features))).take(np.arange(len(features)))
    steps = [[int(c) for c in (centroid / GRID).tolist()] for centroid in centroids]
    return [[sum(int(a) * b for a, b in zip(row, c, strict=True)) for c in steps] for row in rows.tolist()]


def b_3(similarity: list[list[int]], ids: list[int], member: list[int], floor: int) -> list[int]:
    """One deficient cluster after another takes, one by one, the most similar member of a cluster above the floor."""
    member, clusters = list(member), range(len(similarity[0]))
    for j in clusters:
        best_first = sorted(range(len(member)), key=lambda i: (-similarity[i][j], ids[i]))
        while member.count(j) < floor:
            gives = [other != j and member.count(other) > floor for other in clusters]
            member[next(i for i in best_first if gives[member[i]])] = j
    return member


def held(features: NDArray[np.floating], member: list[int], centroids: NDArray[np.float64], floor: int) -> list[int]:
    """Where the floor leaves the members, whether they are sent or counted."""
    found = []
    for candidates in SENT:
        with sending(candidates):
            engine = engine_of(features, 2, member)
            sums = hold_floor(engine, engine.add("sums", len(centroids)), centroids, floor)
        again = engine.add("sums", len(centroids))
        assert np.array_equal(sums.sums, again.sums)
        assert np.array_equal(sums.counts, again.counts)
        found.append(engine.assignments())
    assert found[1:] == found[:-1]
    return found[0]


# ---------------------------------------------------------------------------------------------------------------------
# By hand


def test_deficient_cluster_takes_its_most_similar() -> None:
    member = held(circle(0, 10, 20, 30, 40), [0] * 5, circle(0, 90), floor=2)
    assert member == [0, 0, 0, 1, 1]


def test_floor_ties_go_to_the_lowest_id() -> None:
    member = held(circle(40, 40, 0, 40, 40), [0] * 5, circle(0, 90), floor=2)
    assert member == [1, 1, 0, 0, 0]


def test_donor_stops_giving_at_the_floor() -> None:
    """45 degrees is nearer to the deficient cluster at 90 than 140, but its cluster has no more than two left."""
    features = circle(50, 45, 0, 140, 150, 170, 180)
    member = held(features, [0, 0, 0, 1, 1, 1, 1], circle(0, 180, 90), floor=2)
    assert member == [2, 0, 0, 2, 1, 1, 1]


def test_clusters_are_filled_one_after_another() -> None:
    """Both want the instance at 80 degrees, the second more than the first; the first takes it and keeps it."""
    member = held(circle(0, 5, 60, 80), [0, 0, 0, 0], circle(0, 72, 85), floor=1)
    assert member == [0, 0, 2, 1]


def test_cluster_at_the_floor_gives_nothing_away() -> None:
    """The instance at 100 degrees is the only one of its cluster; 20 is the nearest of the others."""
    member = held(circle(0, 10, 20, 100), [0, 0, 0, 1], circle(0, 100, 101), floor=1)
    assert member == [0, 0, 2, 1]


def test_cluster_that_was_filled_gives_nothing_away() -> None:
    """Cluster 1 takes 60 and 70 degrees, cluster 2 would rather have those than 50."""
    member = held(circle(0, 5, 10, 50, 60, 70), [0] * 6, circle(0, 80, 70), floor=2)
    assert member == [0, 0, 2, 2, 1, 1]


def test_last_gift_of_each_donor_may_be_a_tie() -> None:
    """Cluster 0 can give one of three that are alike, cluster 1 the rest: the lowest ids of each."""
    features = circle(80, 80, 80, 0, 80, 80, 80, 80, 180)
    member = held(features, [0, 0, 0, 0, 1, 1, 1, 1, 1], circle(0, 180, 90), floor=3)
    assert member == [2, 0, 0, 0, 2, 2, 1, 1, 1]


def test_ties_between_donors_go_to_the_lowest_id() -> None:
    member = held(circle(60, 60, 60, 60, 0, 120), [1, 0, 1, 0, 0, 1], circle(0, 120, 60), floor=1)
    assert member == [2, 0, 1, 0, 0, 1]


def test_every_donor_gives_all_it_can() -> None:
    """Three clusters with three members above the floor together; cluster 3 needs all of them."""
    features = circle(10, 20, 30, 100, 110, 200, 210)
    member = held(features, [0, 0, 0, 1, 1, 2, 2], circle(0, 90, 180, 270), floor=1)
    assert member == [0, 0, 0, 1, 1, 2, 3]
    member = held(features[[0, 1, 2, 3, 4, 5]], [0, 0, 0, 1, 1, 2], circle(0, 90, 180, 270), floor=1)
    assert member.count(3) == 1
    features = circle(10, 20, 30, 100, 110, 120, 200, 210, 220, 230, 240, 250)
    member = held(features, [0] * 4 + [1] * 4 + [2] * 4, circle(0, 90, 180, 270), floor=3)
    assert member == [3, 0, 0, 0, 1, 1, 1, 3, 2, 2, 2, 3]


def test_nothing_moves_where_no_cluster_is_deficient() -> None:
    engine = engine_of(circle(0, 10, 90, 100))
    sums = engine.add("assign", (0, circle(0, 90)))[0]
    assert hold_floor(engine, sums, circle(0, 90), 2) is sums


def test_similarities_that_differ_in_the_last_bit_are_no_tie() -> None:
    """1/2 + n 2^-52: the last one is the most similar, whatever the ids."""
    features = np.array([[0.5, n * GRID, 0.75**0.5] for n in range(6)])
    centroids = np.array([[0.0, 0.0, 1.0], [1.0, GRID, 0.0]])
    for floor in (1, 2, 3):
        member = held(features, [0] * 6, centroids, floor)
        assert member == [0] * (6 - floor) + [1] * floor
    member = held(-features, [0] * 6, centroids, 3)
    assert member == [1, 1, 1, 0, 0, 0]


def test_both_ends_of_the_order() -> None:
    """Similarities of 1 and -1."""
    poles = np.array([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    member = held(poles, [0] * 4, np.array([[-1.0, 0.0], [1.0, 0.0]]), floor=2)
    assert member == [1, 1, 0, 0]


def test_ids_may_be_any_whole_numbers() -> None:
    ids = np.array([2**62, -(2**62), 0, -1, 5])
    for candidates in SENT:
        engine = engine_of(circle(40, 40, 40, 40, 40), 2, [0] * 5, ids)
        with sending(candidates):
            hold_floor(engine, engine.add("sums", 2), circle(0, 90), 2)
        assert engine.assignments() == [1, 1, 0, 0, 0]  # in the order of the ids


def test_floor_of_one_clustering_leaves_the_others_alone() -> None:
    engine = engine_of(circle(0, 10, 20, 30, 40, 50), 2)
    first, second = engine.add("assign", (3, circle(0, 170)), (8, circle(170, 0)))
    before = engine.assignments(8)
    with sending(0):
        found = hold_floor(engine, first, circle(0, 170), 2, 3)
    assert found.counts.tolist() == [4, 2]
    assert engine.assignments(3) == [0, 0, 0, 0, 1, 1]
    assert engine.assignments(8) == before == [1] * 6
    assert np.array_equal(engine.add("sums", 2, 3).sums, found.sums)
    assert np.array_equal(engine.add("sums", 2, 8).sums, second.sums)


# ---------------------------------------------------------------------------------------------------------------------
# By loops


def assert_as_by_loops(
    features: NDArray[np.float64],
    member: list[int],
    centroids: NDArray[np.float64],
    floor: int,
    shards: int,
    rng: np.random.Generator,
) -> None:
    n, k = len(features), len(centroids)
    ids = rng.choice(np.array([-5, 1000]), 1) + rng.permutation(n) * rng.integers(1, 1000)
    expected = b_3(similarities(features, centroids), ids.tolist(), member, floor)
    engine = engine_of(features, shards, member, ids, rng.permutation(n))
    with sending(int(rng.choice(SENT))):
        found = hold_floor(engine, engine.add("sums", k), centroids, floor)
    assert engine.assignments() == [expected[i] for i in ids.argsort()]
    again = engine.add("sums", k)
    assert np.array_equal(found.sums, again.sums)
    assert np.array_equal(found.counts, again.counts)
    assert found.changed == sum(a != b for a, b in zip(member, expected, strict=True))


@settings(PROPERTY, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 50),
    k=st.integers(1, 8),
    share=st.sampled_from([0.3, 0.5, 0.9, 1.0]),
    shards=st.integers(1, 5),
    uneven=st.floats(0, 4),
    seed=st.integers(0, 10_000),
)
def test_floor_by_loops(kind: str, n: int, k: int, share: float, shards: int, uneven: float, seed: int) -> None:
    """From even to very uneven clusters: some empty, some that give all they can, some that give a few."""
    rng, k = np.random.default_rng(seed), min(k, n)
    sizes = np.exp(uneven * rng.normal(size=k))
    member = rng.choice(k, n, p=sizes / sizes.sum()).tolist()
    features = features_of(kind, n, 4, seed)
    centroids = unit(features[rng.integers(0, n, k)]) if rng.random() < 0.3 else centroids_of(kind, k, 4, rng)
    assert_as_by_loops(features, member, centroids, floor_size(n, k, share), shards, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_floor_of_more_members_by_loops(kind: str) -> None:
    """Enough for windows with many members, and for donors whose last gifts lie in different ones."""
    n, k, rng = 500, 5, np.random.default_rng(0)
    member = rng.choice(k, n, p=[0.6, 0.25, 0.1, 0.05, 0.0]).tolist()
    features = features_of(kind, n, 4)
    for share in (0.5, 0.9, 0.95):
        assert_as_by_loops(features, member, centroids_of(kind, k, 4, rng), floor_size(n, k, share), 3, rng)


# ---------------------------------------------------------------------------------------------------------------------
# In the loop


@PROPERTY
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 50),
    k=st.integers(2, 6),
    share=st.floats(0.0, 1.0),
    candidates=st.sampled_from(SENT),
    seed=st.integers(0, 10_000),
)
def test_every_cluster_holds_the_floor_in_every_iteration(
    kind: str, n: int, k: int, share: float, candidates: int, seed: int
) -> None:
    k = min(k, n)
    features, floor = features_of(kind, n, 4, seed), floor_size(n, k, share)
    start = features[np.random.default_rng(seed).permutation(n)[:k]]
    states: list[Clustering] = []
    engine = engine_of(features, num_shards=3)
    with sending(candidates):
        repulsive_kmeans(engine, start, min_size=floor, max_iterations=20, on_iteration=states.append)
    for state in states:
        assert int(state.counts.min()) >= floor
        assert int(state.counts.sum()) == n
    assert states[-1].counts.tolist() == [engine.assignments().count(j) for j in range(k)]


@pytest.mark.parametrize("kind", KINDS)
def test_neither_shards_nor_order_nor_what_is_sent_change_anything(kind: str) -> None:
    n, k = 500, 6
    features = features_of(kind, n, 5)
    start, order = features[:k] + 1e-3 * np.eye(5)[[0, 1, 2, 3, 4, 0]], np.random.default_rng(0).permutation(n)
    alone = engine_of(features)
    expected = repulsive_kmeans(alone, start, min_size=n // k, tolerance=0.0, max_iterations=5)
    engines = engine_of(features), engine_of(features, 4), engine_of(features, 7, order=order)
    for engine, candidates in zip(engines, SENT, strict=True):
        with sending(candidates):
            found = repulsive_kmeans(engine, start, min_size=n // k, tolerance=0.0, max_iterations=5)
        assert engine.assignments() == alone.assignments()
        assert np.array_equal(found.centroids, expected.centroids)
        assert found.objective == expected.objective


# ---------------------------------------------------------------------------------------------------------------------
# What leaves the shards


@pytest.mark.parametrize("kind", ["random", "duplicates", "ties"])
def test_no_more_leave_the_shards_than_are_to_be_sent(kind: str) -> None:
    """Of 3000 that could move; only equal similarities cannot be counted apart, and of those a cluster's need go."""
    n = 3000
    engine = engine_of(features_of(kind, n, 6), 3, [0] * (n // 2) + [1] * (n // 2))
    with sending(50):
        hold_floor(engine, engine.add("sums", 3), unit(np.eye(6)[:3] + 0.1), n // 3)
    assert engine.calls.count("histogram") <= LEVELS
    assert engine.calls.count("rank_for") == engine.calls.count("candidates") == engine.calls.count("move") == 1
    assert engine.sent <= (50 if kind == "random" else n // 3 * 3)


def test_rounds_end_with_the_last_bit() -> None:
    """All are alike: no count of bits tells them apart, only their ids do."""
    engine = engine_of(np.tile([[3.0, 4.0]], (60, 1)), 3, [0] * 60)
    with sending(5):
        hold_floor(engine, engine.add("sums", 2), circle(0, 90), 20)
    assert engine.calls.count("histogram") == LEVELS
    assert engine.assignments() == [1] * 20 + [0] * 40


# ---------------------------------------------------------------------------------------------------------------------
# Its size


@pytest.mark.parametrize(
    ("n", "k", "fraction", "expected"),
    [(100, 2, 0.5, 25), (101, 2, 0.5, 25), (59, 6, 0.5, 4), (9, 3, 1.0, 3), (5, 3, 0.0, 0), (100, 1, 0.57, 57)],
)
def test_floor_size(n: int, k: int, fraction: float, expected: int) -> None:
    assert floor_size(n, k, fraction) == expected


def test_papers_floor_size_for_all_small_sets() -> None:
    assert all(floor_size(n, k) == n // (2 * k) for n in range(200) for k in range(1, 20))
