"""The losses against numbers worked by hand and eq. (25)-(28) in plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ordclust_ray.core import orid_losses


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_reconstruction_by_hand() -> None:
    images = torch.tensor([0.5, -1.0, 0.0, 1.0]).view(2, 1, 1, 2)
    decoded = torch.tensor([0.0, -1.0, 0.25, -1.0]).view(2, 1, 1, 2)
    assert float(orid_losses.reconstruction_loss(decoded, images)) == pytest.approx((0.5 + 0 + 0.25 + 2) / 4)


def test_reconstruction_weighs_every_pixel_of_x_and_y_alike() -> None:
    """Eq. (25): the mean over the pairs of the mean of x's and y's error."""
    images, decoded = rows(0, 6, 3, 4, 4), rows(1, 6, 3, 4, 4)
    total = 0.0
    for i in range(3):
        for member in (i, i + 3):
            difference = np.abs(images[member].numpy() - decoded[member].numpy())
            total += difference.sum() / difference.size / 2
    assert float(orid_losses.reconstruction_loss(decoded, images)) == pytest.approx(total / 3)


def test_clustering_by_hand() -> None:
    identity = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(orid_losses.clustering_loss(identity, centroids)) == pytest.approx(-(1.0 + 0.8 - 1.0) / 3)


def test_clustering_by_loops() -> None:
    identity, centroids = rows(2, 10, 7), rows(3, 10, 7)
    total = 0.0  # eq. (26): x is row i, y is row i + N
    for i in range(5):
        for d in range(7):
            total += float(identity[i, d] * centroids[i, d]) + float(identity[i + 5, d] * centroids[i + 5, d])
    assert float(orid_losses.clustering_loss(identity, centroids)) == pytest.approx(-total / (2 * 5))


def test_clustering_pulls_features_towards_their_own_centroid() -> None:
    """The gradient of -(1/2N) sum h.c is -c / 2N."""
    identity, centroids = rows(4, 4, 3).requires_grad_(), rows(5, 4, 3)
    orid_losses.clustering_loss(identity, centroids).backward()
    torch.testing.assert_close(identity.grad, -centroids / 4)


@pytest.mark.parametrize(("order", "expected"), [(0, math.log(5)), (1, math.log(2)), (2, -math.log(0.3))])
def test_comparison_by_hand(order: int, expected: float) -> None:
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log() + 7  # a common term does not count
    assert float(orid_losses.comparison_loss(logits, torch.tensor([order]))) == pytest.approx(expected, rel=1e-5)


def test_comparison_by_loops() -> None:
    logits, order = rows(6, 20, 3), torch.arange(20) % 3
    total = 0.0  # eq. (27) with q one-hot
    for i in range(20):
        exponentials = [math.exp(float(z)) for z in logits[i]]
        total -= math.log(exponentials[int(order[i])] / sum(exponentials))
    assert float(orid_losses.comparison_loss(logits, order)) == pytest.approx(total / 20)


def test_comparator_that_knows_nothing() -> None:
    assert float(orid_losses.comparison_loss(torch.zeros(4, 3), torch.arange(4) % 3)) == pytest.approx(math.log(3))


def test_generator_by_hand() -> None:
    # P(real) of 3/4 and of 1/4
    logits = torch.tensor([math.log(3), -math.log(3)])
    assert float(orid_losses.generator_loss(logits)) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_generator_learns_most_where_its_images_are_found_out() -> None:
    """-log sigmoid(z) has slope -sigmoid(-z): near -1 where D is sure of a fake; log(1 - D) would have none there."""
    logits = torch.tensor([-20.0, 0.0, 20.0], requires_grad=True)
    orid_losses.generator_loss(logits).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([-1.0, -0.5, 0.0]) / 3)


def test_discriminator_by_hand() -> None:
    # P(real) = 3/4 of a real image, 1/3 of a fake one
    real, fake = torch.tensor([math.log(3)]), torch.tensor([-math.log(2)])
    expected = -(math.log(3 / 4) + math.log(2 / 3)) / 2
    assert float(orid_losses.discriminator_loss(real, fake)) == pytest.approx(expected)


def test_discriminator_by_loops() -> None:
    real, fake = rows(7, 9), rows(8, 9)
    total = 0.0
    for z in real.tolist():
        total -= math.log(1 / (1 + math.exp(-z)))
    for z in fake.tolist():
        total -= math.log(1 - 1 / (1 + math.exp(-z)))
    assert float(orid_losses.discriminator_loss(real, fake)) == pytest.approx(total / 18)


def test_adversaries_want_the_opposite_of_fake_images() -> None:
    fake = torch.zeros(5, requires_grad=True)
    (gradient_g,) = torch.autograd.grad(orid_losses.generator_loss(fake), fake)
    (gradient_d,) = torch.autograd.grad(orid_losses.discriminator_loss(torch.zeros(5), fake), fake)
    assert (gradient_g < 0).all()
    assert (gradient_d > 0).all()


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_sure_discriminators_give_finite_losses(logit: float) -> None:
    logits = torch.full((3,), logit)
    assert float(orid_losses.generator_loss(logits)) == max(-logit, 0.0)
    assert float(orid_losses.discriminator_loss(logits, logits)) == pytest.approx(1e4 / 2)
