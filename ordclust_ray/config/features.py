"""Settings of the clustering of features alone."""

import re
from dataclasses import dataclass, field
from typing import Literal

from ordclust_ray.config.common import InputError, JobConfig, RunConfig, check


@dataclass(frozen=True)
class ClusterFeaturesConfig(JobConfig):
    """All settings of `jobs/cluster_features.py`."""

    features: str = ""
    """A Parquet file, a folder of them (also in object storage, s3://...), or a .npy file."""
    k: str = "2..12"
    """Numbers of clusters: 8, or 2..12, or 2,4,8; all of them in one pass over the features an iteration."""
    column: str = "features"
    """Of a Parquet file: lists of numbers, all of one length; rows are normalised to unit length."""
    id_column: str = ""
    """Of a Parquet file: goes with the results. Empty: the number of the row."""
    label_column: str = ""
    """Of a Parquet file: a known class, only to report NMI, ARI and ACC. Empty: none."""
    repulsion: float = 0.1
    """alpha, the weight of the other centroids' push; 0 is spherical k-means."""
    min_cluster_fraction: float = 0.5
    """The floor of a cluster as a share of n / k: 0.5 is the paper's, 0 is none."""
    init: Literal["k-means++", "k-means||", "k-means", "random"] = "k-means||"
    """How to start; k-means|| reads all features 12 times, k-means++ 2 k times, k-means (the paper's) once."""
    seeds: int = 1
    """Starts of each k; the best objective is kept, and how well they agree is reported as stability."""
    max_iterations: int = 70
    """Iterations of one clustering at most."""
    tolerance: float = 0.01
    """A clustering ends when at most this share of the memberships changes."""
    silhouette_sample: int = 2_000
    """Rows of the sample that the silhouette is computed on."""
    num_shards: int = 0
    """Actors. 0: as many as the cluster's CPUs allow. The result does not depend on it."""
    cpus_per_shard: float = 1.0
    """CPUs that an actor reserves, and threads that it uses."""
    run: RunConfig = field(default_factory=lambda: RunConfig(experiment="drc-features"))

    def __post_init__(self) -> None:
        check("repulsion", self.repulsion, 0)
        check("min-cluster-fraction", self.min_cluster_fraction, 0, 1)
        check("seeds", self.seeds, 1)
        check("max-iterations", self.max_iterations, 1)
        check("tolerance", self.tolerance, 0, 1)
        check("silhouette-sample", self.silhouette_sample, 2)
        check("num-shards", self.num_shards, 0)
        check("cpus-per-shard", self.cpus_per_shard, 0.01)
        if self.id_column in ("cluster", "similarity", "similarities"):
            raise InputError(f"--id-column is {self.id_column!r}, as a column of the results is; rename it in the file")
        self.all_k  # noqa: B018  # a mistake shows now

    @property
    def all_k(self) -> list[int]:
        """The numbers of clusters that `k` stands for, ascending."""
        ends = re.fullmatch(r"(\d+)\.\.(\d+)", self.k)
        if ends:
            found = list(range(int(ends[1]), int(ends[2]) + 1))
        else:
            found = sorted({int(k) for k in self.k.split(",")}) if re.fullmatch(r"\d+(,\d+)*", self.k) else []
        if not found or found[0] < 1:
            raise InputError(f"--k is {self.k!r}; it must be numbers of at least 1, like 8, 2..12 or 2,4,8")
        return found
