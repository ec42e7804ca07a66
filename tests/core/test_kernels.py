"""Compiled passes against a plain argmax over similarities without rounding: bounds must never change a result."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ordclust_ray import kernels
from ordclust_ray.clustering.engine import LocalEngine
from ordclust_ray.core import panels, shard
from ordclust_ray.core.answers import ClusterSums
from ordclust_ray.core.blocks import GRID, on_grid
from ordclust_ray.core.floor import hold_floor
from ordclust_ray.core.repulsive_kmeans import Clustering, repulsive_kmeans
from ordclust_ray.core.shard import Shard

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
KINDS = ["random", "duplicates", "ties", "groups", "space"]
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def rows_of(kind: str, n: int, d: int, seed: int) -> NDArray[np.float64]:
    """Random directions; few of them over and over; directions with many ties; groups far from each other; directions
    that hardly leave a space of three dimensions.
    """
    rng = np.random.default_rng(seed)
    if kind == "ties":
        rows = rng.integers(-1, 2, (n, d)).astype(np.float64)
        rows[~rows.any(axis=1), 0] = 1.0
        return rows
    if kind == "space":
        return np.asarray(rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.02 * rng.normal(size=(n, d)))
    if kind == "groups":
        return np.asarray(rng.normal(size=(6, d))[rng.integers(0, 6, n)] + 0.05 * rng.normal(size=(n, d)))
    rows = rng.normal(size=(n if kind == "random" else max(2, n // 8), d))
    return rows if kind == "random" else rows[rng.integers(0, len(rows), n)]


def blocks_of(rows: NDArray[np.float64], dtype: str, parts: int = 1) -> list[Any]:
    """The rows in some precision, dealt out to blocks of unequal size, some of them empty."""
    cuts = [len(rows) * i**2 // parts**2 for i in range(1, parts)]
    if dtype == "bfloat16":
        return [torch.from_numpy(part).bfloat16() for part in np.split(rows, cuts)]
    return [part.astype(dtype) for part in np.split(rows, cuts)]


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(on_grid(rows / np.linalg.norm(rows, axis=1, keepdims=True)))


class Checked(LocalEngine):
    """One shard, each pass of which is compared with all similarities: no rounding, ties to the lowest cluster."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self.rows = shard.take(np.arange(self.num_instances)).astype(np.float64)
        self.read: list[int] = []

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        """The shard's answer, after it was checked."""
        if method != "assign":
            return super().gather(method, *arguments)
        ((_, centroids),) = arguments
        before = self.shard.assignments.copy()
        ((found,),) = answers = super().gather(method, *arguments)
        self.check(found, centroids, before)
        self.read.append(self.shard.rows_read)
        return answers

    def check(self, found: ClusterSums, centroids: NDArray[np.float64], before: NDArray[np.int32]) -> None:
        expected = (self.rows @ centroids.T).argmax(axis=1)
        np.testing.assert_array_equal(self.shard.assignments, expected)
        sums = np.zeros(centroids.shape, np.int64)
        np.add.at(sums, expected, self.rows.astype(np.int64))
        np.testing.assert_array_equal(found.sums, sums)
        np.testing.assert_array_equal(found.counts, np.bincount(expected, minlength=len(centroids)))
        assert found.changed == int((expected != before).sum())
        assert 0 <= self.shard.rows_read <= self.num_instances

    def assign(self, centroids: NDArray[np.float64]) -> ClusterSums:
        (found,) = self.add("assign", (0, centroids))
        return found


def engine_of(
    rows: NDArray[np.float64], dtype: str = "float32", parts: int = 1, threads: int = 1, ids: Any = None, **more: Any
) -> Checked:
    instance_ids = np.arange(len(rows)) if ids is None else ids
    return Checked(Shard(blocks_of(rows, dtype, parts), instance_ids, threads=threads, **more))


