"""DRC-ORID from images to groups and ranks: `python jobs/train_drc.py [RECIPE] [--section.setting value ...]`."""

import json
import logging
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # before Ray is imported: it reads this once

import pandas as pd
import ray
import ray.data
import torch
from cli import parse, stop

from ordclust_ray.config import DrcConfig
from ordclust_ray.core.order import similar_levels
from ordclust_ray.data.prepare import Prepared, TooManyBrokenError, open_checked, prepare
from ordclust_ray.estimation import build_estimator, estimate_ranks, save_estimator
from ordclust_ray.evaluation import Results, evaluate, sample_images
from ordclust_ray.preflight import preflight
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.recipes import RECIPES
from ordclust_ray.showing import run_figures
from ordclust_ray.tracking import Tracker, resolve_uri
from ordclust_ray.training.checkpoint import Restored, load_references, restore
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.fit import TrainingStopped, fit
from ordclust_ray.training.worker import TrainJob

SETTINGS = "config.json"


def main(arguments: list[str]) -> None:
    recipe, config = parse(RECIPES, "digits", arguments)
    name = config.run.name or f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        folder = config.run.storage_path / name
        refuse_other_settings(config, folder)
        source = open_checked(config)
        start_ray()
        lines, use_gpu = preflight(config.training, config.run.storage_path)
        print("\n".join(lines), flush=True)
        folder.mkdir(exist_ok=True)
        prepared = prepare(source, config)
    except TooManyBrokenError as error:
        error.broken.to_csv(folder / "broken_images.csv")
        stop(f"{error}; all of them in {folder / 'broken_images.csv'}")
    except ValueError as error:
        stop(str(error))
    print(f"{len(prepared.manifest)} images, {prepared.train.count()} to train on, {len(prepared.broken)} broken")
    (folder / SETTINGS).write_text(json.dumps(kept(config), indent=1))
    uri = resolve_uri(config.run.tracking_uri, config.run.storage_path)
    tracker = Tracker(uri, config.run.experiment, name, folder)
    tracker.parameters({"recipe": recipe, **config.flat()})
    try:
        checkpoint = train(config, prepared, tracker, name, use_gpu)
    except (TrainingStopped, KeyboardInterrupt) as error:
        tracker.finish("FAILED")
        stop(f"{error or 'interrupted'}; continue with --run.name {name} and the same settings")
    results = conclude(config, prepared, restore(checkpoint), load_references(checkpoint), tracker, folder)
    tracker.finish()
    print(f"\n{results.table()}\n\nresults: {folder / 'results'}")
    print(f"MLflow:  mlflow ui --backend-store-uri {uri}   (experiment {config.run.experiment}, run {name})")


def refuse_other_settings(config: DrcConfig, folder: Path) -> None:
    """A run of a known name goes on, which makes sense only with the settings that it had."""
    file = folder / SETTINGS
    if file.exists():
        earlier = json.loads(file.read_text())
        changed = [f"--{key} was {earlier.get(key)!r}" for key, now in kept(config).items() if earlier.get(key) != now]
        if changed:
            raise ValueError(
                f"run {folder.name!r} was started with other settings: {', '.join(changed)}; name it differently"
            )


def kept(config: DrcConfig) -> dict[str, Any]:
    """The settings that the result depends on."""
    free = ("run.name", "run.storage", "run.tracking_uri", "training.max_failures", "training.num_workers")
    return {key: value for key, value in config.flat().items() if key not in free}


def start_ray() -> None:
    """Joins the cluster that the environment names, else starts a local one; quiet, but for warnings."""
    ray.init(logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.WARNING)


def train(config: DrcConfig, prepared: Prepared, tracker: Tracker, name: str, use_gpu: bool) -> Path:
    """Trains with a bar and a record in MLflow; the folder of the last checkpoint."""
    first, last = similar_levels(prepared.rank_levels, config.rank.tolerance, config.rank.scale)
    n, groups = prepared.train.count(), len(prepared.groups)
    problem = Problem(n, torch.from_numpy(first), torch.from_numpy(last), groups)
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
    results = evaluate(config, prepared, estimates, assignments["cluster"], trained.centroids.numpy(), images)
    write_tables(output, prepared, assignments, estimates, results, trained)
    for title, figure in run_figures(
        prepared, estimator, assignments, output / "estimates", trained.history, images, config.run.seed
    ):
        figure.savefig(output / f"{title}.png", dpi=120)
    tracker.metrics(results.flat())
    tracker.artifacts(output)
    tracker.model(estimator, images["train"], f"{config.run.experiment}")
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
    (output / "results.json").write_text(
        json.dumps({"measures": results.measures, "cluster_sizes": results.cluster_sizes}, indent=1)
    )
    (output / "history.json").write_text(json.dumps(trained.history, indent=1))
    prepared.broken.to_csv(output / "broken_images.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
