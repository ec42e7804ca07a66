"""Selection of the reference candidates over the shards of a training run."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ordclust_ray.core.references import most_typical


def select_references(
    similarities: Tensor,
    assignments: Tensor,
    levels: Tensor,
    instance_ids: Tensor,
    features: dict[str, Tensor],
    *,
    shape: tuple[int, int, int],
    gather: Callable[[Any], list[Any]],
) -> dict[str, Tensor]:
    """The most typical training instances of every cluster and rank level, over all shards.

    Args:
        similarities: (N,) to the own centroid.
        assignments: (N,) cluster.
        levels: (N,) rank level.
        instance_ids: (N,).
        features: (N, ...) arrays whose rows go along.
        shape: clusters K, levels M, candidates P of each.
        gather: the values of all workers.

    Returns:
        `instance_ids` (K, M, P), -1 where a place is empty, and each of `features` as (K, M, P, ...).
    """
    columns = {
        "similarities": similarities,
        "assignments": assignments,
        "levels": levels,
        "instance_ids": instance_ids,
        **features,
    }
    own = _selected(columns, shape)
    everyone = gather({name: column.cpu() for name, column in own.items()})
    pooled = {name: torch.cat([part[name] for part in everyone]) for name in columns}
    best = _selected(pooled, shape)
    places = best["assignments"], best["levels"], best["places"]
    table = {"instance_ids": torch.full(shape, -1, dtype=torch.int64)}
    table["instance_ids"][places] = best["instance_ids"]
    for name in features:
        table[name] = torch.zeros(*shape, *best[name].shape[1:])
        table[name][places] = best[name]
    return table


def _selected(columns: dict[str, Tensor], shape: tuple[int, int, int]) -> dict[str, Tensor]:
    rows, places = most_typical(
        columns["similarities"], columns["assignments"], columns["levels"], columns["instance_ids"], *shape[1:]
    )
    return {name: column[rows] for name, column in columns.items()} | {"places": places}
