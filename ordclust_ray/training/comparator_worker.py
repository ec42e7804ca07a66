"""Binds `comparator` to Ray Train: shards, gradients of all workers, checkpoints, progress. Workers never restart."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ray
import ray.data
import ray.train
import torch

from ordclust_ray.config import ComparatorConfig
from ordclust_ray.progress import Monitor
from ordclust_ray.training.checkpoint import begun_in, restore_training, save_training
from ordclust_ray.training.comparator import ComparatorRun, ComparatorTrainer
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.epochs import Begun, DivergedError, Measure, ask_nothing, ignore_step
from ordclust_ray.training.notices import Notices
from ordclust_ray.training.shard_data import ShardData
from ordclust_ray.training.worker import begin, distributed


@dataclass(frozen=True)
class ComparatorJob:
    """What the driver tells the workers.

    Attributes:
        config: the run's settings.
        problem: what the driver knows of the training set.
        pool_images: the most images that a worker holds at a time.
        start: reference to the weights that training starts from.
        monitor: is told of progress and of each epoch's record.
        measure: what else belongs into the record.
    """

    config: ComparatorConfig
    problem: Problem
    pool_images: int
    start: ray.ObjectRef
    monitor: Monitor
    measure: Measure = ask_nothing


class ClusteredShard(ShardData):
    """`comparator.ClusteredData`: this worker's share. Other arguments are those of `ShardData`."""

    def __init__(
        self,
        rows: ray.data.DataIterator,
        total: int,
        rank: int,
        world_size: int,
        pool_images: int,
        device: torch.device,
    ) -> None:
        super().__init__(rows, total, rank, world_size, pool_images, device, ("level", "cluster"))
        self.levels, self.clusters = self.columns.values()
        self.bases_a_pool = self.largest_pool
        """Bases drawn from each pool in an epoch: the same number on every worker."""


def train_comparator(loop_config: dict[str, ComparatorJob]) -> str:
    """The loop that every worker of a `TorchTrainer` runs.

    Returns:
        Why it ended before the last epoch, where trying again would not help; else nothing.
    """
    job = loop_config["job"]
    model = _start(job)
    for _ in range(len(model.history), job.config.training.epochs):
        try:
            model.run_epoch()
        except DivergedError as error:
            return str(error)
        model.history[-1] |= job.measure(model)
        _report(model)
        if ray.train.get_context().get_world_rank() == 0:
            job.monitor.epoch(model.history[-1])
    return ""


def _start(job: ComparatorJob) -> ComparatorRun:
    """The network as the last checkpoint left it, else as the driver made it."""
    config, context = job.config, ray.train.get_context()
    device = begin(config.training, config.run.seed)
    trainer = ComparatorTrainer(config, device, distributed)
    rank, rows = context.get_world_rank(), ray.train.get_dataset_shard("train")
    data = ClusteredShard(rows, job.problem.num_train, rank, context.get_world_size(), job.pool_images, device)
    notices, on_step = Notices(lambda begun: _report(model, begun)), ignore_step if rank else job.monitor.step
    model = ComparatorRun(config, job.problem, data, trainer, on_step, notices.look)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        trainer.network.load_state_dict(ray.get(job.start))
        return model
    with checkpoint.as_directory() as folder:
        state, model.history, _ = restore_training(Path(folder), device)
    trainer.load_state_dict(state)
    model.begun = begun_in(state)
    return model


def _report(model: ComparatorRun, begun: Begun | None = None) -> None:
    """Checkpoints the epochs, and what is done of the next one; a barrier over all workers.

    They all have the same network, and the first writes it.
    """
    begun_state = begun.state_dict() if begun else None
    if ray.train.get_context().get_world_rank() > 0:
        ray.train.report({} if begun else model.history[-1])
        return
    with tempfile.TemporaryDirectory() as name:
        save_training(Path(name), model.trainer.state_dict(), model.history, None, begun_state)
        ray.train.report({} if begun else model.history[-1], checkpoint=ray.train.Checkpoint.from_directory(name))
