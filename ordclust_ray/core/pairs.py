"""Pairs for training: a reference for each base image, drawn by relation (Lee & Kim 2021, section 3.2).

Legend: N instances of a pool, B bases.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from ordclust_ray.core.order import Order


class PairSampler:
    """Draws y for x: the relation uniformly, then y uniformly among the instances of x's cluster in that relation.

    The instances sorted by (cluster, level) put the references of each relation into one interval, so a draw is
    arithmetic on three counts, for a whole batch at once and on the device of its inputs.

    Args:
        levels: rank level of each instance.
        clusters: cluster of each instance; all 0 where pairs may cross clusters (warm-up, k = 1).
        first: first similar level of each level, from `similar_levels`.
        last: one past the last similar level.
    """

    def __init__(
        self,
        levels: Int64[Tensor, "N"],
        clusters: Int64[Tensor, "N"],
        first: Int64[Tensor, "M"],
        last: Int64[Tensor, "M"],
    ) -> None:
        base = clusters * len(first)
        sorted_keys, self.order = torch.sort(base + levels, stable=True)
        edges = torch.stack([base, base + first[levels], base + last[levels], base + len(first)])
        self.edges = torch.searchsorted(sorted_keys, edges)
        self.position = torch.empty_like(self.order)
        self.position[self.order] = torch.arange(len(self.order), device=self.order.device)

    def draw(
        self, bases: Int64[Tensor, "B"], generator: torch.Generator
    ) -> tuple[Int64[Tensor, "B"], Int64[Tensor, "B"]]:
        """References y of the bases x, and the order of each pair (`Order`).

        Where no instance stands in the drawn relation the next relation is taken. An instance is not its own
        reference unless it is alone in its cluster.
        """
        edges = self.edges[:, bases]
        counts = edges.diff(dim=0)
        counts[Order.SIMILAR] -= 1  # itself
        random = torch.rand(2, len(bases), generator=generator, device=bases.device)
        turn = (torch.arange(3, device=bases.device)[:, None] + (random[0] * 3).long()) % 3
        relation = turn.gather(0, (counts.gather(0, turn) > 0).to(torch.uint8).argmax(dim=0)[None])
        relation = torch.where(counts.amax(dim=0) > 0, relation[0], Order.SIMILAR)

        count = counts.gather(0, relation[None])[0]
        offset = (random[1].double() * count).long().minimum((count - 1).clamp(min=0))
        place = edges.gather(0, relation[None])[0] + offset
        behind_itself = (relation == Order.SIMILAR) & (place >= self.position[bases]) & (count > 0)
        return self.order[place + behind_itself], relation
