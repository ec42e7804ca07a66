"""A worker's share of the training images, as pools on its device."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ray.data
import torch
from torch import Tensor

from ordclust_ray.core.shares import share_edges
from ordclust_ray.training.epochs import Pool

ROWS_A_READ = 1024


class ShardData:
    """Small columns of the shard, and its images in pools.

    A shard of up to `pool_images` is one pool that stays on the device. A larger one is streamed from Ray's
    object store in every pass, in pools of equal size; pairs are drawn within a pool.

    Args:
        rows: the worker's share.
        total: training images of all workers.
        rank: of this worker.
        world_size: how many workers there are.
        pool_images: the most images that a pool holds.
        device: that trains.
        columns: that come along with the images.

    Attributes:
        columns: (N,) of each, on the device.
    """

    def __init__(
        self,
        rows: ray.data.DataIterator,
        total: int,
        rank: int,
        world_size: int,
        pool_images: int,
        device: torch.device,
        columns: Sequence[str],
    ) -> None:
        self._rows, self._device = rows, device
        edges = share_edges(total, world_size)
        largest = max(end - start for start, end in itertools.pairwise(edges))
        self.num_pools = -(-largest // pool_images)
        self._pool_edges = share_edges(edges[rank + 1] - edges[rank], self.num_pools)
        self.largest_pool = -(-largest // self.num_pools)
        """Images in the largest pool of all workers."""
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
        self._kept = list(self._stream(collect=True)) if self.num_pools == 1 else []
        if self.num_pools > 1:
            self._collect()
        self.columns: dict[str, Tensor] = {
            name: torch.from_numpy(np.concatenate(parts)).to(device) for name, parts in self._parts.items()
        }

    def pools(self) -> Iterator[Pool]:
        """All images of the shard, a pool at a time; while one is in use, the next is read."""
        return iter(self._kept) if self._kept else _one_ahead(self._stream(collect=False))

    def _collect(self) -> None:
        """The columns alone."""
        for batch in self._rows.iter_batches(batch_size=ROWS_A_READ, batch_format="numpy"):
            self._remember(batch)

    def _remember(self, batch: dict[str, np.ndarray]) -> None:
        for name, parts in self._parts.items():
            parts.append(np.array(batch[name]))

    def _stream(self, collect: bool) -> Iterator[Pool]:
        batches = self._rows.iter_batches(batch_size=ROWS_A_READ, batch_format="numpy")
        waiting: list[np.ndarray] = []
        have, pool = 0, 0
        for batch in batches:
            if collect:
                self._remember(batch)
            images = batch["image"]
            while have + len(images) >= self._pool_edges[pool + 1]:
                cut = self._pool_edges[pool + 1] - have
                yield self._pool(pool, [*waiting, images[:cut]])
                images, waiting, have, pool = images[cut:], [], self._pool_edges[pool + 1], pool + 1
                if pool + 1 == len(self._pool_edges):
                    return
            waiting.append(np.array(images))
            have += len(images)

    def _pool(self, pool: int, parts: list[np.ndarray]) -> Pool:
        rows = torch.arange(self._pool_edges[pool], self._pool_edges[pool + 1], device=self._device)
        return Pool(torch.from_numpy(np.concatenate(parts)).to(self._device), rows)


def _one_ahead(pools: Iterator[Pool]) -> Iterator[Pool]:
    """The same, each asked for in a thread while the one before is in use."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, pools, None)
        while (pool := waiting.result()) is not None:
            waiting = reader.submit(next, pools, None)
            yield pool


class RankedShardData(ShardData):
    """`TrainingData` of DRC-ORID. Arguments are those of `ShardData`."""

    def __init__(
        self,
        rows: ray.data.DataIterator,
        total: int,
        rank: int,
        world_size: int,
        pool_images: int,
        device: torch.device,
    ) -> None:
        super().__init__(rows, total, rank, world_size, pool_images, device, ("instance_id", "level", "group"))
        self.instance_ids, self.levels, self.groups = self.columns.values()
        self.bases_a_pool = self.largest_pool
        """Bases drawn from each pool in an epoch: the same number on every worker."""
