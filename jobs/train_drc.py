"""DRC-ORID from images to groups and ranks: `python jobs/train_drc.py [RECIPE] [--section.setting value ...]`."""

import gc
import json
import os
import sys
from pathlib import Path

from cli import parse

from ordclust_ray.recipes.drc import RECIPES

DEFAULT = "digits"

if __name__ == "__main__":
    parse(RECIPES, DEFAULT, sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # before Ray is imported: it reads this once

import pandas as pd
import training

from ordclust_ray.config import DrcConfig
from ordclust_ray.data.prepare import Prepared, open_checked, prepare
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import estimate_ranks
from ordclust_ray.models import MODEL
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.references import assigned, save_trained
from ordclust_ray.reports.drc_figures import run_figures
from ordclust_ray.reports.drc_table import evaluate, sample_images
from ordclust_ray.reports.results import Results
from ordclust_ray.run import SETTINGS, kept, recorded, refuse_other_data, write_once
from ordclust_ray.serving import OUTPUTS, input_example
from ordclust_ray.tracking import Tracker
from ordclust_ray.training.checkpoint import Restored, restore
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.fit import fit
from ordclust_ray.training.orid_worker import TrainJob, train_orid


def main(arguments: list[str]) -> None:
    training.train(*parse(RECIPES, DEFAULT, arguments), open_checked, run)


def run(recipe: str, config: DrcConfig, source: Source, tracker: Tracker, folder: Path, use_gpu: bool) -> Results:
    """From a checked source to results; what cannot be used is known before the run is recorded."""
    prepared = prepare(source, config)
    print(f"{len(prepared.manifest)} images, {prepared.train.count()} to train on, {len(prepared.broken)} broken")
    refuse_other_data(
        folder,
        path=config.data.path,
        images=len(prepared.manifest),
        fingerprint=prepared.fingerprint(),
        what="images, ranks or split",
    )
    write_once(folder / SETTINGS, kept(config))
    with recorded(tracker, {"recipe": recipe, **config.flat()}):
        checkpoint = train(config, prepared, tracker, folder.name, use_gpu)
        return conclude(config, prepared, restore(checkpoint), tracker, folder)


def train(config: DrcConfig, prepared: Prepared, tracker: Tracker, name: str, use_gpu: bool) -> Path:
    """Trains with a bar and a record in MLflow; the folder of the last checkpoint."""
    problem = Problem.of(prepared.train.count(), prepared.rank_levels, config.rank, len(prepared.groups))
    done = tracker.logged_epochs()
    with Watcher(ProgressBar(config.training.epochs, len(done)), tracker.epoch, done) as watcher:
        job = TrainJob(config, problem, watcher.monitor)
        return fit(
            train_orid,
            job,
            prepared.train,
            name=name,
            training=config.training,
            epochs=config.training.epochs,
            run=config.run,
            use_gpu=use_gpu,
        )


def conclude(config: DrcConfig, prepared: Prepared, trained: Restored, tracker: Tracker, folder: Path) -> Results:
    """Estimates the held-out ranks, and writes results, figures and model into the run's folder and into MLflow."""
    tracker.missing_epochs(trained.history)
    output = folder / "results"
    output.mkdir(exist_ok=True)
    assignments, model = assigned(trained), output / MODEL
    estimator = save_trained(model, config, trained, prepared)
    assert trained.centroids is not None
    estimates = estimate_ranks(prepared.test, model, output / "estimates")
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
    tracker.model(model, input_example(model), OUTPUTS[config.system], config.run.experiment)
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
    held_out = estimates[["estimate", "cluster", "similarity", "margin"]]
    everyone = prepared.manifest.join(pd.concat([assignments, held_out]))
    everyone.to_parquet(output / "assignments.parquet")
    assert trained.centroids is not None
    pd.DataFrame({"centroid": list(trained.centroids.numpy())}).to_parquet(output / "centroids.parquet")
    results.write(output)
    (output / "history.json").write_text(json.dumps(trained.history, indent=1))
    prepared.broken.to_csv(output / "broken_images.csv")


if __name__ == "__main__":
    gc.freeze()  # the libraries stay: looking through their objects at every collection, and at the end, takes seconds
    main(sys.argv[1:])
