"""Batches of pairs of images for a comparator, drawn pool by pool (Lee & Kim 2021, section 3.2)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ordclust_ray.core.pairs import PairSampler
from ordclust_ray.training.epochs import Pool
from ordclust_ray.training.orid import base_batches


class PairData(Protocol):
    """A process's share of the training instances, as far as pairs are drawn of it.

    Attributes:
        levels: (N,) rank level.
    """

    levels: Tensor

    @property
    def bases_a_pool(self) -> int:
        """Bases drawn from each pool in an epoch, the same number in every process."""
        ...

    def pools(self) -> Iterator[Pool]:
        """All images of the share, a pool at a time."""
        ...


def pair_batches(
    data: PairData, clusters: Tensor, similar: Sequence[Tensor], batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """An epoch of pairs within clusters: every image is the x of one.

    Args:
        data: the share.
        clusters: (N,) of the share's instances.
        similar: (M,) first similar level of each level, and one past the last.
        batch_size: pairs a step of this process.
        generator: of all that is drawn.

    Yields:
        The images (2B, S, S, 3), first all x and then their y; the order of each pair (B,); the images' clusters (2B,).
    """
    for pool in data.pools():
        own = clusters[pool.rows]
        sampler = PairSampler(data.levels[pool.rows], own, *similar)
        for base in base_batches(len(pool.rows), data.bases_a_pool, batch_size, generator):
            reference, order = sampler.draw(base, generator)
            both = torch.cat([base, reference])
            yield pool.images[both], order, own[both]
