"""Algorithm 1 in plain torch: epochs on pairs and repulsive clustering alternate (Lee & Kim 2021, section 3.3).

Each process holds a share of the training instances. Where torch.distributed is initialised the processes train and
cluster together, else the one at hand does so alone: in a test, in a benchmark, without Ray.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ordclust_ray.clustering.collective import CollectiveEngine
from ordclust_ray.config import DrcConfig, RankConfig
from ordclust_ray.core.metrics import (
    adjusted_rand_index,
    centroid_affinity,
    contingency,
    normalized_mutual_information,
)
from ordclust_ray.core.order import similar_levels
from ordclust_ray.core.orid_losses import METRICS
from ordclust_ray.core.references import own_and_margin
from ordclust_ray.core.repulsive_kmeans import Clustering, centroid_rule, floor_size, repulsive_kmeans
from ordclust_ray.core.shard import Shard
from ordclust_ray.core.starts import kmeans_on_sample
from ordclust_ray.processes import all_gather, all_reduce_sum, world_size
from ordclust_ray.training.epochs import (
    Begun,
    OnBegun,
    OnStep,
    Pool,
    begin_epoch,
    ignore_step,
    keep_nothing,
    require_finite,
    steps_a_pool,
    synchronise_buffers,
)
from ordclust_ray.training.orid import OridTrainer, extract_features
from ordclust_ray.training.pair_batches import pair_batches


class TrainingData(Protocol):
    """A process's share of the training instances, on the device that trains.

    Attributes:
        instance_ids: (N,).
        levels: (N,) rank level.
        groups: (N,) known identity group, -1 where there is none; only for reporting.
    """

    instance_ids: Tensor
    levels: Tensor
    groups: Tensor

    @property
    def num_pools(self) -> int:
        """Pools of the share, as many in every process."""
        ...

    @property
    def bases_a_pool(self) -> int:
        """Bases drawn from each pool in an epoch, the same number in every process."""
        ...

    def pools(self) -> Iterator[Pool]:
        """All images of the share, a pool at a time."""
        ...


@dataclass
class InMemoryData:
    """`TrainingData` of a single process: everything in one pool."""

    images: Tensor
    instance_ids: Tensor
    levels: Tensor
    groups: Tensor

    @property
    def num_pools(self) -> int:
        """Everything is in one."""
        return 1

    @property
    def bases_a_pool(self) -> int:
        """Every image is a base once."""
        return len(self.images)

    def pools(self) -> Iterator[Pool]:
        """One pool."""
        yield Pool(self.images, torch.arange(len(self.images), device=self.images.device))


@dataclass(frozen=True)
class Problem:
    """What all processes know of the training set.

    Attributes:
        num_train: training instances of all processes.
        first_similar: (M,) first similar level of each rank level, from `core.order.similar_levels`.
        last_similar: (M,) one past the last similar level.
        num_groups: known identity groups, 0 where there are none.
    """

    num_train: int
    first_similar: Tensor
    last_similar: Tensor
    num_groups: int

    @classmethod
    def of(cls, num_train: int, rank_levels: NDArray[np.float64], rank: RankConfig, num_groups: int) -> "Problem":
        """With the levels that the settings call similar."""
        first, last = similar_levels(rank_levels, rank.tolerance, rank.scale)
        return cls(num_train, torch.from_numpy(first), torch.from_numpy(last), num_groups)


class DrcOrid:
    """The networks in training, and the clusters as they stand.

    Args:
        config: the run's settings.
        problem: what all processes know.
        data: this process's share.
        trainer: networks and optimisers.
        on_step: is told of each step.
        on_begun: is told of it too, with what a checkpoint in the middle of an epoch needs.

    Attributes:
        begun: the part of the next epoch that a checkpoint holds already.
        assignments: (N,) cluster of each instance of the share; all 0 before the first clustering.
        centroids: (K, D) float64, None before the first clustering.
        history: one record an epoch.
    """

    def __init__(
        self,
        config: DrcConfig,
        problem: Problem,
        data: TrainingData,
        trainer: OridTrainer,
        on_step: OnStep = ignore_step,
        on_begun: OnBegun = keep_nothing,
    ) -> None:
        self.config, self.problem, self.data, self.trainer = config, problem, data, trainer
        self._on_step, self._on_begun, self.begun = on_step, on_begun, Begun()
        self._similar = [edges.to(trainer.device) for edges in (problem.first_similar, problem.last_similar)]
        self._batch_size = config.training.batch_size // world_size()
        self.assignments = torch.zeros_like(data.instance_ids)
        self.centroids: Tensor | None = None
        self.history: list[dict[str, Any]] = []

    def run_epoch(self) -> dict[str, Any]:
        """The next epoch of pairs, then clustering where a round ends; appends its record and returns it.

        Its randomness depends on the seed and the epoch alone, so that an epoch can be repeated.

        Raises:
            DivergedError: in every process, where the losses are not finite.
        """
        begun, self.begun = self.begun, Begun()
        epoch, started = len(self.history), time.perf_counter() - begun.seconds
        generator = begin_epoch(self.config.run.seed, epoch, self.trainer.device)
        steps, total = begun.steps, begun.total + torch.zeros(len(METRICS), device=self.trainer.device)
        for metrics in self._steps(generator, begun.steps):
            steps, total = steps + 1, total + metrics
            self._on_step(epoch, steps, self._steps_an_epoch, dict(zip(METRICS, metrics, strict=True)))
            if steps < self._steps_an_epoch:
                self._on_begun(Begun(steps, total, time.perf_counter() - started))
        synchronise_buffers(self.trainer.orid)
        means = all_reduce_sum(total) / (steps * world_size())
        require_finite(means, epoch)
        record: dict[str, Any] = {"epoch": epoch + 1, "steps": self.trainer.steps}
        record |= dict(zip(METRICS, means.tolist(), strict=True))
        seconds = time.perf_counter() - started
        record |= {"seconds": seconds, "pairs_per_second": self.problem.num_train / seconds}
        if self.config.clustering.num_clusters > 1 and self.config.training.ends_round(epoch + 1):
            record |= self.cluster(epoch)
        self.history.append(record)
        return record

    def _steps(self, generator: torch.Generator, done: int) -> Iterator[Tensor]:
        centroids = None if self.centroids is None else self.centroids.float()
        batches = pair_batches(self.data, self.assignments, self._similar, self._batch_size, generator)
        for images, order, clusters in itertools.islice(batches, min(done, self._steps_an_epoch - 1), None):
            yield self.trainer.step(images, order, None if centroids is None else centroids[clusters])

    @property
    def _steps_an_epoch(self) -> int:
        return self.data.num_pools * steps_a_pool(self.data.bases_a_pool, self._batch_size)

    def features(self) -> tuple[Tensor, Tensor]:
        """Order (N, A) and identity features (N, D) of the share, by the networks as they are."""
        parts = [extract_features(self.trainer.orid, pool.images) for pool in self.data.pools()]
        order, identity = zip(*parts, strict=True)
        return torch.cat(order), torch.cat(identity)

    def cluster(self, epoch: int) -> dict[str, Any]:
        """A round of clustering on the features as they are (lines 5-12 of algorithm 1).

        k-means starts the first one (line 2), which goes on as the others do; the paper fine-tunes once before.

        Returns:
            Its measures, for the epoch's record.
        """
        settings, n = self.config.clustering, self.problem.num_train
        repulsion, before = settings.repulsion_after(epoch + 1), self.assignments
        engine = self._engine(self.features()[1])
        if self.centroids is None:
            start, before = self._kmeans_start(engine, self.config.run.seed), torch.full_like(before, -1)
        else:
            sums = engine.add("sums", settings.num_clusters).sums
            start = centroid_rule(sums, self.centroids.cpu().numpy(), repulsion)
        result = self._clustered(engine, start, repulsion=repulsion, fraction=settings.min_cluster_fraction)
        device = self.trainer.device
        self.assignments = torch.from_numpy(engine.shard.assignments).to(device, torch.int64)
        self.centroids = torch.from_numpy(result.centroids).to(device)
        changed = int(all_reduce_sum((self.assignments != before).sum()))
        record = {
            "objective_per_instance": result.objective / n,
            "centroid_affinity": centroid_affinity(result.centroids),
            "changed": changed / n,
            "clustering_iterations": result.iterations,
            "cluster_sizes": result.counts.tolist(),
        }
        return record | ({"nmi": self._nmi()} if self.problem.num_groups else {})

    def _engine(self, identity_features: Tensor) -> CollectiveEngine:
        """Over all processes: features and clusters of this share."""
        assignments = None if self.centroids is None else self.assignments.cpu().numpy()
        ids = self.data.instance_ids.cpu().numpy()
        shard = Shard(identity_features, ids, assignments, threads=torch.get_num_threads())
        return CollectiveEngine(shard, self.trainer.device)

    def _kmeans_start(self, engine: CollectiveEngine, seed: int) -> NDArray[np.float64]:
        """The same in every process, whatever its libraries round."""
        return all_gather(kmeans_on_sample(engine, self.config.clustering.num_clusters, seed))[0]

    def _clustered(
        self, engine: CollectiveEngine, start: NDArray[np.float64], *, repulsion: float, fraction: float
    ) -> Clustering:
        settings = self.config.clustering
        return repulsive_kmeans(
            engine,
            start,
            repulsion=repulsion,
            min_size=floor_size(self.problem.num_train, settings.num_clusters, fraction),
            max_iterations=settings.max_iterations,
            tolerance=settings.tolerance,
        )

    def _nmi(self) -> float:
        clusters, groups = self.assignments.cpu().numpy(), self.data.groups.cpu().numpy()
        known = groups >= 0
        table = contingency(
            clusters[known], groups[known], self.config.clustering.num_clusters, self.problem.num_groups
        )
        total = all_reduce_sum(torch.from_numpy(table).to(self.trainer.device))
        return normalized_mutual_information(total.cpu().numpy())

    def conclude(self) -> dict[str, Tensor]:
        """After the last epoch: `similarities` of each instance to its centroid (N,), and `margins` (N,).

        A margin is what the similarity is above that to the best other centroid; below 0 where the floor moved the
        instance, NaN at k = 1. There, without clusters, the mean direction of all instances becomes the only centroid.
        With clusters the last record gets `plain_centroid_affinity`, that of spherical k-means on the same features.
        """
        _, identity = self.features()
        if self.centroids is not None:
            engine = self._engine(identity)
            start = self._kmeans_start(engine, self.config.run.seed)
            plain = self._clustered(engine, start, repulsion=0.0, fraction=0.0)
            self.history[-1]["plain_centroid_affinity"] = centroid_affinity(plain.centroids)
        self.centroids = self.centroids_of(identity)
        similarities, margins = own_and_margin(identity, self.centroids.float(), self.assignments)
        return {"similarities": similarities, "margins": margins}

    def centroids_of(self, identity: Tensor) -> Tensor:
        """The centroids (K, D); where there are no clusters, the mean direction of all instances.

        Args:
            identity: (N, D) identity features of the share.
        """
        if self.centroids is not None:
            return self.centroids
        mean = all_reduce_sum(identity.double().sum(dim=0, keepdim=True))
        return torch.nn.functional.normalize(mean, dim=1)

    def stability(self, identity: Tensor, seed: int) -> float:
        """How well the clusters agree with those from another start: adjusted Rand index; NaN without clusters.

        Args:
            identity: (N, D) identity features of the share, which the clusters were made of.
            seed: of the start.
        """
        k, settings = self.config.clustering.num_clusters, self.config.clustering
        if self.centroids is None:
            return float("nan")
        engine = self._engine(identity)
        repulsion = settings.repulsion_after(len(self.history))
        start = self._kmeans_start(engine, seed)
        self._clustered(engine, start, repulsion=repulsion, fraction=settings.min_cluster_fraction)
        table = contingency(self.assignments.cpu().numpy(), engine.shard.assignments.astype(np.int64), k, k)
        return adjusted_rand_index(np.sum(all_gather(table), axis=0))
