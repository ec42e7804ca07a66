"""The losses of IDFD (Tao, Takagi & Nakata 2021, eq. 2, 3, 5), as means over the minibatch and over the features.

The paper writes sums; its weights of the terms are right with means.

Legend: N instances of the bank, B of the minibatch, D features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

SLICE = {"cpu": 2**20, "cuda": 2**26}
"""Similarities that are in memory at a time: 4 MiB, which stay in a core's cache; on a GPU more, for calls cost."""


def instance_discrimination_loss(
    features: Float[Tensor, "B D"], bank: Float[Tensor, "N D"], instances: Int64[Tensor, "B"], *, temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of each instance among all of the bank, in nats (2): the full softmax, no samples of it.

    ln N where features know nothing; for unit features at least ln(1 + (N - 1) exp(-2 / temperature)). Memory does not
    grow with N.

    Args:
        features: unit rows.
        bank: unit rows, of which no gradient is taken.
        instances: each feature's row of the bank.
        temperature: tau of eq. (1), 1 in ID(tuned), IDFO and IDFD, 0.07 in ID(original).
    """
    log_partition, expected = partition(features.detach(), bank, temperature=temperature)
    return loss_of_partition(features, log_partition, expected, bank[instances], temperature=temperature)


def loss_of_partition(
    features: Float[Tensor, "B D"],
    log_partition: Float[Tensor, "B"],
    expected: Float[Tensor, "B D"],
    own: Float[Tensor, "B D"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Eq. (2) once the softmax over the whole bank is known, with its gradient into the features.

    Args:
        features: unit rows v.
        log_partition: ln sum_j exp(v.b_j / tau), over all of the bank.
        expected: the mean of the b_j with the softmax as weights.
        own: each instance's row of the bank.
        temperature: tau.
    """
    value = (log_partition - (features.detach() * own).sum(dim=1) / temperature).mean()
    return _KnownGradient.apply(features, value, (expected - own) / (temperature * len(features)))


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient was computed along with it, so that nothing of its size has to be kept for backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None


@torch.no_grad()
def partition(
    features: Float[Tensor, "B D"], bank: Float[Tensor, "N D"], *, temperature: float
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """What the softmax (1) over these rows of the bank needs, a slice of them at a time, each read once.

    Args:
        features: unit rows v.
        bank: unit rows b_j, or a shard of them; N >= 1.
        temperature: tau.

    Returns:
        ln sum_j exp(v.b_j / tau), and the mean of the b_j with the softmax as weights, which is tau times its gradient.
    """
    highest = features.new_full((len(features), 1), -torch.inf)
    total, weighted = torch.zeros_like(highest), torch.zeros_like(features)
    for rows in bank.split(max(1, SLICE.get(bank.device.type, SLICE["cpu"]) // len(features))):
        logits = torch.mm(features, rows.T).div_(temperature)
        before, highest = highest, torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        weights = logits.sub_(highest).exp_()
        fade = (before - highest).exp_()
        total = total.mul_(fade).add_(weights.sum(dim=1, keepdim=True))
        weighted = weighted.mul_(fade).addmm_(weights, rows)
    return (highest + total.log()).squeeze(1), weighted / total


def join_partitions(
    log_partitions: Float[Tensor, "W B"], expected: Float[Tensor, "B D"], shard: int
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """The softmax over all shards of a bank from what each of them knows.

    Args:
        log_partitions: `partition`'s of each shard.
        expected: `partition`'s of one shard.
        shard: which one.

    Returns:
        ln of the sum over all shards; and this shard's part of the expected row, to be added to those of the others.
    """
    whole = log_partitions.logsumexp(dim=0)
    return whole, (log_partitions[shard] - whole).exp().unsqueeze(1) * expected


def decorrelation_loss(features: Float[Tensor, "B D"], *, decorrelation_temperature: float = 2.0) -> Float[Tensor, ""]:
    """Cross-entropy of each feature among all features, by their cosines over the minibatch, in nats (5).

    From ln(1 + (D - 1) exp(-1 / tau2)) where features are orthogonal to ln D where all are alike.

    Args:
        features: unit rows of the whole minibatch: a part of it has other cosines.
        decorrelation_temperature: tau2.
    """
    cosines = _cosines(features)
    return F.cross_entropy(cosines / decorrelation_temperature, torch.arange(len(cosines), device=cosines.device))


def orthogonality_loss(features: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared deviations of the features' cosines over the minibatch from orthogonality (3), the mean over all D x D.

    From 0 where features are orthogonal to 1 - 1/D where all are alike. The paper's weight of 10, chosen by the
    magnitudes of the terms, brings this mean to that of (2); sums over each feature's cosines are D times as much.

    Args:
        features: as for `decorrelation_loss`.
    """
    cosines = _cosines(features)
    return (cosines - torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)).square().mean()


def _cosines(features: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
    """Of the features as vectors over the minibatch; they are not centred."""
    unit = F.normalize(features, dim=0)
    return unit.T @ unit
