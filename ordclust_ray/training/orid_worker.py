"""Binds `drc_orid` to Ray Train: shards, gradients of all workers, checkpoints, progress. Workers never restart."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ray.train

from ordclust_ray.config import DrcConfig
from ordclust_ray.progress import Monitor
from ordclust_ray.training.checkpoint import begun_in, restore, save_shard, save_training
from ordclust_ray.training.drc_orid import DrcOrid, Problem
from ordclust_ray.training.epochs import Begun, DivergedError, Measure, ask_nothing, ignore_step
from ordclust_ray.training.notices import Notices
from ordclust_ray.training.orid import OridTrainer
from ordclust_ray.training.shard_data import RankedShardData
from ordclust_ray.training.worker import begin, distributed


@dataclass(frozen=True)
class TrainJob:
    """What the driver tells the workers.

    Attributes:
        config: the run's settings.
        problem: what the driver knows of the training set.
        monitor: is told of progress and of each epoch's record.
        measure: what else belongs into the record.
    """

    config: DrcConfig
    problem: Problem
    monitor: Monitor
    measure: Measure = ask_nothing


def train_orid(loop_config: dict[str, TrainJob]) -> str:
    """The loop that every worker of a `TorchTrainer` runs.

    Returns:
        Why it ended before the last epoch, where trying again would not help; else nothing.
    """
    job = loop_config["job"]
    model, epochs = _start(job), job.config.training.epochs
    for _ in range(len(model.history), epochs):
        try:
            model.run_epoch()
        except DivergedError as error:
            return str(error)
        model.history[-1] |= job.measure(model)
        _report(model, final=len(model.history) == epochs)
        if ray.train.get_context().get_world_rank() == 0:
            job.monitor.epoch(model.history[-1])
    return ""


def _start(job: TrainJob) -> DrcOrid:
    """Networks, shard and clusters, as the last checkpoint left them where there is one."""
    config, context = job.config, ray.train.get_context()
    device = begin(config.training, config.run.seed)
    trainer = OridTrainer(config, device, distributed)
    rank = context.get_world_rank()
    rows, pool_images = ray.train.get_dataset_shard("train"), config.data.pool_images
    data = RankedShardData(rows, job.problem.num_train, rank, context.get_world_size(), pool_images, device)
    notices = Notices(lambda begun: _report(model, begun))
    model = DrcOrid(config, job.problem, data, trainer, ignore_step if rank else job.monitor.step, notices.look)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            restored = restore(Path(folder), device)
        trainer.load_state_dict(restored.state)
        model.begun = begun_in(restored.state)
        model.history, model.centroids = restored.history, restored.centroids
        model.assignments = restored.assignments_of(data.instance_ids)
    return model


def _report(model: DrcOrid, begun: Begun | None = None, *, final: bool = False) -> None:
    """Checkpoints the epochs, a barrier over all workers.

    Args:
        model: in training.
        begun: what is done of the next epoch.
        final: there is none; similarities to the centroids come along.
    """
    rank, begun_state = ray.train.get_context().get_world_rank(), begun.state_dict() if begun else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = {"instance_ids": model.data.instance_ids, "assignments": model.assignments}
        if final:
            columns |= model.conclude()
        save_shard(folder, rank, columns)
        if rank == 0:
            save_training(folder, model.trainer.state_dict(), model.history, model.centroids, begun_state)
        ray.train.report({} if begun else model.history[-1], checkpoint=ray.train.Checkpoint.from_directory(name))
