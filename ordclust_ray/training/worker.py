"""Algorithm 1 inside one Ray Train run: epochs on pairs and clustering alternate, and the workers never restart."""

import logging
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from ordclust_ray.clustering.collective import CollectiveEngine, all_gather, all_reduce_sum
from ordclust_ray.config import DrcConfig
from ordclust_ray.core.metrics import centroid_affinity, contingency, normalized_mutual_information
from ordclust_ray.core.pairs import PairSampler
from ordclust_ray.core.repulsive_kmeans import centroid_rule, floor_size, kmeans_start, repulsive_kmeans
from ordclust_ray.core.shard import Shard
from ordclust_ray.progress import Monitor
from ordclust_ray.training.checkpoint import REFERENCES, restore, save_shard, save_training
from ordclust_ray.training.orid import METRICS, OridTrainer, base_batches, extract_features, train_on_pool
from ordclust_ray.training.references import select_references
from ordclust_ray.training.shard_data import ShardData


@dataclass(frozen=True)
class TrainJob:
    """What the driver tells the workers.

    Attributes:
        config: the run's settings.
        num_train: training images of all workers.
        first_similar: first similar level of each rank level.
        last_similar: one past the last similar level.
        num_groups: known identity groups, 0 where there are none.
        monitor: is told of progress and of each epoch's record.
    """

    config: DrcConfig
    num_train: int
    first_similar: NDArray[np.int64]
    last_similar: NDArray[np.int64]
    num_groups: int
    monitor: Monitor


def train_orid(loop_config: dict[str, TrainJob]) -> None:
    """The loop that every worker of a `TorchTrainer` runs."""
    worker = Worker(loop_config["job"])
    worker.resume(ray.train.get_checkpoint())
    for epoch in range(len(worker.history), worker.config.training.epochs):
        worker.run_epoch(epoch)
        worker.report(final=epoch + 1 == worker.config.training.epochs)


