"""Algorithm 1 and its checkpoints, without Ray: alternation, restart, any number of processes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.planted import GROUPS, planted_config, planted_images, train
from ordclust_ray.config import DrcConfig
from ordclust_ray.core.order import similar_levels
from ordclust_ray.training.checkpoint import restore, save_shard, save_training
from ordclust_ray.training.drc_orid import DrcOrid, InMemoryData, Problem
from ordclust_ray.training.orid import OridTrainer

PLANTED = planted_images(150, seed=0)


def config(k: int = GROUPS, **training: int) -> DrcConfig:
    small = planted_config(0)
    schedule = replace(small.training, warmup_epochs=1, epochs_per_round=2, rounds=2, **training)  # type: ignore[arg-type]
    return replace(small, training=schedule, clustering=replace(small.clustering, num_clusters=k))


def model(settings: DrcConfig) -> DrcOrid:
    torch.manual_seed(0)
    n = len(PLANTED.images)
    first, last = similar_levels(np.arange(1.0, 9.0), 0.0)
    arrays = (PLANTED.images, np.arange(n), PLANTED.ranks - 1, PLANTED.groups)
    problem = Problem(n, torch.from_numpy(first), torch.from_numpy(last), GROUPS)
    data = InMemoryData(*map(torch.from_numpy, arrays))
    return DrcOrid(settings, problem, data, OridTrainer(settings, torch.device("cpu")))


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


def test_without_clusters_there_is_one_centroid_in_the_end() -> None:
    done = train(PLANTED, config(k=1))
    assert all("objective_per_instance" not in record and record["clustering"] == 0.0 for record in done.history)
    similarities, references = done.conclude()
    assert done.centroids is not None
    mean = torch.nn.functional.normalize(done.features()[1].double().mean(dim=0), dim=0)
    torch.testing.assert_close(done.centroids[0], mean)
    torch.testing.assert_close(similarities, (done.features()[1] @ mean.float()))
    assert references["instance_ids"].shape == (1, 8, 50)


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


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    """A checkpoint that carries code is refused, and the code does not run."""
    import os
    import pickle

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    done = model(config())
    save_shard(tmp_path, 0, {"instance_ids": done.data.instance_ids, "assignments": done.assignments})
    save_training(tmp_path, {}, [], None)
    torch.save({"orid": Malicious()}, tmp_path / "training.pt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        restore(tmp_path)
    assert not (tmp_path / "owned").exists()
