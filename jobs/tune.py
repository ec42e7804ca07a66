"""A search of settings: `python jobs/tune.py SPACE [RECIPE] [--setting value ...]`; spaces are in tune_spaces/."""

import gc
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # before Ray is imported: its own table says less than ours
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "0")  # what ended is known, however the driver ends
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")

from cli import parse, stop
from sweeping import SYSTEMS, ComparatorSweep, FeatureSweep, RankedSweep, Sweep, TrainedSweep, follow_up

from ordclust_ray.config import MACHINES, InputError, without_secrets
from ordclust_ray.tuning.space import CLUSTERS, Space, read_space, require_settings, tolerances_alike

SPACES = Path(__file__).absolute().parent.parent / "tune_spaces"


def settings_of(arguments: list[str]) -> tuple[Space, str, Sweep]:
    """`SPACE [RECIPE] [--setting value ...]` -> the space, the recipe's name and all settings."""
    if not arguments or arguments[0].startswith("-"):
        known = ", ".join(sorted(file.stem for file in SPACES.glob("*.py")))
        usage = f"a space comes first: one of {known}, or a file that ends in .py; then perhaps a recipe; SPACE --help"
        if set(arguments) & {"-h", "--help"}:
            print(f"{__doc__}\n\n{usage}")
            sys.exit()
        stop(usage)
    try:
        space = read_space(arguments[0], SPACES, SYSTEMS)
    except InputError as error:
        stop(str(error))
    return space, *parse(*SYSTEMS[space.system], arguments[1:])


