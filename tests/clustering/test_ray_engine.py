"""The Ray engine: features of every source, several clusterings at once, and actors that are killed."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from numpy.typing import NDArray

from ordclust_ray.clustering.engine import LocalEngine
from ordclust_ray.clustering.ray_engine import RayEngine
from ordclust_ray.clustering.sources import Part
from ordclust_ray.core.repulsive_kmeans import Clustering, Rules, cluster_together, floor_size, repulsive_kmeans
from ordclust_ray.core.shard import Shard
from ordclust_ray.core.starts import STARTS, kmeans_plus_plus

N, D, K = 240, 7, 4


def features() -> NDArray[np.float32]:
    """Three groups of unequal size, so that a floor of n / k has much to do; some duplicates."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, D))[rng.choice(3, N, p=[0.6, 0.3, 0.1])] + 0.6 * rng.normal(size=(N, D))
    rows[-10:] = rows[0]
    return rows.astype(np.float32)


def run(engine: RayEngine | LocalEngine, kill_at: frozenset[int] = frozenset()) -> Clustering:
    """Clusters; after some iterations an actor, another one each time, is killed with SIGKILL."""

    def tell(state: Clustering) -> None:
        if state.iterations in kill_at:
            assert isinstance(engine, RayEngine)
            os.kill(engine.run(_process)[state.iterations % 3], signal.SIGKILL)

    start = kmeans_plus_plus(engine, K, seed=0)
    rules = {"min_size": floor_size(N, K, 0.9), "tolerance": 0.0, "max_iterations": 8}
    return repulsive_kmeans(engine, start, on_iteration=tell, **rules)  # type: ignore[arg-type]


def _process(part: Part, shard: Shard) -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def alone() -> tuple[Clustering, NDArray[np.int32]]:
    engine = LocalEngine(Shard(features(), np.arange(N)))
    return run(engine), engine.shard.assignments


def assert_same(engine: RayEngine, found: Clustering, alone: tuple[Clustering, NDArray[np.int32]]) -> None:
    ids, clusters = engine.assignments()
    np.testing.assert_array_equal(ids, np.arange(N))
    np.testing.assert_array_equal(clusters, alone[1])
    np.testing.assert_array_equal(found.centroids, alone[0].centroids)
    np.testing.assert_array_equal(found.sums, alone[0].sums)
    assert (found.objective, found.iterations) == (alone[0].objective, alone[0].iterations)


@pytest.fixture
def tables() -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(features().ravel()), D)
    return pa.table({"instance_id": np.arange(N), "features": column})


def test_killed_actors_are_replaced_and_leave_no_trace(
    local_ray: None, alone: tuple[Clustering, NDArray[np.int32]]
) -> None:
    """Killed after iterations in which the floor moved members, one of them twice in a row."""
    engine = RayEngine.from_arrays(features(), num_shards=3, num_cpus=0.1)
    before = engine.run(_process)
    found = run(engine, kill_at=frozenset({1, 2, 3, 4}))
    assert len(set(before) & set(engine.run(_process))) == 0, "no actor was killed"
    assert alone[0].iterations > 5
    assert_same(engine, found, alone)
    engine.close()


@pytest.mark.parametrize("name", ["k-means++", "k-means||"])
def test_an_actor_killed_during_a_start_leaves_no_trace(local_ray: None, name: str) -> None:
    """The start's own state, distances to the points chosen so far, is made anew."""
    expected = STARTS[name](LocalEngine(Shard(features(), np.arange(N))), K, 3)
    engine = _Mortal.from_arrays(features(), num_shards=2, num_cpus=0.1)
    np.testing.assert_array_equal(STARTS[name](engine, K, 3), expected)
    assert isinstance(engine, _Mortal)
    assert engine.killed
    engine.close()


class _Mortal(RayEngine):
    """Loses an actor before the first and before the fifth call."""

    calls, killed = 0, False

    def gather(self, method: str, *arguments: object) -> list[object]:
        self.calls += 1
        if self.calls in (1, 5):
            os.kill(self.run(_process)[1], signal.SIGKILL)
            self.killed = True
        return super().gather(method, *arguments)


