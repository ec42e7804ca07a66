"""What the engines share: a map over shards, and a reduce that adds."""

from abc import ABC, abstractmethod
from functools import reduce
from typing import Any


class ShardedEngine(ABC):
    """`core.floor.Engine` over shards that are somewhere else.

    Attributes:
        num_instances: instances of all shards together.
    """

    num_instances: int

    @abstractmethod
    def gather(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every shard; the results in the order of the shards."""

    def add(self, method: str, *arguments: Any) -> Any:
        """The sum of the results: numbers, arrays, `ClusterSums`, or lists of them element by element."""
        return reduce(_plus, self.gather(method, *arguments))


class LocalEngine(ShardedEngine):
    """One shard, here.

    Args:
        shard: all instances.
    """

    def __init__(self, shard: Any) -> None:
        self.shard = shard
        self.num_instances = len(shard.instance_ids)

    def gather(self, method: str, *arguments: Any) -> list[Any]:
        """The shard's answer."""
        return [getattr(self.shard, method)(*arguments)]


def _plus(first: Any, second: Any) -> Any:
    if isinstance(first, list):
        return [_plus(a, b) for a, b in zip(first, second, strict=True)]
    return first + second