if __name__ == "__main__":
    settings_of(sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import pandas as pd
import ray

from ordclust_ray.models import MODEL, describe_model
from ordclust_ray.preflight import preflight, room_for
from ordclust_ray.run import SETTINGS, kept, name_of, opened, recorded, refuse_other_data, start_ray, write_once
from ordclust_ray.serving import OUTPUTS, input_example
from ordclust_ray.tracking import Tracker
from ordclust_ray.tuning.comparator_trials import ComparatorTrials
from ordclust_ray.tuning.drc_trials import DrcTrials
from ordclust_ray.tuning.feature_trials import FeatureTrials, cluster_features, read_features
from ordclust_ray.tuning.idfd_trials import IdfdTrials
from ordclust_ray.tuning.placement_groups import Release, register
from ordclust_ray.tuning.record import FINISHED, Recorder
from ordclust_ray.tuning.results import (
    BEST,
    NUM_CLUSTERS,
    TABLE,
    best_settings,
    ranked,
    read,
    say,
    write_figures,
    write_recipe,
)
from ordclust_ray.tuning.sweep import Execution, halving, longest_training, planned, run_sweep
from ordclust_ray.tuning.trained import TRAINING, Trials, forget_others, last_checkpoint, threads_each, train_trial

FREE = {*MACHINES, "drc", "path", "features"}
"""Settings that may change while a sweep goes on; that the data are the same is known from them."""
RESULTS, ALIAS, AT_ONCE = "results", "best", "at_once.json"
ALMOST_NOTHING = 0.001
"""CPUs of a trial whose workers reserve their own; Ray Tune takes no less."""
KINDS: dict[str, Any] = {
    "drc-orid": DrcTrials,
    "comparator": ComparatorTrials,
    "idfd": IdfdTrials,
    "features": FeatureTrials,
}
"""Trials by the system of a space."""


def main(arguments: list[str]) -> None:
    space, recipe, sweep = settings_of(arguments)
    try:
        run(recipe, space, sweep)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted; the same --run.name goes on")


def run(recipe: str, space: Space, sweep: Sweep) -> None:
    """Searches unless that was done, and says what was found."""
    sweep.trial.run.require_folder("a sweep")
    kind, name = KINDS[space.system], name_of(sweep.trial.run, f"sweep-{space.name}")
    require_settings(space, sweep.trial, {**kind.METRICS, **kind.LABELLED})
    total = planned(space, sweep.search)
    source = kind.source(sweep.trial)
    uri = without_secrets(sweep.trial.run.tracking_uri)
    where = {"run.storage": str(sweep.trial.run.storage_path), "run.tracking_uri": uri}
    settings = kept(sweep.trial, FREE) | {**where, "space": space.described(), **sweep.asked}
    with opened(sweep.trial.run, name, settings) as (folder, tracker):
        output = folder / RESULTS
        if tracker.finished and (output / TABLE).exists():
            print(f"sweep {name} is finished; its results:")
        else:
            trials, execution = open_trials(space, sweep, source, folder)
            require_labels(space, trials)
            warn_of_tolerances(space, sweep, trials)
            warn_of_criteria(space)
            print(f"sweep {name}: {total} trials, by {space.metric} ({space.mode}): {space.reason}", flush=True)
            refuse_other_data(folder, **trials.data())
            write_once(folder / SETTINGS, settings)
            with recorded(tracker, {"recipe": recipe, **sweep.trial.flat(), **sweep.asked, **in_words(space)}):
                found, complete = search(space, sweep, trials, execution, folder, tracker, total)
                conclude(found, complete, space, trials, folder, tracker)
                if not complete:
                    say(found, space, trials.METRICS, folder)
                    raise InputError(f"interrupted; the same command with --run.name {name} goes on")
        found = read(output)
        say(found, space, kind.METRICS, folder)
        print(follow_up(best_settings(sweep.trial, found, space), output / BEST))
        print(f"results: {output}\nMLflow:  {tracker.where()}   (run {name})")


def in_words(space: Space) -> dict[str, str]:
    """A space for the record."""
    return {"space": space.name, **{f"space.{name}": text for name, text in space.described().items()}}


def open_trials(space: Space, sweep: Sweep, source: Any, folder: Path) -> tuple[Trials | FeatureTrials, Execution]:
    """The data from their source, in memory once for all trials, and how trials run on this cluster."""
    if isinstance(sweep, FeatureSweep):
        trials = FeatureTrials(sweep.trial, *read_features(sweep.trial))
        start_ray()
        resources = {"cpu": sweep.trial.cpus_per_trial}
        return trials, Execution(resources, sweep.search.concurrent, reuse=True)
    assert isinstance(sweep, TrainedSweep)
    training, kind = sweep.trial.training, KINDS[space.system]
    start_ray()
    path = "" if isinstance(sweep, ComparatorSweep) else sweep.trial.data.path
    lines, use_gpu = preflight(training, sweep.trial.run, path)
    room = max(1, room_for(training) // training.max_workers)
    at_once = as_begun(folder, min(sweep.search.concurrent or room, room), room)
    print("\n".join([*lines, f"{at_once} trial{'s' * (at_once > 1)} at a time"]), flush=True)
    machines = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    threads = threads_each(training, machines, at_once)
    config = replace(sweep.trial, training=replace(training, threads_per_worker=threads))
    validation = {"validation": sweep.validation} if isinstance(sweep, RankedSweep) else {}
    scheduler = halving(sweep.stopping, longest_training(space, sweep.trial), kind.least_epochs(sweep.trial))
    execution = Execution({"cpu": ALMOST_NOTHING}, at_once, scheduler)
    return kind.open(config, source, space.metric, use_gpu, **validation), execution


def as_begun(folder: Path, at_once: int, room: int) -> int:
    """Trials at a time, as Ray Tune keeps it for a sweep that goes on; InputError where there is no room for them."""
    file = folder / AT_ONCE
    write_once(file, {"at_once": at_once})
    kept_number = int(json.loads(file.read_text())["at_once"])
    if kept_number > room:
        raise InputError(
            f"sweep {folder.name} was begun with {kept_number} trials at a time, and there is room for {room} now; "
            "go on where there is more, or name it differently"
        )
    return kept_number


def require_labels(space: Space, trials: Trials | FeatureTrials) -> None:
    """Warns of a metric that looks at labels; raises InputError where there are none."""
    if space.metric not in trials.LABELLED:
        return
    if not trials.labelled:
        raise InputError(
            f"METRIC of space {space.name} is {space.metric!r}, which needs known classes, and none is known"
        )
    print(f"warning: {space.metric} looks at labels; what is chosen by it is not found without them", flush=True)


def warn_of_criteria(space: Space) -> None:
    """Says where a criterion prefers some settings whatever the images are."""
    if space.metric in CLUSTERS and "loss.variant" in space.parameters:
        print(
            f"warning: {space.metric} compares badly between variants of the loss (README); see each by itself",
            flush=True,
        )
    if space.metric == "nearest_same_cluster" and NUM_CLUSTERS in space.parameters:
        print(
            f"warning: {space.metric} rises by itself where clusters are few; silhouette tells more of a k", flush=True
        )


def warn_of_tolerances(space: Space, sweep: Sweep, trials: Any) -> None:
    """Says which choices of the tolerance differ in name alone, where trials are judged by ranks."""
    if not isinstance(sweep, RankedSweep):
        return
    for alike in tolerances_alike(space, trials.prepared.rank_levels, trials.rank.scale):
        print(f"note: tolerances {', '.join(map(str, alike))} call the same ranks of these images similar", flush=True)


def search(
    space: Space,
    sweep: Sweep,
    trials: Trials | FeatureTrials,
    execution: Execution,
    folder: Path,
    tracker: Tracker,
    total: int,
) -> tuple[pd.DataFrame, bool]:
    """Tries settings, with a line and a run in MLflow a trial; a row a trial, the best first; whether that is all."""
    recorder = Recorder(
        uri=tracker.uri,
        experiment=sweep.trial.run.experiment,
        folder=folder,
        parent=tracker.run_id,
        metric=space.metric,
        mode=space.mode,
        shown=tuple(space.parameters),
        total=total,
    )
    sweep_of = partial(run_sweep, space=space, search=sweep.search, execution=execution, folder=folder)
    seed = sweep.trial.run.seed
    if isinstance(trials, FeatureTrials):
        found, complete = sweep_of(cluster_features, {"trials": trials}, callbacks=[recorder], seed=seed)
    else:
        data = {"trials": trials.shared(), "metric": space.metric, "folder": folder}
        with register():
            found, complete = sweep_of(train_trial, data, callbacks=[recorder, Release()], seed=seed)
    recorder.settle(found)
    return ranked(found, space), complete


def conclude(
    found: pd.DataFrame, complete: bool, space: Space, trials: Trials | FeatureTrials, folder: Path, tracker: Tracker
) -> None:
    """Writes trials, best settings and figures into a folder and into MLflow; once all is done, the best model too."""
    output = folder / RESULTS
    output.mkdir(exist_ok=True)
    found.to_csv(output / TABLE)
    ended = found[found["stopped"] != ""]
    known = ended[ended[space.metric].notna()] if space.metric in ended else ended[:0]
    if known.empty:
        if not complete:
            return
        raise InputError(f"no trial reported {space.metric}" + first_error(found))
    best = best_settings(trials.config, known, space)
    write_recipe(best, output / BEST)
    write_figures(known, space, folder, output)
    trial_id = str(known.index[0])
    if complete and not isinstance(trials, FeatureTrials) and known["stopped"].iloc[0] == FINISHED:
        checkpoint, model = last_checkpoint(folder / TRAINING / trial_id), output / MODEL
        assert checkpoint is not None, "of a trial that was trained to its end"
        trials.save_model(best, checkpoint, model)
        kind = describe_model(model)["system"]
        tracker.model(model, input_example(model), OUTPUTS[kind], best.run.experiment, ALIAS)
        forget_others(folder, trial_id)
    tracker.metrics({f"best.{space.metric}": known[space.metric].iloc[0], "trials": len(found)})
    tracker.tag("best_trial", trial_id)
    tracker.artifacts(output)


def first_error(found: pd.DataFrame) -> str:
    """Of the trials, in words; empty where none failed."""
    errors = found["error"][found["error"] != ""]
    return f"; the first failed with: {errors.iloc[0]}" if len(errors) else ""


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
