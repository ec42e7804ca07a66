"""Ranks a second, against the direct loop: for each image and each reference, one comparison.

`python benchmarks/rank_estimation.py [--images 256] [--image-size 64] [--width 1]`: random networks and references, one
reference for each age from 16 to 77 (m = 62) in each of two clusters, 50 candidates of each. Both are measured from
features, which is what estimation adds to encoding, and from images. The loop from images encodes both images of a
pair, as a siamese network is called. The numbers of both have to agree.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ordclust_ray.core.networks import Orid, to_unit_range
from ordclust_ray.core.order import similar_levels
from ordclust_ray.core.rank_estimator import Encoded, RankEstimator, RankNetworks
from ordclust_ray.core.rank_posterior import level_likelihoods

AGES, CLUSTERS, CANDIDATES = np.arange(16.0, 78.0), 2, 50
BATCH = 64
LOOPED = 8
"""Images that the loop from images is measured on."""


def build(image_size: int, width: float, reference_images: Tensor) -> RankEstimator:
    """Random networks; the candidates are features of random images, so that the loop can encode them too."""
    orid = Orid(image_size, width).eval()
    shape = (CLUSTERS, len(AGES), CANDIDATES)
    with torch.inference_mode():
        order, identity = orid.features(to_unit_range(reference_images))
    place = torch.randint(len(reference_images), shape)
    edges = similar_levels(AGES, 0.1, "geometric")
    return RankEstimator(
        RankNetworks(orid),
        F.normalize(torch.randn(CLUSTERS, identity.shape[1], dtype=torch.float64), dim=1),
        torch.from_numpy(AGES),
        level_likelihoods(*map(torch.from_numpy, edges)),
        place,
        order[place],
        identity[place],
    )


def loop(estimator: RankEstimator, x: Encoded, references: Tensor, compare: Callable[[int, int], Tensor]) -> Tensor:
    """Posteriors (B, M) by eq. (31) and (32), a comparison at a time.

    Args:
        estimator: whose likelihoods count.
        x: the images.
        references: (B, M) which candidate each image is compared with at each level.
        compare: p^xy of an image, by its row, and a candidate.
    """
    posteriors = torch.zeros(len(x.order), len(AGES))
    for b in range(len(x.order)):
        for i in range(len(AGES)):
            said = compare(b, int(references[b, i]))
            for order in range(3):
                posteriors[b] += said[order] * estimator.likelihoods[i, order]
    return posteriors / len(AGES)


def rate(work: Callable[[], Tensor], images: int, repeats: int) -> tuple[float, Tensor]:
    """Images a second, the best of some repeats, and what came out."""
    seconds: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = work()
        seconds.append(time.perf_counter() - started)
    return images / min(seconds), found


def in_batches(estimate: Callable[[slice], Tensor], images: int) -> Tensor:
    return torch.cat([estimate(slice(start, start + BATCH)) for start in range(0, images, BATCH)])


def say(title: str, ours: tuple[float, Tensor], direct: tuple[float, Tensor]) -> None:
    looped = len(direct[1])
    difference = float((ours[1][:looped] - direct[1]).abs().max())
    print(f"{title:14} {ours[0]:12,.0f} {direct[0]:12,.1f} {ours[0] / direct[0]:10,.1f} {difference:18.1e}", flush=True)


@torch.inference_mode()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    shape = (options.images, options.image_size, options.image_size, 3)
    images, pool = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2))
    estimator = build(options.image_size, options.width, pool)
    orid, comparator = estimator.networks.orid, estimator.networks.comparator
    x = estimator.networks.encode(images)
    references = estimator.estimate_encoded(x).references[:, :, 0]
    pool_order, _ = orid.features(to_unit_range(pool))

    def of_features(b: int, i: int) -> Tensor:
        return comparator(x.order[b : b + 1], pool_order[i : i + 1])[0].softmax(dim=0)

    def of_images(b: int, i: int) -> Tensor:
        order, _ = orid.features(to_unit_range(torch.stack([images[b], pool[i]])))
        return comparator(order[:1], order[1:])[0].softmax(dim=0)

    def part(rows: slice) -> Encoded:
        return Encoded(*(features[rows] for features in x))

    print(f"m = {len(AGES)}, batches of {BATCH}, {torch.get_num_threads()} threads; images a second")
    print(f"{'':14} {'ours':>12} {'direct loop':>12} {'ratio':>10} {'largest difference':>18}")
    n, repeats, few = options.images, options.repeats, Encoded(*(features[:LOOPED] for features in x))
    say(
        "from features",
        rate(lambda: in_batches(lambda rows: estimator.estimate_encoded(part(rows)).posteriors, n), n, repeats),
        rate(lambda: loop(estimator, part(slice(BATCH)), references, of_features), min(n, BATCH), repeats),
    )
    say(
        "from images",
        rate(lambda: in_batches(lambda rows: estimator.estimate(images[rows]).posteriors, n), n, repeats),
        rate(lambda: loop(estimator, few, references, of_images), LOOPED, 1),
    )


if __name__ == "__main__":
    main()
