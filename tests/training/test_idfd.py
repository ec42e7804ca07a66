"""The step of IDFD and its epochs, without Ray: what is learned from, restart, any number of processes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.planted import planted_images
from ordclust_ray.config import (
    AugmentationConfig,
    FeaturesConfig,
    IdfdConfig,
    IdfdLossConfig,
    IdfdTrainingConfig,
    KMeansConfig,
    UnlabelledConfig,
)
from ordclust_ray.core.augmentation import to_float
from ordclust_ray.core.idfd_losses import decorrelation_loss, orthogonality_loss
from ordclust_ray.core.shares import share_edges
from ordclust_ray.training.checkpoint import load_bank, restore_training, save_bank, save_training
from ordclust_ray.training.epochs import Begun, DivergedError
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.idfd_run import Idfd, ImagesInMemory
from ordclust_ray.training.idfd_worker import IdfdShard

CPU, N, K = torch.device("cpu"), 90, 3
PLANTED = planted_images(N, seed=0)
IMAGES = torch.from_numpy(PLANTED.images)
NO_VIEWS = AugmentationConfig(min_crop=1.0, jitter=0.0, grey=0.0)
TIMES = {"seconds", "images_per_second", "data_wait"}


def config(variant: Any = "idfd", **training: Any) -> IdfdConfig:
    schedule = {"epochs": 4, "batch_size": 32, **training}
    return IdfdConfig(
        data=UnlabelledConfig(image_size=16),
        model=FeaturesConfig(network="convnet", width=0.125, feature_dim=16),
        loss=IdfdLossConfig(variant=variant),
        clustering=KMeansConfig(every=2, starts=3, sample=100),
        training=IdfdTrainingConfig(**schedule),
    )


def trainer(settings: IdfdConfig, num_rows: int = N) -> IdfdTrainer:
    torch.manual_seed(0)
    return IdfdTrainer(settings, num_rows, CPU)


def model(settings: IdfdConfig) -> Idfd:
    return Idfd(settings, K, labels(), ImagesInMemory(IMAGES, torch.arange(N)), trainer(settings))


def labels() -> NDArray[np.int64]:
    return np.asarray(PLANTED.groups, dtype=np.int64)


def record(model: Idfd) -> list[dict[str, Any]]:
    return [{name: value for name, value in epoch.items() if name not in TIMES} for epoch in model.history]


# --- a step ----------------------------------------------------------------------------------------------------------


def step(trained: IdfdTrainer, rows: Tensor) -> dict[str, Tensor]:
    return trained.step(IMAGES[rows], rows, [len(rows)], torch.Generator().manual_seed(0))


def terms(variant: str, v: Tensor, bank: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """The terms of a variant by their formulas."""
    temperature = 0.07 if variant == "id-original" else 1.0
    everything = {
        "instance_discrimination": F.cross_entropy(v @ bank.T / temperature, rows),
        "feature_decorrelation": decorrelation_loss(v, decorrelation_temperature=2.0),
        "orthogonality": orthogonality_loss(v),
    }
    of = {
        "id-original": ["instance_discrimination"],
        "id-tuned": ["instance_discrimination"],
        "idfo": ["instance_discrimination", "orthogonality"],
        "idfd": ["instance_discrimination", "feature_decorrelation"],
        "ae": [],
        "ae-fd": ["feature_decorrelation"],
    }
    return {name: everything[name] for name in of[variant]}


@pytest.mark.parametrize("variant", ["id-original", "id-tuned", "idfo", "idfd", "ae", "ae-fd"])
def test_a_step_is_sgd_on_the_terms_of_the_variant(variant: str) -> None:
    settings = replace(config(variant), augmentation=NO_VIEWS)
    ours, theirs, rows = trainer(settings), trainer(settings), torch.tensor([5, 80, 33, 0, 61, 7, 12, 44])
    before = ours.bank.rows.clone()
    views = to_float(IMAGES[rows])
    v = theirs.modules[0](views.to(memory_format=torch.channels_last))
    expected = terms(variant, v, before, rows)
    if variant.startswith("ae"):
        expected["reconstruction"] = ((theirs.modules[1](v) - views) ** 2).mean()
    weights = {"orthogonality": 10.0}
    total = torch.stack([weights.get(name, 1.0) * term for name, term in expected.items()]).sum()
    total.backward()
    with torch.no_grad():
        for weight in theirs.modules.parameters():  # the first step of SGD with momentum, and weight decay
            assert weight.grad is not None
            weight.sub_(0.03 * (weight.grad + 5e-4 * weight))
    found = step(ours, rows)
    assert set(found) == set(expected)
    for name, value in found.items():
        assert float(value) == pytest.approx(float(expected[name].detach()), rel=1e-5), name
    for (name, mine), weight in zip(ours.modules.named_parameters(), theirs.modules.parameters(), strict=True):
        torch.testing.assert_close(mine, weight, rtol=1e-4, atol=1e-6, msg=name)
    torch.testing.assert_close(ours.bank.rows[rows], F.normalize(0.5 * before[rows] + 0.5 * v.detach(), dim=1))
    others = torch.ones(N, dtype=torch.bool).index_fill(0, rows, False)
    assert torch.equal(ours.bank.rows[others], before[others])


def test_the_paper_s_schedule_scales_to_any_number_of_epochs() -> None:
    paper, short = IdfdTrainingConfig(), IdfdTrainingConfig(epochs=40)
    rates = [paper.learning_rate_in(epoch) for epoch in (0, 599, 600, 949, 950, 1299, 1300, 1649, 1650, 1999)]
    expected = [3e-2, 3e-2, 3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5, 3e-6, 3e-6]
    assert rates == pytest.approx(expected)
    assert [short.learning_rate_in(epoch) for epoch in (11, 12, 18, 19, 25, 26, 32, 33)] == pytest.approx(expected[1:9])


# --- epochs ----------------------------------------------------------------------------------------------------------


def test_every_image_is_seen_once_an_epoch_in_batches_of_nearly_equal_size() -> None:
    seen: list[Tensor] = []
    trained = model(config())
    inner = trained.trainer.step

    def spy(images: Tensor, bank_rows: Tensor, sizes: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        assert torch.equal(images, IMAGES[bank_rows])
        assert sizes == [len(bank_rows)]
        seen.append(bank_rows)
        return inner(images, bank_rows, sizes, generator)

    trained.trainer.step = spy  # type: ignore[method-assign]
    trained.run_epoch()
    assert [len(rows) for rows in seen] == [30, 30, 30] == [N // trained.steps_an_epoch] * 3
    assert torch.cat(seen).sort().values.tolist() == list(range(N))
    first = torch.cat(seen)
    seen.clear()
    trained.run_epoch()
    assert not torch.equal(torch.cat(seen), first)  # another order


def test_clusters_are_reported_every_so_many_epochs_and_at_the_end() -> None:
    trained = model(config(epochs=5))
    for _ in range(5):
        trained.run_epoch()
    assert [epoch["epoch"] for epoch in trained.history if "acc" in epoch] == [2, 4, 5]
    last = trained.history[-1]
    assert sum(last["cluster_sizes"]) == N
    assert {"acc", "nmi", "ari", "silhouette", "nearest_same_cluster", "kmeans_objective"} <= set(last)
    assert trained.clusters is not None
    assert trained.clusters.centroids.shape == (K, 16)


def test_without_labels_there_is_no_accuracy() -> None:
    settings = config(epochs=1)
    unknown = Idfd(settings, K, np.full(N, -1), ImagesInMemory(IMAGES, torch.arange(N)), trainer(settings)).run_epoch()
    assert {"silhouette", "nearest_same_cluster", "cluster_sizes"} <= set(unknown)
    assert not {"acc", "nmi", "ari"} & set(unknown)


def test_a_training_that_diverges_says_so_before_its_epoch_counts() -> None:
    diverging = model(config(learning_rate=1e30))
    with pytest.raises(DivergedError, match=r"\Athe losses of epoch 1 are not finite: lower --training.learning-rate"):
        diverging.run_epoch()
    assert diverging.history == []


class FakeShare:
    """What Ray Data gives a worker: rows in batches."""

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows

    def iter_batches(self, batch_size: int, batch_format: str) -> Any:
        for chosen in np.array_split(self.rows, 4):
            yield {"image": PLANTED.images[chosen], "bank_row": chosen}


def shard_of(rank: int, size: int, pool_images: int) -> IdfdShard:
    edges = share_edges(N, size)
    order = np.random.default_rng(9).permutation(N)[edges[rank] : edges[rank + 1]]
    share: Any = FakeShare(order)
    return IdfdShard(share, N, rank, size, pool_images, CPU, ["bank_row"])


def test_several_pools_are_an_epoch() -> None:
    settings = config(batch_size=16)
    trained = Idfd(settings, K, labels(), shard_of(0, 1, 31), trainer(settings))
    before = trained.trainer.bank.rows.clone()
    trained.run_epoch()
    assert trained.steps_an_epoch == 3 * 2
    assert bool((trained.trainer.bank.rows != before).any(dim=1).all())


def test_an_epoch_that_has_begun_goes_on_with_the_images_that_were_not_seen() -> None:
    settings, seen = config(batch_size=16), list[int]()
    before = model(settings)
    learn, kept = before.trainer.step, dict[int, dict[str, Any]]()

    def step(images: Tensor, rows: Tensor, sizes: list[int], generator: torch.Generator) -> dict[str, Tensor]:
        seen.extend(rows.tolist())
        return learn(images, rows, sizes, generator)

    before.trainer.step = step  # type: ignore[method-assign,assignment]
    before._on_begun = lambda begun: kept.update({begun.steps: begun.state_dict()})
    whole = before.run_epoch()
    assert sorted(seen) == list(range(N))
    assert list(kept) == list(range(1, before.steps_an_epoch))

    after = model(settings)
    first, learn = (
        sum(len(part) for part in torch.arange(N).tensor_split(before.steps_an_epoch)[:3]),
        after.trainer.step,
    )
    expected, seen = seen[first:], []
    after.trainer.step = step  # type: ignore[method-assign,assignment]
    after.begun = Begun(**kept[3])
    record = after.run_epoch()
    assert seen == expected
    assert after.begun == Begun()
    name = "instance_discrimination"
    assert record[name] == pytest.approx(whole[name], rel=0.2)


# --- checkpoints, and several processes ------------------------------------------------------------------------------


def save(trained: Idfd, folder: Path, rank: int = 0) -> None:
    save_bank(folder, trained.trainer.bank.first, trained.trainer.bank.rows)
    if rank == 0:
        assert trained.clusters is not None
        save_training(
            folder, trained.trainer.state_dict(), trained.history, torch.from_numpy(trained.clusters.centroids)
        )


def resumed(folder: Path, settings: IdfdConfig) -> Idfd:
    trained = model(settings)
    state, trained.history, _ = restore_training(folder, CPU)
    trained.trainer.load_state_dict(state)
    trained.trainer.bank.rows = load_bank(folder, 0, N)
    return trained


def test_a_resumed_training_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, interrupted = model(config()), model(config())
    for _ in range(4):
        undisturbed.run_epoch()
    for _ in range(2):
        interrupted.run_epoch()
    save(interrupted, tmp_path)
    again = resumed(tmp_path, config())
    for _ in range(2):
        again.run_epoch()
    assert record(again) == record(undisturbed)
    assert torch.equal(again.trainer.bank.rows, undisturbed.trainer.bank.rows)
    for mine, theirs in zip(again.trainer.modules.parameters(), undisturbed.trainer.modules.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def _autoencoder(rank: int, size: int, folder: str) -> None:
    """A step of AE+FD on 9 images, of which the processes have 5 and 4."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    edges = share_edges(9, size)
    settings = replace(config("ae-fd"), augmentation=NO_VIEWS)
    torch.manual_seed(0)
    trained = IdfdTrainer(settings, N, CPU, DistributedDataParallel)
    trained.modules.eval()  # batch normalisation sees a process's own images
    own = torch.arange(edges[rank], edges[rank + 1])
    losses = trained.step(IMAGES[own], own, np.diff(edges).tolist(), torch.Generator().manual_seed(0))
    torch.save([trained.modules.state_dict(), losses], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_of_unequal_shares_reconstruct_as_one(tmp_path: Path) -> None:
    spawn(_autoencoder, args=(2, str(tmp_path)), nprocs=2)
    alone = trainer(replace(config("ae-fd"), augmentation=NO_VIEWS))
    alone.modules.eval()
    losses = step(alone, torch.arange(9))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for modules, found in parts:
        torch.testing.assert_close(found["feature_decorrelation"], losses["feature_decorrelation"])
        for name, tensor in alone.modules.state_dict().items():
            torch.testing.assert_close(modules[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
    mean = torch.stack([found["reconstruction"] for _, found in parts]).mean()
    torch.testing.assert_close(mean, losses["reconstruction"])


def test_a_part_of_the_bank_that_is_missing_is_named(tmp_path: Path) -> None:
    save_bank(tmp_path, 0, torch.zeros(3, 2))
    save_bank(tmp_path, 5, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="lacks row 3 of the bank"):
        load_bank(tmp_path, 1, 8)


def test_bfloat16_trains_to_nearly_the_same() -> None:
    rows = torch.arange(40)
    exact, rough = (step(trainer(config(precision=name)), rows) for name in ("float32", "bfloat16"))
    for name, value in exact.items():
        assert float(rough[name]) == pytest.approx(float(value), rel=0.02)
        assert float(rough[name]) != float(value)


def test_rows_of_the_bank_are_read_whoever_wrote_them(tmp_path: Path) -> None:
    rows = torch.arange(20.0).view(10, 2)
    for first, end in ((0, 3), (3, 4), (4, 10)):
        save_bank(tmp_path, first, rows[first:end])
    for first in range(10):
        for end in range(first + 1, 11):
            assert torch.equal(load_bank(tmp_path, first, end), rows[first:end])


def _process(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    torch.manual_seed(0)
    settings = config()
    share = shard_of(rank, size, 20)  # three pools each
    trained = Idfd(settings, K, labels(), share, IdfdTrainer(settings, N, CPU, DistributedDataParallel))
    assert trained.steps_an_epoch == 3
    for _ in range(2):
        trained.run_epoch()
    save(trained, Path(folder), rank)
    torch.save([trained.trainer.state_dict(), record(trained)], f"{folder}/of-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_train_one_network_and_another_number_goes_on(tmp_path: Path) -> None:
    spawn(_process, args=(2, str(tmp_path)), nprocs=2)
    (state, history), (other, its_history) = (torch.load(tmp_path / f"of-{rank}.pt") for rank in range(2))
    for name, tensor in state["modules"].items():
        assert torch.equal(other["modules"][name], tensor), name
    assert history == its_history
    assert sum(history[-1]["cluster_sizes"]) == N
    alone = resumed(tmp_path, config())
    assert load_bank(tmp_path, 0, N).shape == (N, 16)
    assert not torch.equal(alone.trainer.bank.rows, model(config()).trainer.bank.rows)
    for _ in range(2):
        alone.run_epoch()
    assert [epoch["epoch"] for epoch in alone.history] == [1, 2, 3, 4]
    assert alone.history[2]["instance_discrimination"] < history[0]["instance_discrimination"]


NARROW = """
import torch
from dataclasses import replace
from ordclust_ray.config import FeaturesConfig, IdfdConfig, UnlabelledConfig
from ordclust_ray.training.idfd import IdfdTrainer
config = IdfdConfig(data=UnlabelledConfig(image_size=16), model=FeaturesConfig(width=0.05, feature_dim=8))
trainer, generator = IdfdTrainer(config, 40, torch.device("cpu")), torch.Generator().manual_seed(0)
for step in range(60):
    rows = torch.arange(17 + step % 16)
    images = torch.randint(0, 255, (len(rows), 16, 16, 3), dtype=torch.uint8)
    trainer.step(images, rows, [len(rows)], generator)
"""


def test_a_narrow_residual_network_does_not_corrupt_the_memory() -> None:
    done = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
