"""The variants of IDFD side by side on Fashion-MNIST, as the recipe `fashion-mnist` trains them; without Ray.

`python benchmarks/idfd_variants.py --data ../shared/data/fashion_mnist_train.parquet --output variants` trains each
variant with each seed on the first 10,000 images and prints a table: measures of the last epoch, mean and standard
deviation. A file a run is kept, so that the same command goes on where it stopped; several may run on different seeds.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.parquet_images import read
from ordclust_ray.clustering.measures import class_measures
from ordclust_ray.config import IdfdConfig
from ordclust_ray.core.baselines import pixel_clusters
from ordclust_ray.recipes.idfd import fashion_mnist
from ordclust_ray.reports.idfd_table import METHODS
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.idfd_run import Idfd, ImagesInMemory

CLASSES = 10
PIXELS = "k-means on pixels"
MEASURES = ("acc", "nmi", "ari")
SETTINGS = ("images", "epochs", "instance_temperature", "decorrelation_temperature", "precision")
"""That all runs of a table share."""


def settings(variant: Any, seed: int, options: argparse.Namespace) -> IdfdConfig:
    recipe = fashion_mnist()
    training = replace(recipe.training, epochs=options.epochs or recipe.training.epochs, precision=options.precision)
    loss = replace(
        recipe.loss,
        variant=variant,
        instance_temperature=options.instance_temperature,
        decorrelation_temperature=options.decorrelation_temperature,
    )
    return replace(recipe, loss=loss, training=training, run=replace(recipe.run, seed=seed))


def trained(config: IdfdConfig, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The history of a run."""
    torch.manual_seed(config.run.seed)
    data = ImagesInMemory(torch.from_numpy(images), torch.arange(len(images)))
    model = Idfd(config, CLASSES, labels, data, IdfdTrainer(config, len(images), torch.device("cpu")))
    for _ in range(config.training.epochs):
        record = model.run_epoch()
        if "acc" in record:
            print(f"{METHODS[config.loss.variant]}, seed {config.run.seed}: epoch {record['epoch']}, "
                  f"ACC {record['acc']:.3f}, {record['images_per_second']:.0f} images/s", flush=True)  # fmt: skip
    return model.history


def of_pixels(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> list[dict[str, Any]]:
    clusters = pixel_clusters(images, CLASSES, seed, starts=20)
    return [dict(class_measures(clusters, labels, CLASSES, CLASSES))]


def table(files: Iterable[Path]) -> pd.DataFrame:
    """A row a method: mean and standard deviation over seeds of each measure, at the end of training."""
    runs = [json.loads(file.read_text()) for file in files]
    rows = pd.DataFrame([{"method": run["method"], **{m: run["history"][-1][m] for m in MEASURES}} for run in runs])
    return rows.groupby("method", sort=False).agg(_spread).rename(columns=str.upper)


def _spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.3f}"
    return f"{values.mean():.3f} ± {values.std():.3f} ({len(values)} seeds)"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs' histories")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--variants", nargs="+", choices=list(METHODS), default=list(METHODS)[:4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=0, help="0: the recipe's")
    parser.add_argument("--instance-temperature", type=float, default=0.0)
    parser.add_argument("--decorrelation-temperature", type=float, default=2.0)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args(arguments)
    kept = {name: getattr(options, name) for name in SETTINGS}
    options.output.mkdir(parents=True, exist_ok=True)
    images, labels = read([options.data], options.images)
    print(f"{len(images)} images, {torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
    for seed in options.seeds:
        for variant in ["pixels", *options.variants]:
            file = options.output / f"{variant}-{seed}.json"
            if file.exists():
                if (before := json.loads(file.read_text())["settings"]) != kept:
                    raise SystemExit(f"error: {file} was made with other settings, {before}; choose another --output")
                continue
            if variant == "pixels":
                run = {"method": PIXELS, "history": of_pixels(images, labels, seed)}
            else:
                history = trained(settings(variant, seed, options), images, labels)
                run = {"method": METHODS[variant], "history": history}
            unfinished = file.with_suffix(".new")
            unfinished.write_text(json.dumps({"settings": kept, **run}))
            unfinished.replace(file)
    print(table(sorted(options.output.glob("*.json"))).to_string())


if __name__ == "__main__":
    main()
