"""The Ray engine: actors are the mappers, each with its part of the features. For clustering on its own, on CPUs.

What an actor remembers of its rows follows from the calls that it got. So an actor that dies is replaced by one that
gets those again that still matter, and the result is the same bit by bit.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayActorError

from ordclust_ray.clustering.engine import ShardedEngine
from ordclust_ray.clustering.sources import ArrayPart, Part, TablePart, file_parts
from ordclust_ray.core.shard import Shard

INLINE_BYTES = 64 * 1024
"""Larger arguments go into the object store once, instead of into the message to each actor."""
LIVES = 3
"""Actors that may die in one call, one after another in the same place, before the call gives up."""
OF_A_START = {"restart", "potentials", "choose", "cover"}
OF_A_CLUSTERING = {"rank_for", "move"}


class ShardActor:
    """A mapper: one part of the features, and calls of its shard's methods by name."""

    def load(self, part: Part, threads: int) -> int:
        """Opens the part; returns how many rows it has."""
        self.part = part
        features, instance_ids = part.open()
        self.shard = Shard(features, instance_ids, threads=threads)
        return len(instance_ids)

    def call(self, message: tuple[str, tuple[Any, ...]]) -> Any:
        """A method of the shard."""
        return getattr(self.shard, message[0])(*message[1])

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of part and shard."""
        return function(self.part, self.shard, *arguments)


class _Log:
    """The calls that a new actor needs: those of the last two iterations of every clustering, and of a start."""

    def __init__(self) -> None:
        self._start: list[tuple[str, tuple[Any, ...]]] = []
        self._iterations: dict[int, list[list[tuple[str, tuple[Any, ...]]]]] = {}

    def add(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Remembers a call that was answered."""
        if method in OF_A_START:
            self._start = [] if method == "restart" else self._start
            self._start.append((method, arguments))
        if method == "begin":
            self._iterations.pop(arguments[0], None)
        if method == "assign":
            self._start = []
            for number, centroids in arguments:
                before = self._iterations.pop(number, [])
                self._iterations[number] = [*before[-1:], [(method, ((number, centroids),))]]
        if method in OF_A_CLUSTERING:
            before = self._iterations.pop(arguments[-1])  # the one whose floor is held comes last
            self._iterations[arguments[-1]] = [*before[:-1], [*before[-1], (method, arguments)]]

    def calls(self) -> list[tuple[str, tuple[Any, ...]]]:
        """In the order in which a new actor needs them."""
        return [call for kept in self._iterations.values() for iteration in kept for call in iteration] + self._start


