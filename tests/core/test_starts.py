"""Starts: the same for any sharding; instances far from each other; groups that were planted; their edges."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shards import KINDS, ListEngine, engine_of, features_of
from threadpoolctl import threadpool_limits

from ordclust_ray.core.answers import Rows
from ordclust_ray.core.blocks import GRID, on_grid
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.core.repulsive_kmeans import floor_size, repulsive_kmeans
from ordclust_ray.core.rounding import error_bound
from ordclust_ray.core.starts import (
    STARTS,
    kmeans_on_sample,
    kmeans_plus_plus,
    random_instances,
    starts_together,
)

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
OF_INSTANCES = ["k-means++", "random"]
"""Starts that are instances, and no means of some."""
MEANS = ["k-means||", "k-means"]
CHI_SQUARE = {3: 16.27, 4: 18.47}
"""Exceeded by one sample in a thousand, by degrees of freedom."""


def planted(n: int, k: int, d: int, seed: int = 0) -> tuple[NDArray[np.float32], list[int]]:
    """Groups around k axes."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, k, n)
    return (np.eye(d)[groups] + 0.05 * rng.normal(size=(n, d))).astype(np.float32), groups.tolist()


def unit(rows: Any) -> NDArray[np.float64]:
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def circle(*degrees: float) -> NDArray[np.float64]:
    angles = np.deg2rad(degrees)
    return np.asarray(on_grid(np.stack([np.cos(angles), np.sin(angles)], axis=1)))


def unit_rows(engine: ListEngine) -> NDArray[np.float64]:
    """In the order of the shards."""
    return np.concatenate(
        [shard.take(np.arange(len(shard.instance_ids))).astype(np.float64) * GRID for shard in engine.shards]
    )


def potential(rows: NDArray[np.float64], chosen: NDArray[np.float64]) -> float:
    """The sum of the distances 1 - cos to the nearest chosen point."""
    return float((1 - (rows @ unit(chosen).T).max(axis=1)).sum())


def directions(rows: NDArray[np.float64]) -> set[tuple[float, ...]]:
    return {tuple(row) for row in np.round(unit(rows), 5).tolist()}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Of the libraries, as in all tests of the mathematics."""
    with threadpool_limits(1):
        yield


# ---------------------------------------------------------------------------------------------------------------------
# What does not change a start


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STARTS)
def test_start_does_not_depend_on_the_shards_or_the_order(name: str, kind: str) -> None:
    features = features_of(kind, 200, 4)
    order = np.random.default_rng(0).permutation(200)
    expected = STARTS[name](engine_of(features), 9, 5)
    assert expected.shape == (9, 4)
    for engine in (
        engine_of(features, 1, order),
        engine_of(features, 2),
        engine_of(features, 7),
        engine_of(features, 7, order, threads=2),
    ):
        assert np.array_equal(STARTS[name](engine, 9, 5), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample_size", [50, 10_000])
def test_start_on_a_sample_does_not_depend_on_the_shards_or_the_order(kind: str, sample_size: int) -> None:
    features = features_of(kind, 200, 4)
    expected = kmeans_on_sample(engine_of(features), 3, seed=5, sample_size=sample_size)
    order = np.random.default_rng(0).permutation(200)
    for num_shards in (1, 2, 7):
        engine = engine_of(features, num_shards, order)
        assert np.array_equal(kmeans_on_sample(engine, 3, seed=5, sample_size=sample_size), expected)


@settings(PROPERTY, max_examples=30)
@given(
    name=st.sampled_from(["k-means++", "random"]),
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 40),
    k=st.integers(1, 12),
    shards=st.integers(1, 6),
    seed=st.integers(0, 10_000),
)
def test_instances_chosen_do_not_depend_on_the_shards_or_the_order(
    name: str, kind: str, n: int, k: int, shards: int, seed: int
) -> None:
    k = min(k, n)
    features = features_of(kind, n, 3, seed)
    order = np.random.default_rng(seed).permutation(n)
    expected = STARTS[name](engine_of(features), k, seed)
    assert np.array_equal(STARTS[name](engine_of(features, shards, order), k, seed), expected)


@pytest.mark.parametrize("name", STARTS)
def test_shards_without_instances_change_nothing(name: str) -> None:
    features = circle(0, 50, 100, 150, 200)
    expected = STARTS[name](engine_of(features), 2, 0)
    assert np.array_equal(STARTS[name](engine_of(features, num_shards=9), 2, 0), expected)


@pytest.mark.parametrize("name", MEANS)
def test_start_does_not_depend_on_the_number_of_threads(name: str) -> None:
    """Of the libraries; those of the shards are another test's."""
    engine = engine_of(features_of("random", 600, 16))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(STARTS[name](engine, 4, 0))
    assert np.array_equal(found[0], found[1])


