"""The measures of a cell, by the names that tables ask for."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config import DrcConfig
from ordclust_ray.core import metrics
from ordclust_ray.core.networks import Orid
from ordclust_ray.reports import analysis_table as analysis


def of_ranks(measures: Mapping[str, float], limit: float) -> dict[str, float]:
    """Those of `rank_measures`; CS without its limit."""
    return {"MAE": measures["MAE"], "CS": measures[f"CS at {limit:g}"], "accuracy": measures["accuracy"]}


def cluster_measures(clusters: pd.Series, manifest: pd.DataFrame, centroids: NDArray[np.float64]) -> dict[str, float]:
    """CA, NMI with the known groups, and how many training images of each group are in each cluster.

    Args:
        clusters: by instance_id of the training images.
        manifest: with `group` where groups are known.
        centroids: (K, D).
    """
    k = len(centroids)
    found = {"CA": metrics.centroid_affinity(centroids)} if k > 1 else {}
    if "group" not in manifest:
        return found
    groups = manifest["group"].reindex(clusters.index)
    known = groups[groups != ""]
    table = pd.crosstab(clusters[known.index], known).reindex(range(k), fill_value=0)
    if k > 1 and len(known):
        found["NMI"] = metrics.normalized_mutual_information(table.to_numpy())
    everyone = sorted(set(manifest["group"]) - {""})  # those too of whom all are held out
    return found | {
        f"cluster {cluster + 1} of {group}": float(images)
        for group, column in table.reindex(columns=everyone, fill_value=0).items()
        for cluster, images in enumerate(column)
    }


def feature_measures(
    train: analysis.Sample, test: analysis.Sample, orid: Orid, run: DrcConfig, epochs: int
) -> dict[str, float]:
    """Tables 11 and 12.

    Args:
        train: what is clustered, and compared with.
        test: what is judged.
        orid: the run's networks.
        run: its settings.
        epochs: of the small comparators.
    """
    schedule = {"epochs": epochs, "seed": run.run.seed}
    measures = analysis.feature_measures(train, test, run, **schedule)
    for by in analysis.KINDS if run.clustering.num_clusters > 1 else ():
        clusters = analysis.cluster_anew(train, by, run)
        measures[f"clusters of {by}"] = analysis.regrouped_measures(train, test, clusters, by, orid, run, **schedule)
    return of_analysis(measures, run.rank.cumulative_score_at)


def of_analysis(measures: Mapping[str, Mapping[str, float]], limit: float) -> dict[str, float]:
    """Those that `jobs/analyse.py` leaves of a run's features."""
    found: dict[str, float] = {}
    for by in analysis.KINDS:
        if regrouped := measures.get(f"clusters of {by}"):
            found |= {f"{by}: {name}": value for name, value in of_ranks(regrouped, limit).items()}
            found |= {f"{by}: {name}": regrouped[name] for name in ("NMI with ranks", "NMI with groups")}
        if learnt := measures.get(f"{by} feature"):
            found[f"accuracy from {by}"] = learnt[analysis.ACCURACY]
    return found
