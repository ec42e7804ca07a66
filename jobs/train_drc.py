"""DRC-ORID from images to groups and ranks: `python jobs/train_drc.py [RECIPE] [--section.setting value ...]`."""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from cli import parse, stop

from ordclust_ray.recipes import RECIPES

DEFAULT = "digits"

if __name__ == "__main__":
    parse(RECIPES, DEFAULT, sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # before Ray is imported: it reads this once

import pandas as pd

from ordclust_ray.config import DrcConfig, InputError
from ordclust_ray.data.prepare import Prepared, TooManyBrokenError, open_checked, prepare
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import build_estimator, estimate_ranks, save_estimator
from ordclust_ray.evaluation import RESULTS, Results, evaluate, sample_images
from ordclust_ray.preflight import preflight
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.run import SETTINGS, name_of, opened, recorded, start_ray, write_once
from ordclust_ray.showing import run_figures
from ordclust_ray.tracking import Tracker
from ordclust_ray.training.checkpoint import Restored, load_references, restore
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.fit import TrainingStopped, fit
from ordclust_ray.training.worker import TrainJob


def main(arguments: list[str]) -> None:
    recipe, config = parse(RECIPES, DEFAULT, arguments)
    name = name_of(config.run, recipe)
    try:
        source = open_checked(config)
        with opened(config.run, name, kept(config)) as (folder, tracker):
            if tracker.finished and (folder / "results" / RESULTS).exists():
                print(f"run {name} is finished; its results:")
                say_results(Results.read(folder / "results"), tracker, folder)
            else:
                run(recipe, config, source, tracker, folder)
    except TooManyBrokenError as error:
        broken = config.run.storage_path / name / "broken_images.csv"
        error.broken.to_csv(broken)
        stop(f"{error}; all of them in {broken}")
    except InputError as error:
        stop(str(error))
    except (TrainingStopped, KeyboardInterrupt) as error:
        stop(f"{str(error) or 'interrupted'}; continue with --run.name {name} and the same settings")


def run(recipe: str, config: DrcConfig, source: Source, tracker: Tracker, folder: Path) -> None:
    """From a checked source to results; what cannot be used is known before the run is recorded."""
    start_ray()
    lines, use_gpu = preflight(config.training, config.run.storage_path)
    print("\n".join(lines), flush=True)
    prepared = prepare(source, config)
    print(f"{len(prepared.manifest)} images, {prepared.train.count()} to train on, {len(prepared.broken)} broken")
    refuse_other_data(prepared, folder)
    write_once(folder / SETTINGS, kept(config))
    with recorded(tracker, {"recipe": recipe, **config.flat()}):
        checkpoint = train(config, prepared, tracker, folder.name, use_gpu)
        results = conclude(config, prepared, restore(checkpoint), load_references(checkpoint), tracker, folder)
    say_results(results, tracker, folder)


def say_results(results: Results, tracker: Tracker, folder: Path) -> None:
    """The end of the output: the table, and where everything is."""
    print(f"\n{results.table()}\n\nresults: {folder / 'results'}")
    print(f"MLflow:  {tracker.where()}   (run {folder.name})", flush=True)


def refuse_other_data(prepared: Prepared, folder: Path) -> None:
    """Checkpoints hold the clusters of given instances, and nobody may move between training and test."""
    file, now = folder / "data.json", {"images": len(prepared.manifest), "sha256": prepared.fingerprint()}
    if file.exists() and (earlier := json.loads(file.read_text())) != now:
        raise InputError(
            f"run {folder.name!r} was started with other images, ranks or split ({earlier['images']} usable images "
            f"then, {now['images']} now); name it differently"
        )
    write_once(file, now)


def kept(config: DrcConfig) -> dict[str, Any]:
    """The settings that a run keeps. Data may move, `refuse_other_data` knows them; machines may change: results then
    differ as those of two seeds do.
    """
    free = {"run.name", "run.storage", "run.tracking_uri", "data.path"} | {
        f"training.{name}" for name in ("max_failures", "num_workers", "cpus_per_worker", "threads_per_worker")
    }
    return {key: value for key, value in config.flat().items() if key not in free}


def train(config: DrcConfig, prepared: Prepared, tracker: Tracker, name: str, use_gpu: bool) -> Path:
    """Trains with a bar and a record in MLflow; the folder of the last checkpoint."""
    problem = Problem.of(prepared.train.count(), prepared.rank_levels, config.rank, len(prepared.groups))
    done = tracker.logged_epochs()
    with Watcher(ProgressBar(config.training.epochs, len(done)), tracker.epoch, done) as watcher:
        job = TrainJob(config, problem, watcher.monitor)
        return fit(job, prepared.train, name=name, use_gpu=use_gpu)


def conclude(
    config: DrcConfig,
    prepared: Prepared,
    trained: Restored,
    references: dict[str, Any],
    tracker: Tracker,
    folder: Path,
) -> Results:
    """Estimates the held-out ranks, and writes results, figures and model into the run's folder and into MLflow."""
    logged = tracker.logged_epochs()
    for record in trained.history:  # a driver that was killed may have left one out
        if record["epoch"] not in logged:
            tracker.epoch(record)
    output = folder / "results"
    output.mkdir(exist_ok=True)
    assert trained.centroids is not None, "the last checkpoint has centroids, at k = 1 the mean"
    estimator = build_estimator(config, trained.state["orid"], trained.centroids, references, prepared.rank_levels)
    save_estimator(output / "model", estimator, config)
    estimates = estimate_ranks(prepared.test, output / "model", output / "estimates")
    assignments = pd.DataFrame(
        {"cluster": trained.shards["assignments"].numpy(), "similarity": trained.shards["similarities"].numpy()},
        index=pd.Index(trained.shards["instance_ids"].numpy(), name="instance_id"),
    )
    images = sample_images(prepared)
    results = evaluate(
        config,
        prepared,
        estimates,
        assignments["cluster"],
        trained.centroids.numpy(),
        trained.history[-1].get("plain_centroid_affinity"),
        images,
    )
    write_tables(output, prepared, assignments, estimates, results, trained)
    tracker.metrics(results.flat())
    for title, figure in run_figures(
        prepared, estimator, assignments, output / "estimates", trained.history, images, config.run.seed
    ):
        figure.savefig(output / f"{title}.png", dpi=120)
    tracker.artifacts(output)
    tracker.model(estimator, images["train"], config.run.experiment)
    return results


def write_tables(
    output: Path,
    prepared: Prepared,
    assignments: pd.DataFrame,
    estimates: pd.DataFrame,
    results: Results,
    trained: Restored,
) -> None:
    """`assignments.parquet` (every image), `centroids.parquet`, `results.json`, `history.json`, `broken_images.csv`."""
    everyone = prepared.manifest.join(pd.concat([assignments, estimates]))
    everyone.to_parquet(output / "assignments.parquet")
    assert trained.centroids is not None
    pd.DataFrame({"centroid": list(trained.centroids.numpy())}).to_parquet(output / "centroids.parquet")
    results.write(output)
    (output / "history.json").write_text(json.dumps(trained.history, indent=1))
    prepared.broken.to_csv(output / "broken_images.csv")


if __name__ == "__main__":
    gc.freeze()  # the libraries stay: looking through their objects at every collection, and at the end, takes seconds
    main(sys.argv[1:])