def walk(
    start: NDArray[np.float64], rows: NDArray[np.float64], steps: list[str], seed: int
) -> Iterator[NDArray[np.float64]]:
    """Centroids from pass to pass: all or few of them move, by little or by much, onto each other or onto rows."""
    rng, centroids = np.random.default_rng(seed), unit(start)
    k, d = centroids.shape
    for step in steps:
        one, other = rng.integers(0, k, 2)
        if step == "copy":
            centroids[one] = centroids[other]
        elif step == "next":
            centroids[one] = centroids[other]
            centroids[one, rng.integers(d)] += GRID
        elif step == "row":
            centroids[one] = rows[rng.integers(len(rows))] * GRID
        elif step == "swap":
            centroids[[one, other]] = centroids[[other, one]]
        elif step != "stay":
            moved = rng.random((k, 1)) < rng.choice([0.2, 1.0])
            centroids = unit(centroids + float(step) * moved * rng.normal(size=(k, d)))
        yield centroids.copy()


STEPS = st.sampled_from(["stay", "copy", "next", "row", "swap", "1e-7", "1e-5", "1e-3", "1e-2", "0.1", "2"])


@settings(PROPERTY, max_examples=80)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    n=st.integers(1, 90),
    d=st.integers(2, 20),
    k=st.integers(1, 40),
    parts=st.integers(1, 3),
    threads=st.integers(1, 3),
    steps=st.lists(STEPS, min_size=1, max_size=12),
    floor=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_passes_of_moving_centroids(
    kind: str, dtype: str, n: int, d: int, k: int, parts: int, threads: int, steps: list[str], floor: float, seed: int
) -> None:
    """The floor moves members between passes, which then are not where their bounds say."""
    rng = np.random.default_rng(seed)
    engine = engine_of(rows_of(kind, n, d, seed), dtype, parts, threads, rng.permutation(n))
    for centroids in walk(rng.normal(size=(k, d)), engine.rows, steps, seed):
        found = engine.assign(centroids)
        if rng.random() < 0.3:
            hold_floor(engine, found, centroids, int(floor * n / k))


@settings(PROPERTY, max_examples=30)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    n=st.integers(2, 80),
    d=st.integers(2, 12),
    k=st.integers(1, 40),
    threads=st.integers(1, 3),
    alpha=st.sampled_from([0.0, 0.1, 1.0]),
    floor=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_passes_of_repulsive_clustering(
    kind: str, dtype: str, n: int, d: int, k: int, threads: int, alpha: float, floor: float, seed: int
) -> None:
    """To the end, and twice on the same shard: the second clustering goes on from the bounds of the first."""
    k = min(k, n)
    engine = engine_of(rows_of(kind, n, d, seed), dtype, parts=2, threads=threads)
    for again in range(2):
        start = engine.rows[np.random.default_rng(seed + again).permutation(n)[:k]]
        repulsive_kmeans(engine, start, repulsion=alpha, min_size=int(floor * n / k), tolerance=0.0)


@settings(PROPERTY, max_examples=30)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    n=st.integers(3, 60),
    fewer=st.integers(-3, 2),
    seed=st.integers(0, 10_000),
)
def test_about_as_many_centroids_as_rows(kind: str, dtype: str, n: int, fewer: int, seed: int) -> None:
    """Each row is a centroid, so most similarities of second-best centroids are far below."""
    engine = engine_of(rows_of(kind, n, 5, seed), dtype)
    start = np.resize(engine.rows, (max(1, n - fewer), 5))
    for centroids in walk(start, engine.rows, ["stay", "stay", "1e-7", "next", "1e-3", "swap", "0.1"], seed):
        engine.assign(centroids)


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_ways_to_and_fro(dtype: str) -> None:
    """Drifts add up past `FARTHEST` again and again though no centroid gets anywhere; then all come to rest."""
    rng = np.random.default_rng(0)
    engine = engine_of(rows_of("groups", 400, 8, 0), dtype)
    start, there = rng.normal(size=(2, 30, 8))
    assert panels.FARTHEST == 8
    begun = []
    for i in range(160):
        engine.assign(unit(start + 0.05 * (i % 2) * there))
        begun.append(engine.shard.clusterings[0]._panels)
    assert 3 <= len({id(p) for p in begun}) <= 10
    for _ in range(3):
        engine.assign(unit(start))
    assert engine.read[-1] < 40


