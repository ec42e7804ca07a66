"""Which worker trains on which rows. Without torch: the actor of Ray Train that asks for it starts sooner."""

import ray.data
from ray.train import DataConfig

from ordclust_ray.core.shares import share_edges


class EqualShares(DataConfig):
    """Gives worker w of W the rows n w/W to n (w+1)/W of a materialized data set: none lost, the same each time.

    Ray's own split drops up to W - 1 rows and deals blocks to whoever asks first, so that a resumed run would
    train on other shards. The rows are in a random order already, so a share is a random sample.
    """

    def configure(
        self, datasets: dict[str, ray.data.Dataset], world_size: int, *_: object, **__: object
    ) -> list[dict[str, ray.data.DataIterator]]:
        """Called by Ray Train whenever workers start, with their number."""
        train = datasets["train"]
        edges = share_edges(train.count(), world_size)
        parts = train.split_at_indices(edges[1:-1]) if world_size > 1 else [train]
        return [{"train": part.iterator()} for part in parts]
