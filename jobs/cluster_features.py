"""Repulsive clustering of the features of any network: `python jobs/cluster_features.py --features PATH --k 2..12`."""

import contextlib
import gc
import json
import sys
import time
from pathlib import Path

from cli import parse, stop

from ordclust_ray.config import ClusterFeaturesConfig

RECIPES = {"default": ClusterFeaturesConfig}
QUALITY = "quality.csv"
OF_THE_MACHINES = ("num_shards", "cpus_per_shard")
"""The result does not depend on them."""
SECONDS_BETWEEN_LINES = 10.0

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import pandas as pd
import ray
from tqdm import tqdm

from ordclust_ray.clustering.ray_engine import RayEngine
from ordclust_ray.clustering.sources import file_parts
from ordclust_ray.clustering.study import Study, quality_table, run_study, write_assignments, write_centroids
from ordclust_ray.config import InputError
from ordclust_ray.core.repulsive_kmeans import Clustering
from ordclust_ray.figures.quality import quality_curves
from ordclust_ray.run import SETTINGS, kept, name_of, opened, recorded, start_ray, write_once
from ordclust_ray.storage import place_of, pull
from ordclust_ray.tracking import Tracker


def main(arguments: list[str]) -> None:
    _, config = parse(RECIPES, "default", arguments)
    if not config.features:
        stop("--features is missing; it must be a Parquet file, a folder of them, or a .npy file")
    name = name_of(config.run, "features")
    try:
        with opened(config.run, name, kept(config, OF_THE_MACHINES)) as (folder, tracker):
            output = folder / "results"
            if tracker.finished and (output / QUALITY).exists():
                print(f"run {name} is finished; its results:")
            else:
                start_ray()
                with contextlib.closing(open_engine(config)) as engine:
                    write_once(folder / SETTINGS, kept(config, OF_THE_MACHINES))
                    run(config, engine, tracker, output)
            say_results(config, tracker, output)
    except InputError as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted")


def open_engine(config: ClusterFeaturesConfig) -> RayEngine:
    """Actors over the files; what cannot be read is one line."""
    shards = config.num_shards or max(1, int(ray.cluster_resources().get("CPU", 1) / config.cpus_per_shard))
    columns = [column for column in (config.id_column, config.label_column) if column]
    path = config.features if "://" in config.features else str(Path(config.features).absolute())
    try:
        parts = file_parts(path, config.column, shards, columns)
        return RayEngine(parts, num_cpus=config.cpus_per_shard)
    except ValueError as error:
        raise InputError(str(error)) from None


def run(config: ClusterFeaturesConfig, engine: RayEngine, tracker: Tracker, output: Path) -> None:
    """Clusters, and leaves assignments, centroids, the table and its figure in a folder and in MLflow."""
    print(
        f"{engine.num_instances} rows; k = {', '.join(map(str, config.all_k))}; {config.seeds} seeds each", flush=True
    )
    with recorded(tracker, config.flat()):
        study = cluster(config, engine)
        output.mkdir(exist_ok=True)
        table = quality_table(
            engine, study, silhouette_sample=config.silhouette_sample, label_column=config.label_column
        )
        write_assignments(engine, study, place_of(config.run, output / "assignments"), config.id_column)
        pull(config.run, output.parent.name)
        record(study, table, tracker, output)


def say_results(config: ClusterFeaturesConfig, tracker: Tracker, output: Path) -> None:
    """The end of the output: the table that helps to choose k, and where everything is."""
    table = pd.read_csv(output / QUALITY, index_col="k")
    print(f"\n{table.to_string(float_format=lambda value: f'{value:.4f}')}\n\nresults: {place_of(config.run, output)}")
    print(f"MLflow:  {tracker.where()}   (run {output.parent.name})", flush=True)


def cluster(config: ClusterFeaturesConfig, engine: RayEngine) -> Study:
    """With a bar of the clusterings that are done; where there is no terminal, with a line now and then."""
    seeds = range(config.run.seed, config.run.seed + config.seeds)
    total, done, told = len(config.all_k) * config.seeds, 0, time.monotonic()
    with tqdm(total=total, unit="clustering", disable=None) as bar:

        def show(number: int, state: Clustering) -> None:
            nonlocal done, told
            done += state.converged or state.iterations == config.max_iterations
            bar.n = done
            bar.set_postfix(iteration=state.iterations, moved=f"{state.changed:.1%}")
            if bar.disable and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                print(f"iteration {state.iterations}: {done} of {total} clusterings are done", flush=True)

        try:
            return run_study(
                engine,
                config.all_k,
                seeds,
                config.init,
                repulsion=config.repulsion,
                min_cluster_fraction=config.min_cluster_fraction,
                max_iterations=config.max_iterations,
                tolerance=config.tolerance,
                on_iteration=show,
            )
        except ValueError as error:
            raise InputError(str(error)) from None


def record(study: Study, table: pd.DataFrame, tracker: Tracker, output: Path) -> None:
    write_centroids(study, output / "centroids.parquet")
    table.to_csv(output / QUALITY)
    runs = [
        {"k": r.num_clusters, "seed": r.seed, "objective": r.result.objective, "iterations": r.result.iterations}
        for r in study.runs
    ]
    (output / "runs.json").write_text(json.dumps(runs, indent=1))
    if len(table) > 1:
        quality_curves(table).savefig(output / "quality.png", dpi=150)
    for k, row in table.iterrows():
        tracker.metrics({str(name).replace("(k)", "_k"): value for name, value in row.items()}, step=int(str(k)))
    for file in ("centroids.parquet", QUALITY, "runs.json", "quality.png"):
        if (output / file).exists():
            tracker.artifact(output / file)


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