def test_far_jumps() -> None:
    """Every pass goes further than bounds could tell."""
    rng = np.random.default_rng(0)
    engine = engine_of(rows_of("random", 300, 6, 0))
    for _ in range(12):
        centroids = unit(rng.normal(size=(20, 6)))
        engine.assign(centroids)
        engine.assign(-centroids)
    engine.assign(-centroids)
    assert engine.read[-1] < 100


@pytest.mark.parametrize("farthest", [0.0, 0.01, 0.5])
def test_bounds_that_begin_anew_often_change_nothing(farthest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "FARTHEST", farthest)
    engine = engine_of(rows_of("random", 200, 4, 0))
    for centroids in walk(np.random.default_rng(1).normal(size=(33, 4)), engine.rows, ["1e-3", "1e-2", "stay"] * 8, 1):
        engine.assign(centroids)


def test_many_small_steps() -> None:
    """Drifts are added up hundreds of times: what that rounds must not let a bound fail."""
    rng = np.random.default_rng(0)
    rows = rows_of("random", 60, 3, 0)
    engine = engine_of(rows)
    centroids, direction = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    for i in range(500):
        engine.assign(unit(centroids + i * 2e-4 * direction))
    assert min(engine.read[1:]) < 10


# ---------------------------------------------------------------------------------------------------------------------
# Bounds do spare reads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_separated_groups_are_hardly_read(dtype: str, threads: int) -> None:
    """Once the centroids are in the groups: neither where these stay nor where they move by little."""
    n, k, d = 3000, 24, 16
    rng = np.random.default_rng(0)
    means = unit(rng.normal(size=(k, d)))
    engine = engine_of(means[rng.integers(0, k, n)] + 0.03 * rng.normal(size=(n, d)), dtype, parts=2, threads=threads)
    states: list[Clustering] = []
    repulsive_kmeans(
        engine, means + 0.4 * rng.normal(size=(k, d)), tolerance=0.0, on_iteration=states.append, repulsion=0.1
    )
    assert engine.read[0] == n
    assert len(states) >= 3
    engine.read.clear()
    centroids = states[-1].centroids
    for size in (0, 0.001, 0.002, 0.005):
        engine.assign(unit(centroids + size * rng.normal(size=(k, d))))
    assert engine.read[0] == 0
    assert max(engine.read) < n / 10


def test_fewer_and_fewer_rows_are_read_where_groups_are_not_separated() -> None:
    rng = np.random.default_rng(0)
    engine = engine_of(rng.normal(size=(3000, 16)))
    repulsive_kmeans(engine, rng.normal(size=(20, 16)), tolerance=0.0, max_iterations=70)
    assert engine.read[0] == 3000
    assert max(engine.read[-3:]) < 1000


def test_only_members_that_the_floor_moved_are_read_again() -> None:
    rows = np.repeat(np.eye(4), 50, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(200, 4))
    engine = engine_of(rows)
    centroids = np.concatenate([np.eye(4)[:3], -np.eye(4)[3:], np.eye(4)[3:]])
    found = engine.assign(centroids)
    engine.assign(centroids)
    assert engine.read == [200, 0]
    held = hold_floor(engine, found, centroids, 30)
    assert held.counts.tolist()[3] == 30
    engine.assign(centroids)
    assert engine.read == [200, 0, 30]


