"""References: the training instances that a new one is compared with (Lee & Kim 2021, section 3.4, eq. 13).

Legend: N instances, D features, K clusters, B new instances, M rank levels, P candidates of a cluster and level,
R references of a level.
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


def own_and_margin(
    features: Float[Tensor, "N D"], centroids: Float[Tensor, "K D"], assignments: Int64[Tensor, "N"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Cosine of each unit feature to the centroid of its cluster, and what it is above that to the best other one.

    The margin is below 0 where another centroid is nearer, and NaN where there is no other.
    """
    cosines = features @ centroids.T
    own = cosines.gather(1, assignments[:, None])[:, 0]
    best_other = cosines.scatter(1, assignments[:, None], -torch.inf).amax(dim=1)
    return own, torch.where(best_other > -torch.inf, own - best_other, torch.nan)


def nearest_candidates(
    similarities: Float[Tensor, "B M P"], references: int
) -> tuple[Float[Tensor, "B M R"], Int64[Tensor, "B M R"]]:
    """For each instance the most similar candidates of every level (13), the most similar first.

    Args:
        similarities: of identity features, to the candidates of the own cluster; -inf where a place is empty.
        references: r, how many of each level; fewer where there are not so many places.

    Returns:
        Similarities and places of the references; -inf where there is none.
    """
    best = similarities.topk(min(references, similarities.shape[2]), dim=2)
    return best.values, best.indices
