"""How good a model's ranks of the held-out images are: `python jobs/estimate_ranks.py --model RUN`."""

import gc
import sys
from pathlib import Path

from cli import parse

from ordclust_ray.config import EstimateConfig

RECIPES = {"default": EstimateConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import numpy as np
import pandas as pd
from following import Origin, follow

from ordclust_ray.config import DrcConfig, SelectConfig
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.prepare import TEST, TRAIN
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import encode, estimate_ranks
from ordclust_ray.finished import FinishedRun, find_run, model_of, open_again, open_origin
from ordclust_ray.models import describe_model, sizes_of
from ordclust_ray.reports.estimates_table import evaluate, parts
from ordclust_ray.reports.results import Results
from ordclust_ray.tracking import Tracker

ESTIMATES = (SelectConfig.system, DrcConfig.system)


def main(arguments: list[str]) -> None:
    follow(parse(RECIPES, "default", arguments)[1], "estimates", open_model, run, say)


def open_model(config: EstimateConfig) -> Origin:
    """The folder of the model, and the run that its images are of."""
    folder = find_run(config.model, "model", config.run)
    return model_of(folder, ESTIMATES, "model"), open_origin(folder, "model", config.run, config.path)


def run(config: EstimateConfig, origin: Origin, tracker: Tracker, output: Path) -> None:
    """Estimates the held-out ranks, and leaves them and their measures in a folder and in MLflow."""
    model, drc = origin
    source, assigned = open_again(drc), drc.assignments()
    truth = assigned.drop(columns=["estimate", "cluster", "similarity", "margin"], errors="ignore")
    held_out = (assigned["split"] == TEST).reindex(source.manifest.index, fill_value=False).to_numpy()
    images = decoded_stream(source, sizes_of(model), drc.config.data.max_pixels, held_out)
    estimates = estimate_ranks(images, model, output / "estimates", known=truth.reindex(source.manifest.index))
    train = assigned[assigned["split"] == TRAIN]
    features = baseline_features(config, model, drc, source, train.index.to_numpy(), held_out)
    comparison = describe_model(model)["comparison"]
    results = evaluate(config, output / "estimates", estimates, train["rank"], features, comparison)
    for name, table in parts(estimates, config.cumulative_score_at).items():
        table.to_csv(output / f"by_{name}.csv")
    tracker.metrics(results.flat())
    results.write(output)
    tracker.artifacts(output)


def baseline_features(
    config: EstimateConfig,
    model: Path,
    drc: FinishedRun[DrcConfig],
    source: Source,
    train_ids: np.ndarray,
    held_out: np.ndarray,
) -> dict[str, np.ndarray]:
    """ORID's features of a random part of the held-out and of the training images."""
    chosen = np.zeros(len(held_out), dtype=bool)
    for ids in (train_ids, np.flatnonzero(held_out)):
        chosen[ids[np.argsort(random_keys(ids, config.run.seed))[: config.baseline_images]]] = True
    sizes = {"image": sizes_of(model)["image"]}  # of the stronger comparator there is nothing to be near to
    images = decoded_stream(source, sizes, drc.config.data.max_pixels, chosen)
    return encode(images, model, int(chosen.sum()))


def say(output: Path) -> None:
    """Ranks, clusters and groups each on its own, then all methods."""
    for file in sorted(output.glob("by_*.csv")):
        print(f"\n{pd.read_csv(file, index_col=0).to_string(float_format=lambda value: f'{value:.3f}')}")
    print(f"\n{Results.read(output).table()}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
