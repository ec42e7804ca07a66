"""The floor under cluster sizes, exactly, over shards (Lee & Kim 2021, B.3).

A cluster below the floor takes the members of clusters above it that are most similar to its centroid; a donor stops
giving when it reaches the floor; ties go to the lowest instance id; one deficient cluster after another. That is a
sort of all instances on one machine. Over shards it is a radix select: a similarity is a multiple of 2^-52, so its
place in the order is an integer of 54 bits. Shards count the donors' members by the leading bits; the counts tell in
which window of values each donor's last gift lies; within the windows they count by the next bits, until so few are
left that they are sent. The driver sees counts and those few.

Legend: K clusters, B bins, C candidates.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from ordclust_ray.core.answers import BINS, LEVELS, Candidates, ClusterSums, shift

SENT = 4096
"""Candidates that are sent rather than counted once more."""


@runtime_checkable
class Engine(Protocol):
    """Where the shards are: a map over them, and a reduce that adds.

    Attributes:
        num_instances: of all shards together.
    """

    num_instances: int

    def add(self, method: str, *arguments: Any) -> Any:
        """The sum of what a method of every shard returns."""
        ...

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        """What a method of every shard returns, in the order of the shards."""
        ...


def hold_floor(
    engine: Engine, sums: ClusterSums, centroids: Float64[ndarray, "K D"], min_size: int, clustering: int = 0
) -> ClusterSums:
    """Fills the clusters below the floor, in ascending order. Returns the sums after that."""
    for j in np.flatnonzero(sums.counts < min_size).tolist():
        surplus = sums.counts - min_size
        engine.gather("rank_for", centroids[j], surplus > 0, clustering)
        orders, ids = _last_gifts(engine, -int(surplus[j]), np.maximum(surplus, 0), sums.counts, clustering)
        sums = sums + engine.add("move", j, orders, ids, clustering)
    return sums


@dataclass
class _Search:
    """What is left to find out about a deficient cluster.

    Attributes:
        wanted: members still to come from donors that share the `common` window.
        surplus: (K,) members that each donor can still give, from its window.
        windows: (K,) the leading bits of the place of each donor's last gift.
        common: those of the last gift of all. Only a donor that gives all its surplus has a higher window.
        depth: how many times 9 bits are known.
    """

    wanted: int
    surplus: Int64[ndarray, "K"]
    windows: Int64[ndarray, "K"]
    common: int = 0
    depth: int = 0

    def narrow(self, counts: Int64[ndarray, "K B"]) -> int:
        """Finds the next 9 bits. Returns how many members the new windows hold."""
        above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
        gifts = np.minimum(above, self.surplus[:, None])
        shared = self.windows == self.common
        last = np.flatnonzero(gifts[shared].sum(axis=0) >= self.wanted)[-1]
        emptied = (above >= self.surplus[:, None]).cumsum(axis=1).argmax(axis=1)  # the last bin where that is so
        limited = above[:, last] > self.surplus
        chosen = np.where(shared & ~limited, last, emptied)
        given = np.pad(above, ((0, 0), (0, 1)))[np.arange(len(chosen)), chosen + 1]
        leaves = shared & (chosen > last)
        self.wanted -= int(given[shared & ~leaves].sum() + self.surplus[leaves].sum())
        self.surplus = self.surplus - given
        self.windows, self.common = self.windows * BINS + chosen, self.common * BINS + int(last)
        self.depth += 1
        return int(counts[np.arange(len(chosen)), chosen].sum())

    def limits(self) -> Int64[ndarray, "K"]:
        """As many members as each donor can give from its window."""
        return np.where(self.windows == self.common, np.minimum(self.surplus, self.wanted), self.surplus)

    def choose(self, found: Candidates) -> Candidates:
        """The gifts from within the windows, in order."""
        best = found.first(self.limits())
        shared = self.windows[best.clusters] == self.common
        taken = ~shared
        taken[np.flatnonzero(shared)[: self.wanted]] = True
        return best.subset(taken)


def _last_gifts(
    engine: Engine, wanted: int, surplus: Int64[ndarray, "K"], counts: Int64[ndarray, "K"], clustering: int
) -> tuple[Int64[ndarray, "K"], Int64[ndarray, "K"]]:
    """Order and id of the last member that each donor gives; what comes before it goes too."""
    search = _Search(wanted, surplus, np.zeros(len(surplus), np.int64))
    left = int(counts[surplus > 0].sum())
    while left > SENT and search.depth < LEVELS:
        left = search.narrow(engine.add("histogram", search.depth, search.windows, clustering))
    arguments = search.depth, search.windows, search.limits(), clustering
    gifts = search.choose(Candidates.concatenate(engine.gather("candidates", *arguments)))
    orders = ((search.windows + 1) << shift(search.depth)) - 1  # all above the window
    ids = np.full(len(surplus), np.iinfo(np.int64).min)
    orders[gifts.clusters], ids[gifts.clusters] = gifts.orders, gifts.instance_ids  # the last one stays
    return orders, ids
