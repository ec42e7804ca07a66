"""A search of settings: `python jobs/tune.py SPACE RECIPE [--setting value ...]`; spaces are in tune_spaces/."""

import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from cli import parse, stop

from ordclust_ray.config import FeatureTrialConfig, InputError, SearchConfig


@dataclass(frozen=True)
class Sweep:
    """How to search, and the settings that are not searched."""

    search: Annotated[SearchConfig, tyro.conf.arg(name="")]
    trial: Annotated[FeatureTrialConfig, tyro.conf.arg(name="")]


def features() -> Sweep:
    """Repulsive clustering of features that are there already. Needs --features."""
    return Sweep(SearchConfig(), FeatureTrialConfig())


RECIPES = {"features": features}
DEFAULT = "features"
SPACES = Path(__file__).absolute().parent.parent / "tune_spaces"
TABLE, BEST = "trials.csv", "best.json"

if __name__ == "__main__":
    parse(RECIPES, DEFAULT, sys.argv[2:])  # --help, or a mistake, does not wait for the libraries below
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # before Ray is imported: its own table says less than ours
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "0")  # what ended is known, however the driver ends

import pandas as pd

from ordclust_ray.figures.sweep import metric_by_setting, parallel_coordinates
from ordclust_ray.files import write_whole
from ordclust_ray.run import SETTINGS, kept, name_of, opened, recorded, start_ray, write_once
from ordclust_ray.tracking import Tracker
from ordclust_ray.tuning.feature_trials import LABELLED, cluster_features, read_features
from ordclust_ray.tuning.record import ENDED, RECORDS, Recorder
from ordclust_ray.tuning.space import Space, read_space, require_settings, with_values
from ordclust_ray.tuning.sweep import TRIALS, planned, run_sweep

NUM_CLUSTERS = "clustering.num_clusters"
FREE = ("concurrent", "cpus_per_trial", "time_budget")


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        known = ", ".join(sorted(file.stem for file in SPACES.glob("*.py")))
        stop(f"give a space first: one of {known}, or a file that ends in .py; then a recipe: {', '.join(RECIPES)}")
    recipe, sweep = parse(RECIPES, DEFAULT, arguments[1:])
    try:
        sweep.trial.require()
        space = read_space(arguments[0], SPACES)
        require_settings(space, sweep.trial)
        run(recipe, space, sweep)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; the same --run.name goes on")


def run(recipe: str, space: Space, sweep: Sweep) -> None:
    """Searches unless that was done, and says what was found."""
    name = name_of(sweep.trial.run, f"sweep-{space.name}")
    settings = kept(sweep.trial) | {"space": space.described(), **asked(sweep.search)}
    with opened(sweep.trial.run, name, settings) as (folder, tracker):
        output = folder / "results"
        if tracker.finished and (output / TABLE).exists():
            print(f"sweep {name} is finished; its results:")
        else:
            start_ray()
            known, labels = read_features(sweep.trial)
            if space.metric in LABELLED:
                print(f"note: {space.metric} looks at labels; what is chosen by it is not chosen without them")
            print(f"{len(known)} rows; {space.metric}, {space.mode}: {space.reason}", flush=True)
            write_once(folder / SETTINGS, settings)
            with recorded(tracker, {"recipe": recipe, **sweep.trial.flat(), **vars(sweep.search), "space": space.name}):
                recorder = Recorder(
                    uri=tracker.uri,
                    experiment=sweep.trial.run.experiment,
                    folder=folder,
                    parent=tracker.run_id,
                    metric=space.metric,
                    mode=space.mode,
                    shown=tuple(space.parameters),
                    total=planned(space, sweep.search),
                )
                data = {"config": sweep.trial, "features": known, "labels": labels}
                trials = run_sweep(cluster_features, data, space, sweep.search, folder, recorder, sweep.trial.run.seed)
                require_ended(trials, folder)
                conclude(trials, space, sweep, tracker, output)
        say(output, space, tracker, name)


def asked(search: SearchConfig) -> dict[str, Any]:
    """What may not change while a sweep goes on."""
    return {name: value for name, value in vars(search).items() if name not in FREE}


def require_ended(trials: pd.DataFrame, folder: Path) -> None:
    """Raises InputError where trials were interrupted, which the same command goes on with."""
    open_ones = [trial for trial in trials.index if not (folder / RECORDS / str(trial) / ENDED).exists()]
    if open_ones:
        raise InputError(
            f"interrupted after {len(trials) - len(open_ones)} trials; continue with --run.name {folder.name}"
        )


def conclude(trials: pd.DataFrame, space: Space, sweep: Sweep, tracker: Tracker, output: Path) -> None:
    """Writes all trials, the best settings and the figures into a folder and into MLflow."""
    output.mkdir(exist_ok=True)
    ranked = trials.sort_values(space.metric, ascending=space.mode == "min", na_position="last")
    found = ranked[ranked[space.metric].notna()]
    if found.empty:
        raise InputError(f"no trial reported {space.metric}; the first failed with: {trials['error'].iloc[0]}")
    values = {name: found[name].iloc[0] for name in space.parameters}
    best = with_values(sweep.trial, values)
    ranked.to_csv(output / TABLE)
    write_whole(output / BEST, {"system": best.system, **best.flat()})
    settings = list(space.parameters)
    parallel_coordinates(found, settings, space.metric).savefig(output / "parallel_coordinates.png", dpi=120)
    metric_by_setting(found, settings, space.metric).savefig(output / "metric_by_setting.png", dpi=120)
    tracker.metrics({f"best.{space.metric}": found[space.metric].iloc[0], "trials": len(trials)})
    tracker.artifacts(output)


def say(output: Path, space: Space, tracker: Tracker, name: str) -> None:
    """The best trials, criteria by k, and where everything is."""
    trials = pd.read_csv(output / TABLE, index_col="trial")
    criteria = [column for column in trials if column not in (*space.parameters, "seconds", "error")]
    print(f"\nbest trials, by {space.metric}:\n{trials[[*space.parameters, *criteria]].head(5).to_string()}")
    if NUM_CLUSTERS in space.parameters:
        by_k = trials.groupby(NUM_CLUSTERS)[[space.metric, *(c for c in criteria if c != space.metric)]].first()
        print(f"\nthe best trial of each k, by {space.metric}; what the criteria say together:\n{by_k.to_string()}")
    failed = trials["error"].dropna()
    print(f"\n{len(trials)} trials, {len(failed)} failed")
    for trial, error in failed.items():
        print(f"{trial} failed: {error} ({output.parent / TRIALS / str(trial) / 'error.txt'})")
    print(f"results: {output}\nMLflow:  {tracker.where()}   (run {name})")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