@pytest.mark.parametrize("name", STARTS)
def test_start_depends_on_its_seed_and_on_nothing_before_it(name: str) -> None:
    """A clustering or another start on the same shards leaves no trace."""
    features = features_of("random", 300, 4)
    engine = engine_of(features, 2)
    first = STARTS[name](engine, 5, 0)
    other = STARTS[name](engine, 5, 1)
    assert not np.array_equal(first, other)
    repulsive_kmeans(engine, other, min_size=40)
    for before in STARTS.values():
        before(engine, 7, 3)
        assert np.array_equal(STARTS[name](engine, 5, 0), first)


@pytest.mark.parametrize("name", STARTS)
def test_start_leaves_the_clusters_alone(name: str) -> None:
    engine = engine_of(features_of("random", 100, 4), 2)
    repulsive_kmeans(engine, features_of("random", 3, 4, seed=1), min_size=20)
    before = engine.assignments()
    STARTS[name](engine, 3, 0)
    assert engine.assignments() == before


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_start_of_other_precisions(name: str, dtype: type) -> None:
    features = features_of("random", 100, 4).astype(np.float16)
    single, other = (STARTS[name](engine_of(features.astype(t)), 4, 0) for t in (np.float32, dtype))
    np.testing.assert_allclose(unit(other), unit(single), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# What is found


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("seed", range(3))
def test_start_finds_planted_groups(name: str, seed: int) -> None:
    features, _ = planted(300, 4, 6)
    centroids = unit(STARTS[name](engine_of(features), 4, seed))
    assert sorted(centroids.argmax(axis=1).tolist()) == [0, 1, 2, 3]
    assert centroids.max(axis=1).min() > 0.99


@pytest.mark.parametrize("name", ["k-means++", "k-means||", "k-means"])
@pytest.mark.parametrize("num_groups", [4, 12])
def test_start_and_clustering_recover_planted_groups(name: str, num_groups: int) -> None:
    features, groups = planted(600, num_groups, 16)
    engine = engine_of(features, num_shards=3)
    start = STARTS[name](engine, num_groups, 1)
    repulsive_kmeans(engine, start, min_size=floor_size(600, num_groups))
    assert len({*zip(engine.assignments(), groups, strict=True)}) == num_groups


def test_start_on_all_instances_is_the_mean_of_groups() -> None:
    """Two tight groups: k-means' centroids are in the direction of their means."""
    features = circle(0, 2, 4, 90, 92, 94)
    centroids = kmeans_on_sample(engine_of(features), 2, seed=0)
    found = centroids[(-centroids[:, 0]).argsort()]
    means = np.stack([features[:3].mean(axis=0), features[3:].mean(axis=0)])
    np.testing.assert_allclose(unit(found), unit(means), atol=1e-6)


@pytest.mark.parametrize("name", OF_INSTANCES)
@pytest.mark.parametrize("kind", KINDS)
def test_start_is_of_instances(name: str, kind: str) -> None:
    """Of different ones, as long as there are any, to the last bit."""
    engine = engine_of(features_of(kind, 60, 3), 2)
    rows = [tuple(row) for row in unit_rows(engine).tolist()]
    for seed in range(5):
        found = [tuple(row) for row in STARTS[name](engine, 7, seed).tolist()]
        assert all(found.count(row) <= rows.count(row) for row in found)
        if name == "k-means++":
            assert len({*found}) == 7


def test_every_instance_may_be_chosen_at_random() -> None:
    engine = engine_of(circle(0, 72, 144, 216, 288))
    rows = [tuple(row) for row in unit_rows(engine).tolist()]
    counts = np.zeros(5)
    for seed in range(500):
        for row in random_instances(engine, 2, seed).tolist():
            counts[rows.index(tuple(row))] += 1
    assert ((counts - 200) ** 2 / 200).sum() < CHI_SQUARE[4]


def test_sample_is_of_the_given_size_and_of_different_instances_by_seed() -> None:
    engine = engine_of(features_of("random", 200, 4), 3)
    samples = [{*map(tuple, random_instances(engine, 40, seed).tolist())} for seed in (0, 1)]
    everything = {tuple(row) for row in unit_rows(engine).tolist()}
    assert [len(sample) for sample in samples] == [40, 40]
    assert all(sample <= everything for sample in samples)
    assert samples[0] != samples[1]


def test_points_far_from_each_other_are_nearer_to_the_rest_than_random_ones() -> None:
    """Most starts have a point in each of 12 planted groups; random instances hardly ever do."""
    features, _ = planted(600, 12, 16)
    engine = engine_of(features, 2)
    rows = unit_rows(engine)
    noise = potential(rows, np.eye(16)[:12])
    found = {name: [potential(rows, start(engine, 12, seed)) for seed in range(5)] for name, start in STARTS.items()}
    assert np.mean(found["k-means++"]) < 3 * noise
    assert np.mean(found["k-means||"]) < 1.5 * noise
    assert np.mean(found["k-means"]) < 1.5 * noise
    assert np.mean(found["random"]) > 6 * noise


@pytest.mark.parametrize("kind", KINDS)
def test_points_far_from_each_other_are_no_worse_without_groups(kind: str) -> None:
    engine = engine_of(features_of(kind, 400, 4))
    rows = unit_rows(engine)
    found = {name: [potential(rows, STARTS[name](engine, 10, seed)) for seed in range(8)] for name in OF_INSTANCES}
    assert np.mean(found["k-means++"]) <= np.mean(found["random"])


# ---------------------------------------------------------------------------------------------------------------------
# What starts ask of shards


@PROPERTY
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 40),
    d=st.integers(2, 9),
    chosen=st.integers(0, 5),
    trials=st.integers(1, 20),
    seed=st.integers(0, 10_000),
)
def test_potentials_by_loops(kind: str, n: int, d: int, chosen: int, trials: int, seed: int) -> None:
    """In units of 2^-30; each distance is off by what float32 is off, and 0 where that might be all of it."""
    rng = np.random.default_rng(seed)
    engine = engine_of(features_of(kind, n, d, seed), 2)
    rows = unit_rows(engine)
    engine.gather("restart")
    distances = np.full(n, 2.0)
    for step in range(chosen + 1):
        points = np.asarray(on_grid(unit(rng.normal(size=(trials, d)))))
        points[0] = rows[rng.integers(n)]
        trial = np.minimum(1 - rows @ points.T, distances[:, None])
        found = engine.add("potentials", points)
        assert found.dtype == np.int64
        np.testing.assert_allclose(found * 2.0**-30, trial.sum(axis=0), atol=2 * n * error_bound(d))
        if step < chosen:
            best = int(rng.integers(trials))
            engine.gather("choose", best)
            distances = trial[:, best]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_potentials_do_not_depend_on_the_shards(dtype: type) -> None:
    """To the last bit, also where rows are so long or short that others are compared beside them."""
    features = features_of("random", 300, 6).astype(np.float64) * np.logspace(-28, 37, 300)[:, None]
    points = on_grid(unit(features_of("random", 9, 6, seed=1)))
    engines = engine_of(features.astype(dtype)), engine_of(features.astype(dtype), 5, threads=2)
    found = [[*engine.add("potentials", points), engine.add("cover", points)] for engine in engines]
    assert found[0] == found[1]


