"""Images whose order and identity are planted, and what each method finds of them.

`python benchmarks/planted.py` prints the table; `--seeds`, `--images` and `--rounds` change its size.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from ordclust_ray.config import ClusteringConfig, DataConfig, DrcConfig, ModelConfig, RunConfig, TrainingConfig
from ordclust_ray.core import baselines
from ordclust_ray.core.rank_estimator import RankEstimator, RankNetworks
from ordclust_ray.references import Comparison, build_estimator, choose_candidates
from ordclust_ray.training.drc_orid import DrcOrid, InMemoryData, Problem
from ordclust_ray.training.orid import OridTrainer, encode

SIDE, RANKS, GROUPS = 16, 8, 3


@dataclass(frozen=True)
class Planted:
    """images (n, 16, 16, 3) uint8; ranks 1..8 and groups 0..2, drawn independently."""

    images: NDArray[np.uint8]
    ranks: NDArray[np.int64]
    groups: NDArray[np.int64]


def planted_images(n: int, seed: int) -> Planted:
    """One object an image: its size is the rank, its shape and colour are the group.

    Brightness varies fourteenfold and the place a little, so that in pixels images of a group are far apart.
    """
    rng = np.random.default_rng(seed)
    ranks, groups = rng.integers(1, RANKS + 1, n), rng.integers(0, GROUPS, n)
    y, x = np.mgrid[:SIDE, :SIDE]
    images = np.empty((n, SIDE, SIDE, 3))
    for i in range(n):
        size, brightness = 2 + 0.65 * ranks[i], rng.uniform(0.07, 1)
        dy, dx = abs(y - 7.5 - rng.uniform(-0.5, 0.5)), abs(x - 7.5 - rng.uniform(-0.5, 0.5))
        disc = np.hypot(dy, dx) < size
        square = np.maximum(dy, dx) < 0.88 * size
        cross = (np.minimum(dy, dx) < max(1, 0.4 * size)) & (np.maximum(dy, dx) < 1.15 * size)
        inside = (disc, square, cross)[groups[i]]
        images[i] = brightness * np.where(inside[..., None], np.eye(3)[groups[i]], 0.1)
    noisy = images * 255 + rng.normal(0, 2, images.shape)
    return Planted(noisy.clip(0, 255).astype(np.uint8), ranks, groups)


def planted_config(seed: int, *, repulsion: float = 0.1, rounds: int = 4) -> DrcConfig:
    """A network that two cores train in half a minute."""
    return DrcConfig(
        data=DataConfig(image_size=SIDE),
        model=ModelConfig(width=0.25, order_dim=32, identity_dim=96),
        clustering=ClusteringConfig(num_clusters=GROUPS, repulsion=repulsion),
        training=TrainingConfig(rounds=rounds, learning_rate=1e-3, flip=False),
        run=RunConfig(seed=seed),
    )


def train(planted: Planted, config: DrcConfig) -> DrcOrid:
    """DRC-ORID in this process, without Ray."""
    torch.manual_seed(config.run.seed)
    n = len(planted.images)
    arrays = (planted.images, np.arange(n), planted.ranks - 1, planted.groups)
    model = DrcOrid(
        config,
        Problem.of(n, np.arange(1.0, RANKS + 1), config.rank, GROUPS),
        InMemoryData(*map(torch.from_numpy, arrays)),
        OridTrainer(config, torch.device("cpu")),
    )
    for _ in range(config.training.epochs):
        model.run_epoch()
    return model


def measure(model: DrcOrid, planted: Planted, held_out: Planted) -> dict[str, float]:
    """NMI of the clusters with the planted groups, by what was clustered; CA; MAE beside that of the median."""
    order, identity = (part.numpy() for part in model.features())
    whole = encode(model.trainer.orid, torch.from_numpy(planted.images))
    clusters = {
        "DRC-ORID": model.assignments.numpy(),
        "pixels": baselines.pixel_clusters(planted.images, GROUPS, model.config.run.seed),
        "order features": _kmeans(order, model.config.run.seed),
        "whole features": _kmeans(np.concatenate([order, identity], axis=1), model.config.run.seed),
        "whole features before normalisation": _kmeans(whole.numpy(), model.config.run.seed),
    }
    measures = {
        f"NMI {name}": float(normalized_mutual_info_score(planted.groups, found, average_method="geometric"))
        for name, found in clusters.items()
    }
    estimator = finished_estimator(
        model, np.arange(len(planted.ranks)), planted.ranks.astype(float), np.arange(1.0, RANKS + 1)
    )
    with torch.inference_mode():
        estimates = estimator.estimate(torch.from_numpy(held_out.images)).ranks.numpy()
    return measures | {
        "CA": float(model.history[-1]["centroid_affinity"]),
        "MAE": float(np.abs(estimates - held_out.ranks).mean()),
        "MAE median": float(np.abs(np.median(planted.ranks) - held_out.ranks).mean()),
    }


def finished_estimator(
    model: DrcOrid, instance_ids: NDArray[np.int64], ranks: NDArray[np.float64], levels: NDArray[np.float64]
) -> RankEstimator:
    """ORID with its clusters and references, without Ray."""
    columns = {"cluster": model.assignments.numpy(), "similarity": model.conclude()["similarities"].numpy()}
    order, identity = (part.numpy() for part in model.features())
    assert model.centroids is not None
    by_id = np.argsort(instance_ids)
    rank, centroids = model.config.rank, model.centroids.numpy()
    members = pd.DataFrame({**columns, "rank": ranks}, index=instance_ids)
    return build_estimator(
        RankNetworks(model.trainer.orid),
        choose_candidates(members, len(centroids), levels, rank.candidates),
        {"instance_id": instance_ids[by_id], "compared": order[by_id], "identity": identity[by_id]},
        centroids,
        Comparison(levels, rank.tolerance, rank.scale, rank),
    )


def _kmeans(features: NDArray[np.float32], seed: int) -> NDArray[np.int32]:
    return KMeans(GROUPS, n_init=10, random_state=seed).fit_predict(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        planted, held_out = planted_images(options.images, 2 * seed), planted_images(400, 2 * seed + 1)
        for repulsion in (0.1, 0.0):
            model = train(planted, planted_config(seed, repulsion=repulsion, rounds=options.rounds))
            rows.append({"repulsion": repulsion, **measure(model, planted, held_out)})
    table = pd.DataFrame(rows).groupby("repulsion")
    mean, spread = (part.T.map("{:.3f}".format) for part in (table.mean(), table.std()))
    print(f"mean ± standard deviation over {options.seeds} seeds\n{(mean + ' ± ' + spread).to_string()}")


if __name__ == "__main__":
    main()
