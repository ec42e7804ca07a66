"""Command lines of sweeps: how to search, and the recipe whose other settings all trials have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Annotated, Any

import tyro

from ordclust_ray.config import (
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
