"""Rules that make one rank of the comparisons with references: MAP (33), and what it is compared with.

Legend: B instances, M rank levels, R references of a level, 3 orders (greater, similar, less).
"""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ordclust_ray.core.order import Order
from ordclust_ray.core.rank_posterior import normalised

TIE = 1e-6
"""Values are equal up to this share of them: sums of the same fractions differ by rounding."""


def map_level(posterior: Float[Tensor, "B M"]) -> Int64[Tensor, "B"]:
    """The level of highest posterior, the lowest one on a tie (33).

    >>> map_level(torch.tensor([[0.2, 0.4, 0.4]])).tolist()
    [1]
    """
    best = posterior.amax(dim=1, keepdim=True)
    return (posterior >= best * (1 - TIE)).to(torch.uint8).argmax(dim=1)


def most_consistent_level(
    order_probabilities: Float[Tensor, "B M R 3"],
    present: Bool[Tensor, "B M R"],
    likelihoods: Float[Tensor, "M 3 M"],
) -> Int64[Tensor, "B"]:
    """Maximum consistency (Lim et al. 2020): the level that agrees with most comparisons, the lowest one on a tie.

    A comparison is taken as its most probable order; a level agrees where it stands in that order to the reference.

    Args:
        order_probabilities: the comparator's.
        present: which references exist; the others do not vote.
        likelihoods: from `level_likelihoods`; above 0 where a level stands in an order to a reference's level.
    """
    said = torch.nn.functional.one_hot(order_probabilities.argmax(dim=3), 3) * present[..., None]
    return torch.einsum("bio,ior->br", said.sum(dim=2).float(), (likelihoods > 0).float()).argmax(dim=1)


def posterior_mean(posterior: Float[Tensor, "B M"], rank_levels: Float64[Tensor, "M"]) -> Float64[Tensor, "B"]:
    """The expectation of the rank under the normalised posterior, in the data set's unit; it need not be a level."""
    return normalised(posterior).double() @ rank_levels


def most_similar_level(
    order_probabilities: Float[Tensor, "B M R 3"], present: Bool[Tensor, "B M R"]
) -> Int64[Tensor, "B"]:
    """The level of the reference that is most probably similar in rank, the lowest one on a tie."""
    similar = order_probabilities[..., Order.SIMILAR].masked_fill(~present, -1.0)
    return map_level(similar.amax(dim=2))
