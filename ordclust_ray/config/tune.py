"""Settings of sweeps."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ordclust_ray.config.common import InputError, JobConfig, RunConfig, check
from ordclust_ray.config.drc import ClusteringConfig


@dataclass(frozen=True)
class SearchConfig:
    """How a sweep looks for the best settings."""

    algorithm: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: Optuna's tree-structured Parzen estimator, which learns from the trials before. random: it does not. grid:
    every combination of the space's choices."""
    num_trials: int = 20
    """Trials; a grid has one for each combination, whatever is said here."""
    time_budget: float = 0.0
    """Seconds after which no trial begins or goes on. 0: no limit."""
    concurrent: int = 0
    """Trials at a time. 0: as many as the cluster's resources allow."""
    cpus_per_trial: float = 1.0
    """CPUs that a trial reserves, and threads that it uses."""

    def __post_init__(self) -> None:
        check("num-trials", self.num_trials, 1)
        check("time-budget", self.time_budget, 0)
        check("concurrent", self.concurrent, 0)
        check("cpus-per-trial", self.cpus_per_trial, 0.01)


@dataclass(frozen=True)
class FeatureTrialConfig(JobConfig):
    """A clustering of features that are there already, as a sweep tries it."""

    system: ClassVar[str] = "features"

    features: str = ""
    """A Parquet file, or a .npy file of (N, D) numbers, which is kept in memory once; rows are normalised."""
    column: str = "features"
    """Of a Parquet file: lists of numbers, all of one length."""
    label_column: str = ""
    """Of a Parquet file: a known class. It is reported as ACC, NMI and ARI; whoever searches by these looks at labels.
    Empty: none."""
    seeds: int = 2
    """Clusterings of each trial, from different starts; the best objective counts, and stability is how well they agree
    (mean adjusted Rand index)."""
    sample: int = 2_000
    """Rows that silhouette and nearest neighbours are computed for."""
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(experiment="sweeps"))

    def require(self) -> None:
        """Raises InputError where a setting that has no default was not given."""
        if not self.features:
            raise InputError("--features is missing; it must be a Parquet or a .npy file")

    def __post_init__(self) -> None:
        check("seeds", self.seeds, 1)
        check("sample", self.sample, 2)