def test_chosen_points_and_their_duplicates_have_no_distance() -> None:
    """Exactly none, or k-means++ would choose the same direction again."""
    rows = features_of("random", 50, 30)
    engine = engine_of(np.concatenate([rows, 3 * rows, 0.1 * rows]), 2)
    points = unit_rows(engine)[:50]
    assert engine.add("cover", points) == 0
    assert np.concatenate([shard._distances for shard in engine.shards]).tolist() == [0.0] * 150
    assert np.isinf(np.concatenate([rows.keys for rows in engine.gather("race", 5, 0)])).all()
    assert [len(rows.keys) for rows in engine.gather("draw", 1e9, 0)] == [0, 0]


@pytest.mark.parametrize("size", [1, 16, 17, 50])
def test_cover_chooses_all_points(size: int) -> None:
    engine = engine_of(features_of("random", 100, 5), 2)
    rows, points = unit_rows(engine), on_grid(unit(features_of("random", size, 5, seed=1)))
    engine.gather("restart")
    first = engine.add("cover", points[:1])
    assert first * 2.0**-30 == pytest.approx(float((1 - rows @ points[0]).sum()), abs=100 * error_bound(5))
    found = engine.add("cover", points)
    assert found * 2.0**-30 == pytest.approx(potential(rows, points), abs=200 * error_bound(5))
    engine.gather("restart")
    assert engine.add("cover", points[:1]) == first


