"""Settings of sweeps."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ordclust_ray.config.common import InputError, JobConfig, RunConfig, check
from ordclust_ray.config.comparator import ComparatorConfig
from ordclust_ray.config.drc import ClusteringConfig, ReferencesConfig


@dataclass(frozen=True)
class SearchConfig:
    """How a sweep looks for the best settings."""

    algorithm: Literal["tpe", "random", "grid"] = "tpe"
    """tpe: Optuna's tree-structured Parzen estimator, which learns from the trials before. random: it does not. grid:
    every combination of the space's choices."""
    num_trials: int = 20
    """Trials; a grid has one for each combination, whatever is said here."""
    time_budget: float = 0.0
    """Seconds of work after which no trial begins or goes on. 0: no limit."""
    concurrent: int = 0
    """Trials at a time. 0: as many as the cluster's resources allow."""

    def __post_init__(self) -> None:
        check("num-trials", self.num_trials, 1)
        check("time-budget", self.time_budget, 0)
        check("concurrent", self.concurrent, 0)


@dataclass(frozen=True)
class StoppingConfig:
    """When a trial that trains is stopped early."""

    scheduler: Literal["asha", "none"] = "asha"
    """asha: asynchronous successive halving (Li et al., 2020), trials that are worse than most others after as many
    epochs are stopped. none: all are trained to their end."""
    grace_epochs: int = 0
    """Epochs before the first such comparison. 0: a quarter of those of the longest trial; of DRC-ORID at least the
    first round after the warm-up, for before it k and repulsion have not acted on the networks."""
    reduction_factor: float = 3.0
    """One trial in so many goes on after a comparison; the next one comes after so many times the epochs."""

    def __post_init__(self) -> None:
        check("grace-epochs", self.grace_epochs, 0)
        check("reduction-factor", self.reduction_factor, 1.5)


@dataclass(frozen=True)
class ValidationConfig:
    """The images that trials are judged by. They are taken from the training images; held-out ones are never seen."""

    validation_fraction: float = 0.2
    """Share of the training images of every rank."""
    validation_images: int = 10_000
    """At most so many."""

    def __post_init__(self) -> None:
        check("validation-fraction", self.validation_fraction, 0.01, 0.9)
        check("validation-images", self.validation_images, 1)


@dataclass(frozen=True)
class ComparatorTrialConfig(ReferencesConfig, ComparatorConfig):
    """The stronger comparator and the references that it compares with, as a sweep tries them."""


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
    cpus_per_trial: float = 1.0
    """CPUs that a trial reserves."""
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
        check("cpus-per-trial", self.cpus_per_trial, 0.01)
        check("sample", self.sample, 2)
