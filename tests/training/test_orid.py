"""The training step: what it learns from ten images, and whose weights each loss moves."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from ordclust_ray.config import DataConfig, DrcConfig, ModelConfig, TrainingConfig
from ordclust_ray.core.order import similar_levels
from ordclust_ray.core.orid_losses import METRICS
from ordclust_ray.core.pairs import PairSampler
from ordclust_ray.training.orid import OridTrainer, base_batches, flip

CONFIG = DrcConfig(
    data=DataConfig(image_size=16),
    model=ModelConfig(width=0.25, order_dim=16, identity_dim=48),
    training=TrainingConfig(batch_size=10, learning_rate=2e-3, flip=False),
)
CPU = torch.device("cpu")


def ten_digits() -> tuple[Tensor, Tensor]:
    """One image of each digit, 16 x 16, and its level."""
    digits = load_digits()
    rows = [int(np.flatnonzero(digits.target == digit)[0]) for digit in range(10)]
    small = (digits.images[rows] * (255 / 16)).astype(np.uint8)
    images = np.repeat(small.repeat(2, axis=1).repeat(2, axis=2)[..., None], 3, axis=3)
    return torch.from_numpy(images), torch.arange(10)


def batch() -> tuple[Tensor, Tensor]:
    images, _ = ten_digits()
    return images, torch.tensor([0, 2, 2, 0, 1])


def parameters(module: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_ten_images_are_learned_by_heart() -> None:
    torch.manual_seed(0)
    images, levels = ten_digits()
    first, last = (torch.from_numpy(edge) for edge in similar_levels(np.arange(10.0), 0.0))
    trainer = OridTrainer(CONFIG, CPU)
    sampler = PairSampler(levels, torch.zeros_like(levels), first, last)
    generator = torch.Generator().manual_seed(0)
    metrics: list[Tensor] = []
    for _ in range(200):
        (base,) = base_batches(10, 10, 10, generator)
        reference, order = sampler.draw(base, generator)
        metrics.append(trainer.step(images[torch.cat([base, reference])], order, None))
    reconstruction, *_, accuracy = torch.stack(metrics[-30:]).mean(dim=0).tolist()
    grey = (images.float() / 127.5 - 1).sub((images.float() / 127.5 - 1).mean()).abs().mean()
    assert reconstruction < grey / 4  # in training mode, with dropout; a constant image has `grey`
    assert accuracy > 0.9  # likewise; a comparator that knows nothing has 1/3


def test_each_loss_moves_its_own_networks() -> None:
    images, order = batch()
    for still, moving, settings in (
        ("orid", "discriminator", replace(CONFIG.training, learning_rate=0.0)),
        ("discriminator", "orid", replace(CONFIG.training, discriminator_learning_rate=0.0)),
    ):
        trainer = OridTrainer(replace(CONFIG, training=settings), CPU)
        before = {name: parameters(getattr(trainer, name)) for name in (still, moving)}
        trainer.step(images, order, None)
        assert torch.equal(parameters(getattr(trainer, still)), before[still])
        assert not torch.equal(parameters(getattr(trainer, moving)), before[moving])


def test_a_weight_of_zero_takes_a_loss_out() -> None:
    images, order = batch()
    centroids = torch.nn.functional.normalize(torch.randn(10, 48), dim=1)
    ends = []
    for weight, own in ((0.0, centroids), (0.0, None), (1.0, centroids)):
        torch.manual_seed(0)
        trainer = OridTrainer(replace(CONFIG, loss=replace(CONFIG.loss, clustering_weight=weight)), CPU)
        torch.manual_seed(1)
        trainer.step(images, order, own)
        ends.append(parameters(trainer.orid))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_learning_rate_is_halved_on_schedule() -> None:
    schedule = replace(CONFIG.training, learning_rate=0.8, learning_rate_halved_every=2)
    trainer = OridTrainer(replace(CONFIG, training=schedule), CPU)
    rates = []
    for _ in range(5):
        trainer.step(*batch(), None)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == [0.8, 0.8, 0.4, 0.4, 0.2]
    assert trainer.discriminator_optimizer.param_groups[0]["lr"] == 1e-4


def test_state_continues_bit_by_bit() -> None:
    def steps(trainer: OridTrainer, count: int) -> Tensor:
        torch.manual_seed(5)
        return torch.stack([trainer.step(*batch(), None) for _ in range(count)])

    torch.manual_seed(0)
    one = OridTrainer(CONFIG, CPU)
    steps(one, 2)
    two = OridTrainer(CONFIG, CPU)
    two.load_state_dict(copy.deepcopy(one.state_dict()))  # Adam would share its moments
    assert torch.equal(steps(one, 3), steps(two, 3))
    assert torch.equal(parameters(one.orid), parameters(two.orid))
    assert one.steps == two.steps == 5


def test_bfloat16_stays_near_float32() -> None:
    values = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        trainer = OridTrainer(replace(CONFIG, training=replace(CONFIG.training, precision=precision)), CPU)
        torch.manual_seed(1)
        values.append(trainer.step(*batch(), None)[: METRICS.index("pair_accuracy")])
    torch.testing.assert_close(values[1], values[0], rtol=0.05, atol=0.02)


def test_flip_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (400, 4, 4, 3), dtype=torch.uint8)
    flipped = flip(images)
    same = (flipped == images).flatten(1).all(dim=1)
    assert torch.equal(flipped[~same], images.flip(2)[~same])
    assert 150 < int(same.sum()) < 250


@pytest.mark.parametrize(("images", "bases", "size"), [(65, 65, 64), (5, 5, 2), (10, 11, 4), (2, 2, 64)])
def test_every_image_is_a_base_once(images: int, bases: int, size: int) -> None:
    batches = base_batches(images, bases, size, torch.Generator().manual_seed(0))
    counts = torch.bincount(torch.cat(batches), minlength=images)
    assert int(counts.sum()) == bases
    assert int(counts.min()) == 1
    lengths = [len(batch) for batch in batches]
    assert min(lengths) >= 2
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= max(size, 3)