class Worker:
    """One training process: its shard, the networks, and the clusters as they stand."""

    def __init__(self, job: TrainJob) -> None:
        for chatty in ("ray.data", "ray.train"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        context = ray.train.get_context()
        self.job, self.config = job, job.config
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        threads = self.config.training.threads_per_worker
        torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
        self.device = ray.train.torch.get_device()
        torch.manual_seed(self.config.run.seed)
        self.trainer = OridTrainer(self.config, self.device, _distributed)
        self.data = ShardData(
            ray.train.get_dataset_shard("train"),
            job.num_train,
            self.rank,
            self.world_size,
            self.config.data.pool_images,
            self.device,
        )
        self.first, self.last = (
            torch.tensor(edges, device=self.device) for edges in (job.first_similar, job.last_similar)
        )
        self.assignments = torch.zeros_like(self.data.instance_ids)
        self.centroids: Tensor | None = None
        self.history: list[dict[str, Any]] = []

    def resume(self, checkpoint: ray.train.Checkpoint | None) -> None:
        """Continues after the last epoch that was reported, whatever the number of workers was then."""
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            restored = restore(Path(folder), self.device)
        self.trainer.load_state_dict(restored.state)
        self.history, self.centroids = restored.history, restored.centroids
        self.assignments = restored.assignments_of(self.data.instance_ids)

    def run_epoch(self, epoch: int) -> None:
        """One epoch of pairs, then clustering where a round ends. Its randomness depends on the epoch alone."""
        schedule, started = self.config.training, time.perf_counter()
        seed = int(np.random.SeedSequence([self.config.run.seed, epoch, self.rank]).generate_state(1)[0])
        torch.manual_seed(seed)
        generator = torch.Generator(self.device).manual_seed(seed)
        steps, total = 0, torch.zeros(len(METRICS), device=self.device)
        for metrics in self._steps(epoch, generator):
            steps, total = steps + 1, total + metrics
            if self.rank == 0:
                self.job.monitor.step(epoch, steps, self._steps_an_epoch(), metrics)
        self._synchronise_buffers()
        means = all_reduce_sum(total) / (steps * self.world_size)
        record: dict[str, Any] = {"epoch": epoch + 1, "steps": self.trainer.steps}
        record |= dict(zip(METRICS, means.tolist(), strict=True))
        seconds = time.perf_counter() - started
        record |= {"seconds": seconds, "pairs_per_second": self.job.num_train / seconds}
        after_warmup = epoch + 1 - schedule.warmup_epochs
        if after_warmup >= 0 and after_warmup % schedule.epochs_per_round == 0 and self._clustered:
            record |= self.cluster(epoch)
        self.history.append(record)

    @property
    def _clustered(self) -> bool:
        return self.config.clustering.num_clusters > 1

    def _steps(self, epoch: int, generator: torch.Generator) -> Any:
        batch_size = self.config.training.batch_size // self.world_size
        for pool in self.data.pools():
            clusters = self.assignments[pool.rows]
            sampler = PairSampler(self.data.levels[pool.rows], clusters, self.first, self.last)
            bases = base_batches(len(pool.rows), self.data.bases_a_pool, batch_size, generator)
            own = None if self.centroids is None else self.centroids.float()[clusters]
            yield from train_on_pool(self.trainer, pool, sampler, bases, own, generator)

    def _steps_an_epoch(self) -> int:
        batch_size = self.config.training.batch_size // self.world_size
        return -(-self.job.num_train // self.world_size // batch_size)

    def _synchronise_buffers(self) -> None:
        """Batch normalisation's statistics are rank 0's, as in the checkpoint: all extract the same features."""
        if self.world_size > 1:
            for buffer in self.trainer.orid.buffers():
                dist.broadcast(buffer, src=0)

    def features(self) -> tuple[Tensor, Tensor]:
        """Order and identity features of the shard, in the order of its rows."""
        parts = [extract_features(self.trainer.orid, pool.images) for pool in self.data.pools()]
        order, identity = zip(*parts, strict=True)
        return torch.cat(order), torch.cat(identity)

    def cluster(self, epoch: int) -> dict[str, Any]:
        """A round of repulsive clustering on the features as they are now; k-means starts the first one."""
        settings, seed = self.config.clustering, self.config.run.seed
        repulsion = settings.repulsion / (2 if epoch >= settings.repulsion_halved_after else 1)
        features = self.features()[1]
        if self.centroids is None:
            shard = Shard(features, self.data.instance_ids)
            engine = CollectiveEngine(shard)
            start = all_gather(kmeans_start(engine, settings.num_clusters, seed))[0].to(self.device)
        else:
            shard = Shard(features, self.data.instance_ids, self.assignments)
            engine = CollectiveEngine(shard)
            start = centroid_rule(engine.sums(settings.num_clusters).sums, self.centroids, repulsion)
        before = shard.assignments.clone()
        result = repulsive_kmeans(
            engine,
            start,
            repulsion=repulsion,
            min_size=floor_size(self.job.num_train, settings.num_clusters, settings.min_cluster_fraction),
            max_iterations=settings.max_iterations,
            tolerance=settings.tolerance,
        )
        self.assignments, self.centroids = shard.assignments, result.centroids
        changed = int(all_reduce_sum((shard.assignments != before).sum()))
        record = {
            "objective_per_instance": result.objective / self.job.num_train,
            "centroid_affinity": centroid_affinity(result.centroids.cpu().numpy()),
            "changed": changed / self.job.num_train,
            "clustering_iterations": result.iterations,
            "cluster_sizes": result.counts.tolist(),
        }
        return record | ({"nmi": self._nmi()} if self.job.num_groups else {})

    def _nmi(self) -> float:
        table = contingency(
            self.assignments.cpu().numpy(),
            self.data.groups.cpu().numpy(),
            self.config.clustering.num_clusters,
            self.job.num_groups,
        )
        total = all_reduce_sum(torch.from_numpy(table).to(self.device))
        return normalized_mutual_information(total.cpu().numpy())

    def report(self, final: bool) -> None:
        """Checkpoints the epoch, a barrier over all workers; the last one with references and similarities."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            columns = {"instance_ids": self.data.instance_ids, "assignments": self.assignments}
            if final:
                columns["similarities"] = self._finish(folder)
            save_shard(folder, self.rank, columns)
            if self.rank == 0:
                save_training(folder, self.trainer.state_dict(), self.history, self.centroids)
            checkpoint = ray.train.Checkpoint.from_directory(name)
            ray.train.report({"epoch": len(self.history)}, checkpoint=checkpoint)
        if self.rank == 0:
            self.job.monitor.epoch(self.history[-1])

    def _finish(self, folder: Path) -> Tensor:
        """Writes the references, and returns each instance's similarity to its centroid."""
        order, identity = self.features()
        centroids = self.centroids
        if centroids is None:
            mean = all_reduce_sum(identity.double().sum(dim=0, keepdim=True))
            centroids = self.centroids = torch.nn.functional.normalize(mean, dim=1)
        similarities = (identity * centroids.float()[self.assignments]).sum(dim=1)
        references = select_references(
            similarities,
            self.assignments,
            self.data.levels,
            self.data.instance_ids,
            {"order": order, "identity": identity},
            shape=(len(centroids), len(self.first), self.config.rank.references),
            gather=all_gather,
        )
        if self.rank == 0:
            save_file(references, folder / REFERENCES)
        return similarities


def _distributed(network: torch.nn.Module) -> torch.nn.Module:
    return ray.train.torch.prepare_model(network, move_to_device=False)