def test_tally_by_loops() -> None:
    """More rows than are looked at together."""
    engine = engine_of(features_of("random", 9000, 5), 2, threads=2)
    rows, points = unit_rows(engine), on_grid(unit(features_of("random", 37, 5, seed=1)))
    similarities = np.sort(rows @ points.T, axis=1)
    assert (similarities[:, -1] - similarities[:, -2]).min() > 2 * error_bound(5)  # float32 can tell
    expected = np.bincount((rows @ points.T).argmax(axis=1), minlength=37)
    assert engine.add("tally", points).tolist() == expected.tolist()


def test_races_are_won_in_proportion_to_the_distance() -> None:
    """Distances 0.5, 1, 1.5, 2 and 0 from the chosen point: shares of 1, 2, 3, 4 and 0 tenths."""
    engine = engine_of(circle(60, 90, 120, 180, 0), 2)
    engine.gather("restart")
    engine.add("potentials", circle(0))
    engine.gather("choose", 0)
    wins, races = np.zeros(5), 500
    for seed in range(races):
        wins[Rows.first(engine.gather("race", 1, seed), 1).instance_ids[0]] += 1
    expected = races * np.array([0.1, 0.2, 0.3, 0.4])
    assert wins[4] == 0
    assert ((wins[:4] - expected) ** 2 / expected).sum() < CHI_SQUARE[3]


def test_draws_have_the_probability_of_their_distance() -> None:
    engine = engine_of(circle(60, 90, 120, 180, 0), 2)
    engine.gather("restart")
    engine.add("cover", circle(0))
    drawn, draws = np.zeros(5), 1000
    for seed in range(draws):
        for rows in engine.gather("draw", 0.4, seed):
            drawn[rows.instance_ids] += 1
    share = np.array([0.2, 0.4, 0.6, 0.8, 0])
    assert (np.abs(drawn - draws * share) <= 4 * np.sqrt(draws * share * (1 - share))).all()


def test_first_rows_of_several_shards_are_in_the_order_of_their_keys() -> None:
    engine = engine_of(features_of("random", 60, 3), 4, np.random.default_rng(0).permutation(60))
    whole = engine_of(features_of("random", 60, 3))
    for size in (1, 7, 60, 99):
        found = Rows.first(engine.gather("sample", size, 4), size)
        expected = Rows.first(whole.gather("sample", size, 4), size)
        assert found.keys.tolist() == sorted(found.keys.tolist()) == expected.keys.tolist()
        assert found.instance_ids.tolist() == expected.instance_ids.tolist()
        assert np.array_equal(found.features, expected.features)
        assert np.array_equal(found.features, whole.shards[0].take(np.arange(60))[found.instance_ids])


# ---------------------------------------------------------------------------------------------------------------------
# Edges


@pytest.mark.parametrize("name", STARTS)
def test_start_of_images_that_are_all_the_same(name: str) -> None:
    features = np.tile([[3.0, 4.0]], (6, 1))
    for k in (1, 3, 6):
        np.testing.assert_allclose(unit(STARTS[name](engine_of(features, 2), k, 0)), [[0.6, 0.8]] * k, rtol=1e-6)


@pytest.mark.parametrize("name", ["k-means++", "k-means||", "k-means"])
def test_start_with_fewer_distinct_images_than_clusters_repeats_them(name: str) -> None:
    features = np.tile(circle(0, 90), (4, 1))
    for seed in range(5):
        found = STARTS[name](engine_of(features), 3, seed)
        assert directions(found) == {(1.0, 0.0), (0.0, 1.0)}
        assert found.shape == (3, 2)


@pytest.mark.parametrize("name", ["k-means++", "k-means"])
def test_start_with_as_many_clusters_as_distinct_images_is_those_images(name: str) -> None:
    rows = circle(0, 40, 70, 140, 230, 300, 301)
    for seed in range(5):
        order = np.random.default_rng(seed).integers(0, 7, 60)
        order[:7] = np.arange(7)
        found = STARTS[name](engine_of(rows[order], 3), 7, seed)
        assert directions(found) == directions(rows)


@pytest.mark.parametrize("name", ["k-means++", "k-means", "random"])
def test_start_with_as_many_clusters_as_instances_is_the_instances(name: str) -> None:
    features = circle(0, 70, 140)
    found = STARTS[name](engine_of(features), 3, 0)
    assert directions(found) == directions(features)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("k", [1, 2])
