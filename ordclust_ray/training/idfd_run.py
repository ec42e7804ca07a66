"""IDFD in plain torch: epochs over all images, and k-means on the bank now and then (Tao, Takagi & Nakata 2021).

Each process holds a share of the images and a share of the bank. Where torch.distributed is initialised the processes
train together, else the one at hand does so alone: in a test, in a benchmark, without Ray.
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

from ordclust_ray.clustering.kmeans import Clusters, kmeans
from ordclust_ray.clustering.measures import class_measures, plain_measures
from ordclust_ray.config import IdfdConfig
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.core.shares import share_edges
from ordclust_ray.processes import all_reduce_sum, world_size
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
from ordclust_ray.training.idfd import IdfdTrainer


class Images(Protocol):
    """A process's share of the images, on the device that trains."""

    @property
    def bank_rows(self) -> Tensor:
        """(N,) the bank's row of each."""
        ...

    @property
    def num_pools(self) -> int:
        """Pools of the share, as many in every process."""
        ...

    def pools(self) -> Iterator[Pool]:
        """All images of the share, a pool at a time."""
        ...


@dataclass
class ImagesInMemory:
    """`Images` in one pool.

    Attributes:
        images: (N, S, S, 3) uint8.
        bank_rows: (N,).
    """

    images: Tensor
    bank_rows: Tensor
    num_pools: int = 1

    def pools(self) -> Iterator[Pool]:
        """One pool."""
        yield Pool(self.images, torch.arange(len(self.images), device=self.images.device))


class Idfd:
    """The network in training, the bank, and the clusters as they stand.

    Args:
        config: the run's settings.
        num_clusters: k.
        labels: (n,) class of each row of the whole bank, -1 where unknown; only to report on.
        data: this process's share.
        trainer: network, optimiser and bank.
        on_step: is told of each step.
        on_begun: is told of it too, with what a checkpoint in the middle of an epoch needs.

    Attributes:
        begun: the part of the next epoch that a checkpoint holds already.
        clusters: of the rows of the bank that are here; None before the first clustering.
        history: one record an epoch.
    """

    def __init__(
        self,
        config: IdfdConfig,
        num_clusters: int,
        labels: NDArray[np.int64],
        data: Images,
        trainer: IdfdTrainer,
        on_step: OnStep = ignore_step,
        on_begun: OnBegun = keep_nothing,
    ) -> None:
        self.config, self.num_clusters, self.data, self.trainer = config, num_clusters, data, trainer
        bank = trainer.bank
        self._num_classes = int(labels.max()) + 1
        self._labels = labels[bank.first : bank.first + len(bank.rows)]
        self._on_step, self._on_begun, self.begun = on_step, on_begun, Begun()
        self.clusters: Clusters | None = None
        self.history: list[dict[str, Any]] = []
        shares = share_edges(bank.num_rows, world_size())
        pools = [share_edges(end - start, data.num_pools) for start, end in itertools.pairwise(shares)]
        self._pool_sizes = [[edges[i + 1] - edges[i] for edges in pools] for i in range(data.num_pools)]
        """Images of every process in each pool."""
        self.steps_an_epoch = sum(map(self._steps, self._pool_sizes))

    def run_epoch(self) -> dict[str, Any]:
        """The next epoch, in which every image is seen once; then perhaps a clustering. Appends its record.

        Its randomness depends on the seed and the epoch alone, so that an epoch can be repeated.

        Raises:
            DivergedError: in every process, where the losses are not finite.
        """
        begun, self.begun = self.begun, Begun()
        epoch, started = len(self.history), time.perf_counter() - begun.seconds
        generator = begin_epoch(self.config.run.seed, epoch, self.trainer.device)
        learning_rate = self.config.training.learning_rate_in(epoch)
        self.trainer.set_learning_rate(learning_rate)
        steps, total, waited, losses = begun.steps, torch.as_tensor(begun.total), 0.0, dict[str, Tensor]()
        done, asked = min(steps, self.steps_an_epoch - 1), time.perf_counter()
        for images, bank_rows, sizes in itertools.islice(self._batches(generator), done, None):
            waited += time.perf_counter() - asked
            losses = self.trainer.step(images, bank_rows, sizes, generator)
            steps, total = steps + 1, total + torch.stack(list(losses.values()))
            self._on_step(epoch, steps, self.steps_an_epoch, losses)
            if steps < self.steps_an_epoch:
                self._on_begun(Begun(steps, total, time.perf_counter() - started))
            asked = time.perf_counter()
        synchronise_buffers(self.trainer.modules)
        means = all_reduce_sum(total) / (steps * world_size())
        require_finite(means, epoch)
        seconds = time.perf_counter() - started
        record: dict[str, Any] = {"epoch": epoch + 1, **dict(zip(losses, means.tolist(), strict=True))}
        record |= {"learning_rate": learning_rate, "seconds": seconds, "data_wait": waited / seconds}
        record["images_per_second"] = self.trainer.bank.num_rows / seconds
        last = epoch + 1 == self.config.training.epochs
        if last or (epoch + 1) % self.config.clustering.every == 0:
            record |= self.cluster(epoch)
        self.history.append(record)
        return record

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Images, their rows of the bank, and how many images each process has in this step."""
        for pool, sizes in zip(self.data.pools(), self._pool_sizes, strict=True):
            order = torch.randperm(len(pool.rows), generator=generator, device=generator.device)
            steps = self._steps(sizes)
            for step, chosen in enumerate(order.tensor_split(steps)):
                step_sizes = [size // steps + (step < size % steps) for size in sizes]
                yield pool.images[chosen], self.data.bank_rows[pool.rows[chosen]], step_sizes

    def _steps(self, sizes: list[int]) -> int:
        """Of a pool: batches of nearly equal size, of at least 2 images in every process."""
        own_batch = self.config.training.batch_size // world_size()
        return min(steps_a_pool(size, own_batch) for size in (max(sizes), min(sizes)))

    def cluster(self, epoch: int) -> dict[str, Any]:
        """k-means on the bank, as it stands.

        Returns:
            Its measures, for the record.
        """
        settings, bank = self.config.clustering, self.trainer.bank
        seed = another_seed(self.config.run.seed, epoch)
        self.clusters = kmeans(
            bank.rows,
            bank.first,
            self.num_clusters,
            starts=settings.starts,
            seed=seed,
            sklearn_rows=settings.sklearn_images,
        )
        clusters = self.clusters.assignments
        measures = plain_measures(
            bank.rows, bank.first, bank.num_rows, clusters, self.num_clusters, sample=settings.sample, seed=seed
        )
        if self._num_classes:
            measures |= class_measures(clusters, self._labels, self.num_clusters, self._num_classes)
        return {"kmeans_objective": self.clusters.objective, **measures}
