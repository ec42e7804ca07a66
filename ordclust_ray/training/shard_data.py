"""A worker's share of the training images, as pools on its device."""

import itertools
from collections.abc import Iterator

import numpy as np
import ray.data
import torch
from torch import Tensor

from ordclust_ray.training.orid import Pool
from ordclust_ray.training.shares import share_edges

ROWS_A_READ = 1024


class ShardData:
    """Instance ids, rank levels and groups of the shard, and its images in pools.

    A shard of up to `pool_images` is one pool that stays on the device. A larger one is streamed from Ray's
    object store in every pass, in pools of equal size; pairs are drawn within a pool.

    Args:
        rows: the worker's share.
        total: training images of all workers.
        rank: of this worker.
        world_size: how many workers there are.
        pool_images: the most images that a pool holds.
        device: that trains.
    """

    def __init__(
        self,
        rows: ray.data.DataIterator,
        total: int,
        rank: int,
        world_size: int,
        pool_images: int,
        device: torch.device,
    ) -> None:
        self._rows, self._device = rows, device
        edges = share_edges(total, world_size)
        largest = max(end - start for start, end in itertools.pairwise(edges))
        self.num_pools = -(-largest // pool_images)
        self._pool_edges = share_edges(edges[rank + 1] - edges[rank], self.num_pools)
        self.bases_a_pool = -(-largest // self.num_pools)
        """Bases drawn from each pool in an epoch: the same number on every worker."""
        self._columns: dict[str, list[np.ndarray]] = {"instance_id": [], "level": [], "group": []}
        self._kept = list(self._stream(collect=True)) if self.num_pools == 1 else []
        if self.num_pools > 1:
            for _ in self._stream(collect=True):
                pass
        columns = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in self._columns.items()}
        self.instance_ids: Tensor = columns["instance_id"].to(device)
        self.levels: Tensor = columns["level"].to(device)
        self.groups: Tensor = columns["group"].to(device)

    def pools(self) -> Iterator[Pool]:
        """All images of the shard, a pool at a time."""
        return iter(self._kept) if self._kept else self._stream(collect=False)

    def _stream(self, collect: bool) -> Iterator[Pool]:
        batches = self._rows.iter_batches(batch_size=ROWS_A_READ, batch_format="numpy")
        waiting: list[np.ndarray] = []
        have, pool = 0, 0
        for batch in batches:
            if collect:
                for name, parts in self._columns.items():
                    parts.append(np.array(batch[name]))
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