def test_several_clusterings_survive_a_killed_actor(local_ray: None) -> None:
    """Those that were done, and those that went on."""
    local = LocalEngine(Shard(features(), np.arange(N)))
    rules = [Rules(min_size=floor_size(N, k, 0.9), tolerance=0.0, max_iterations=k) for k in (2, 3, 5)]
    starts = {i: (STARTS["random"](local, k, 0), rules[i]) for i, k in enumerate((2, 3, 5))}
    expected = cluster_together(local, starts)
    engine = RayEngine.from_arrays(features(), num_shards=2, num_cpus=0.1)

    def tell(number: int, state: Clustering) -> None:
        if number == 2 and state.iterations == 3:
            os.kill(engine.run(_process)[0], signal.SIGKILL)

    found = cluster_together(engine, starts, tell)
    assert [expected[number].iterations for number in starts] == [2, 3, 5]
    for number in starts:
        np.testing.assert_array_equal(found[number].centroids, expected[number].centroids)
        np.testing.assert_array_equal(engine.assignments(number)[1], local.shard.clusterings[number].labels)
    engine.close()


def test_an_actor_that_always_dies_is_an_error(local_ray: None) -> None:
    engine = RayEngine.from_arrays(features(), num_shards=2, num_cpus=0.1)
    with pytest.raises(ray.exceptions.RayActorError):
        engine.run(_die)
    engine.close()


@dataclass(frozen=True)
class Fragile:
    """Features whose second opening kills the process that opens them."""

    folder: Path

    def open(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        times = len(list(self.folder.iterdir()))
        (self.folder / str(times)).touch()
        if times == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return features(), np.arange(N)


def test_an_actor_that_dies_while_it_is_replaced_is_replaced_again(
    local_ray: None, tmp_path: Path, alone: tuple[Clustering, NDArray[np.int32]]
) -> None:
    engine = RayEngine([Fragile(tmp_path)], num_cpus=0.1)
    start, rules = kmeans_plus_plus(engine, K, seed=0), Rules(min_size=floor_size(N, K, 0.9), tolerance=0.0)

    def tell(number: int, state: Clustering) -> None:
        if state.iterations == 2:
            os.kill(engine.run(_process)[0], signal.SIGKILL)

    cluster_together(engine, {0: (start, replace(rules, max_iterations=8))}, tell)
    assert len(list(tmp_path.iterdir())) == 3
    np.testing.assert_array_equal(engine.assignments()[1], alone[1])
    engine.close()


def _die(part: Part, shard: Shard) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_shards_of_parquet_files_change_nothing(
    local_ray: None, tmp_path: Path, tables: pa.Table, alone: tuple[Clustering, NDArray[np.int32]]
) -> None:
    """Read again in each pass, by row groups of unequal size in two files."""
    pq.write_table(tables.slice(0, 100), tmp_path / "a.parquet", row_group_size=33)
    pq.write_table(tables.slice(100), tmp_path / "b.parquet", row_group_size=50)
    engine = RayEngine.from_files(str(tmp_path), num_shards=5, num_cpus=0.1)
    assert_same(engine, run(engine), alone)
    engine.close()


def test_shards_of_an_npy_file_change_nothing(
    local_ray: None, tmp_path: Path, alone: tuple[Clustering, NDArray[np.int32]]
) -> None:
    np.save(tmp_path / "features.npy", features())
    engine = RayEngine.from_files(str(tmp_path / "features.npy"), num_shards=4, num_cpus=0.1)
    assert_same(engine, run(engine), alone)
    engine.close()


def test_shards_of_a_dataset_change_nothing(
    local_ray: None, tables: pa.Table, alone: tuple[Clustering, NDArray[np.int32]]
) -> None:
    """Its blocks, in whatever order: instances are known by their ids."""
    dataset = ray.data.from_arrow([tables.slice(150), tables.slice(0, 70), tables.slice(70, 80)])
    engine = RayEngine.from_dataset(dataset, num_shards=2, num_cpus=0.1)
    assert_same(engine, run(engine), alone)
    engine.close()


def test_features_that_a_dataset_computes_are_tensors(
    local_ray: None, alone: tuple[Clustering, NDArray[np.int32]]
) -> None:
    """What `map_batches` returns: Ray's own column type."""
    rows = features()
    dataset = ray.data.range(N, override_num_blocks=3).map_batches(
        lambda batch: {"number": batch["id"], "vector": rows[batch["id"]]}
    )
    engine = RayEngine.from_dataset(dataset, num_shards=3, features="vector", ids="number", num_cpus=0.1)
    assert_same(engine, run(engine), alone)
    engine.close()