def test_start_of_few_clusters(name: str, k: int) -> None:
    """A round of k-means|| may well draw no instance: of one cluster, one in e^2."""
    features = features_of("random", 50, 4)
    for seed in range(15):
        found = STARTS[name](engine_of(features, 2), k, seed)
        assert found.shape == (k, 4)
        assert np.linalg.norm(found, axis=1).min() > 0.9


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("k", [2, 3, 5])
def test_start_of_instances_that_are_nearly_the_same(name: str, k: int) -> None:
    """Two groups that are narrower than float32 can tell: no centroid may be nowhere, and no library complain."""
    rng = np.random.default_rng(0)
    features = np.eye(6)[rng.integers(0, 2, 80)] + 1e-7 * rng.normal(size=(80, 6))
    for seed in range(4):
        found = STARTS[name](engine_of(features), k, seed)
        assert found.shape == (k, 6)
        assert np.linalg.norm(found, axis=1).min() > 0.9
        if name != "random":
            assert {*unit(found).argmax(axis=1).tolist()} == {0, 1}


@pytest.mark.parametrize("name", STARTS)
def test_start_of_one_instance(name: str) -> None:
    np.testing.assert_allclose(unit(STARTS[name](engine_of(circle(30)), 1, 0)), circle(30), atol=1e-7)


@pytest.mark.parametrize("name", STARTS)
def test_start_of_more_clusters_than_instances_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="num_clusters is 4, but there are only 3 instances"):
        STARTS[name](engine_of(circle(0, 1, 2), 2), 4, 0)


def test_sample_is_no_smaller_than_twice_the_clusters() -> None:
    """Else there would be hardly more points than clusters."""
    features, _ = planted(300, 4, 6)
    small = kmeans_on_sample(engine_of(features), 4, seed=0, sample_size=1)
    assert np.array_equal(small, kmeans_on_sample(engine_of(features), 4, seed=0, sample_size=8))
    assert not np.array_equal(small, kmeans_on_sample(engine_of(features), 4, seed=0, sample_size=9))


def test_greedy_start_takes_the_best_of_its_trials() -> None:
    """Of 2 + log k instances that are far away: better than the first of them alone would be."""
    features, _ = planted(400, 8, 8)
    engine = engine_of(features)
    rows = unit_rows(engine)
    for seed in range(5):
        chosen = kmeans_plus_plus(engine, 8, seed)
        potentials = [potential(rows, chosen[: j + 1]) for j in range(8)]
        assert all(after < before for before, after in pairwise(potentials))


@pytest.mark.parametrize("seed", [0, 7])
def test_starts_of_neighbouring_seeds_have_nothing_in_common(seed: int) -> None:
    engine = engine_of(features_of("random", 3000, 5))
    for name in ("k-means++", "random"):
        found = [STARTS[name](engine, 20, own) for own in (seed, seed + 1)]
        shared = {tuple(row) for row in found[0].tolist()} & {tuple(row) for row in found[1].tolist()}
        assert len(shared) <= 2, name
    drawn = []
    for own in (seed, seed + 1):
        keys: list[float] = []
        engine.gather("restart")
        engine.add("cover", random_instances(engine, 1, 0))
        for step in (1, 2):
            (rows,) = engine.gather("draw", 0.02, another_seed(own, step))
            keys += rows.keys.tolist()
        drawn.append(set(keys))
    assert min(map(len, drawn)) > 20
    assert not drawn[0] & drawn[1]


@pytest.mark.parametrize("name", STARTS)
def test_starts_for_several_numbers_of_clusters(name: str) -> None:
    engine = engine_of(features_of("random", 400, 5), 3)
    found = starts_together(engine, name, [4, 9, 1, 6], 3)
    assert [len(start) for start in found] == [4, 9, 1, 6]
    np.testing.assert_array_equal(found[1], STARTS[name](engine, 9, 3))
    for k, start in zip([4, 9, 1, 6], found, strict=True):
        assert len(np.unique(start, axis=0)) == k
        if name in ("random", "k-means"):
            np.testing.assert_array_equal(start, STARTS[name](engine, k, 3))
    if name != "random":
        rows = unit(features_of("random", 400, 5))
        several = potential(rows, found[3])
        assert several < 1.15 * potential(rows, STARTS[name](engine, 6, 3))
