"""Command lines of sweeps: how to search, and the recipe whose other settings all trials have."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import tyro

from ordclust_ray.config import (
    ClusterFeaturesConfig,
    ComparatorTrialConfig,
    DrcConfig,
    FeatureTrialConfig,
    IdfdConfig,
    SearchConfig,
    StoppingConfig,
    ValidationConfig,
)
from ordclust_ray.recipes import comparator, drc, idfd

Flat = tyro.conf.arg(name="")
"""A section whose settings are flags of their own, without its name."""


@dataclass(frozen=True)
class Sweep:
    """How to search, and the settings that are not searched."""

    trial: Any
    search: Annotated[SearchConfig, Flat] = field(default_factory=SearchConfig)

    @property
    def asked(self) -> dict[str, Any]:
        """How it searches, by name: all but the settings of the trials."""
        sections = [section for name, section in vars(self).items() if name != "trial"]
        return {name: value for section in sections for name, value in vars(section).items()}


@dataclass(frozen=True)
class FeatureSweep(Sweep):
    """Over clusterings of features."""

    trial: Annotated[FeatureTrialConfig, Flat]


@dataclass(frozen=True)
class TrainedSweep(Sweep):
    """Over trainings."""

    stopping: Annotated[StoppingConfig, Flat] = field(default_factory=StoppingConfig)


@dataclass(frozen=True)
class IdfdSweep(TrainedSweep):
    """Over trainings of IDFD."""

    trial: Annotated[IdfdConfig, Flat]


@dataclass(frozen=True)
class RankedSweep(TrainedSweep):
    """Over trainings that are judged by ranks of held-out images."""

    validation: Annotated[ValidationConfig, Flat] = field(default_factory=ValidationConfig)


@dataclass(frozen=True)
class DrcSweep(RankedSweep):
    """Over trainings of DRC-ORID."""

    trial: Annotated[DrcConfig, Flat]


@dataclass(frozen=True)
class ComparatorSweep(RankedSweep):
    """Over trainings of the stronger comparator."""

    trial: Annotated[ComparatorTrialConfig, Flat]


Recipes = Mapping[str, Callable[[], Sweep]]


def features() -> FeatureSweep:
    """Repulsive clustering of features that are there already. Needs --features."""
    return FeatureSweep(FeatureTrialConfig())


def sweeps(kind: type[Sweep], trial: Callable[[Any], Any], recipes: Mapping[str, Callable[[], Any]]) -> Recipes:
    """The recipes of a job as sweeps.

    Args:
        kind: of sweep.
        trial: makes the settings of a trial of those of the job.
        recipes: of the job.
    """

    def of(recipe: Callable[[], Any]) -> Callable[[], Sweep]:
        @wraps(recipe)
        def build() -> Sweep:
            return kind(trial(recipe()))

        return build

    return {name: of(recipe) for name, recipe in recipes.items()}


SYSTEMS: dict[str, tuple[Recipes, str]] = {
    "drc-orid": (sweeps(DrcSweep, lambda config: config, drc.RECIPES), "digits"),
    "comparator": (
        sweeps(ComparatorSweep, lambda config: ComparatorTrialConfig(**vars(config)), comparator.RECIPES),
        "small",
    ),
    "idfd": (sweeps(IdfdSweep, lambda config: config, idfd.RECIPES), "digits"),
    "features": ({"features": features}, "features"),
}
"""Recipes by the system of a space, and the one that is taken where none is named."""


def follow_up(best: Any, recipe: Path) -> str:
    """What to do next, in words; `recipe` is the file of the best settings."""
    if isinstance(best, FeatureTrialConfig):
        return f"\nall rows with the best:  {clustering_command(best)}"
    if isinstance(best, ComparatorTrialConfig):
        return f"\nall images with the best:\n{comparator_commands(best, recipe)}"
    job = "train_idfd.py" if isinstance(best, IdfdConfig) else "train_drc.py"
    return f"\nall images with the best:  python jobs/{job} --recipe {shlex.quote(str(recipe))}"


def clustering_command(best: FeatureTrialConfig) -> str:
    """That writes the clusters of every row, its nearest centroids and a table, by settings that a sweep found."""
    plain, clustering = ClusterFeaturesConfig().flat(), best.clustering
    wanted = {
        "features": best.features,
        "column": best.column,
        "k": str(clustering.num_clusters),
        "repulsion": clustering.repulsion,
        "min_cluster_fraction": clustering.min_cluster_fraction,
        "max_iterations": clustering.max_iterations,
        "tolerance": clustering.tolerance,
        "seeds": best.seeds,
        "run.seed": best.run.seed,
    }
    flags = [f"--{name.replace('_', '-')} {shlex.quote(str(v))}" for name, v in wanted.items() if v != plain[name]]
    return f"python jobs/cluster_features.py {' '.join(flags)}"


def comparator_commands(best: ComparatorTrialConfig, recipe: Path) -> str:
    """That train a comparator on all training images, and choose its references, by settings that a sweep found."""
    train = f"python jobs/train_comparator.py --recipe {shlex.quote(str(recipe))} --run.name NAME"
    rules = (
        f"--{name.replace('_', '-')} {getattr(best, name)}" for name in ("references", "candidates", "credible_mass")
    )
    return f"{train}\npython jobs/select_references.py --model NAME {' '.join(rules)}"
