"""How good a model's ranks of the held-out images are: `python jobs/estimate_ranks.py --model RUN`."""

import gc
import sys
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import EstimateConfig

RECIPES = {"default": EstimateConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import numpy as np
import pandas as pd

from ordclust_ray.config import DrcConfig, InputError
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.prepare import TEST, TRAIN
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import encode, estimate_ranks
from ordclust_ray.finished import FinishedRun, find_run, open_again, open_origin, remember_origin
from ordclust_ray.models import MODEL, describe_model, sizes_of
from ordclust_ray.reports.estimates_table import evaluate, parts
from ordclust_ray.reports.results import RESULTS, Results
from ordclust_ray.run import SETTINGS, kept, name_of, opened, recorded, start_ray, write_once
from ordclust_ray.tracking import Tracker

FREE = ("path",)


def main(arguments: list[str]) -> None:
    _, config = parse(RECIPES, "default", arguments)
    name = name_of(config.run, "estimates")
    try:
        origin = find_run(config.model, "model", config.run)
        drc = open_origin(origin, "model", config.path)
        with opened(config.run, name, kept(config, FREE)) as (folder, tracker):
            output = folder / "results"
            if tracker.finished and (output / RESULTS).exists():
                print(f"run {name} is finished; its results:")
            else:
                start_ray()
                write_once(folder / SETTINGS, kept(config, FREE))
                remember_origin(folder, drc)
                with recorded(tracker, config.flat()):
                    run(config, origin / "results" / MODEL, drc, tracker, output)
            say_results(tracker, output)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted")


def run(config: EstimateConfig, model: Path, drc: FinishedRun[DrcConfig], tracker: Tracker, output: Path) -> None:
    """Estimates the held-out ranks, and leaves them and their measures in a folder and in MLflow."""
    source, assigned = open_again(drc), drc.assignments()
    output.mkdir(exist_ok=True)
    truth = assigned.drop(columns=["estimate", "cluster", "similarity", "margin"])
    held_out = (assigned["split"] == TEST).reindex(source.manifest.index, fill_value=False).to_numpy()
    images = decoded_stream(source, sizes_of(model), drc.config.data.max_pixels, held_out)
    estimates = estimate_ranks(images, model, output / "estimates", known=truth.reindex(source.manifest.index))
    train = assigned[assigned["split"] == TRAIN]
    features = baseline_features(config, model, drc, source, train.index.to_numpy(), held_out)
    comparison = describe_model(model)["comparison"]
    results = evaluate(config, output / "estimates", estimates, train["rank"], features, comparison)
    for name, table in parts(estimates, config.cumulative_score_at).items():
        table.to_csv(output / f"by_{name}.csv")
    results.write(output)
    tracker.metrics(results.flat())
    tracker.artifacts(output)


def baseline_features(
    config: EstimateConfig,
    model: Path,
    drc: FinishedRun[DrcConfig],
    source: Source,
    train_ids: np.ndarray,
    held_out: np.ndarray,
) -> dict[str, np.ndarray]:
    """ORID's features of the held-out images and of a random part of the training images, by instance id."""
    order = np.argsort(random_keys(train_ids, config.run.seed))
    chosen = held_out.copy()
    chosen[train_ids[order[: config.baseline_images]]] = True
    sizes = {"image": sizes_of(model)["image"]}  # of the stronger comparator there is nothing to be near to
    images = decoded_stream(source, sizes, drc.config.data.max_pixels, chosen)
    return encode(images, model, int(chosen.sum()))


def say_results(tracker: Tracker, output: Path) -> None:
    """The end of the output: all methods, then ranks, clusters and groups each on its own."""
    for file in sorted(output.glob("by_*.csv")):
        print(f"\n{pd.read_csv(file, index_col=0).to_string(float_format=lambda value: f'{value:.3f}')}")
    print(f"\n{Results.read(output).table()}\n\nresults: {output}")
    print(f"MLflow:  {tracker.where()}   (run {output.parent.name})", flush=True)


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
