"""The bank of IDFD: the feature of every instance, sharded over the processes by the rows' numbers.

Where torch.distributed is initialised each process owns n/W of the rows and computes its slice of the softmax; alone, a
process owns all of them. The loss and its gradient are the same, whatever the number of processes.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ordclust_ray.core.idfd_losses import join_partitions, loss_of_partition, partition
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.core.shares import share_edges
from ordclust_ray.processes import all_reduce_sum, process_rank, world_size

BLOCK = 65_536
"""Rows that are drawn from one seed when the bank begins, so that a row does not depend on who owns it."""


class Bank:
    """This process's shard of the bank.

    Args:
        num_rows: n, rows of all shards.
        feature_dim: d.
        device: of the rows.
        seed: of the random unit rows that the bank begins with.
        negatives: rows that the softmax is estimated from, over all shards; 0 is all rows, exactly.

    Attributes:
        first: number of the first row here.
        end: and one past the last.
        rows: (N, D) float32 of unit norm.
    """

    def __init__(self, num_rows: int, feature_dim: int, device: torch.device, *, seed: int, negatives: int = 0) -> None:
        edges = share_edges(num_rows, world_size())
        self.num_rows, self._negatives = num_rows, negatives
        self.first, self.end = edges[process_rank()], edges[process_rank() + 1]
        self.rows = random_rows(self.first, self.end, feature_dim, seed).to(device)

    def loss(self, features: Tensor, bank_rows: Tensor, *, temperature: float) -> Tensor:
        """Instance discrimination (2) of a whole batch against the whole bank; the same in every process.

        Args:
            features: (B, D) unit features of all processes, from `gather`.
            bank_rows: (B,) the row of each.
            temperature: tau.
        """
        v = features.detach()
        if self._negatives:
            log_partition, expected = self._estimated(v, bank_rows, temperature)
        else:
            log_partition, expected = partition(v, self.rows, temperature=temperature)
        own, (here, place) = torch.zeros_like(v), self._places(bank_rows)
        own[here] = self.rows[place]
        if world_size() > 1:
            everyone = gather_rows(log_partition, [len(v)] * world_size()).view(world_size(), len(v))
            log_partition, expected = join_partitions(everyone, expected, process_rank())
            expected, own = all_reduce_sum(torch.stack([expected, own]))
        return loss_of_partition(features, log_partition, expected, own, temperature=temperature)

    def _estimated(self, v: Tensor, bank_rows: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """`partition` from this shard's part of the negatives, drawn anew for the batch.

        The sum over the other instances is estimated without bias, the own row's part of it is exact.
        """
        drawn = torch.randint(len(self.rows), (max(1, self._negatives // world_size()),), device=v.device)
        logits = v @ self.rows[drawn].T / temperature
        logits += torch.log(torch.tensor(len(self.rows) / len(drawn)))
        logits[bank_rows.unsqueeze(1) == drawn + self.first] = -torch.inf
        here, place = self._places(bank_rows)
        own = v.new_full((len(v), 1), -torch.inf)
        own[here, 0] = (v[here] * self.rows[place]).sum(dim=1) / temperature
        log_partition = torch.cat([logits, own], dim=1).logsumexp(dim=1, keepdim=True)
        expected = (logits - log_partition).exp() @ self.rows[drawn]
        expected[here] += (own - log_partition).exp()[here] * self.rows[place]
        return log_partition.squeeze(1), expected

    def update(self, features: Tensor, bank_rows: Tensor, *, momentum: float) -> None:
        """Own rows move to the features: normalise(momentum x row + (1 - momentum) x feature).

        Args:
            features: (B, D) of all processes; no row twice.
            bank_rows: (B,) the row of each.
            momentum: share of the old row.
        """
        here, place = self._places(bank_rows)
        mixed = momentum * self.rows[place] + (1 - momentum) * features.detach()[here]
        self.rows[place] = F.normalize(mixed, dim=1)

    def _places(self, bank_rows: Tensor) -> tuple[Tensor | slice, Tensor]:
        """Which of the batch have their row here, and where it is."""
        if len(self.rows) == self.num_rows:  # and a GPU has not to be waited for
            return slice(None), bank_rows
        here = (bank_rows >= self.first) & (bank_rows < self.end)
        return here, bank_rows[here] - self.first


def random_rows(first: int, end: int, feature_dim: int, seed: int) -> Tensor:
    """Rows `first` to `end` of a bank of random unit rows; the same ones in any shard.

    >>> bool((random_rows(0, 9, 2, seed=3)[4:] == random_rows(4, 9, 2, seed=3)).all())
    True
    """
    rows = torch.empty(end - first, feature_dim)
    for block in range(first // BLOCK, -(-end // BLOCK)):
        generator = torch.Generator().manual_seed(another_seed(seed, block))
        drawn = torch.randn(BLOCK, feature_dim, generator=generator)
        low, high = max(first, block * BLOCK), min(end, (block + 1) * BLOCK)
        rows[low - first : high - first] = F.normalize(drawn[low - block * BLOCK : high - block * BLOCK], dim=1)
    return rows


def gather(features: Tensor, sizes: list[int]) -> Tensor:
    """The features of all processes with their gradient, in the order of the processes.

    Every process computes the same loss of all of them, and takes the gradient of its own ones, times the number of
    processes: DistributedDataParallel takes the mean over them where the sum is meant.

    Args:
        features: (B_w, D) of this process.
        sizes: B_w of each process.

    Returns:
        (B, D).
    """
    return _Gather.apply(features, sizes) if world_size() > 1 else features


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return gather_rows(features, sizes)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        return outer[0].split(ctx.sizes)[process_rank()] * len(ctx.sizes), None


def gather_rows(values: Tensor, sizes: list[int]) -> Tensor:
    """Rows of all processes, of which each may have another number; without gradient."""
    if world_size() == 1:
        return values
    most, rest = max(sizes), values.shape[1:]
    padded = values.new_zeros(most, *rest)
    padded[: len(values)] = values
    everyone = values.new_empty(most * len(sizes), *rest)
    dist.all_gather_into_tensor(everyone, padded)
    return torch.cat([rows[:size] for rows, size in zip(everyone.split(most), sizes, strict=True)])
