"""The MAP rule: from comparisons with references to the rank of an instance (Lee & Kim 2021, eq. 31-33).

Legend: B instances, M rank levels, 3 orders (greater, similar, less).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

TIE = 1e-6
"""Probabilities are equal up to this share of them: sums of the same fractions differ by rounding."""


def level_likelihoods(first: Int64[Tensor, "M"], last: Int64[Tensor, "M"]) -> Float[Tensor, "M 3 M"]:
    """What each order against a reference says of the rank: uniform over the levels in its interval (31).

    Row [i, o] is U(i+tau+1 .. m), U(i-tau .. i+tau) or U(1 .. i-tau-1) for o = greater, similar, less, over the
    levels that exist. An empty interval is a row of zeros: it contributes nothing and is not renormalised.

    Args:
        first: first similar level of each level, from `similar_levels`.
        last: one past the last similar level.
    """
    level = torch.arange(len(first), device=first.device)
    first, last = first[:, None], last[:, None]
    intervals = torch.stack([level >= last, (level >= first) & (level < last), level < first], dim=1)
    return intervals / intervals.sum(dim=2, keepdim=True).clamp(min=1)


def rank_posterior(
    order_probabilities: Float[Tensor, "B M 3"],
    present: Bool[Tensor, "B M"],
    likelihoods: Float[Tensor, "M 3 M"],
) -> Float[Tensor, "B M"]:
    """P(rank | references): the mean over the references (32) of what each comparison says (31).

    The mass is below 1 where an interval was empty.

    Args:
        order_probabilities: the comparator's p^xy of instance x against its reference y of each level.
        present: which levels have a reference; the others do not count. Without any the posterior is 0.
        likelihoods: from `level_likelihoods`.
    """
    said = torch.einsum("bio,ior->br", order_probabilities * present[..., None], likelihoods)
    return said / present.sum(dim=1, keepdim=True).clamp(min=1)


def map_level(posterior: Float[Tensor, "B M"]) -> Int64[Tensor, "B"]:
    """The level of highest posterior, the lowest one on a tie (33).

    >>> map_level(torch.tensor([[0.2, 0.4, 0.4]])).tolist()
    [1]
    """
    best = posterior.amax(dim=1, keepdim=True)
    return (posterior >= best * (1 - TIE)).to(torch.uint8).argmax(dim=1)