def test_reads_of_several_clusterings_add_up() -> None:
    rows = np.repeat(np.eye(4), 50, axis=0)
    shard = Shard(rows, np.arange(200))
    shard.assign((0, np.eye(4)))
    assert shard.rows_read == 200
    shard.assign((0, np.eye(4)), (1, np.eye(4)))
    assert shard.rows_read == 200
    shard.assign((1, np.eye(4)), (2, np.eye(4)), (3, np.eye(4)))
    assert shard.rows_read == 400


# ---------------------------------------------------------------------------------------------------------------------
# Numbers


@pytest.mark.parametrize(("n", "d"), [(9000, 20), (700, 300), (90, 4000)])
def test_more_rows_than_are_looked_at_together(n: int, d: int) -> None:
    """Of all rows, and of few of them: those that are read stand in a block of their own."""
    engine = engine_of(rows_of("random", n, d, 0))
    assert n > kernels.BLOCK_BYTES // (4 * d)
    for centroids in walk(np.random.default_rng(1).normal(size=(20, d)), engine.rows, ["stay", "1e-3", "1e-2"], 1):
        engine.assign(centroids)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_lengths_of_rows_leave_no_trace(dtype: str) -> None:
    """From 1e-27 to 1e37 in one shard."""
    rows = rows_of("random", 200, 6, 0) * np.logspace(-27, 37, 200)[:, None]
    engine = engine_of(rows, dtype)
    for centroids in walk(np.random.default_rng(1).normal(size=(20, 6)), engine.rows, ["stay", "1e-3", "0.1"], 1):
        engine.assign(centroids)


def test_numbers_as_large_as_float32_holds() -> None:
    """Their sums are infinite in float32, which must neither choose a cluster nor spoil the count of reads."""
    signs = np.array([[1, 1, 1, 1], [-1, -1, -1, -1], [1, 1, -1, -1], [1, -1, 1, -1]], np.float64)
    engine = engine_of(signs * 3e38)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        engine.assign(signs[order] * 0.5)
    assert engine.read[0] == 4


def test_similarities_that_float32_cannot_tell_apart() -> None:
    """Centroids that differ in one component by one step of the grid: 2^-26 of a similarity, or nothing."""
    rng = np.random.default_rng(0)
    engine = engine_of(rows_of("random", 500, 12, 0))
    one = unit(rng.normal(size=(1, 12)))
    centroids = one + GRID * np.concatenate([np.zeros((1, 12)), np.eye(12), -np.eye(12)])[rng.permutation(25)]
    engine.assign(centroids)
    assert len(np.unique(engine.shard.assignments)) > 10
    engine.assign(centroids[::-1].copy())


def test_rows_between_two_centroids_in_different_panels() -> None:
    """Ties over panels, and nearly ties, go to the lowest cluster or to the nearest one."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    centroids = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    middles = np.concatenate([(angles + np.pi / 48) + shift for shift in (0, 1e-8, -1e-8, 1e-7, -1e-7)])
    engine = engine_of(np.stack([np.cos(middles), np.sin(middles)], axis=1), "float64")
    for order in (np.arange(48), np.arange(48)[::-1], np.random.default_rng(0).permutation(48)):
        engine.assign(centroids[order])
        engine.shard.begin(0)


def test_one_column() -> None:
    engine = engine_of(np.array([[2.0], [-3.0], [0.5]]))
    engine.assign(np.array([[-1.0], [1.0], [1.0]]))
    assert engine.shard.assignments.tolist() == [1, 0, 1]


@pytest.mark.parametrize("k", [1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40])
def test_every_number_of_centroids_of_a_panel(k: int) -> None:
    """A panel of up to 8 centroids is another compiled loop than one of up to 16."""
    engine = engine_of(rows_of("random", 130, 7, k))
    for centroids in walk(np.random.default_rng(k).normal(size=(k, 7)), engine.rows, ["stay", "1e-2", "0.1"], k):
        engine.assign(centroids)


# ---------------------------------------------------------------------------------------------------------------------
# Sketches


@settings(PROPERTY, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    n=st.integers(1, 90),
    d=st.sampled_from([64, 100, 520]),
    k=st.integers(1, 40),
    parts=st.integers(1, 3),
    threads=st.integers(1, 3),
    steps=st.lists(STEPS, min_size=3, max_size=12),
    floor=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_passes_over_sketched_rows(
    kind: str,
    dtype: str,
    n: int,
    d: int,
    k: int,
    parts: int,
    threads: int,
    steps: list[str],
    floor: float,
    seed: int,
    always_sketched: None,
) -> None:
    """Members that the floor moved, too; centroids among the rows, and some near means, as sketches tell these best."""
    rng = np.random.default_rng(seed)
    engine = engine_of(rows_of(kind, n, d, seed), dtype, parts, threads, rng.permutation(n), sketch_from=0)
    start = engine.rows[rng.integers(0, n, k)] + (engine.rows.mean(axis=0) if seed % 2 else GRID)
    for centroids in walk(start, engine.rows, steps, seed):
        found = engine.assign(centroids)
        if rng.random() < 0.3:
            hold_floor(engine, found, centroids, int(floor * n / k))


@pytest.fixture
def always_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is worth it or not."""
    monkeypatch.setattr(shard, "TELLING", -1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [5, 40])
