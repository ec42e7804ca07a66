"""Trials that cluster features: arrays in, criteria out. The features lie in the object store once for all of them."""

import hashlib
import warnings
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from ray import tune

from ordclust_ray.clustering.estimator import RepulsiveKMeans
from ordclust_ray.clustering.measures import class_measures, plain_measures
from ordclust_ray.clustering.sources import file_parts
from ordclust_ray.config import FeatureTrialConfig, InputError
from ordclust_ray.core.metrics import adjusted_rand_index, centroid_affinity, contingency
from ordclust_ray.tuning.space import CLUSTERS, with_values


@dataclass(frozen=True)
class FeatureTrials:
    """What all trials have in common.

    Attributes:
        config: settings of all trials.
        features: (N, D) unit features.
        labels: (N,) classes, -1 where none is known.
    """

    METRICS: ClassVar[dict[str, str]] = {**CLUSTERS, "CA": "min"}
    LABELLED: ClassVar[dict[str, str]] = {"acc": "max", "nmi": "max", "ari": "max"}
    config: FeatureTrialConfig
    features: NDArray[np.float32]
    labels: NDArray[np.int64]

    @staticmethod
    def source(config: FeatureTrialConfig) -> None:
        """The features are their own source; raises InputError where none are named."""
        config.require()

    @property
    def labelled(self) -> bool:
        """Whether classes are known."""
        return bool((self.labels >= 0).any())

    def data(self) -> dict[str, Any]:
        """For `run.refuse_other_data`."""
        found = hashlib.sha256(self.features.data)
        rows = len(self.features)
        return {"path": self.config.features, "images": rows, "fingerprint": found.hexdigest(), "what": "features"}


def read_features(config: FeatureTrialConfig) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(N, D) unit features, and (N,) classes, -1 where none is known.

    Raises:
        InputError: a file that cannot be read, or a row that is zero or not finite.
    """
    columns = [config.label_column] if config.label_column else []
    try:
        parts = file_parts(str(Path(config.features).expanduser().absolute()), config.column, 1, columns)
    except ValueError as error:
        raise InputError(str(error)) from None
    batches = [(batch, features) for part in parts for batch, features in part.rows(columns)]
    rows = np.concatenate([np.asarray(features, dtype=np.float32) for _, features in batches])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        row = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)).ravel())[0])
        raise InputError(f"row {row} of --features {config.features!r} is zero, or not finite")
    labels = np.full(len(rows), -1, dtype=np.int64)
    if columns:
        known = pd.concat([batch[config.label_column].to_pandas() for batch, _ in batches], ignore_index=True)
        labels = pd.factorize(known, sort=True)[0].astype(np.int64)
    rows /= lengths
    return rows, labels


def cluster_features(values: dict[str, Any], trials: FeatureTrials) -> None:
    """A trial: clusters with these settings, and reports `criteria` once.

    Args:
        values: settings by dotted name, from the space.
        trials: data and the other settings.
    """
    tune.report(criteria(with_values(trials.config, values), trials.features, trials.labels))


def criteria(config: FeatureTrialConfig, features: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """What tells a good clustering.

    Returns:
        `silhouette` and `stability` in [-1, 1], `nearest_same_cluster` in [0, 1], higher is better, the last rises by
        itself where clusters are few; `CA` (30), lower is better; `objective` a row; `smallest` cluster; with known
        classes `acc`, `nmi` and `ari`. NaN where one cluster says nothing.
    """
    settings, seed = config.clustering, config.run.seed
    fits = [
        RepulsiveKMeans(
            settings.num_clusters,
            repulsion=settings.repulsion,
            min_cluster_fraction=settings.min_cluster_fraction,
            max_iter=settings.max_iterations,
            tol=settings.tolerance,
            random_state=seed + number,
            n_jobs=max(1, int(config.cpus_per_trial)),
        ).fit(features)
        for number in range(config.seeds)
    ]
    best = max(fits, key=lambda fit: fit.objective_)
    k, clusters = settings.num_clusters, best.labels_.astype(np.int64)
    with warnings.catch_warnings(action="ignore"):  # arrays of the object store cannot be written to; nobody does
        rows = torch.from_numpy(features)
    plain = plain_measures(rows, 0, len(rows), clusters, k, sample=config.sample, seed=seed)
    silhouette = plain["silhouette"]
    return {
        "silhouette": float("nan") if silhouette is None else silhouette,
        "nearest_same_cluster": plain["nearest_same_cluster"],
        "stability": stability([fit.labels_.astype(np.int64) for fit in fits], k),
        "CA": centroid_affinity(best.cluster_centers_),
        "objective": best.objective_ / len(features),
        "smallest": int(min(plain["cluster_sizes"])),
        **class_measures(clusters, labels, k, int(labels.max()) + 1),
    }


def stability(clusterings: list[NDArray[np.int64]], num_clusters: int) -> float:
    """Mean adjusted Rand index of all pairs; NaN of a single one, and of a single cluster."""
    if len(clusterings) < 2 or num_clusters < 2:
        return float("nan")
    tables = [contingency(a, b, num_clusters, num_clusters) for a, b in combinations(clusterings, 2)]
    return float(np.mean([adjusted_rand_index(table) for table in tables]))
