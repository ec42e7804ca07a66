"""Search spaces: which settings are searched and what counts as best, read from files that hold nothing else."""

import runpy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float, Integer

from ordclust_ray.config import MACHINES, InputError, JobConfig
from ordclust_ray.core.order import RankScale, similar_levels

Config = TypeVar("Config", bound=JobConfig)
PARTS = ("SYSTEM", "PARAMETERS", "METRIC", "MODE", "REASON")
MODES = ("min", "max")
CLUSTERS = {"silhouette": "max", "nearest_same_cluster": "max", "stability": "max"}
"""Criteria of clusters that need no label, and which end of each is best."""
TOLERANCE = "rank.tolerance"
BEST_END = {"min": "highest", "max": "lowest"}
"""Of a metric whose mode is the other one."""
SHARED = {
    *("drc", "path", "candidates", "comparator.image_size", "features", "column", "label_column"),
    *("rank.step", "rank.cumulative_score_at", "credible_mass", "rank.credible_mass"),
    *("seeds", "sample", "clustering.sample", "cpus_per_trial"),
    *MACHINES,
}
"""What all trials of a sweep work on, with, and are judged by, beside the sections `data` and `run`."""


@dataclass(frozen=True)
class Space:
    """What a sweep searches.

    Attributes:
        name: of the space.
        system: what a trial makes: "drc-orid", "comparator" and "idfd" train, "features" clusters.
        parameters: Ray Tune's distributions by the dotted name of a setting, `clustering.num_clusters` for one.
        metric: that trials report.
        mode: "min" or "max": which end of the metric is best.
        reason: why these, in a line.
    """

    name: str
    system: str
    parameters: Mapping[str, Domain]
    metric: str
    mode: str
    reason: str

    def described(self) -> dict[str, str]:
        """As a sweep remembers it."""
        domains = {
            name: f"{type(domain).__name__} {domain.domain_str} {type(domain.get_sampler()).__name__}"
            for name, domain in self.parameters.items()
        }
        return {**domains, "system": self.system, "metric": self.metric, "mode": self.mode}

    def grid(self) -> dict[str, Any]:
        """Every combination of the choices, in Ray Tune's terms.

        Raises:
            InputError: a distribution that is no choice.
        """
        for name, domain in self.parameters.items():
            if not isinstance(domain, Categorical):
                raise InputError(f"--algorithm grid needs tune.choice for every setting; {name!r} is {domain}")
        return {name: tune.grid_search(list(domain.categories)) for name, domain in self.parameters.items()}


def read_space(given: str, folder: Path, systems: Collection[str]) -> Space:
    """A space by its name, or by a file of the user's own.

    Args:
        given: name of a file in the folder, without its suffix; or the path of a Python file. It defines `SYSTEM`,
            `PARAMETERS`, `METRIC`, `MODE` and `REASON`, which `Space` explains.
        folder: of our own spaces.
        systems: that can be searched.

    Raises:
        InputError: there is none, or it lacks something.
    """
    file = Path(given).expanduser() if given.endswith(".py") else folder / f"{given}.py"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
        raise InputError(f"there is no space {given!r}; it must be one of {known}, or a file that ends in .py")
    try:
        found = runpy.run_path(str(file))
    except Exception as error:  # whatever is written there
        raise InputError(f"space {str(file)!r} cannot be read: {type(error).__name__}: {error}") from None
    for part in PARTS:
        if part not in found:
            raise InputError(f"space {str(file)!r} has no {part}; it must define {', '.join(PARTS)}")
    system, parameters, metric, mode, reason = (found[part] for part in PARTS)
    if system not in systems:
        raise InputError(f"SYSTEM of space {str(file)!r} is {system!r}; it must be one of {', '.join(systems)}")
    if mode not in MODES:
        raise InputError(f"MODE of space {str(file)!r} is {mode!r}; it must be 'min' or 'max'")
    if not isinstance(parameters, dict) or not parameters:
        raise InputError(f"PARAMETERS of space {str(file)!r} must be a dictionary of at least one distribution")
    for name, domain in parameters.items():
        if not isinstance(domain, Categorical | Integer | Float):
            shown = type(domain).__name__ if isinstance(domain, Domain) else repr(domain)
            raise InputError(
                f"{name!r} of space {str(file)!r} is {shown}; it must be a distribution of ray.tune: choice, uniform, "
                "loguniform, randint or their like"
            )
    return Space(file.stem, system, parameters, metric, mode, reason)


