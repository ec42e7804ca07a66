"""What training on many nodes sends, holds and reads: bytes by arithmetic from the networks as they are built here.

`python benchmarks/scaling.py [--images N] [--nodes 8 64 256]`: one GPU and one worker a node, the paper's networks and
batches for each worker. Times are not predicted: they need the speed of a GPU and of a network.
"""

import argparse

import pandas as pd
import torch

from ordclust_ray.recipes import drc, idfd
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.orid import OridTrainer

FLOAT, INTEGER, ROW_OF_THE_LIST = 4, 8, 800
"""Bytes; the last is what the driver holds of an image while it reads a set's list (docs/results.md)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 64, 256])
    arguments = parser.parse_args()
    print(f"{arguments.images:,} images\n\nDRC-ORID")
    print(table([ranked(arguments.images, nodes) for nodes in arguments.nodes], arguments.nodes))
    print("\nIDFD")
    print(table([unlabelled(arguments.images, nodes) for nodes in arguments.nodes], arguments.nodes))
    config = idfd.cifar10()
    softmax = 4 * config.training.batch_size * config.model.feature_dim * arguments.images
    print(f"\nThe softmax over the whole bank: {softmax / 1e12:.1f} TFLOP a step and worker, however many there are")


def ranked(images: int, workers: int) -> dict[str, float]:
    """Megabytes of DRC-ORID, by worker."""
    config = drc.paper()
    model, size = config.model, config.data.image_size
    weights = parameters(OridTrainer(config, torch.device("cpu")))
    decoded, k = 3 * size**2, config.clustering.num_clusters
    dims = model.identity_dim
    return {
        "a step: gradients, sent and received": all_reduced(FLOAT * weights, workers),
        "a clustering iteration: sums, sent and received": all_reduced(INTEGER * (k * dims + k + 1), workers),
        "memory: networks, gradients, Adam": 4 * FLOAT * weights,
        "memory: identity features of the shard, while it clusters": FLOAT * dims * images / workers,
        "memory: decoded images, two pools": 2 * decoded * min(config.data.pool_images, images / workers),
        "object store of a node: decoded images": decoded * images / workers,
        "the head: list of the images": ROW_OF_THE_LIST * images,
    }


def unlabelled(images: int, workers: int) -> dict[str, float]:
    """Megabytes of IDFD, by worker; each brings the paper's batch, so the global one grows."""
    config = idfd.cifar10()
    weights = parameters(IdfdTrainer(config, 2, torch.device("cpu")))  # the bank's rows are counted below
    dims, batch, size = config.model.feature_dim, config.training.batch_size * workers, config.data.image_size
    features, decoded = FLOAT * batch * dims, 3 * size**2
    return {
        "a step: gradients, sent and received": all_reduced(FLOAT * weights, workers),
        "a step: features, received": features * (workers - 1) / workers,
        "a step: slices of the softmax, received": FLOAT * batch * (workers - 1),
        "a step: expected and own rows, sent and received": all_reduced(2 * features, workers),
        "memory: shard of the bank": FLOAT * dims * images / workers,
        "memory: decoded images, two pools": 2 * decoded * min(config.data.pool_images, images / workers),
        "object store of a node: decoded images": decoded * images / workers,
        "the head: list of the images": ROW_OF_THE_LIST * images,
    }


def parameters(trainer: object) -> int:
    """Numbers that gradients are sent of."""
    modules = [module for module in vars(trainer).values() if isinstance(module, torch.nn.Module)]
    return sum({id(own): own.numel() for module in modules for own in module.parameters()}.values())


def all_reduced(size: float, workers: int) -> float:
    """Bytes that a worker sends, and as many that it receives, in a ring."""
    return 2 * size * (workers - 1) / workers


def table(rows: list[dict[str, float]], nodes: list[int]) -> str:
    found = pd.DataFrame(rows, index=[f"{number} nodes" for number in nodes]).T / 1e6
    return found.map(lambda value: f"{value:,.1f}" if value >= 0.1 else f"{value:.3f}").rename_axis("MB").to_string()


if __name__ == "__main__":
    main()
