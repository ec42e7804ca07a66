"""Algorithm 1 and its checkpoints, without Ray: alternation, restart, any number of processes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.planted import GROUPS, planted_config, planted_images, train
from ordclust_ray.config import DrcConfig, RankConfig
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.training.checkpoint import begun_in, restore, save_shard, save_training
from ordclust_ray.training.drc_orid import DrcOrid, InMemoryData, Problem
from ordclust_ray.training.epochs import Begun, DivergedError
from ordclust_ray.training.orid import OridTrainer
from ordclust_ray.training.shard_data import RankedShardData

PLANTED = planted_images(150, seed=0)
CPU, N = torch.device("cpu"), len(PLANTED.images)
PROBLEM = Problem.of(N, np.arange(1.0, 9.0), RankConfig(), GROUPS)


def config(k: int = GROUPS, **training: int) -> DrcConfig:
    small = planted_config(0)
    schedule = replace(small.training, warmup_epochs=1, epochs_per_round=2, rounds=2, **training)  # type: ignore[arg-type]
    return replace(small, training=schedule, clustering=replace(small.clustering, num_clusters=k))


def model(settings: DrcConfig) -> DrcOrid:
    torch.manual_seed(0)
    arrays = (PLANTED.images, np.arange(N), PLANTED.ranks - 1, PLANTED.groups)
    data = InMemoryData(*map(torch.from_numpy, arrays))
    return DrcOrid(settings, PROBLEM, data, OridTrainer(settings, torch.device("cpu")))


def test_clustering_ends_the_warm_up_and_each_round() -> None:
    done = train(PLANTED, config())
    clustered = [record["epoch"] for record in done.history if "objective_per_instance" in record]
    assert clustered == [1, 3, 5]
    first, *later = (record for record in done.history if "objective_per_instance" in record)
    assert first["changed"] == 1.0  # from no cluster to one
    assert all(record["changed"] < 1.0 for record in later)
    assert all(sum(record["cluster_sizes"]) == 150 for record in (first, *later))
    assert min(min(record["cluster_sizes"]) for record in (first, *later)) >= 150 // (2 * GROUPS)
    assert [record["clustering"] == 0.0 for record in done.history] == [True, False, False, False, False]


def test_a_training_that_diverges_says_so_before_its_epoch_counts() -> None:
    settings = config()
    diverging = model(replace(settings, training=replace(settings.training, learning_rate=1e30)))
    with pytest.raises(DivergedError, match=r"\Athe losses of epoch 1 are not finite: lower --training.learning-rate"):
        diverging.run_epoch()
    assert diverging.history == []


def test_plain_clustering_stands_beside_the_repulsive_one() -> None:
    done = train(PLANTED, config())
    before = done.assignments.clone()
    done.conclude()
    assert torch.equal(done.assignments, before)
    identity = done.features()[1].double().numpy()
    centroids = KMeans(GROUPS, n_init=10, random_state=0).fit(identity).cluster_centers_
    for _ in range(100):  # spherical k-means by its definition
        centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
        own = (identity @ centroids.T).argmax(axis=1)
        centroids = np.stack([identity[own == j].sum(axis=0) for j in range(GROUPS)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    affinity = np.mean([centroids[a] @ centroids[b] for a, b in ((0, 1), (0, 2), (1, 2))])
    assert done.history[-1]["plain_centroid_affinity"] == pytest.approx(affinity, abs=0.02)


def test_without_clusters_there_is_one_centroid_in_the_end() -> None:
    done = train(PLANTED, config(k=1))
    assert all("objective_per_instance" not in record and record["clustering"] == 0.0 for record in done.history)
    found = done.conclude()
    assert done.centroids is not None
    mean = torch.nn.functional.normalize(done.features()[1].double().mean(dim=0), dim=0)
    torch.testing.assert_close(done.centroids[0], mean)
    torch.testing.assert_close(found["similarities"], (done.features()[1] @ mean.float()))
    assert found["margins"].isnan().all()


def test_a_checkpoint_goes_on_bit_by_bit(tmp_path: Path) -> None:
    whole, interrupted = model(config()), model(config())
    for _ in range(3):
        whole.run_epoch()
        interrupted.run_epoch()
    half = len(interrupted.assignments) // 2
    for rank, rows in enumerate((slice(None, half), slice(half, None))):  # as two workers would write it
        columns = {"instance_ids": interrupted.data.instance_ids[rows], "assignments": interrupted.assignments[rows]}
        save_shard(tmp_path, rank, columns)
    save_training(tmp_path, interrupted.trainer.state_dict(), interrupted.history, interrupted.centroids)

    resumed, restored = model(config()), restore(tmp_path)
    resumed.trainer.load_state_dict(restored.state)
    resumed.history, resumed.centroids = restored.history, restored.centroids
    resumed.assignments = restored.assignments_of(resumed.data.instance_ids)
    for _ in range(2):
        whole.run_epoch()
        resumed.run_epoch()
    assert torch.equal(resumed.assignments, whole.assignments)
    assert resumed.centroids is not None
    assert whole.centroids is not None
    assert torch.equal(resumed.centroids, whole.centroids)
    for found, expected in zip(resumed.history, whole.history, strict=True):
        for name in ("reconstruction", "comparison", "generator", "discriminator", "pair_accuracy"):
            assert found[name] == expected[name]


class Interrupted(Exception):  # noqa: N818 - no error
    pass


def test_a_checkpoint_in_the_middle_of_an_epoch_goes_on_with_its_next_step(tmp_path: Path) -> None:
    settings = replace(config(), training=replace(config().training, batch_size=16))
    whole, interrupted = model(settings), model(settings)

    def save(begun: Begun) -> None:
        if (len(interrupted.history), begun.steps) == (2, 4):
            columns = {"instance_ids": interrupted.data.instance_ids, "assignments": interrupted.assignments}
            save_shard(tmp_path, 0, columns)
            state = interrupted.trainer.state_dict()
            save_training(tmp_path, state, interrupted.history, interrupted.centroids, begun.state_dict())
            raise Interrupted

    interrupted._on_begun = save
    for _ in range(2):
        interrupted.run_epoch()
    with pytest.raises(Interrupted):
        interrupted.run_epoch()

    resumed, restored = model(settings), restore(tmp_path)
    resumed.trainer.load_state_dict(restored.state)
    resumed.history, resumed.centroids = restored.history, restored.centroids
    resumed.assignments, resumed.begun = restored.assignments_of(resumed.data.instance_ids), begun_in(restored.state)
    assert (len(resumed.history), resumed.begun.steps) == (2, 4)
    for _ in range(4):
        whole.run_epoch()
    for _ in range(2):
        resumed.run_epoch()
    assert resumed.history[:2] == interrupted.history
    for found, expected in zip(resumed.history, whole.history, strict=True):
        assert found["steps"] == expected["steps"]
        for name in ("reconstruction", "comparison"):  # dropout draws anew
            assert found[name] == pytest.approx(expected[name], rel=0.1)


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    """A checkpoint that carries code is refused, and the code does not run."""
    import os

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    done = model(config())
    save_shard(tmp_path, 0, {"instance_ids": done.data.instance_ids, "assignments": done.assignments})
    save_training(tmp_path, {}, [], None)
    torch.save({"orid": Malicious()}, tmp_path / "training.pt")
    with pytest.raises(ValueError, match=r"training.pt holds more than tensors and numbers"):
        restore(tmp_path)
    assert not (tmp_path / "owned").exists()


# --- several processes, several pools ---------------------------------------------------------------------------------


def _process(rank: int, size: int, folder: str) -> None:
    """Three epochs on every second instance, with the gradients of both processes."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    torch.manual_seed(0)
    rows = np.arange(N)[rank::size]
    arrays = (PLANTED.images[rows], rows, PLANTED.ranks[rows] - 1, PLANTED.groups[rows])
    trainer = OridTrainer(config(), CPU, DistributedDataParallel)
    found = DrcOrid(config(), PROBLEM, InMemoryData(*map(torch.from_numpy, arrays)), trainer)
    for _ in range(3):
        found.run_epoch()
    checkpoint = Path(folder) / f"of-{rank}"
    checkpoint.mkdir()
    save_training(checkpoint, trainer.state_dict(), found.history, found.centroids)
    for folder_of_rank in (Path(folder), checkpoint):
        save_shard(folder_of_rank, rank, {"instance_ids": found.data.instance_ids, "assignments": found.assignments})
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("processes")
    spawn(_process, args=(2, str(folder)), nprocs=2)
    return folder


