"""Shares of the workers: together everything, the same each time; pools: every image once, with its own id."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import ray.data
import torch
from torch import Tensor

from ordclust_ray.core.shares import share_edges
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.training import shard_data
from ordclust_ray.training.shard_data import RankedShardData, ShardData
from ordclust_ray.training.shares import EqualShares

CPU = torch.device("cpu")
WORKERS = [1, 2, 3, 7]


@pytest.fixture(scope="module")
def train(prepared: Prepared) -> ray.data.Dataset:
    """The prepared training rows, in several blocks as those of a large data set are, in the same order."""
    blocks = prepared.train.repartition(5).materialize()
    assert blocks.num_blocks() == 5
    assert ids_of(blocks.iterator()) == ids_of(prepared.train.iterator())
    return blocks


def ids_of(rows: ray.data.DataIterator) -> list[int]:
    return [int(i) for batch in rows.iter_batches(batch_size=16) for i in batch["instance_id"]]


def shares_of(train: ray.data.Dataset, workers: int) -> list[ray.data.DataIterator]:
    shares = EqualShares(train, workers, workers).configure(
        {"train": train}, workers, None, None
    )  # Train passes more: handles and nodes
    assert [set(share) for share in shares] == [{"train"}] * workers
    return [share["train"] for share in shares]


def shard(
    share: ray.data.DataIterator, train: ray.data.Dataset, rank: int, workers: int, pool_images: int
) -> RankedShardData:
    return RankedShardData(share, train.count(), rank, workers, pool_images, CPU)


def colours(images: Tensor) -> list[int]:
    """The number that each image shows (see `png`)."""
    assert images.dtype == torch.uint8
    assert images.shape[1:] == (16, 16, 3)
    assert bool((images[..., 2] == 7).all())
    return (images[:, 5, 5, 0] + 256 * images[:, 5, 5, 1].long()).tolist()


# --- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS)
def test_shares_are_everything_in_equal_parts(train: ray.data.Dataset, workers: int) -> None:
    everything = ids_of(train.iterator())
    shares = [ids_of(share) for share in shares_of(train, workers)]
    assert [i for share in shares for i in share] == everything, "worker w has the rows n w/W to n (w+1)/W"
    assert len(set(everything)) == train.count() == 81
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == np.diff(share_edges(81, workers)).tolist()


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_shares_of_a_number_that_changes_are_as_large_and_the_same_each_time(
    train: ray.data.Dataset, workers: int
) -> None:
    elastic = EqualShares(train, 1, 4)
    first, again = (
        [ids_of(share["train"]) for share in elastic.configure({"train": train}, workers)] for _ in range(2)
    )
    assert first == again
    assert [sorted(ids) for ids in first] == [sorted(ids_of(share)) for share in shares_of(train, workers)]


@pytest.mark.parametrize("workers", WORKERS)
def test_shares_are_the_same_on_a_second_call(train: ray.data.Dataset, workers: int) -> None:
    first, second = ([ids_of(share) for share in shares_of(train, workers)] for _ in range(2))
    assert first == second


def test_a_share_can_be_read_again_and_again(train: ray.data.Dataset) -> None:
    share = shares_of(train, 3)[1]
    assert ids_of(share) == ids_of(share) == ids_of(train.iterator())[27:54]


@pytest.mark.parametrize(("rows", "workers"), [(0, 1), (1, 1), (10, 3), (7, 7), (3, 7), (1_000_003, 64)])
def test_share_edges(rows: int, workers: int) -> None:
    edges = share_edges(rows, workers)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1], len(edges)) == (0, rows, workers + 1)
    assert sizes.min() >= 0
    assert sizes.max() - sizes.min() <= 1


# --- pools -----------------------------------------------------------------------------------------------------------

POOLS = {  # workers, the most images in a pool -> pools of each worker
    "one pool": (1, 500_000, 1),
    "one pool, just": (1, 81, 1),
    "two pools, by one image": (1, 80, 2),
    "one worker": (1, 10, 9),
    "two workers, 40 and 41 images": (2, 40, 2),
    "three workers": (3, 5, 6),
    "seven workers, one pool": (7, 12, 1),
    "seven workers, 11 and 12 images": (7, 4, 3),
    "two images a pool": (7, 2, 6),
}


@pytest.mark.parametrize("a_read", [1024, 7])
@pytest.mark.parametrize("case", POOLS)
def test_every_image_is_in_one_pool_with_its_own_row(
    train: ray.data.Dataset, case: str, a_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_data, "ROWS_A_READ", a_read)  # reads that end before, on and after the edges of pools
    workers, pool_images, num_pools = POOLS[case]
    everywhere: list[int] = []
    bases = set()
    for rank, share in enumerate(shares_of(train, workers)):
        data = shard(share, train, rank, workers, pool_images)
        assert data.instance_ids.tolist() == ids_of(share)
        for _ in range(2):
            pools = list(data.pools())
            assert torch.cat([pool.rows for pool in pools]).tolist() == list(range(len(data.instance_ids)))
            for pool in pools:
                assert colours(pool.images) == data.instance_ids[pool.rows].tolist()
        sizes = [len(pool.images) for pool in pools]
        assert len(sizes) == num_pools
        assert max(sizes) <= pool_images
        assert max(sizes) - min(sizes) <= 1
        everywhere += data.instance_ids.tolist()
        bases.add(data.bases_a_pool)
    assert everywhere == ids_of(train.iterator())
    largest = -(-81 // workers)
    assert bases == {-(-largest // num_pools)}, "the same number of steps on every worker"


@pytest.mark.parametrize("pool_images", [100, 10])
def test_levels_and_groups_belong_to_their_ids(prepared: Prepared, train: ray.data.Dataset, pool_images: int) -> None:
    for rank, share in enumerate(shares_of(train, 2)):
        data = shard(share, train, rank, 2, pool_images)
        manifest = prepared.manifest.loc[data.instance_ids.tolist()]
        assert prepared.rank_levels[data.levels.numpy()].tolist() == manifest["rank"].tolist()
        assert [prepared.groups[group] for group in data.groups] == manifest["group"].tolist()
        assert (data.instance_ids.dtype, data.levels.dtype, data.groups.dtype) == (torch.int64,) * 3


def test_one_pool_is_kept_and_several_are_read_again(train: ray.data.Dataset) -> None:
    share = shares_of(train, 1)[0]
    kept, streamed = (shard(share, train, 0, 1, pool_images) for pool_images in (81, 40))
    assert next(kept.pools()).images is next(kept.pools()).images
    assert next(streamed.pools()).images is not next(streamed.pools()).images


def test_a_pass_that_was_left_early_does_not_disturb_the_next(train: ray.data.Dataset) -> None:
    data = shard(shares_of(train, 2)[0], train, 0, 2, 10)
    next(data.pools())
    assert [i for pool in data.pools() for i in colours(pool.images)] == data.instance_ids.tolist()


def test_images_can_be_written_to(train: ray.data.Dataset) -> None:
    share = shares_of(train, 1)[0]
    for pool_images in (81, 20):
        data = shard(share, train, 0, 1, pool_images)
        pool = next(data.pools())
        pool.images[:] = 0  # batches of Ray are read-only views
        assert (
            colours(next(shard(share, train, 0, 1, pool_images).pools()).images)
            == data.instance_ids[pool.rows].tolist()
        )


def test_digits_over_three_workers(local_ray: None) -> None:
    """The data set of the default recipe: what was read is what scikit-learn has."""
    from sklearn.datasets import load_digits

    from ordclust_ray.data.prepare import open_checked, prepare
    from ordclust_ray.recipes.drc import RECIPES

    config = RECIPES["digits"]()
    prepared = prepare(open_checked(config), config)
    digits: Any = load_digits()
    seen: Counter[int] = Counter()
    for rank, share in enumerate(shares_of(prepared.train, 3)):
        data = shard(share, prepared.train, rank, 3, 200)
        seen.update(data.instance_ids.tolist())
        assert data.levels.tolist() == digits.target[data.instance_ids.numpy()].tolist()
        for pool in data.pools():
            small = pool.images.float().reshape(-1, 8, 2, 8, 2, 3).mean(dim=(2, 4, 5)) * 16 / 255
            wanted = digits.images[data.instance_ids[pool.rows].numpy()].reshape(len(small), -1)
            others = np.roll(wanted, 1, axis=0)
            ours = small.numpy().reshape(len(small), -1)
            assert (np.abs(ours - wanted).mean(axis=1) < np.abs(ours - others).mean(axis=1)).all()
    assert set(seen.values()) == {1}
    assert len(seen) == prepared.train.count() == 1797 - 359


@pytest.mark.parametrize("pool_images", [20, 500])
def test_other_columns_come_along_with_their_images(train: ray.data.Dataset, pool_images: int) -> None:
    """As IDFD has it: here the key of each row, by which the images are in order."""
    everywhere: list[int] = []
    for rank, share in enumerate(shares_of(train, 3)):
        data = ShardData(share, train.count(), rank, 3, pool_images, CPU, ["key", "instance_id"])
        assert list(data.columns) == ["key", "instance_id"]
        for pool in data.pools():
            assert colours(pool.images) == data.columns["instance_id"][pool.rows].tolist()
        assert data.largest_pool == (14 if pool_images == 20 else 27)
        everywhere += data.columns["key"].tolist()
    assert everywhere == sorted(everywhere)
    assert len(set(everywhere)) == 81
