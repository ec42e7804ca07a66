"""A mapper's share of the instances, and the passes over it that clustering needs.

A shard reads its features block by block, each block once a pass, for however many clusterings at once. It remembers
some numbers of each row (its scale, its cluster, bounds), never the rows.

Legend: N instances of the shard, D features, K clusters.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numpy import ndarray

from ordclust_ray.core.answers import BINS, Candidates, ClusterSums, Rows, shift
from ordclust_ray.core.blocks import GRID, Block, Totals, as_block
from ordclust_ray.core.memberships import Memberships
from ordclust_ray.core.panels import blas
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.core.rounding import error_bound
from ordclust_ray.core.sketch import LEAST_WIDTH, TELLING, Sketch

SKETCH_FROM, SKETCH_SAMPLE = 2**24, 1024
"""Numbers of a shard from which on sketches save time; rows by which directions are chosen."""
TOGETHER = 4096
"""Rows that all clusterings look at before the next rows are read."""


@runtime_checkable
class Source(Protocol):
    """Where a shard's features are: blocks of rows, in the same order each time."""

    def __iter__(self) -> Iterator[Any]: ...


class Shard:
    """The features of some instances, and clusterings of them.

    Args:
        features: an array or tensor of non-zero rows, or a `Source` of such blocks; rows are normalised when read.
        instance_ids: distinct ids of the rows.
        assignments: the cluster of each row in clustering 0; -1 or left out where there is none yet.
        threads: that a pass uses.
        sketch_from: numbers (N D) from which on the second pass makes sketches, if the rows are in memory.

    Attributes:
        clusterings: by number; a new one begins when it is first assigned.
        rows_read: by the last pass.
        width: D, numbers a row.

    Raises:
        ValueError: rows are zero, NaN or infinite, or there are not as many as ids.
    """

    def __init__(
        self,
        features: Any,
        instance_ids: Int64[ndarray, "N"],
        assignments: Int64[ndarray, "N"] | Int32[ndarray, "N"] | None = None,
        *,
        threads: int = 1,
        sketch_from: int = SKETCH_FROM,
    ) -> None:
        self._source: Source = [features] if hasattr(features, "shape") else features
        if iter(self._source) is self._source:
            raise ValueError("features are an iterator, which can be read only once; they must be an array or blocks")
        self.instance_ids, self._threads, self.rows_read = instance_ids, threads, 0
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._passes = self.width = 0
        self._scales = self._normalising()
        stay = isinstance(self._source, list) and self.width >= LEAST_WIDTH
        self._sketch: Sketch | None = None
        self._sketchable = stay and self.width * len(instance_ids) >= sketch_from
        self.clusterings = {0: self._new() if assignments is None else Memberships(assignments.astype(np.int32))}
        self._order = np.empty(0, np.int64)
        self._distances = np.full(len(instance_ids), 2.0, np.float32)
        self._trial = np.empty((0, 0), np.float32)

    def _normalising(self) -> ndarray:
        parts = self._map(lambda block, rows: block.scales())
        usable = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, bool)
        if len(usable) != len(self.instance_ids):
            raise ValueError(f"there are {len(usable)} feature rows for {len(self.instance_ids)} instances")
        if not usable.all():
            raise ValueError(
                f"{int((~usable).sum())} feature rows are zero, NaN or infinite; first instances: "
                f"{self.instance_ids[~usable][:5].tolist()}"
            )
        return np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.float32)

    @property
    def assignments(self) -> Int32[ndarray, "N"]:
        """The cluster of each row in clustering 0."""
        return self.clusterings[0].labels

    def _blocks(self) -> Iterator[tuple[Block, slice]]:
        start, width = 0, None
        for features in self._source:
            block = as_block(features)
            if width not in (None, block.width):
                raise ValueError(f"features have rows of {width} and of {block.width} numbers; they must be equal")
            width = self.width = block.width
            yield block, slice(start, start + len(block))
            start += len(block)

    def _map(self, function: Callable[[Block, slice], Any]) -> list[Any]:
        """A function of each block and of where its rows are, by all threads; results in the order of the rows."""
        if self._pool is None:
            return [function(block, rows) for block, rows in self._blocks()]
        results: list[Any] = []
        for block, rows in self._blocks():
            edges = np.linspace(0, len(block), self._threads + 1).astype(int)
            parts = [slice(a, b) for a, b in pairwise(edges.tolist()) if b > a]
            where = [slice(rows.start + part.start, rows.start + part.stop) for part in parts]
            results += self._pool.map(function, [block.part(part) for part in parts], where)
        return results

    def sums(self, num_clusters: int, clustering: int = 0) -> ClusterSums:
        """The cluster sums of the memberships as they are; none may be -1."""
        labels = self.clusterings[clustering].labels

        def add(block: Block, rows: slice) -> Int64[ndarray, "K D"]:
            sums = np.zeros((num_clusters, block.width), np.int64)
            block.add_members(self._scales[rows], labels[rows], sums)
            return sums

        parts = self._map(add) or [np.zeros((num_clusters, self.width), np.int64)]
        return ClusterSums(sum(parts[1:], start=parts[0]), np.bincount(labels, minlength=num_clusters), 0)

    def assign(self, *centroids: tuple[int, Float64[ndarray, "_ D"]]) -> list[ClusterSums]:
        """The NN rule (9) and the cluster sums of some clusterings, in one read of the features.

        Ties go to the lowest cluster. Rows that cannot have changed are not read.

        Args:
            centroids: the number of each clustering, and its centroids on the grid.
        """
        if self._sketchable and self._passes:
            self._make_sketch(centroids[-1][1])
        self._passes += 1
        states = [self.clusterings.setdefault(number, self._new()) for number, _ in centroids]
        for state, (_, c_KD) in zip(states, centroids, strict=True):
            self.width = self.width or c_KD.shape[1]  # a shard without any block
            if c_KD.shape[1] != self.width:
                raise ValueError(f"centroids have {c_KD.shape[1]} numbers, the features have {self.width}")
            with blas().limit(limits=1, user_api="blas"):
                state.follow(c_KD, self._sketch)
        step = TOGETHER if len(states) > 1 else max(1, len(self.instance_ids))

        def look(block: Block, rows: slice) -> tuple[list[Totals], int]:
            totals, read = [(np.zeros_like(state.sums), np.zeros_like(state.counts)) for state in states], 0
            for part, where in _in_parts(block, rows, step):
                for state, total in zip(states, totals, strict=True):
                    read += state.look(part, self._scales, where, total)
            return totals, read

        parts = self._map(look)
        self.rows_read = sum(read for _, read in parts)
        for i, state in enumerate(states):
            for totals, _ in parts:
                state.sums += totals[i][0]
                state.counts += totals[i][1]
        return [ClusterSums(state.sums.copy(), state.counts.copy(), state.changed()) for state in states]

    def _make_sketch(self, centroids: Float64[ndarray, "K D"]) -> None:
        """Where a sample shows that it is worth it."""
        self._sketchable = False
        if not all(block.uses_sketches for block, _ in self._blocks()):
            return
        with blas().limit(limits=1, user_api="blas"):
            rows = np.unique(np.linspace(0, len(self._scales) - 1, SKETCH_SAMPLE).astype(int))
            sketch = Sketch.of_sample(self.take(rows) * np.float32(GRID))
            if sketch.telling(centroids) < TELLING:
                return

        def look(block: Block, rows: slice) -> None:
            for part, where in _in_parts(block, rows):
                sketches[where] = sketch.of_rows(part.products(self._scales[where], sketch.directions.T))

        sketches = np.empty((len(self._scales), sketch.rows.shape[1]), np.float32)
        self._map(look)
        self._sketch = replace(sketch, rows=sketches)

    def products(self, centroids: Float64[ndarray, "K D"]) -> Float32[ndarray, "N K"]:
        """Similarities of all instances to all centroids, as float32 gives them."""
        parts = self._map(lambda block, rows: block.products(self._scales[rows], centroids))
        return np.concatenate([*parts, np.empty((0, len(centroids)), np.float32)])

    def begin(self, clustering: int) -> None:
        """Forgets a clustering: the next pass finds every instance in no cluster."""
        self.clusterings[clustering] = self._new()

    def _new(self) -> Memberships:
        return Memberships(np.full(len(self.instance_ids), -1, np.int32))

    def rank_for(self, centroid: Float64[ndarray, "D"], donors: Bool[ndarray, "K"], clustering: int = 0) -> None:
        """Gives each member of the donors its place in the floor's order (B.3): by exact similarity to a centroid."""
        labels = self.clusterings[clustering].labels

        def look(block: Block, rows: slice) -> Int64[ndarray, "_"]:
            similarities = block.similarities(self._scales[rows], centroid, labels[rows], donors)
            return np.where(donors[labels[rows]], (similarities * 2.0**52).astype(np.int64) + 2**53, -1)

        self._order = np.concatenate([*self._map(look), np.empty(0, np.int64)])

    def histogram(self, depth: int, windows: Int64[ndarray, "K"], clustering: int = 0) -> Int64[ndarray, "K B"]:
        """How many members of each donor are in each part of the donor's window; see `core.floor`."""
        rows = self._within(depth, windows, clustering)
        bins = (self._order[rows] >> shift(depth + 1)) & (BINS - 1)
        labels = self.clusterings[clustering].labels[rows]
        return np.bincount(labels * BINS + bins, minlength=len(windows) * BINS).reshape(len(windows), BINS)

    def candidates(
        self, depth: int, windows: Int64[ndarray, "K"], limits: Int64[ndarray, "K"], clustering: int = 0
    ) -> Candidates:
        """The members within each donor's window, the first in order where there are more than its limit."""
        rows = self._within(depth, windows, clustering)
        found = Candidates(self._order[rows], self.instance_ids[rows], self.clusterings[clustering].labels[rows])
        return found.first(limits)

    def _within(self, depth: int, windows: Int64[ndarray, "K"], clustering: int) -> Int64[ndarray, "M"]:
        donors = np.flatnonzero(self._order >= 0)
        own = windows[self.clusterings[clustering].labels[donors]]
        return donors[self._order[donors] >> shift(depth) == own]

    def move(
        self, cluster: int, orders: Int64[ndarray, "K"], ids: Int64[ndarray, "K"], clustering: int = 0
    ) -> ClusterSums:
        """Gives a cluster the members of each donor that come before a place in the order, and the one at that place.

        Args:
            cluster: takes them.
            orders: the place of each donor.
            ids: the instance there: of equal ones only those with lower ids go.
            clustering: which.

        Returns:
            The change of the cluster sums, counts and memberships.
        """
        state, order = self.clusterings[clustering], self._order
        donors = np.flatnonzero(order >= 0)
        old, own = state.labels[donors], order[donors]
        gone = (own > orders[old]) | ((own == orders[old]) & (self.instance_ids[donors] <= ids[old]))
        rows, old = donors[gone], old[gone]
        before = state.changed()

        def take_away(block: Block, where: slice) -> Int64[ndarray, "K D"]:
            taken = np.zeros((len(orders), block.width), np.int64)
            first, last = np.searchsorted(rows, [where.start, where.stop])
            for start in range(first, last, TOGETHER):
                part = slice(start, min(start + TOGETHER, last))
                units = block.take(self._scales[where], rows[part] - where.start)
                np.add.at(taken, old[part], units.astype(np.int64))
            return taken

        sums = -sum(self._map(take_away), start=np.zeros((len(orders), self.width), np.int64))
        sums[cluster] -= sums.sum(axis=0)
        counts = -np.bincount(old, minlength=len(orders))
        counts[cluster] += len(rows)
        state.move(rows, cluster, (sums, counts))
        return ClusterSums(sums, counts, state.changed() - before)

    def take(self, rows: Int64[ndarray, "M"]) -> Float32[ndarray, "M D"]:
        """Unit rows in units of the grid, in ascending order of the rows."""
        found = [np.empty((0, self.width), np.float32)]
        for block, where in self._blocks():
            index = rows[(rows >= where.start) & (rows < where.stop)] - where.start
            if len(index):
                found.append(block.take(self._scales[where], index))
        return np.concatenate(found)

    def sample(self, size: int, seed: int) -> Rows:
        """The instances with the smallest random keys: a sample that all shards agree on."""
        keys = random_keys(self.instance_ids, seed) >> np.uint64(1)
        return self._first(keys.astype(np.float64), size)

    def restart(self) -> None:
        """Forgets the points that a start has chosen."""
        self._distances[:] = 2.0

    def potentials(self, points: Float64[ndarray, "T D"]) -> Int64[ndarray, "T"]:
        """The sum of the distances to the nearest chosen point, if each of these were chosen too.

        The distance is 1 - similarity, half the squared Euclidean one; sums are in units of 2^-30.
        """

        def look(block: Block, rows: slice) -> Float32[ndarray, "_ T"]:
            return np.minimum(self._distance(block.products(self._scales[rows], points)), self._distances[rows, None])

        self._trial = np.concatenate([*self._map(look), np.empty((0, len(points)), np.float32)])
        return _total(self._trial)

    def _distance(self, similarities: Float32[ndarray, "..."]) -> Float32[ndarray, "..."]:
        """1 - similarity; 0 where that may be rounding."""
        distances = 1 - similarities
        return np.where(distances > error_bound(self.width), distances, 0)

    def choose(self, point: int) -> None:
        """Chooses one of the points of the last `potentials`."""
        self._distances, self._trial = self._trial[:, point].copy(), np.empty((0, 0), np.float32)

    def race(self, size: int, seed: int) -> Rows:
        """A sample in which an instance counts by its distance: exponential races (Efraimidis & Spirakis 2006)."""
        with np.errstate(divide="ignore"):
            times = -np.log(self._uniform(seed)) / self._distances
        return self._first(times, size)

    def draw(self, share: float, seed: int) -> Rows:
        """Each instance with the probability share * distance."""
        keys = self._uniform(seed)
        drawn = np.flatnonzero(keys < share * self._distances)
        return Rows(keys[drawn], self.instance_ids[drawn], self.take(drawn))

    def cover(self, points: Float64[ndarray, "T D"]) -> int:
        """Chooses all these points; returns the sum of the distances, as `potentials` does."""

        def look(block: Block, rows: slice) -> None:
            for part, where in _in_parts(block, rows):
                nearest = self._distance(part.products(self._scales[where], points).max(axis=1, initial=-1))
                self._distances[where] = np.minimum(nearest, self._distances[where])

        self._map(look)
        return int(_total(self._distances))

    def tally(self, points: Float64[ndarray, "T D"]) -> Int64[ndarray, "T"]:
        """How many instances are nearest to each point, as float32 tells."""

        def count(block: Block, rows: slice) -> Int64[ndarray, "T"]:
            counts = np.zeros(len(points), np.int64)
            for part, where in _in_parts(block, rows):
                nearest = part.products(self._scales[where], points).argmax(axis=1)
                counts += np.bincount(nearest, minlength=len(points))
            return counts

        return sum(self._map(count), start=np.zeros(len(points), np.int64))

    def _uniform(self, seed: int) -> Float64[ndarray, "N"]:
        return ((random_keys(self.instance_ids, seed) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def _first(self, keys: Float64[ndarray, "N"], size: int) -> Rows:
        rows = np.arange(len(keys))
        if size < len(keys):
            rows = np.flatnonzero(keys <= np.partition(keys, size - 1)[size - 1])
        rows = np.sort(rows[np.lexsort((self.instance_ids[rows], keys[rows]))[:size]])
        return Rows(keys[rows], self.instance_ids[rows], self.take(rows))


def _in_parts(block: Block, rows: slice, size: int = TOGETHER) -> Iterator[tuple[Block, slice]]:
    """Some rows of a block at a time, and where they are."""
    for start in range(0, len(block), size):
        part = block.part(slice(start, start + size))
        yield part, slice(rows.start + start, rows.start + start + len(part))


def _total(distances: Float32[ndarray, "N ..."]) -> Any:
    """The sum over the instances in units of 2^-30: of whole numbers, so that their order does not matter."""
    return np.rint(distances * np.float32(2.0**30)).astype(np.int64).sum(axis=0)