def test_processes_have_one_network_and_one_history(folder: Path) -> None:
    first, second = (restore(folder / f"of-{rank}") for rank in range(2))
    for network in ("orid", "discriminator"):
        for name, tensor in first.state[network].items():
            if network == "orid" or "running" not in name:  # D is only ever used in training, on its batch's statistics
                assert torch.equal(second.state[network][name], tensor), name
    assert first.centroids is not None
    assert second.centroids is not None
    assert torch.equal(first.centroids, second.centroids)
    for mine, theirs in zip(first.history, second.history, strict=True):
        different = {name for name in mine if mine[name] != theirs[name]}
        assert different <= {"seconds", "pairs_per_second"}
    assert first.history[-1]["cluster_sizes"] == torch.bincount(assignments(folder), minlength=GROUPS).tolist()


def assignments(folder: Path) -> torch.Tensor:
    """Of both processes, by instance id."""
    whole = folder / "of-0"
    for file in folder.glob("shard-*.safetensors"):
        (whole / file.name).write_bytes(file.read_bytes())
    return restore(whole).assignments_of(torch.arange(N))


def test_another_number_of_processes_goes_on(folder: Path) -> None:
    clusters = assignments(folder)
    restored, alone = restore(folder / "of-0"), model(config())
    alone.trainer.load_state_dict(restored.state)
    alone.history, alone.centroids, alone.assignments = restored.history, restored.centroids, clusters
    for _ in range(2):
        alone.run_epoch()
    assert [record["epoch"] for record in alone.history] == [1, 2, 3, 4, 5]
    assert sum(alone.history[-1]["cluster_sizes"]) == N
    assert alone.history[-1]["changed"] < 0.5  # it went on from their clusters, it did not start anew
    with pytest.raises(ValueError, match=f"1 instances are not in the checkpoint; the first is {N}"):
        restored.assignments_of(torch.arange(N + 1))