def test_sketches_spare_reads(dtype: str, k: int) -> None:
    """From the second pass on, in which bounds by movement tell little."""
    rows = rows_of("space", 3000, 64, 0)
    reads = []
    for sketch_from in (0, 2**60):
        engine = engine_of(rows, dtype, sketch_from=sketch_from)
        repulsive_kmeans(engine, engine.rows[:k], tolerance=0.0, max_iterations=12)
        reads.append(np.array(engine.read))
    sketched, plain = reads
    assert sketched[0] == plain[0] == 3000
    assert sketched[1] < 0.3 * plain[1]
    assert sketched[1:].sum() < 0.2 * plain[1:].sum()


@pytest.mark.parametrize("step", [1e-4, 1e-3])
def test_bounds_from_sketches_hold_for_centroids_that_move_slowly(step: float) -> None:
    """Around a circle of rows, on which bounds are tight: each pass some rows come to the next centroid."""
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(64, 2)))[0]

    def at(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        return unit(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T)

    engine = engine_of(at(rng.uniform(0, 2 * np.pi, 4000)), sketch_from=0)
    angles = np.arange(20) * 2 * np.pi / 20
    changed = [engine.assign(at(angles + number * step)).changed for number in range(40)]
    assert sum(changed[1:]) > 20 * 39 * step * 4000 / (2 * np.pi) / 2
    assert engine.read[0] == 4000
    assert max(engine.read[1:]) < 0.1 * 4000


def test_rows_without_main_directions_are_not_sketched() -> None:
    engine = engine_of(rows_of("random", 2000, 512, 0), sketch_from=0)
    repulsive_kmeans(engine, engine.rows[:5], max_iterations=4, tolerance=0.0)
    assert engine.shard._sketch is None


def test_all_clusterings_use_the_same_sketches() -> None:
    engine = engine_of(rows_of("space", 3000, 64, 0), sketch_from=0)
    starts = [(number, unit(engine.rows[number : number + 5])) for number in range(3)]
    for _ in range(2):
        engine.shard.assign(*starts)
        for number, centroids in starts:
            expected = (engine.rows @ centroids.T).argmax(axis=1)
            np.testing.assert_array_equal(engine.shard.clusterings[number].labels, expected)
    engine.shard.assign((7, starts[0][1]))
    np.testing.assert_array_equal(engine.shard.clusterings[7].labels, engine.shard.clusterings[0].labels)
    engine.shard.assign((7, unit(engine.rows[50:55])))
    assert engine.shard.rows_read < 3000
    np.testing.assert_array_equal(
        engine.shard.clusterings[7].labels, (engine.rows @ unit(engine.rows[50:55]).T).argmax(axis=1)
    )
