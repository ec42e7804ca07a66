"""Clusterings of the same features for several k and seeds, side by side, and what tells which k to choose."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from ordclust_ray.clustering.ray_engine import RayEngine
from ordclust_ray.clustering.sources import ROW, FilePart
from ordclust_ray.core.answers import Rows
from ordclust_ray.core.blocks import GRID, as_block
from ordclust_ray.core.metrics import (
    adjusted_rand_index,
    centroid_affinity,
    clustering_accuracy,
    normalized_mutual_information,
    pham_f,
)
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.core.repulsive_kmeans import Clustering, Rules, cluster_together, floor_size
from ordclust_ray.core.shard import Shard
from ordclust_ray.core.starts import starts_together

SILHOUETTE = 2**31
"""What the seed of the sample is for; starts use small numbers."""


@dataclass(frozen=True)
class Run:
    """One clustering of a study.

    Attributes:
        number: that the shards know it by.
        num_clusters: k.
        seed: of its start.
        result: where it ended.
    """

    number: int
    num_clusters: int
    seed: int
    result: Clustering


@dataclass(frozen=True)
class Study:
    """All clusterings of a study, and the best of each k by its objective."""

    runs: list[Run]

    def of(self, num_clusters: int) -> list[Run]:
        """Those of one k, the best first."""
        own = [run for run in self.runs if run.num_clusters == num_clusters]
        return sorted(own, key=lambda run: -run.result.objective)

    @property
    def best(self) -> list[Run]:
        """One a k, by rising k."""
        return [self.of(k)[0] for k in sorted({run.num_clusters for run in self.runs})]


def run_study(
    engine: RayEngine,
    all_k: Sequence[int],
    seeds: Sequence[int],
    init: str,
    *,
    repulsion: float,
    min_cluster_fraction: float,
    max_iterations: int,
    tolerance: float,
    on_iteration: Callable[[int, Clustering], None] | None = None,
) -> Study:
    """Clusters for every k and seed; the features are read once an iteration for all of them.

    Args:
        engine: holds the features.
        all_k: numbers of clusters.
        seeds: of the starts.
        init: a name of `core.starts.STARTS`.
        repulsion: see `Rules`, as the next three.
        min_cluster_fraction: the floor as a share of n/k.
        max_iterations: of each clustering.
        tolerance: share of memberships.
        on_iteration: is told a number and a state.
    """
    n, plan = engine.num_instances, [(k, seed) for k in all_k for seed in seeds]
    rules = {k: Rules(repulsion, floor_size(n, k, min_cluster_fraction), max_iterations, tolerance) for k in all_k}
    for k in all_k:
        rules[k].check(k, n)
    begun = {seed: dict(zip(all_k, starts_together(engine, init, all_k, seed), strict=True)) for seed in seeds}
    starts = {number: (begun[seed][k], rules[k]) for number, (k, seed) in enumerate(plan)}
    results = cluster_together(engine, starts, on_iteration)
    return Study([Run(number, k, seed, results[number]) for number, (k, seed) in enumerate(plan)])


def quality_table(engine: RayEngine, study: Study, *, silhouette_sample: int, label_column: str = "") -> pd.DataFrame:
    """One row a k, of its best clustering: what helps to choose k.

    `J/n` rises with k by itself; `CA` (30), lower is better; `silhouette` on a sample, higher; `f(k)` (Pham et al.
    2005), low where k fits; `stability`, the mean ARI of the clusterings from different seeds, higher; and NMI, ARI,
    ACC with known labels.
    """
    sample = _sample(engine, silhouette_sample)
    n, width = engine.num_instances, study.runs[0].result.centroids.shape[1]
    rows = {}
    for run in study.best:
        c_KD, sums = run.result.centroids, run.result.sums * GRID
        rows[run.num_clusters] = {
            "J/n": run.result.objective / n,
            "CA": centroid_affinity(c_KD),
            "silhouette": _silhouette(sample, c_KD),
            "f(k)": float("nan"),
            "stability": _stability(engine, study.of(run.num_clusters)),
            "distortion": 2 * (n - float((c_KD * sums).sum())),
            "smallest": int(run.result.counts.min()),
            "largest": int(run.result.counts.max()),
            "iterations": run.result.iterations,
        }
        if label_column:
            rows[run.num_clusters] |= _agreement(engine, run, label_column)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("k")
    together = np.linalg.norm(study.runs[0].result.sums.sum(axis=0) * GRID)
    distortions = [2 * (n - float(together))]
    for k in range(2, max(rows) + 1):  # f(k) needs k - 1 too
        if k not in rows:
            break
        distortions.append(rows[k]["distortion"])
    for k, f in enumerate(pham_f(distortions, width), start=1):
        if k in rows:
            table.loc[k, "f(k)"] = f
    return table.drop(columns="distortion")


def _sample(engine: RayEngine, size: int) -> NDArray[np.float32]:
    seed = another_seed(0, SILHOUETTE)
    return Rows.first(engine.gather("sample", size, seed), size).features * np.float32(GRID)


def _silhouette(sample: NDArray[np.float32], centroids: NDArray[np.float64]) -> float:
    """Of the sample, each row in its nearest cluster, by cosine distance; NaN where fewer than two are met."""
    from sklearn.metrics import silhouette_score

    nearest = (sample @ centroids.T.astype(np.float32)).argmax(axis=1)
    met = len(np.unique(nearest))
    return float(silhouette_score(sample, nearest, metric="cosine")) if 1 < met < len(sample) else float("nan")


def _stability(engine: RayEngine, runs: list[Run]) -> float:
    if len(runs) < 2 or runs[0].num_clusters < 2:
        return float("nan")
    tables = [sum(engine.run(_crossing, a.number, b.number, a.num_clusters)) for a, b in combinations(runs, 2)]
    return float(np.mean([adjusted_rand_index(table) for table in tables]))


def _crossing(part: FilePart, shard: Shard, first: int, second: int, num_clusters: int) -> NDArray[np.int64]:
    a, b = shard.clusterings[first].labels, shard.clusterings[second].labels
    return np.bincount(a * num_clusters + b, minlength=num_clusters**2).reshape(num_clusters, num_clusters)


def _agreement(engine: RayEngine, run: Run, label_column: str) -> dict[str, float]:
    counts: Counter = sum(engine.run(_labelled, run.number, label_column), Counter())
    labels = sorted({label for _, label in counts}, key=str)
    table = np.array([[counts[j, label] for label in labels] for j in range(run.num_clusters)])
    return {
        "NMI": normalized_mutual_information(table),
        "ARI": adjusted_rand_index(table),
        "ACC": clustering_accuracy(table),
    }


def _labelled(part: FilePart, shard: Shard, number: int, label_column: str) -> Counter:
    """How many instances of each cluster have each label; those without a label are left out."""
    counts: Counter = Counter()
    clusters, start = shard.clusterings[number].labels, 0
    for batch, _ in part.rows([label_column]):
        own = clusters[start : start + len(batch)].tolist()
        labels, missing = batch[label_column].to_pylist(), pc.is_null(batch[label_column], nan_is_null=True).to_pylist()
        counts.update((j, label) for j, label, gone in zip(own, labels, missing, strict=True) if not gone)
        start += len(batch)
    return counts


def write_assignments(engine: RayEngine, study: Study, place: str, id_column: str) -> None:
    """Parquet folders `k=2`, ...: id, cluster, similarity to its centroid and to all; written by the actors.

    Args:
        engine: of the study.
        study: whose best clustering of each k is written.
        place: absolute path of a folder that all machines share, or an address in object storage; written anew.
        id_column: of the features; empty: their rows are numbered.
    """
    chosen = [(run.number, run.result.centroids) for run in study.best]
    files, home = fs.FileSystem.from_uri(place)
    files.create_dir(home)
    files.delete_dir_contents(home)  # of an attempt that was interrupted
    for _, centroids in chosen:
        files.create_dir(f"{home}/k={len(centroids)}")
    engine.run(_write_part, chosen, place, id_column)


def _write_part(
    part: FilePart, shard: Shard, chosen: list[tuple[int, NDArray[np.float64]]], place: str, id_column: str
) -> None:
    first, (files, home) = int(shard.instance_ids[0]), fs.FileSystem.from_uri(place)
    writers: dict[int, Any] = {}
    start = 0
    try:
        for batch, features in part.rows([id_column] if id_column else []):
            block = as_block(features)
            scales, _ = block.scales()
            ids = batch[id_column or ROW]
            for number, centroids in chosen:
                clusters = shard.clusterings[number].labels[start : start + len(batch)]
                similarities = block.products(scales, centroids)
                table = pa.table(
                    {
                        id_column or "row": ids,
                        "cluster": clusters,
                        "similarity": similarities[np.arange(len(batch)), clusters],
                        "similarities": pa.FixedSizeListArray.from_arrays(similarities.ravel(), len(centroids)),
                    }
                )
                if number not in writers:
                    name = f"{home}/k={len(centroids)}/part-{first:012d}.parquet"
                    writers[number] = pq.ParquetWriter(name, table.schema, filesystem=files)
                writers[number].write_table(table)
            start += len(batch)
    finally:
        for writer in writers.values():
            writer.close()


def write_centroids(study: Study, file: Path) -> None:
    """One row a centroid: k, cluster, members, and the unit vector."""
    pq.write_table(
        pa.concat_tables(
            pa.table(
                {
                    "k": np.full(run.num_clusters, run.num_clusters),
                    "cluster": np.arange(run.num_clusters),
                    "members": run.result.counts,
                    "centroid": pa.FixedSizeListArray.from_arrays(
                        run.result.centroids.ravel(), run.result.centroids.shape[1]
                    ),
                }
            )
            for run in study.best
        ),
        file,
    )
