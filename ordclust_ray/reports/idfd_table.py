"""What a run of IDFD achieved, as files and as a table beside k-means on pixels."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ordclust_ray.clustering.measures import class_measures
from ordclust_ray.config import IdfdConfig
from ordclust_ray.core import baselines
from ordclust_ray.core.nearest_centroid import assign
from ordclust_ray.data.unlabelled import Unlabelled
from ordclust_ray.reports.results import Results
from ordclust_ray.training.checkpoint import load_bank

METHODS = {
    "id-original": "ID(original)",
    "id-tuned": "ID(tuned)",
    "idfo": "IDFO",
    "idfd": "IDFD",
    "ae": "AE",
    "ae-fd": "AE+FD",
}
MEASURES = {
    "acc": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "silhouette": "silhouette",
    "nearest_same_cluster": "neighbour in same cluster",
}
BASELINE_IMAGES, BASELINE_NUMBERS = 10_000, 30_000_000
"""The pixel baseline sees at most so many images, and so many numbers of them: fewer images where they are larger."""
ROWS = 2**16


def write_features(checkpoint: Path, num_rows: int, file: Path) -> NDArray[np.float32]:
    """The bank of a checkpoint as a .npy file, a row an image in the order of the instance ids; returns it mapped."""
    first = load_bank(checkpoint, 0, 1)
    features = np.lib.format.open_memmap(file, "w+", np.float32, (num_rows, first.shape[1]))
    for start in range(0, num_rows, ROWS):
        end = min(start + ROWS, num_rows)
        features[start:end] = load_bank(checkpoint, start, end).numpy()
    features.flush()
    return features


def assignments(prepared: Unlabelled, features: NDArray[np.float32], centroids: torch.Tensor) -> pd.DataFrame:
    """The manifest with `cluster`, `distance` to its centroid, `second` nearest cluster and the `margin` to it."""
    parts = [
        assign(torch.from_numpy(np.array(features[start : start + ROWS])), centroids)
        for start in range(0, len(features), ROWS)
    ]
    columns = {"cluster": "clusters", "distance": "distances", "margin": "margins", "second": "seconds"}
    found = {
        ours: np.concatenate([getattr(part, theirs).numpy() for part in parts]) for ours, theirs in columns.items()
    }
    return prepared.manifest.assign(**found)


def sample_images(prepared: Unlabelled, image_size: int) -> dict[str, NDArray[Any]]:
    """`ids` and `images` for baselines and figures: the first of the shuffled rows."""
    limit = min(BASELINE_IMAGES, BASELINE_NUMBERS // (3 * image_size**2))
    batch = prepared.train.limit(limit).take_batch(limit, batch_format="numpy")
    return {"ids": np.array(batch["instance_id"]), "images": np.array(batch["image"])}


def evaluate(
    config: IdfdConfig, prepared: Unlabelled, record: Mapping[str, Any], images: Mapping[str, NDArray[Any]]
) -> Results:
    """The table.

    Args:
        config: the run's settings.
        prepared: the data.
        record: of the last epoch.
        images: "ids" and "images" of a sample, for k-means on pixels.
    """
    ours = {words: record[name] for name, words in MEASURES.items() if record.get(name) is not None}
    measures = {METHODS[config.loss.variant]: ours}
    found = _of_pixels(config, prepared, images)
    if found:
        n, seen = len(prepared.manifest), len(images["ids"])
        name = "k-means on pixels" if seen == n else f"k-means on pixels of {seen} images"
        measures[name] = {MEASURES[name]: value for name, value in found.items()}
    note = f"k-means: the best of {config.clustering.starts} starts by {record['kmeans_objective']}"
    return Results(measures, record["cluster_sizes"], note)


def _of_pixels(config: IdfdConfig, prepared: Unlabelled, images: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """ACC, NMI and ARI of k-means on the sample's pixels; nothing where too few of its images have a known class."""
    labels, k = prepared.labels[prepared.rows_of(images["ids"])], prepared.num_clusters
    if (labels >= 0).sum() < 2 * k:
        return {}
    clusters = baselines.pixel_clusters(images["images"], k, config.run.seed, config.clustering.starts)
    return class_measures(clusters, labels, k, len(prepared.classes))


def class_shares(rows: pd.DataFrame, prepared: Unlabelled) -> list[str]:
    """Of each cluster the most frequent known class and its share: "92% sneaker"; nothing where no class is known.

    Args:
        rows: from `assignments`.
        prepared: the data.
    """
    if not prepared.classes:
        return []
    table = np.zeros((prepared.num_clusters, len(prepared.classes)), dtype=np.int64)
    known = prepared.labels >= 0
    np.add.at(table, (rows["cluster"].to_numpy()[known], prepared.labels[known]), 1)
    return list(_shares(table, prepared.classes))


def _shares(table: NDArray[np.int64], classes: list[str]) -> Iterator[str]:
    for counts in table:
        yield f"{counts.max() / max(counts.sum(), 1):.0%} {classes[counts.argmax()]}" if counts.sum() else ""
