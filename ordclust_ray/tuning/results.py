"""What a sweep found: a table of its trials, the best one, figures, and words for people."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pandas as pd

from ordclust_ray.config import DIGITS, MACHINES, JobConfig
from ordclust_ray.figures.sweep import metric_by_setting, metric_over_epochs, parallel_coordinates
from ordclust_ray.files import write_whole
from ordclust_ray.tuning.record import EPOCH, FAILED, FINISHED, reports_of
from ordclust_ray.tuning.space import Space, with_values
from ordclust_ray.tuning.sweep import TRIALS

Config = TypeVar("Config", bound=JobConfig)
TABLE, BEST = "trials.csv", "best.json"
NUM_CLUSTERS = "clustering.num_clusters"
TRIAL, BESIDE = "trial", ("seconds", "stopped", "error")
"""Columns that are neither settings nor criteria."""
ROWS = 5


def ranked(trials: pd.DataFrame, space: Space) -> pd.DataFrame:
    """The best trial first; those that were not trained to their end come after the others, then failed ones."""
    score = trials[space.metric] if space.metric in trials else pd.Series(float("nan"), trials.index)
    order = pd.DataFrame(
        {
            "missing": score.isna(),
            "failed": trials["stopped"] == FAILED,
            "early": trials["stopped"] != FINISHED,
            "score": score if space.mode == "min" else -score,
        }
    )
    return trials.loc[order.sort_values(["missing", "failed", "early", "score"], kind="stable").index]


def best_settings(config: Config, trials: pd.DataFrame, space: Space) -> Config:
    """All settings of the first of these trials."""
    return with_values(config, {name: trials[name].iloc[0] for name in space.parameters})


def write_recipe(config: JobConfig, file: Path) -> None:
    """Settings for `--recipe FILE` of the job that trains; machines and the run's place are left to it."""
    left = {*MACHINES, "run.name", "run.storage", "run.tracking_uri"}
    values = {name: value for name, value in config.flat().items() if name not in left}
    for name in ("data.path", "data.lists", "path", "features", "drc", "comparator.weights"):
        value = str(values.get(name) or "")
        if Path(value).expanduser().exists() and value not in ("", DIGITS):
            values[name] = str(Path(value).expanduser().absolute())
    write_whole(file, {"system": config.system, **values})


def write_figures(trials: pd.DataFrame, space: Space, folder: Path, output: Path) -> None:
    """As PNG: parallel coordinates, the metric over each setting, and over epochs where trials trained.

    Args:
        trials: that have the metric, the best first.
        space: that was searched.
        folder: of the sweep.
        output: folder of the figures.
    """
    settings, ended = list(space.parameters), trials[trials["stopped"] == FINISHED]
    drawn = ended if len(ended) > 1 else trials  # what was stopped early was measured earlier
    parallel_coordinates(drawn, settings, space.metric).savefig(output / "parallel_coordinates.png", dpi=120)
    metric_by_setting(drawn, settings, space.metric).savefig(output / "metric_by_setting.png", dpi=120)
    curves = {str(trial): reports_of(folder, str(trial)) for trial in trials.index}
    known = {trial: curve.set_index(EPOCH)[space.metric] for trial, curve in curves.items() if EPOCH in curve}
    if known:
        whole = {str(trial) for trial in trials.index[trials["stopped"] == FINISHED]}
        metric_over_epochs(known, whole, space.metric).savefig(output / "metric_over_epochs.png", dpi=120)


def criteria(trials: pd.DataFrame, space: Space, wanted: Iterable[str]) -> list[str]:
    """Columns of a table for people: the metric first, then what else tells a good trial."""
    return [name for name in dict.fromkeys((space.metric, *wanted)) if name in trials]


def say(trials: pd.DataFrame, space: Space, wanted: Iterable[str], folder: Path) -> None:
    """Prints the best trials, the criteria by k, and how many there were.

    Args:
        trials: as `ranked`.
        space: that was searched.
        wanted: criteria that trials report, beside the metric.
        folder: of the sweep, for errors.
    """
    open_ones = (trials["stopped"] == "").sum()
    trials = trials[trials["stopped"] != ""].infer_objects()
    if trials.empty:
        print(f"\nno trial has ended, {open_ones} interrupted")
        return
    columns = criteria(trials, space, wanted)
    progress = [EPOCH] if EPOCH in trials else []
    shown = trials[[*space.parameters, *columns, *progress]].head(ROWS)
    print(f"\nbest trials, by {space.metric}:\n{shown.to_string()}")
    if NUM_CLUSTERS in space.parameters:
        by_k = trials.groupby(NUM_CLUSTERS).head(1).set_index(NUM_CLUSTERS).sort_index()[[*columns, *progress]]
        print(f"\nthe best trial of each k, by {space.metric}; what the criteria say together:\n{by_k.to_string()}")
    failed = trials["error"][trials["error"] != ""]
    early = ((trials["stopped"] != FINISHED) & (trials["error"] == "")).sum()
    interrupted = f", {open_ones} interrupted" if open_ones else ""
    print(f"\n{len(trials)} trial{'s' * (len(trials) != 1)}, {early} stopped early, {len(failed)} failed{interrupted}")
    if (trials["stopped"] != FINISHED).all():
        print(f"no trial was trained to its end: {BEST} holds the settings of one that was not, and there is no model")
    for trial, error in failed.items():
        print(f"{trial} failed: {error} ({folder / TRIALS / str(trial) / 'error.txt'})")


def read(output: Path) -> pd.DataFrame:
    """The table that was written."""
    trials = pd.read_csv(output / TABLE, index_col=TRIAL, dtype={"error": str, "stopped": str})
    return trials.fillna({"error": "", "stopped": ""})
