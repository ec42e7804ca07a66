"""What the stronger comparator achieved: how often it is right of held-out pairs."""

import numpy as np
import torch
from torch import nn

from ordclust_ray.config import RankConfig
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.order import Order
from ordclust_ray.data.prepare import TRAIN, Prepared
from ordclust_ray.reports.results import Results
from ordclust_ray.training.comparator_heads import PAIRS_AN_INSTANCE, Instances, right_by_order

HELD_OUT_IMAGES = 1_000
BATCH = 64


def evaluate(network: ImageComparator, prepared: Prepared, rank: RankConfig, seed: int) -> Results:
    """Compares held-out images of the same cluster with each other.

    Args:
        network: trained.
        prepared: the data, at the network's size, with a `cluster` in its manifest.
        rank: scale and tolerance of the comparator.
        seed: of the pairs.
    """
    images, manifest = held_out(network, prepared), prepared.manifest
    ours, chance = pair_accuracy(network.comparator, images, rank, seed), {"held-out accuracy": 1 / len(Order)}
    sizes = np.bincount(manifest.loc[manifest["split"] == TRAIN, "cluster"]).tolist()
    note = f"held-out: {len(images.ranks)} images, {PAIRS_AN_INSTANCE} pairs each"
    return Results({"comparator": ours, "chance": chance}, sizes, note)


@torch.no_grad()
def held_out(network: ImageComparator, prepared: Prepared) -> Instances:
    """The first of the shuffled held-out images, a batch at a time."""
    network.eval()
    device = next(network.parameters()).device
    ids, features = [], []
    for batch in prepared.test.limit(HELD_OUT_IMAGES).iter_batches(batch_size=BATCH, batch_format="numpy"):
        ids.append(batch["instance_id"])
        features.append(network.features(torch.from_numpy(np.array(batch["image"])).to(device)))
    rows = prepared.manifest.loc[np.concatenate(ids)]
    clusters = torch.tensor(rows["cluster"].to_numpy(dtype=np.int64), device=device)
    return Instances(torch.cat(features), rows["rank"].to_numpy(dtype=float), clusters)


def pair_accuracy(comparator: nn.Module, images: Instances, rank: RankConfig, seed: int) -> dict[str, float]:
    """Share of right orders, by relation and their mean, which guessing brings to 1/3.

    NaN where a relation does not occur.
    """
    shares = right_by_order(comparator, images, rank, seed)
    by_relation = {f"of {order.name.lower()}": share for order, share in shares.items()}
    return {"held-out accuracy": float(np.nanmean(list(shares.values()))), **by_relation}
