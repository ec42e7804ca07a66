"""A stronger comparator for a run of DRC-ORID: `python jobs/train_comparator.py [RECIPE] --drc RUN [--setting ...]`."""

import gc
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from cli import parse

from ordclust_ray.recipes.comparator import RECIPES

DEFAULT = "small"

if __name__ == "__main__":
    parse(RECIPES, DEFAULT, sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # before Ray is imported: it reads this once

import ray
import torch
import training

from ordclust_ray.config import MACHINES, ComparatorConfig, DrcConfig, RankConfig
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.data.decoded import fingerprint
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.finished import FinishedRun, find_run, open_run, prepare_again, remember_origin
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.reports.comparator_table import evaluate
from ordclust_ray.reports.results import Results
from ordclust_ray.run import SETTINGS, kept, recorded, refuse_other_data, write_once
from ordclust_ray.tracking import Tracker
from ordclust_ray.training.checkpoint import restore_training
from ordclust_ray.training.comparator_weights import load_weights, save_comparator
from ordclust_ray.training.comparator_worker import ComparatorJob, train_comparator
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.fit import fit

FREE = {*MACHINES, "drc", "path"}
"""Settings that may change while a run goes on; that the clusters are the same is known from the data."""


def main(arguments: list[str]) -> None:
    training.train(*parse(RECIPES, DEFAULT, arguments), open_drc, run, FREE)


def open_drc(config: ComparatorConfig) -> FinishedRun[DrcConfig]:
    """The run whose clusters are used, with the ranks and the workers of this one: its images have to fit those."""
    drc = open_run(find_run(config.drc, "drc", config.run), DrcConfig, "drc", config.path)
    workers = {name: getattr(config.training, name) for name in ("num_workers", "batch_size")}
    return replace(
        drc,
        config=replace(
            drc.config,
            rank=config.rank.resolved(drc.config.rank),
            training=replace(drc.config.training, **workers),
        ),
    )


def run(
    recipe: str, config: ComparatorConfig, drc: FinishedRun[DrcConfig], tracker: Tracker, folder: Path, use_gpu: bool
) -> Results:
    """From the clusters of a run to results; what cannot be used is known before the run is recorded."""
    network = begin(config)
    prepared = prepare_clustered(drc, config.comparator.image_size)
    print(f"{len(prepared.manifest)} images, {prepared.train.count()} to train on, in clusters of {drc.folder.name}")
    refuse_other_data(
        folder,
        path=drc.config.data.path,
        images=len(prepared.manifest),
        fingerprint=fingerprint(prepared.manifest, ["rank", "split", "cluster"], prepared.checksums),
        what="images, ranks, split or clusters",
    )
    write_once(folder / SETTINGS, kept(config, FREE))
    remember_origin(folder, drc)
    with recorded(tracker, {"recipe": recipe, **config.flat()}):
        checkpoint = train(config, drc.config, prepared, network, tracker, folder.name, use_gpu)
        return conclude(config, drc.config.rank, prepared, network, checkpoint, tracker, folder)


def begin(config: ComparatorConfig) -> ImageComparator:
    """The network before training, and a line that says what it starts from."""
    settings = config.comparator
    torch.manual_seed(config.run.seed)
    network = ImageComparator(settings.network, settings.image_size, settings.width)
    print(load_weights(network, settings.weights), flush=True)
    return network


def prepare_clustered(drc: FinishedRun[DrcConfig], image_size: int) -> Prepared:
    """The images of a run with their clusters, as a column of the training rows and of the manifest."""
    clusters = drc.assignments()[["cluster"]]
    prepared = prepare_again(drc, image_size, clusters)
    return replace(prepared, manifest=prepared.manifest.join(clusters))


def train(
    config: ComparatorConfig,
    drc: DrcConfig,
    prepared: Prepared,
    network: ImageComparator,
    tracker: Tracker,
    name: str,
    use_gpu: bool,
) -> Path:
    """Trains with a bar and a record in MLflow; the folder of the last checkpoint."""
    problem = Problem.of(prepared.train.count(), prepared.rank_levels, drc.rank, num_groups=0)
    done, epochs, start = tracker.logged_epochs(), config.training.epochs, ray.put(network.state_dict())
    with Watcher(ProgressBar(epochs, len(done)), tracker.epoch, done) as watcher:
        pool_images = int(drc.data.pool_images * (drc.data.image_size / config.comparator.image_size) ** 2)
        job = ComparatorJob(config, problem, max(2, pool_images), start, watcher.monitor)  # in as much memory
        return fit(
            train_comparator,
            job,
            prepared.train,
            name=name,
            training=config.training,
            epochs=epochs,
            run=config.run,
            use_gpu=use_gpu,
        )


def conclude(
    config: ComparatorConfig,
    rank: RankConfig,
    prepared: Prepared,
    network: ImageComparator,
    checkpoint: Path,
    tracker: Tracker,
    folder: Path,
) -> Results:
    """Compares held-out images, and writes network and results into the run's folder and into MLflow."""
    state, history, _ = restore_training(checkpoint, "cpu")
    network.load_state_dict(state["network"])
    tracker.missing_epochs(history)
    output = folder / "results"
    output.mkdir(exist_ok=True)
    save_comparator(output, network, scale=rank.scale, tolerance=rank.tolerance)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    results = evaluate(network, prepared, rank, config.run.seed)
    (output / "history.json").write_text(json.dumps(history, indent=1))
    results.write(output)
    tracker.metrics(results.flat())
    tracker.artifacts(output)
    return results


if __name__ == "__main__":
    gc.freeze()  # the libraries stay: looking through their objects at every collection, and at the end, takes seconds
    main(sys.argv[1:])
