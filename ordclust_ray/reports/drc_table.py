"""What a run achieved, beside what anybody gets for nothing: the results table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ordclust_ray.config import DrcConfig
from ordclust_ray.core import baselines, metrics
from ordclust_ray.data.prepare import TEST, TRAIN, Prepared, group_codes
from ordclust_ray.reports.results import Results, rank_measures

BASELINE_IMAGES = 5_000
"""The pixel baselines see at most this many training images."""


def evaluate(
    config: DrcConfig,
    prepared: Prepared,
    estimates: pd.DataFrame,
    assignments: pd.Series,
    centroids: np.ndarray,
    plain_affinity: float | None,
    images: Mapping[str, Any],
) -> Results:
    """Compares estimates and groups with the baselines.

    Args:
        config: the run's settings.
        prepared: the data.
        estimates: by instance_id of the held-out images: `estimate`, `cluster`.
        assignments: cluster by instance_id of the training images.
        centroids: (K, D).
        plain_affinity: CA of spherical k-means on the same features; None at k = 1.
        images: "train_ids", "train" and "test_ids", "test": samples for the pixel baselines.
    """
    ranks = prepared.manifest["rank"]
    truth = ranks[estimates.index].to_numpy()
    limit, k = config.rank.cumulative_score_at, config.clustering.num_clusters
    train_ranks = ranks[prepared.manifest["split"] == TRAIN].to_numpy()
    median = np.full(len(truth), baselines.median_rank(train_ranks, prepared.rank_levels))
    ours = rank_measures(estimates["estimate"].to_numpy(dtype=float), truth, limit)
    pixel_truth = ranks[images["test_ids"]].to_numpy()
    nearest = baselines.nearest_pixels(images["train"], ranks[images["train_ids"]].to_numpy(), images["test"])
    measures = {
        "DRC-ORID": ours,
        "median": rank_measures(median, truth, limit),
        "nearest in pixels": rank_measures(nearest, pixel_truth, limit),
    }
    if k > 1:
        ours["CA"] = metrics.centroid_affinity(centroids)
        if plain_affinity is not None:
            measures["spherical k-means"] = {"CA": plain_affinity}
        if prepared.groups:
            measures["k-means on pixels"] = {}
            pixel_clusters = pd.Series(
                baselines.pixel_clusters(images["train"], k, config.run.seed), index=images["train_ids"]
            )
            for method, clusters in (("DRC-ORID", assignments), ("k-means on pixels", pixel_clusters)):
                measures[method]["NMI"] = group_nmi(clusters, prepared)
                measures[method]["NMI above lowest rank"] = group_nmi(clusters, prepared, above_lowest=True)
    return Results(measures, np.bincount(assignments.to_numpy(), minlength=k).tolist())


def group_nmi(clusters: pd.Series, prepared: Prepared, *, above_lowest: bool = False) -> float:
    """NMI of clusters, by instance_id, with the known groups.

    Args:
        clusters: cluster by instance_id.
        prepared: the data.
        above_lowest: only instances above the lowest rank: where that rank means "none", the group is given by it.
    """
    manifest = prepared.manifest.loc[clusters.index]
    groups = group_codes(manifest["group"], prepared.groups)
    kept = (groups >= 0) & ((manifest["rank"] > prepared.rank_levels[0]).to_numpy() | (not above_lowest))
    k = int(clusters.max()) + 1
    table = metrics.contingency(clusters.to_numpy(dtype=np.int64)[kept], groups[kept], k, len(prepared.groups))
    return metrics.normalized_mutual_information(table)


def sample_images(prepared: Prepared, limit: int = BASELINE_IMAGES) -> dict[str, Any]:
    """Training and held-out images for baselines and figures: the first of the shuffled rows."""
    found: dict[str, Any] = {}
    for name, rows in ((TRAIN, prepared.train), (TEST, prepared.test)):
        batch = rows.limit(limit).take_batch(limit, batch_format="numpy")
        found[f"{name}_ids"], found[name] = np.array(batch["instance_id"]), np.array(batch["image"])
    return found
