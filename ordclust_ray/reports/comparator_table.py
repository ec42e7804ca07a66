"""What the stronger comparator achieved: how often it is right of held-out pairs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ordclust_ray.config import RankConfig
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.order import Order, similar_levels
from ordclust_ray.core.pairs import PairSampler
from ordclust_ray.data.prepare import TRAIN, Prepared
from ordclust_ray.reports.results import Results

HELD_OUT_IMAGES = 1_000
PAIRS_AN_IMAGE = 20
BATCH = 64


@dataclass(frozen=True)
class HeldOut:
    """Held-out images, as the comparator sees them.

    Attributes:
        features: (N, 512), on the network's device.
        ranks: (N,).
        clusters: (N,) of DRC-ORID.
    """

    features: Tensor
    ranks: np.ndarray
    clusters: np.ndarray


def evaluate(network: ImageComparator, prepared: Prepared, rank: RankConfig, seed: int) -> Results:
    """Compares held-out images of the same cluster with each other.

    Args:
        network: trained.
        prepared: the data, at the network's size, with a `cluster` in its manifest.
        rank: scale and tolerance of the comparator.
        seed: of the pairs.
    """
    images, manifest = held_out(network, prepared), prepared.manifest
    ours, chance = pair_accuracy(network, images, rank, seed), {"held-out accuracy": 1 / len(Order)}
    sizes = np.bincount(manifest.loc[manifest["split"] == TRAIN, "cluster"]).tolist()
    note = f"held-out: {len(images.ranks)} images, {PAIRS_AN_IMAGE} pairs each"
    return Results({"comparator": ours, "chance": chance}, sizes, note)


@torch.no_grad()
def held_out(network: ImageComparator, prepared: Prepared) -> HeldOut:
    """The first of the shuffled held-out images, a batch at a time."""
    network.eval()
    device = next(network.parameters()).device
    ids, features = [], []
    for batch in prepared.test.limit(HELD_OUT_IMAGES).iter_batches(batch_size=BATCH, batch_format="numpy"):
        ids.append(batch["instance_id"])
        features.append(network.features(torch.from_numpy(np.array(batch["image"])).to(device)))
    rows = prepared.manifest.loc[np.concatenate(ids)]
    return HeldOut(torch.cat(features), np.array(rows["rank"], dtype=float), np.array(rows["cluster"], dtype=np.int64))


@torch.no_grad()
def pair_accuracy(network: ImageComparator, images: HeldOut, rank: RankConfig, seed: int) -> dict[str, float]:
    """Share of right orders, by relation and their mean, which guessing brings to 1/3.

    Relations are drawn uniformly; a relation that an image stands in with nobody gives way to another, so the relations
    have their own shares. NaN where a relation does not occur at all.
    """
    levels, codes = np.unique(images.ranks, return_inverse=True)
    similar = [torch.from_numpy(edges) for edges in similar_levels(levels, rank.tolerance, rank.scale)]
    sampler = PairSampler(torch.from_numpy(codes), torch.from_numpy(images.clusters), *similar)
    bases = torch.arange(len(codes)).repeat(PAIRS_AN_IMAGE)
    references, orders = sampler.draw(bases, torch.Generator().manual_seed(seed))
    features, device = images.features, images.features.device
    pairs = torch.stack([bases, references])[:, bases != references]  # alone in its cluster: no pair
    x_batches, y_batches = (rows.to(device).split(4096) for rows in pairs)
    logits = [network.comparator(features[x], features[y]) for x, y in zip(x_batches, y_batches, strict=True)]
    right = pd.Series((torch.cat(logits).argmax(dim=1).cpu() == orders[bases != references]).numpy())
    shares = right.groupby(orders[bases != references].numpy()).mean().reindex(list(Order))
    by_relation = {f"of {order.name.lower()}": float(shares[order]) for order in Order}
    return {"held-out accuracy": float(shares.mean()), **by_relation}
