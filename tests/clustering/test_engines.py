"""Both engines give the clusters of a single shard, bit by bit, however the instances are dealt out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.multiprocessing.spawn import spawn

from ordclust_ray.clustering.collective import CollectiveEngine
from ordclust_ray.clustering.ray_engine import RayEngine
from ordclust_ray.core.floor import Engine
from ordclust_ray.core.repulsive_kmeans import Clustering, floor_size, repulsive_kmeans
from ordclust_ray.core.shard import Shard
from ordclust_ray.core.starts import kmeans_on_sample

K, N, D = 4, 203, 12


def features() -> NDArray[np.float32]:
    """Three wide groups, a tail of duplicates, and so few instances in a fourth direction that the floor works."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, D)) * 2
    spread = means[rng.integers(0, 3, N)] + rng.normal(size=(N, D))
    spread[-20:] = spread[0]
    return spread.astype(np.float32)


def run(engine: Engine) -> Clustering:
    return repulsive_kmeans(engine, kmeans_on_sample(engine, K, seed=0), min_size=floor_size(N, K), tolerance=0.0)


@pytest.fixture(scope="module")
def alone() -> tuple[Clustering, NDArray[np.int32]]:
    shard = Shard(features(), np.arange(N))
    return run(CollectiveEngine(shard)), shard.assignments


@pytest.mark.local_mode
@pytest.mark.parametrize("num_shards", [1, 2, 4, 8])
def test_ray_actors_give_the_clusters_of_one_shard(
    local_ray: None, alone: tuple[Clustering, NDArray[np.int32]], num_shards: int
) -> None:
    expected, assignments = alone
    engine = RayEngine.from_arrays(features(), num_shards=num_shards, num_cpus=0.1)
    found = run(engine)
    ids, clusters = engine.assignments()
    engine.close()
    assert found.counts.min() >= floor_size(N, K)
    assert np.array_equal(found.centroids, expected.centroids)
    assert found.objective == expected.objective
    np.testing.assert_array_equal(ids, np.arange(N))
    np.testing.assert_array_equal(clusters, assignments)


@pytest.mark.local_mode
def test_instances_are_known_by_their_ids(local_ray: None, alone: tuple[Clustering, NDArray[np.int32]]) -> None:
    dealt = np.random.default_rng(1).permutation(N)
    engine = RayEngine.from_arrays(features()[dealt], dealt, num_shards=3, num_cpus=0.1)
    run(engine)
    ids, clusters = engine.assignments()
    engine.close()
    np.testing.assert_array_equal(ids, np.arange(N))
    np.testing.assert_array_equal(clusters, alone[1])


@pytest.mark.local_mode
def test_ray_engine_names_bad_input(local_ray: None) -> None:
    with pytest.raises(ValueError, match=r"num_shards is 204; it must be from 1 to 203"):
        RayEngine.from_arrays(features(), num_shards=N + 1)
    with pytest.raises(ValueError, match=r"2 shards of 500 CPU each need more than the cluster's \d+"):
        RayEngine.from_arrays(features(), num_shards=2, num_cpus=500)
    broken = features()
    broken[7] = 0
    with pytest.raises(ValueError, match=r"1 feature rows are zero, NaN or infinite; first instances: \[7\]"):
        RayEngine.from_arrays(broken, num_shards=2, num_cpus=0.1)


def _process(rank: int, size: int, folder: str) -> None:
    store = f"file://{folder}/store-{size}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    ids = np.arange(N)[rank::size]  # interleaved, so that the shards are no ranges of ids
    shard = Shard(torch.from_numpy(features()[ids]), ids)
    found = run(CollectiveEngine(shard))
    np.savez(f"{folder}/{size}-{rank}", ids=ids, assignments=shard.assignments, centroids=found.centroids)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_training_processes_give_the_clusters_of_one_shard(
    tmp_path: Path, alone: tuple[Clustering, NDArray[np.int32]], size: int
) -> None:
    spawn(_process, args=(size, str(tmp_path)), nprocs=size)
    clusters = np.empty(N, dtype=np.int64)
    for rank in range(size):
        with np.load(tmp_path / f"{size}-{rank}.npz") as part:
            clusters[part["ids"]] = part["assignments"]
            np.testing.assert_array_equal(part["centroids"], alone[0].centroids)
    np.testing.assert_array_equal(clusters, alone[1])
