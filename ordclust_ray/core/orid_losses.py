"""The losses of ORID (Lee & Kim 2021, eq. 24-28), as means over the minibatch.

Legend: N images (x and y of all pairs together), B pairs, D identity features, H W height and width.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

METRICS = ("reconstruction", "clustering", "comparison", "generator", "discriminator", "pair_accuracy")
"""What is measured of a training step, in this order: the losses, and the share of orders that were right."""


def reconstruction_loss(decoded: Float[Tensor, "N C H W"], images: Float[Tensor, "N C H W"]) -> Float[Tensor, ""]:
    """Mean absolute error of a pixel, in units of the images' range [-1, 1] (25)."""
    return F.l1_loss(decoded, images)


def clustering_loss(identity_features: Float[Tensor, "N D"], own_centroids: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Minus the mean cosine similarity to the centroid of the own cluster, in [-1, 1] (26).

    `own_centroids[i]` is the unit centroid of instance i's cluster.
    """
    return -(identity_features * own_centroids).sum(dim=1).mean()


def comparison_loss(order_logits: Float[Tensor, "B 3"], order: Int64[Tensor, "B"]) -> Float[Tensor, ""]:
    """Cross-entropy of the comparator's orders, in nats (27). ln 3 for a comparator that knows nothing."""
    return F.cross_entropy(order_logits, order)


def generator_loss(fake_logits: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    """-log sigmoid(D(G(F(x)))): the decoder wants its images taken for real (28), non-saturating form.

    Eq. (28) as printed is right only for a D that outputs the probability of a fake; this is the loss that the
    authors train with (Goodfellow et al. 2014, section 3).
    """
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Float[Tensor, "N"], fake_logits: Float[Tensor, "N"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of real against decoded images, in nats: ln 2 for a D that knows nothing.

    >>> import torch
    >>> float(discriminator_loss(torch.zeros(2), torch.zeros(2)))  # doctest: +ELLIPSIS
    0.6931...
    """
    return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2
