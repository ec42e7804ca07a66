"""From comparisons with references to a posterior over the ranks (Lee & Kim 2021, B.10, eq. 31, 32).

Legend: B instances, M rank levels, R references of a level, 3 orders (greater, similar, less).
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


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
    order_probabilities: Float[Tensor, "B M R 3"],
    present: Bool[Tensor, "B M R"],
    likelihoods: Float[Tensor, "M 3 M"],
) -> Float[Tensor, "B M"]:
    """P(rank | references): the mean over the references (32) of what each comparison says (31).

    The mass is below 1 where an interval was empty.

    Args:
        order_probabilities: the comparator's p^xy of instance x against its references y of each level.
        present: which of them exist; the others do not count. Without any the posterior is 0.
        likelihoods: from `level_likelihoods`.
    """
    orders = (order_probabilities * present[..., None]).sum(dim=2)
    said = torch.einsum("bio,ior->br", orders, likelihoods)
    return said / present.sum(dim=(1, 2))[:, None].clamp(min=1)


def normalised(posterior: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    """With a total mass of 1; uniform where there is none at all, for then nothing is known."""
    mass = posterior.sum(dim=1, keepdim=True)
    return torch.where(mass > 0, posterior / mass.clamp(min=torch.finfo(posterior.dtype).tiny), 1 / posterior.shape[1])


def entropy(posterior: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
    """Of the normalised posterior, in nats: 0 where the rank is certain, log M where nothing is known."""
    return torch.special.entr(normalised(posterior)).sum(dim=1)


def credible_interval(posterior: Float[Tensor, "B M"], mass: float) -> Int64[Tensor, "B 2"]:
    """The fewest neighbouring levels that hold this share of the posterior: the first and the last of them.

    Of several equally short ones the one that holds most, and then the lowest.

    Args:
        posterior: normalised here.
        mass: in (0, 1].

    >>> credible_interval(torch.tensor([[0.05, 0.5, 0.4, 0.05]]), 0.8).tolist()
    [[1, 2]]
    """
    below = torch.nn.functional.pad(normalised(posterior).double().cumsum(dim=1), (1, 0))
    M = posterior.shape[1]
    needed = (below[:, :-1] + mass - 1e-6).contiguous()
    end = torch.searchsorted(below, needed)
    held = below.gather(1, end.clamp(max=M)) - below[:, :-1]
    length = end - torch.arange(M, device=end.device)
    cost = torch.where(end <= M, length - held.round(decimals=6) / 2, torch.inf)
    start = cost.argmin(dim=1, keepdim=True)
    return torch.cat([start, end.gather(1, start) - 1], dim=1)
