"""A sweep: Ray Tune tries settings, and a driver that was killed goes on with what is left to try."""

import logging
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from ordclust_ray.config import SearchConfig
from ordclust_ray.tuning.record import Recorder, reported
from ordclust_ray.tuning.space import Space

TRIALS = "trials"
"""Folder of Ray Tune's own files in that of the sweep."""


def run_sweep(
    trial: Callable[..., None],
    data: Mapping[str, Any],
    space: Space,
    search: SearchConfig,
    folder: Path,
    recorder: Recorder,
    seed: int,
) -> pd.DataFrame:
    """Tries settings until there are enough trials, or the time is over.

    Args:
        trial: is given settings by dotted name, and the data.
        data: arguments of every trial, which are put into the object store once.
        space: what is searched.
        search: how.
        folder: of the sweep; where it holds an unfinished one, that goes on, and finished trials are not repeated.
        recorder: is told of the trials.
        seed: of the search.

    Returns:
        A row a trial, by its id: the settings, what it reported last, and `error`, empty where there is none.
    """
    trainable = tune.with_resources(tune.with_parameters(trial, **data), {"cpu": search.cpus_per_trial})
    home = str(folder / TRIALS)
    if tune.Tuner.can_restore(home):
        tuner = tune.Tuner.restore(home, trainable, resume_unfinished=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=space.grid() if search.algorithm == "grid" else dict(space.parameters),
            tune_config=tune.TuneConfig(
                metric=space.metric,
                mode=space.mode,
                search_alg=searcher(space, search, seed),
                num_samples=1 if search.algorithm == "grid" else search.num_trials,
                max_concurrent_trials=search.concurrent or None,
                trial_dirname_creator=id_of,
                time_budget_s=search.time_budget or None,
            ),
            run_config=tune.RunConfig(name=TRIALS, storage_path=str(folder), callbacks=[recorder], verbose=0),
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial's traceback is in its folder
    trials = trials_of(tuner.fit())
    recorder.explain(trials)
    return trials


def planned(space: Space, search: SearchConfig) -> int:
    """How many trials there will be, unless the time is over before."""
    if search.algorithm != "grid":
        return search.num_trials
    return prod(len(choices["grid_search"]) for choices in space.grid().values())


def id_of(trial: Trial) -> str:
    """Name of its folder, by which it is known afterwards."""
    return str(trial.trial_id)


def searcher(space: Space, search: SearchConfig, seed: int) -> OptunaSearch | BasicVariantGenerator:
    """What suggests settings."""
    if search.algorithm == "tpe":
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return OptunaSearch(metric=space.metric, mode=space.mode, seed=seed)
    return BasicVariantGenerator(random_state=seed, max_concurrent=search.concurrent)


def trials_of(results: tune.ResultGrid) -> pd.DataFrame:
    """See `run_sweep`."""
    rows = {}
    for result in results:
        metrics = result.metrics or {}
        rows[Path(result.path).name] = {
            **(result.config or {}),
            **reported(metrics),
            "seconds": metrics.get("time_total_s"),
            "error": str(result.error).strip().splitlines()[-1] if result.error else "",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trial")
