"""The losses of IDFD against eq. (2), (3) and (5) in plain loops, their bounds, and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ordclust_ray.core import idfd_losses
from ordclust_ray.core.idfd_losses import (
    decorrelation_loss,
    instance_discrimination_loss,
    join_partitions,
    orthogonality_loss,
    partition,
)

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=40)
SIZES = {"b": st.integers(1, 7), "n": st.integers(1, 9), "d": st.integers(1, 6), "seed": st.integers(0, 10_000)}
TEMPERATURES = st.sampled_from([0.07, 0.5, 1.0, 2.0])


def unit_rows(seed: int, *shape: int) -> Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1)


def dot(x: Tensor, y: Tensor) -> float:
    return sum(float(a) * float(b) for a, b in zip(x, y, strict=True))


def cosine(x: Tensor, y: Tensor) -> float:
    return dot(x, y) / math.sqrt(dot(x, x) * dot(y, y))


@PROPERTY
@given(**SIZES, temperature=TEMPERATURES)
def test_instance_discrimination_by_loops(b: int, n: int, d: int, seed: int, temperature: float) -> None:
    features, bank = unit_rows(seed, b, d), unit_rows(seed + 1, n, d)
    instances = torch.randint(0, n, (b,), generator=torch.Generator().manual_seed(seed))
    total = 0.0
    for i in range(b):
        weights = [math.exp(dot(features[i], bank[j]) / temperature) for j in range(n)]
        total -= math.log(weights[int(instances[i])] / sum(weights))
    found = instance_discrimination_loss(features, bank, instances, temperature=temperature)
    assert float(found) == pytest.approx(total / b)


@PROPERTY
@given(b=SIZES["b"], d=SIZES["d"], seed=SIZES["seed"], temperature=TEMPERATURES)
def test_decorrelation_by_loops(b: int, d: int, seed: int, temperature: float) -> None:
    features, total = unit_rows(seed, b, d), 0.0
    for first in range(d):
        weights = [math.exp(cosine(features[:, first], features[:, other]) / temperature) for other in range(d)]
        total -= math.log(weights[first] / sum(weights))
    found = decorrelation_loss(features, decorrelation_temperature=temperature)
    assert float(found) == pytest.approx(total / d)


@PROPERTY
@given(b=SIZES["b"], d=SIZES["d"], seed=SIZES["seed"])
def test_orthogonality_by_loops(b: int, d: int, seed: int) -> None:
    features, total = unit_rows(seed, b, d), 0.0
    for first in range(d):
        for other in range(d):
            total += (cosine(features[:, first], features[:, other]) - (first == other)) ** 2
    assert float(orthogonality_loss(features)) == pytest.approx(total / d**2, abs=1e-12)


def test_instance_discrimination_has_the_bounds_of_50000_instances() -> None:
    """ln n where nothing is known; with the own instance alike and all others opposite, no loss is lower."""
    n, own = 50_000, torch.tensor([7])
    features, bank = torch.eye(2, dtype=torch.float64)[:1], -torch.eye(2, dtype=torch.float64)[:1].repeat(n, 1)
    unknown = instance_discrimination_loss(features, torch.roll(bank, 1, dims=1), own, temperature=1.0)
    assert float(unknown) == pytest.approx(10.82, abs=0.005)
    bank[7] *= -1
    lowest = float(instance_discrimination_loss(features, bank, own, temperature=1.0))
    assert lowest == pytest.approx(8.82, abs=0.005)
    assert lowest == pytest.approx(math.log(1 + (n - 1) * math.exp(-2)))


def test_decorrelation_has_the_bounds_of_128_features() -> None:
    orthogonal = torch.eye(128, dtype=torch.float64)
    assert float(decorrelation_loss(orthogonal)) == pytest.approx(4.357, abs=5e-4)
    alike = torch.full((64, 128), 128**-0.5, dtype=torch.float64)
    assert float(decorrelation_loss(alike)) == pytest.approx(4.852, abs=5e-4)
    assert float(orthogonality_loss(orthogonal)) == 0
    assert float(orthogonality_loss(alike)) == pytest.approx(127 / 128)


def test_features_are_compared_by_direction_and_are_not_centred() -> None:
    features = torch.tensor([[3.0, 0.1], [4.0, 0.0]], dtype=torch.float64)  # cosine 0.6
    assert float(orthogonality_loss(features)) == pytest.approx(0.36 / 2)
    assert float(orthogonality_loss(features + 5)) > 0.9 / 2  # alike, though their correlation is the same


def test_gradients_by_finite_differences() -> None:
    bank, instances = unit_rows(1, 9, 5), torch.tensor([3, 0, 8, 3])
    features = unit_rows(0, 4, 5).requires_grad_()
    for loss in (
        lambda x: instance_discrimination_loss(x, bank, instances, temperature=0.5),
        lambda x: decorrelation_loss(x, decorrelation_temperature=2.0),
        orthogonality_loss,
    ):
        assert torch.autograd.gradcheck(loss, (features,))


def test_no_gradient_goes_into_the_bank() -> None:
    features, bank = unit_rows(0, 4, 5).requires_grad_(), unit_rows(1, 9, 5).requires_grad_()
    instance_discrimination_loss(features, bank, torch.arange(4), temperature=1.0).backward()
    assert bank.grad is None
    assert features.grad is not None


@PROPERTY
@given(n=st.integers(1, 40), d=SIZES["d"], seed=SIZES["seed"], temperature=TEMPERATURES, cut=st.integers(0, 40))
def test_partitions_of_shards_join_to_that_of_the_whole_bank(
    n: int, d: int, seed: int, temperature: float, cut: int
) -> None:
    features, bank = unit_rows(seed, 3, d), unit_rows(seed + 1, n, d)
    logits = features @ bank.T / temperature
    log_partition, expected = partition(features, bank, temperature=temperature)
    torch.testing.assert_close(log_partition, logits.logsumexp(dim=1))
    torch.testing.assert_close(expected, logits.softmax(dim=1) @ bank)
    shards = [part for part in (bank[:cut], bank[cut:]) if len(part)]
    found = [partition(features, part, temperature=temperature) for part in shards]
    log_partitions = torch.stack([part[0] for part in found])
    joined = [join_partitions(log_partitions, part[1], shard) for shard, part in enumerate(found)]
    torch.testing.assert_close(joined[0][0], log_partition)
    torch.testing.assert_close(torch.stack([part for _, part in joined]).sum(dim=0), expected)


def test_slices_of_the_bank_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, bank = unit_rows(0, 4, 5), unit_rows(1, 103, 5)
    whole = partition(features, bank, temperature=0.05)
    monkeypatch.setitem(idfd_losses.SLICE, "cpu", 4 * 10)  # eleven slices, the last one shorter
    torch.testing.assert_close(partition(features, bank, temperature=0.05), whole)


def test_no_similarity_overflows_at_low_temperatures() -> None:
    features, bank = unit_rows(0, 4, 5).float(), unit_rows(1, 103, 5).float()
    expected = F.cross_entropy(features @ bank.T / 0.001, torch.arange(4))
    found = instance_discrimination_loss(features, bank, torch.arange(4), temperature=0.001)
    assert float(found) == pytest.approx(float(expected))