def test_several_pools_train_and_cluster_every_instance(prepared: Prepared) -> None:
    settings = replace(config(), training=replace(config().training, batch_size=8))
    steps: list[tuple[int, int, int]] = []
    problem = Problem.of(prepared.train.count(), prepared.rank_levels, settings.rank, len(prepared.groups))
    models = []
    for pool_images in (20, 500):
        torch.manual_seed(0)
        data = RankedShardData(prepared.train.iterator(), prepared.train.count(), 0, 1, pool_images, CPU)
        models.append(DrcOrid(settings, problem, data, OridTrainer(settings, CPU)))
    several, one = models
    several._on_step = lambda epoch, step, of, metrics: steps.append((epoch, step, of))
    for mine, theirs in zip(several.features(), one.features(), strict=True):
        torch.testing.assert_close(mine, theirs)  # the rows of the instance ids, whatever the pools
    for _ in range(3):
        several.run_epoch()
    assert several.data.num_pools == 5
    of = 5 * 3  # five pools of 16 or 17 images in batches of at most 8
    assert steps == [(epoch, step, of) for epoch in range(3) for step in range(1, of + 1)]
    assert sum(several.history[-1]["cluster_sizes"]) == prepared.train.count()
    assert torch.bincount(several.assignments).tolist() == several.history[-1]["cluster_sizes"]
