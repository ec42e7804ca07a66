"""Which worker trains on which rows. Without torch: the actor of Ray Train that asks for it starts sooner."""

import itertools

import ray.data
from ray.train import DataConfig

from ordclust_ray.core.shares import share_edges


class EqualShares(DataConfig):
    """Gives worker w of W the rows n w/W to n (w+1)/W of a materialized data set: none lost, the same each time.

    Ray's own split drops up to W - 1 rows and deals blocks to whoever asks first, so that a resumed run would
    train on other shards. The rows are in a random order already, so a share is a random sample.

    Args:
        train: rows, materialized.
        fewest: workers that there may be.
        most: the same.
    """

    def __init__(self, train: ray.data.Dataset, fewest: int, most: int) -> None:
        super().__init__()
        self._n = train.count()
        self._cuts = sorted({cut for workers in range(fewest, most + 1) for cut in share_edges(self._n, workers)})
        # Cut once, before there are workers: they may hold all CPUs, which cutting would wait for.
        self._pieces = train.split_at_indices(self._cuts[1:-1]) if len(self._cuts) > 2 else [train]

    def configure(
        self, datasets: dict[str, ray.data.Dataset], world_size: int, *_: object, **__: object
    ) -> list[dict[str, ray.data.DataIterator]]:
        """Called by Ray Train whenever workers start, with their number."""
        places = [self._cuts.index(edge) for edge in share_edges(self._n, world_size)]
        shares = [self._pieces[first:end] for first, end in itertools.pairwise(places)]
        return [{"train": _together(share).iterator()} for share in shares]


def _together(pieces: list[ray.data.Dataset]) -> ray.data.Dataset:
    """Their rows, in an order that is the same each time: blocks by turns. No task is needed for it."""
    if len(pieces) == 1:
        return pieces[0]
    whole = pieces[0].union(*pieces[1:])
    whole.context.execution_options.preserve_order = True
    return whole
