"""References: the training instances that a new one is compared with (Lee & Kim 2021, section 3.4, eq. 13).

Legend: N instances, B new instances, K clusters, M rank levels, P candidates of a cluster and level.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def most_typical(
    similarities: Float[Tensor, "N"],
    assignments: Int64[Tensor, "N"],
    levels: Int64[Tensor, "N"],
    instance_ids: Int64[Tensor, "N"],
    num_levels: int,
    limit: int,
) -> tuple[Int64[Tensor, "C"], Int64[Tensor, "C"]]:
    """Up to `limit` instances of each cluster and level, those most similar to their centroid; ties by lowest id.

    What shards select can be pooled and selected from again: the result is that of all instances at once.

    Returns:
        Rows of the selected instances, and the place 0..limit-1 of each within its cluster and level.
    """
    rows = torch.argsort(instance_ids)
    rows = rows[torch.argsort(similarities[rows], descending=True, stable=True)]
    rows = rows[torch.argsort((assignments * num_levels + levels)[rows], stable=True)]
    cell = (assignments * num_levels + levels)[rows]
    place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(cell, cell)
    kept = place < limit
    return rows[kept], place[kept]


def nearest_candidates(
    similarities: Float[Tensor, "B K M P"], assignments: Int64[Tensor, "B"]
) -> tuple[Float[Tensor, "B M"], Int64[Tensor, "B M"]]:
    """For each instance the most similar candidate of every level in its own cluster (13).

    Args:
        similarities: of identity features, to all candidates; -inf where a place is empty.
        assignments: the cluster of each instance.

    Returns:
        Similarity and place of the reference y_i of each level; -inf where the cluster has none.
    """
    B, _, M, P = similarities.shape
    own = similarities.gather(1, assignments[:, None, None, None].expand(B, 1, M, P))[:, 0]
    best = own.max(dim=2)
    return best.values, best.indices
