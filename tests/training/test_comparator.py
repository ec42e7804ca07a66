"""The stronger comparator in training: what it learns from ten images, its pairs, its schedule, several processes."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from ordclust_ray.config import ComparatorConfig, ComparatorNetworkConfig, ComparatorTrainingConfig, RankConfig
from ordclust_ray.core.order import Order
from ordclust_ray.training.comparator import ComparatorRun, ComparatorTrainer, augmented
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.epochs import Begun, DivergedError, Pool
from ordclust_ray.training.pair_batches import pair_batches

CPU, LEVELS = torch.device("cpu"), 5
PROBLEM = Problem.of(LEVELS, np.arange(1.0, LEVELS + 1), RankConfig(), 0)
CONFIG = ComparatorConfig(
    comparator=ComparatorNetworkConfig(image_size=16, width=0.1),
    training=ComparatorTrainingConfig(batch_size=10, learning_rate=1e-3, flip=False),
)


@dataclass
class Brightness:
    """`ClusteredData`: grey images, the brighter the higher in rank, two shades a level; each pool holds as many."""

    levels: Tensor
    clusters: Tensor
    num_pools: int = 1

    @property
    def bases_a_pool(self) -> int:
        return len(self.levels) // self.num_pools

    def pools(self) -> Iterator[Pool]:
        rows = torch.arange(len(self.levels))
        images = (20 + 40 * self.levels + 10 * (rows % 2)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 16, 16, 3)
        for pool in rows.chunk(self.num_pools):
            yield Pool(images[pool], pool)


def images_of(levels: int, clusters: int = 1) -> Brightness:
    """Two of each level in each cluster."""
    rows = torch.arange(2 * levels * clusters)
    return Brightness(rows // (2 * clusters), rows // 2 % clusters)


def relation(x: Tensor, y: Tensor) -> Tensor:
    """Of levels, by eq. (4) with tau = 0."""
    return torch.where(x > y, Order.GREATER, torch.where(x < y, Order.LESS, Order.SIMILAR))


def model(config: ComparatorConfig = CONFIG, data: Brightness | None = None) -> ComparatorRun:
    torch.manual_seed(0)
    return ComparatorRun(config, PROBLEM, data or images_of(LEVELS), ComparatorTrainer(config, CPU))


def with_training(**settings: float) -> ComparatorConfig:
    return replace(CONFIG, training=replace(CONFIG.training, **settings))  # type: ignore[arg-type]


def weights(run: ComparatorRun) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in run.trainer.network.state_dict().values()])


@pytest.mark.parametrize("clusters", [1, 2])
def test_ten_images_a_cluster_are_learned_by_heart(clusters: int) -> None:
    data = images_of(LEVELS, clusters)
    run = model(with_training(learning_rate=2e-3, batch_size=len(data.levels)), data)
    for _ in range(120):
        record = run.run_epoch()
    assert (record["epoch"], record["steps"]) == (120, 120)
    network = run.trainer.network.eval()
    (pool,) = data.pools()
    x, y = torch.cartesian_prod(pool.rows, pool.rows).T
    x, y = (rows[data.clusters[x] == data.clusters[y]] for rows in (x, y))
    with torch.no_grad():
        features = network.features(pool.images)
        found = network.comparator(features[x], features[y]).argmax(dim=1)
    right = found == relation(data.levels[x], data.levels[y])
    assert right.float().mean() > 0.95


def test_pairs_stay_within_clusters_and_pools_and_have_their_order() -> None:
    torch.manual_seed(0)
    data = Brightness(torch.randint(0, LEVELS, (60,)), torch.randint(0, 3, (60,)), num_pools=2)
    similar = [PROBLEM.first_similar, PROBLEM.last_similar]
    seen, orders = 0, set[int]()
    for images, order, clusters in pair_batches(data, data.clusters, similar, 8, torch.Generator().manual_seed(0)):
        assert torch.equal(*clusters.chunk(2))
        assert torch.equal(order, relation(*((images[:, 0, 0, 0].int() - 20) // 40).chunk(2)))
        seen, orders = seen + len(order), orders | set(order.tolist())
    assert (seen, orders) == (60, set(Order))


def test_every_image_is_the_x_of_one_pair_an_epoch_whatever_the_pools() -> None:
    for pools, steps in ((1, 8), (2, 8), (3, 9)):
        data = Brightness(torch.arange(60) % LEVELS, torch.zeros(60, dtype=torch.int64), num_pools=pools)
        told: list[tuple[int, int]] = []
        run = model(with_training(batch_size=8), data)
        run._on_step = lambda epoch, step, of, metrics, told=told: told.append((step, of))  # type: ignore[misc]
        assert run.run_epoch()["steps"] == steps
        assert told == [(step, steps) for step in range(1, steps + 1)]


def test_an_epoch_that_has_begun_goes_on_with_its_next_step() -> None:
    data = Brightness(torch.arange(60) % LEVELS, torch.zeros(60, dtype=torch.int64))
    told, run = list[int](), model(with_training(batch_size=8), data)
    run._on_step = lambda epoch, step, of, metrics: told.append(step)
    run.begun = Begun(5, torch.tensor([5.0, 2.5]), 100.0)
    record = run.run_epoch()
    assert told == [6, 7, 8]
    assert 0.5 < record["loss"] < 1.5  # the mean over all eight, of which five were 1
    assert record["seconds"] > 100


def test_a_step_teaches_both_orders_of_a_pair() -> None:
    """The gradient of (x, y) is that of (y, x) with the other order."""
    (pool,) = images_of(LEVELS).pools()
    x, y, order = pool.images[:5], pool.images[5:], torch.full((5,), Order.LESS)
    gradients = []
    for images, orders in ((torch.cat([x, y]), order), (torch.cat([y, x]), Order.LESS - order)):
        trainer = model().trainer
        trainer.network.comparator.layers[2] = nn.Identity()  # dropout would tell the halves apart
        trainer.step(images, orders, torch.Generator())
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.network.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[0].norm()


def test_a_checkpoint_goes_on_bit_by_bit() -> None:
    config = with_training(batch_size=4, flip=True, min_crop=0.5)
    whole, first, second = (model(config) for _ in range(3))
    for _ in range(2):
        whole.run_epoch()
        first.run_epoch()
    torch.manual_seed(9)
    second.trainer.load_state_dict(copy.deepcopy(first.trainer.state_dict()))  # Adam would share its moments
    second.history = first.history
    for _ in range(2):
        whole.run_epoch()
        second.run_epoch()
    assert torch.equal(weights(second), weights(whole))
    assert [record["steps"] for record in second.history] == [3, 6, 9, 12]
    for mine, theirs in zip(second.history, whole.history, strict=True):
        assert (mine["loss"], mine["accuracy"]) == (theirs["loss"], theirs["accuracy"])


def test_learning_rate_falls_on_schedule() -> None:
    run = model(with_training(learning_rate=0.01, learning_rate_factor=0.5, learning_rate_every=2))
    rates = []
    for _ in range(5):
        run.run_epoch()
        rates.append(run.trainer.optimizer.param_groups[0]["lr"])
    assert rates == [0.01, 0.01, 0.005, 0.005, 0.0025]


def test_a_training_that_diverges_says_so_before_its_epoch_counts() -> None:
    run = model(with_training(learning_rate=1e30, batch_size=2))
    with pytest.raises(DivergedError, match=r"\Athe losses of epoch 1 are not finite: lower --training.learning-rate"):
        run.run_epoch()
    assert run.history == []


def test_bfloat16_stays_near_float32() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        losses.append(model(with_training(precision=precision)).run_epoch()["loss"])  # type: ignore[arg-type]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_augmented_images_are_flipped_and_cropped_uint8() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (200, 16, 16, 3), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    assert augmented(images, generator, flip=False, min_crop=1.0) is images
    flipped = augmented(images, generator, flip=True, min_crop=1.0)
    same = (flipped == images).flatten(1).all(dim=1)
    assert torch.equal(flipped[~same], images.flip(2)[~same])
    assert 70 < int(same.sum()) < 130
    cropped = augmented(images, generator, flip=False, min_crop=0.3)
    assert (cropped.shape, cropped.dtype) == (images.shape, torch.uint8)
    assert (cropped == images).flatten(1).all(dim=1).float().mean() < 0.1  # a few are whole
    assert float(cropped.float().mean()) == pytest.approx(127.5, rel=0.02)  # still in [0, 255]


# --- several processes ------------------------------------------------------------------------------------------------


def _process(rank: int, size: int, folder: str) -> None:
    """Two epochs on every second instance, with the gradients of both processes."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    torch.manual_seed(rank)
    data = images_of(LEVELS)
    data = Brightness(data.levels[rank::size], data.clusters[rank::size])
    run = ComparatorRun(CONFIG, PROBLEM, data, ComparatorTrainer(CONFIG, CPU, DistributedDataParallel))
    for _ in range(2):
        run.run_epoch()
    measured = [[record["steps"], record["loss"], record["accuracy"]] for record in run.history]
    torch.save({"network": run.trainer.network.state_dict(), "measured": measured}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_have_one_network_and_one_history(tmp_path: Path) -> None:
    spawn(_process, args=(2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["measured"] == second["measured"]
    assert [steps for steps, *_ in first["measured"]] == [1, 2]  # batches are of all processes together
    for name, tensor in first["network"].items():
        assert torch.equal(tensor, second["network"][name]), name
