"""A sweep: Ray Tune tries settings, and a driver that was killed goes on with what is left to try."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch
from ray.tune.stopper import TimeoutStopper

from ordclust_ray.config import JobConfig, SearchConfig, StoppingConfig
from ordclust_ray.files import require_own
from ordclust_ray.tuning.record import EPOCH, EPOCHS, OVER, TIME_IS_OVER, ended_because, reported, settings_of
from ordclust_ray.tuning.space import Space, ends, with_values

LENGTHS = {f"training.{name}" for name in ("epochs", "warmup_epochs", "rounds", "epochs_per_round")}
"""Settings that say how long a trial trains."""
TRIALS = "trials"
"""Folder of Ray Tune's own files in that of the sweep."""


@dataclass(frozen=True)
class Execution:
    """How trials run.

    Attributes:
        resources: that a trial reserves, beside what its workers do where it trains.
        concurrent: trials at a time; 0: as many as the resources allow.
        scheduler: stops trials early; None: none are stopped.
        reuse: whether a process goes from trial to trial, which spares its start; for trials that report once.
    """

    resources: Mapping[str, float]
    concurrent: int = 0
    scheduler: TrialScheduler | None = None
    reuse: bool = False


def run_sweep(
    trial: Callable[..., None],
    data: Mapping[str, Any],
    space: Space,
    search: SearchConfig,
    execution: Execution,
    folder: Path,
    callbacks: Sequence[tune.Callback],
    seed: int,
) -> tuple[pd.DataFrame, bool]:
    """Tries settings until there are enough trials, or the time is over, or Ctrl-C.

    Args:
        trial: is given settings by dotted name, and the data.
        data: arguments of every trial, which are put into the object store once.
        space: what is searched.
        search: how.
        execution: with what.
        folder: of the sweep; where it holds an unfinished one, that goes on, and finished trials are not repeated.
        callbacks: are told of the trials.
        seed: of the search.

    Returns:
        A row a trial that has begun, by its id: the settings, what it reported last, `seconds`, `stopped`, why it
        ended, empty where it has not, and `error`, empty where there is none; and whether the sweep is complete.
    """
    trainable = tune.with_resources(tune.with_parameters(trial, **data), dict(execution.resources))
    home = str(folder / TRIALS)
    if begun(folder):
        require_own(folder / TRIALS)  # Ray Tune unpickles what lies there
        tuner = tune.Tuner.restore(home, trainable, resume_unfinished=True)
    else:
        shutil.rmtree(home, ignore_errors=True)
        tuner = tune.Tuner(
            trainable,
            param_space=space.grid() if search.algorithm == "grid" else dict(space.parameters),
            tune_config=tune.TuneConfig(
                metric=space.metric,
                mode=space.mode,
                search_alg=searcher(space, search, execution.concurrent, seed),
                scheduler=execution.scheduler,
                num_samples=1 if search.algorithm == "grid" else search.num_trials,
                max_concurrent_trials=execution.concurrent or None,
                trial_dirname_creator=id_of,
                reuse_actors=execution.reuse,
            ),
            run_config=tune.RunConfig(
                name=TRIALS,
                storage_path=str(folder),
                callbacks=list(callbacks),
                stop=Budget(search.time_budget, folder / TIME_IS_OVER) if search.time_budget else None,
                verbose=0,
            ),
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's traceback is in its folder
    trials = trials_of(tuner.fit(), folder)
    if (folder / TIME_IS_OVER).exists():
        return trials.replace({"stopped": {"": OVER}}), True
    return trials, len(trials) >= planned(space, search) and bool((trials["stopped"] != "").all())


def begun(folder: Path) -> bool:
    """Whether Ray Tune can go on. What it left where it was killed before its first trial, it cannot use."""
    return tune.Tuner.can_restore(str(folder / TRIALS)) and any((folder / TRIALS).glob("experiment_state-*"))


class Budget(TimeoutStopper):
    """Ends a sweep after so many seconds of work, interruptions not counted, and leaves a file that says so."""

    def __init__(self, seconds: float, marker: Path) -> None:
        super().__init__(seconds)
        self._marker = marker

    def stop_all(self) -> bool:
        """Whether the time is over."""
        over = bool(super().stop_all())
        if over:
            self._marker.touch()
        return over


class Halving(ASHAScheduler):
    """Asynchronous successive halving of trials of any length; a trial in its last epoch is not stopped early."""

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """What becomes of a trial after a report."""
        if result[EPOCH] >= result[EPOCHS]:
            return self.CONTINUE
        return str(super().on_trial_result(tune_controller, trial, result))


def halving(stopping: StoppingConfig, longest: int, least: int) -> TrialScheduler | None:
    """Stops trials that are worse than most others after as many epochs.

    Args:
        stopping: when.
        longest: epochs of the longest trial.
        least: epochs before which the settings have not acted.
    """
    if stopping.scheduler == "none":
        return None
    grace = stopping.grace_epochs or max(longest // 4, least)
    return Halving(
        time_attr=EPOCH, max_t=longest + 1, grace_period=min(grace, longest), reduction_factor=stopping.reduction_factor
    )


def longest_training(space: Space, config: JobConfig) -> int:
    """Epochs of the longest trial that a space allows."""
    most = {name: max(ends(domain)) for name, domain in space.parameters.items() if name in LENGTHS}
    return int(with_values(config, most).training.epochs)  # type: ignore[attr-defined]


def planned(space: Space, search: SearchConfig) -> int:
    """How many trials there will be, unless the time is over before."""
    if search.algorithm != "grid":
        return search.num_trials
    return prod(len(choices["grid_search"]) for choices in space.grid().values())


def id_of(trial: Trial) -> str:
    """Name of its folder, by which it is known afterwards."""
    return str(trial.trial_id)


def searcher(space: Space, search: SearchConfig, concurrent: int, seed: int) -> OptunaSearch | BasicVariantGenerator:
    """What suggests settings, so many trials at a time."""
    if search.algorithm == "tpe":
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return OptunaSearch(metric=space.metric, mode=space.mode, seed=seed)
    return BasicVariantGenerator(random_state=seed, max_concurrent=concurrent)


def trials_of(results: tune.ResultGrid, folder: Path) -> pd.DataFrame:
    """See `run_sweep`."""
    rows = {}
    for result in results:
        metrics, trial_id = result.metrics or {}, Path(result.path).name
        values = settings_of(folder, trial_id)  # Ray Tune forgets those of a trial that failed before it reported
        if not values:  # it was still to begin
            continue
        rows[trial_id] = {
            **values,
            **reported(metrics),
            "seconds": metrics.get("time_total_s"),
            "stopped": ended_because(folder, trial_id),
            "error": str(result.error).strip().splitlines()[-1] if result.error else "",
        }
    columns = None if rows else ["stopped", "error"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("trial")