class RayEngine(ShardedEngine):
    """Clusters over Ray actors, one a part of the features. The result does not depend on how many there are.

    Args:
        parts: of the features; see `clustering.sources`, and the constructors below.
        num_cpus: that each actor reserves, and threads that it uses.

    Raises:
        ValueError: more parts than the cluster has CPUs for, or rows that are zero or not finite.
    """

    def __init__(self, parts: Sequence[Part], *, num_cpus: float = 1.0) -> None:
        cpus = ray.cluster_resources().get("CPU", 0)
        if len(parts) * num_cpus > cpus:
            raise ValueError(f"{len(parts)} shards of {num_cpus:g} CPU each need more than the cluster's {cpus:g}")
        self._parts, self._threads, self._log = parts, max(1, int(num_cpus)), _Log()
        spread = "SPREAD"  # over the machines, for what they read counts
        self._actor_class = ray.remote(num_cpus=num_cpus, scheduling_strategy=spread)(ShardActor)
        self._actors = [self._actor_class.remote() for _ in parts]
        try:
            loaded = self._answers(lambda i: self._actors[i].load.remote(self._parts[i], self._threads), again=False)
        except BaseException:
            self.close()
            raise
        self.num_instances = sum(loaded)

    @classmethod
    def from_arrays(
        cls,
        features: NDArray,
        instance_ids: NDArray[np.int64] | None = None,
        *,
        num_shards: int,
        num_cpus: float = 1.0,
    ) -> "RayEngine":
        """Over an array (n, d) that goes into the object store; ids are 0..n-1 where left out."""
        n = len(features)
        if not 1 <= num_shards <= n:
            raise ValueError(f"num_shards is {num_shards}; it must be from 1 to {n} instances")
        ids = np.arange(n) if instance_ids is None else instance_ids
        edges = np.linspace(0, n, num_shards + 1).astype(int).tolist()
        parts = [ArrayPart(ray.put(features[a:b]), ray.put(ids[a:b])) for a, b in pairwise(edges)]
        return cls(parts, num_cpus=num_cpus)

    @classmethod
    def from_dataset(
        cls,
        dataset: ray.data.Dataset,
        *,
        num_shards: int,
        features: str = "features",
        ids: str = "instance_id",
        num_cpus: float = 1.0,
    ) -> "RayEngine":
        """Over the blocks of a Ray Dataset, which stay in the object store."""
        tables = dataset.select_columns([features, ids]).materialize().to_arrow_refs()
        dealt = [part for part in np.array_split(np.arange(len(tables)), num_shards) if len(part)]
        parts = [TablePart(tuple(tables[i] for i in part), features, ids) for part in dealt]
        return cls(parts, num_cpus=num_cpus)

    @classmethod
    def from_files(
        cls, path: str, *, num_shards: int, features: str = "features", num_cpus: float = 1.0
    ) -> "RayEngine":
        """Over Parquet files or a .npy file, which are read again in each pass; ids are the numbers of the rows."""
        return cls(file_parts(path, features, num_shards), num_cpus=num_cpus)

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        """See `ShardedEngine`."""
        message: Any = (method, arguments)
        if _size(arguments) > INLINE_BYTES:
            message = ray.put(message)
        results = self._answers(lambda i: self._actors[i].call.remote(message))
        self._log.add(method, arguments)
        return results

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """A function of each part and its shard, where the shard is. It must not change the shard."""
        return self._answers(lambda i: self._actors[i].run.remote(function, *arguments))

    def _answers(self, ask: Callable[[int], Any], again: bool = True) -> list[Any]:
        """Asks all actors, and those anew whose actor died meanwhile."""
        asked = [ask(i) for i in range(len(self._actors))]
        try:
            return _raised(asked)
        except RayActorError:
            return [self._answer(i, answer, ask, again) for i, answer in enumerate(asked)]

    def _answer(self, i: int, answer: Any, ask: Callable[[int], Any], again: bool) -> Any:
        for lives in reversed(range(LIVES)):
            try:
                if answer is None:
                    self._replace(i, replay=again)
                    answer = ask(i)
                return _raised(answer)
            except RayActorError:
                if not lives:
                    raise
                answer = None
        raise AssertionError("unreachable")

    def _replace(self, i: int, replay: bool) -> None:
        """A new actor in the place of one that died, or cannot be reached, in the same state."""
        ray.kill(self._actors[i])  # or it would keep its CPUs
        self._actors[i] = self._actor_class.remote()
        if replay:
            _raised(self._actors[i].load.remote(self._parts[i], self._threads))
            for call in self._log.calls():
                _raised(self._actors[i].call.remote(call))

    def assignments(self, clustering: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Instance ids in ascending order, and the cluster of each."""
        answers = self.run(_labels, clustering)
        ids, clusters = (np.concatenate(column) for column in zip(*answers, strict=True))
        order = np.argsort(ids)
        return ids[order], clusters[order]

    def close(self) -> None:
        """Ends the actors."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []


def _labels(part: Part, shard: Shard, clustering: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return shard.instance_ids, shard.clusterings[clustering].labels


def _raised(answer: Any) -> Any:
    """An actor's answer; a ValueError of its shard without the actor's traceback."""
    try:
        return ray.get(answer)
    except ValueError as error:
        raise getattr(error, "cause", error) from None


def _size(value: Any) -> int:
    if isinstance(value, tuple | list):
        return sum(map(_size, value))
    return int(getattr(value, "nbytes", 0))
