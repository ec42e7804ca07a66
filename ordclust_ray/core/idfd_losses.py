"""The losses of IDFD (Tao, Takagi & Nakata 2021, eq. 2, 3, 5), as means over the minibatch and over the features.

The paper writes sums; its weights of the terms are right with means.

Legend: N instances of the bank, B of the minibatch, D features.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def instance_discrimination_loss(
    features: Float[Tensor, "B D"], bank: Float[Tensor, "N D"], instances: Int64[Tensor, "B"], *, temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of each instance among all of the bank, in nats (2): the full softmax, no samples of it.

    ln N where features know nothing; for unit features at least ln(1 + (N - 1) exp(-2 / temperature)).

    Args:
        features: unit rows.
        bank: unit rows, of which no gradient is taken.
        instances: each feature's row of the bank.
        temperature: tau of eq. (1), 1 in ID(tuned), IDFO and IDFD, 0.07 in ID(original).
    """
    return F.cross_entropy(features @ bank.detach().T / temperature, instances)


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
    """Squared cosines of each feature with all others over the minibatch, the mean over the features (3).

    From 0 where features are orthogonal to D - 1 where all are alike.

    Args:
        features: as for `decorrelation_loss`.
    """
    cosines = _cosines(features)
    return (cosines - torch.eye(len(cosines), dtype=cosines.dtype, device=cosines.device)).square().sum(dim=1).mean()


def _cosines(features: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
    """Of the features as vectors over the minibatch; they are not centred."""
    unit = F.normalize(features, dim=0)
    return unit.T @ unit
