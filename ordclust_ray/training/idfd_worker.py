"""Binds `idfd_run` to Ray Train: shards, gradients of all workers, checkpoints with the bank, progress."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import ray
import ray.train
import torch

from ordclust_ray.config import IdfdConfig
from ordclust_ray.progress import Monitor
from ordclust_ray.training.checkpoint import begun_in, load_bank, restore_training, save_bank, save_training
from ordclust_ray.training.epochs import Begun, DivergedError, Measure, ask_nothing, ignore_step
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.idfd_run import Idfd
from ordclust_ray.training.notices import Notices
from ordclust_ray.training.shard_data import ShardData
from ordclust_ray.training.worker import begin, distributed


@dataclass(frozen=True)
class IdfdJob:
    """What the driver tells the workers.

    Attributes:
        config: the run's settings.
        num_images: n, rows of the bank.
        num_clusters: k.
        labels: reference to the (n,) classes of the bank's rows, -1 where unknown; only for reports.
        monitor: is told of progress and of each epoch's record.
        measure: what else belongs into the record.
    """

    config: IdfdConfig
    num_images: int
    num_clusters: int
    labels: ray.ObjectRef
    monitor: Monitor
    measure: Measure = ask_nothing


class IdfdShard(ShardData):
    """`idfd_run.Images`: this worker's share."""

    @property
    def bank_rows(self) -> torch.Tensor:
        """(N,) the bank's row of each image."""
        return self.columns["bank_row"]


def train_idfd(loop_config: dict[str, IdfdJob]) -> str:
    """The loop that every worker of a `TorchTrainer` runs.

    Returns:
        Why it ended before the last epoch, where trying again would not help; else nothing.
    """
    job = loop_config["job"]
    model, training = _start(job), job.config.training
    for done in range(len(model.history) + 1, training.epochs + 1):
        try:
            model.run_epoch()
        except DivergedError as error:
            return str(error)
        model.history[-1] |= job.measure(model)
        if done == training.epochs or done % training.checkpoint_every == 0:
            _report(model)
        if ray.train.get_context().get_world_rank() == 0:
            job.monitor.epoch(model.history[-1])
    return ""


def _start(job: IdfdJob) -> Idfd:
    """Network, shard and bank, as the last checkpoint left them where there is one."""
    config, context = job.config, ray.train.get_context()
    device = begin(config.training, config.run.seed)
    rank, world_size = context.get_world_rank(), context.get_world_size()
    trainer = IdfdTrainer(config, job.num_images, device, distributed)
    rows, pool_images = ray.train.get_dataset_shard("train"), config.data.pool_images
    data = IdfdShard(rows, job.num_images, rank, world_size, pool_images, device, ["bank_row"])
    labels = ray.get(job.labels)
    notices, on_step = Notices(lambda begun: _report(model, begun)), ignore_step if rank else job.monitor.step
    model = Idfd(config, job.num_clusters, labels, data, trainer, on_step, notices.look)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state, model.history, _ = restore_training(Path(folder), device)
            trainer.bank.rows = load_bank(Path(folder), trainer.bank.first, trainer.bank.end).to(device)
        trainer.load_state_dict(state)
        model.begun = begun_in(state)
    return model


def _report(model: Idfd, begun: Begun | None = None) -> None:
    """Checkpoints the epochs, and what is done of the next one; a barrier over all workers."""
    bank, clusters, begun_state = model.trainer.bank, model.clusters, begun.state_dict() if begun else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_bank(folder, bank.first, bank.rows)
        if ray.train.get_context().get_world_rank() == 0:
            centroids = None if clusters is None else torch.from_numpy(clusters.centroids)
            save_training(folder, model.trainer.state_dict(), model.history, centroids, begun_state)
        ray.train.report({} if begun else model.history[-1], checkpoint=ray.train.Checkpoint.from_directory(name))
