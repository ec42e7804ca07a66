"""IDFD from unlabelled images to clusters: `python jobs/train_idfd.py [RECIPE] [--section.setting value ...]`."""

import gc
import json
import os
import sys
from pathlib import Path

from cli import parse

from ordclust_ray.recipes.idfd import RECIPES

DEFAULT = "digits"

if __name__ == "__main__":
    parse(RECIPES, DEFAULT, sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # before Ray is imported: it reads this once

import pandas as pd
import ray
import training

from ordclust_ray.assignment import agreement, build_clusters
from ordclust_ray.config import MACHINES, IdfdConfig
from ordclust_ray.data.readers import Source
from ordclust_ray.data.unlabelled import Unlabelled, open_unlabelled, prepare_unlabelled
from ordclust_ray.models import MODEL, save_clusters
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.reports.idfd_figures import TEMPERATURES, run_figures, temperature_figures
from ordclust_ray.reports.idfd_table import METHODS, assignments, evaluate, sample_images, write_features
from ordclust_ray.reports.results import Results
from ordclust_ray.run import SETTINGS, kept, recorded, refuse_other_data, write_once
from ordclust_ray.serving import OUTPUTS, input_example
from ordclust_ray.tracking import Tracker
from ordclust_ray.training.checkpoint import restore_training
from ordclust_ray.training.fit import fit
from ordclust_ray.training.idfd_worker import IdfdJob, train_idfd


def main(arguments: list[str]) -> None:
    training.train(*parse(RECIPES, DEFAULT, arguments), open_unlabelled, run)


def run(recipe: str, config: IdfdConfig, source: Source, tracker: Tracker, folder: Path, use_gpu: bool) -> Results:
    """From a checked source to results; what cannot be used is known before the run is recorded."""
    prepared = prepare_unlabelled(source, config)
    print(
        f"{len(prepared.manifest)} images, {len(prepared.broken)} broken; {prepared.num_clusters} clusters"
        + (f", {len(prepared.classes)} known classes to report on" if prepared.classes else "")
    )
    refuse_other_data(
        folder,
        path=config.data.path,
        images=len(prepared.manifest),
        fingerprint=prepared.fingerprint(),
        what="images",
    )
    write_once(folder / SETTINGS, kept(config))
    with recorded(tracker, parameters(recipe, config)):
        checkpoint = train(config, prepared, tracker, folder.name, use_gpu)
        return conclude(recipe, config, prepared, checkpoint, tracker, folder)


def parameters(recipe: str, config: IdfdConfig) -> dict[str, object]:
    """For the record, with the temperature that the variant uses."""
    return {"recipe": recipe, **config.flat(), "loss.instance_temperature": config.loss.tau}


def train(config: IdfdConfig, prepared: Unlabelled, tracker: Tracker, name: str, use_gpu: bool) -> Path:
    """Trains with a bar and a record in MLflow; the folder of the last checkpoint."""
    done, epochs = tracker.logged_epochs(), config.training.epochs
    labels = ray.put(prepared.labels)
    with Watcher(ProgressBar(epochs, len(done)), tracker.epoch, done) as watcher:
        job = IdfdJob(config, len(prepared.manifest), prepared.num_clusters, labels, watcher.monitor)
        return fit(
            train_idfd,
            job,
            prepared.train,
            name=name,
            training=config.training,
            epochs=epochs,
            run=config.run,
            use_gpu=use_gpu,
        )


def conclude(
    recipe: str, config: IdfdConfig, prepared: Unlabelled, checkpoint: Path, tracker: Tracker, folder: Path
) -> Results:
    """Writes results, figures and model into the run's folder and into MLflow, features into the folder alone."""
    state, history, centroids = restore_training(checkpoint, "cpu")
    assert centroids is not None, "the last epoch ends with a clustering"
    tracker.missing_epochs(history)
    output = folder / "results"
    output.mkdir(exist_ok=True)
    features = write_features(checkpoint, len(prepared.manifest), folder / "features.npy")
    rows, images = assignments(prepared, features, centroids), sample_images(prepared, config.data.image_size)
    clusters = build_clusters(config, state["modules"], centroids)
    save_clusters(output / MODEL, clusters, config)
    results = evaluate(config, prepared, history[-1], images)
    own = rows["cluster"].to_numpy()[prepared.rows_of(images["ids"])]
    results.measures[METHODS[config.loss.variant]]["same cluster predicted"] = agreement(
        clusters, images["images"], own
    )
    rows.to_parquet(output / "assignments.parquet")
    pd.DataFrame({"centroid": list(centroids.numpy())}).to_parquet(output / "centroids.parquet")
    prepared.broken.to_csv(output / "broken_images.csv")
    (output / "history.json").write_text(json.dumps(history, indent=1))
    tracker.metrics(results.flat())
    for title, figure in run_figures(prepared, features, rows, history, images, config.run.seed):
        figure.savefig(output / f"{title}.png", dpi=120)
    for setting in TEMPERATURES:
        free = {setting, "recipe", "run.name", "run.seed", "run.storage", "run.tracking_uri", *MACHINES}
        for title, figure in temperature_figures(tracker.alike(parameters(recipe, config), free), setting):
            figure.savefig(output / f"{title}.png", dpi=120)
    results.write(output)
    tracker.artifacts(output)
    tracker.model(output / MODEL, input_example(output / MODEL), OUTPUTS[config.system], config.run.experiment)
    return results


if __name__ == "__main__":
    gc.freeze()  # the libraries stay: looking through their objects at every collection, and at the end, takes seconds
    main(sys.argv[1:])