def require_settings(space: Space, config: JobConfig, metrics: Mapping[str, str]) -> None:
    """Checks a space against the settings of a recipe, before anything is tried.

    Args:
        space: to be searched.
        config: of the recipe.
        metrics: that trials report, and which end of each is best.

    Raises:
        InputError: a name that is no setting, or one that all trials share; a value that the setting does not allow; a
            metric that nobody reports, or whose other end is best.
    """
    if space.metric not in metrics:
        raise InputError(f"METRIC of space {space.name} is {space.metric!r}; it must be one of {', '.join(metrics)}")
    if space.mode != metrics[space.metric]:
        raise InputError(
            f"MODE of space {space.name} is {space.mode!r}; {space.metric} is best at its {BEST_END[space.mode]}"
        )
    for name, domain in space.parameters.items():
        if name in SHARED or name.startswith(("data.", "run.")):
            raise InputError(f"space {space.name}: {name!r} cannot be searched; all trials of a sweep share it")
        for value in ends(domain):
            try:
                require_type(name, value, config)
                with_values(config, {name: value})
            except (InputError, TypeError) as error:
                raise InputError(f"space {space.name}: {error}") from None


def require_type(name: str, value: Any, config: JobConfig) -> None:
    """Raises InputError where a value is of another type than a setting, or none of its names."""
    section, _, field = name.rpartition(".")
    owner = getattr(config, section, None) if section else config
    kind = get_type_hints(type(owner)).get(field)
    if kind is None:  # there is no such setting, which is said elsewhere
        return
    names = [option for part in (kind, *get_args(kind)) if get_origin(part) is Literal for option in get_args(part)]
    if names and value not in names:
        raise InputError(f"{name!r} is {value!r}; it must be one of {', '.join(map(repr, names))}")
    takes = {int: (int, np.integer), float: (int, float, np.number), bool: (bool, np.bool_), str: (str,)}.get(kind)
    if takes and (not isinstance(value, takes) or (kind is not bool and isinstance(value, bool))):
        raise InputError(f"{name!r} is {value!r}; it must be of type {kind.__name__}")


def ends(domain: Domain) -> Sequence[Any]:
    """The choices, or the least and the greatest value, of a distribution; nothing where they are not known."""
    if isinstance(domain, Categorical):
        return list(domain.categories)
    if isinstance(domain, Integer):
        return [domain.lower, domain.upper - 1]
    return [float(domain.lower), float(domain.upper)] if isinstance(domain, Float) else []


def tolerances_alike(space: Space, levels: NDArray[np.float64], scale: RankScale) -> list[list[float]]:
    """Choices of the tolerance that call the same ranks similar, so that trials of one tell as much of the others.

    Args:
        space: to be searched.
        levels: (M,) the ranks that there are, ascending.
        scale: on which they are compared.
    """
    orders: dict[bytes, list[float]] = {}
    domain = space.parameters.get(TOLERANCE)
    for tolerance in domain.categories if isinstance(domain, Categorical) else []:
        orders.setdefault(np.stack(similar_levels(levels, tolerance, scale)).tobytes(), []).append(tolerance)
    return [alike for alike in orders.values() if len(alike) > 1]


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with others in the place of some.

    Args:
        config: all settings.
        values: by dotted name.

    Raises:
        InputError: there is no such setting, or the value is not allowed.
    """
    known = config.flat()
    for name in values:
        if name not in known:
            raise InputError(f"there is no setting {name!r}; they are {', '.join(known)}")
    return type(config).from_flat({**known, **{name: plain(value) for name, value in values.items()}})


def plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value
