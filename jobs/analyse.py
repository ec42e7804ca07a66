"""The tests of a run's decomposition, beside the paper's tables 8 to 12: `python jobs/analyse.py --drc RUN`."""

import gc
import sys
from dataclasses import asdict, replace
from pathlib import Path

from cli import parse

from ordclust_ray.config import AnalyseConfig

RECIPES = {"default": AnalyseConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import numpy as np
import pandas as pd
import train_drc
import training
from following import Origin, follow

from ordclust_ray.config import MACHINES, ClusteringConfig, DrcConfig, InputError
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.prepare import TEST, TRAIN, open_checked
from ordclust_ray.estimation import encode
from ordclust_ray.finished import FinishedRun, find_run, open_again, open_run
from ordclust_ray.models import MODEL, load_networks, sizes_of
from ordclust_ray.reports import analysis_table as analysis
from ordclust_ray.reports.results import Results
from ordclust_ray.tracking import Tracker

FREE = {*MACHINES, "path"}


def main(arguments: list[str]) -> None:
    follow(parse(RECIPES, "default", arguments)[1], "analysis", open_drc, run, say, FREE)


def open_drc(config: AnalyseConfig) -> Origin:
    """The run whose decomposition is tested."""
    drc = open_run(find_run(config.drc, "drc", config.run), DrcConfig, "drc", config.path)
    return drc.folder, drc


def run(config: AnalyseConfig, origin: Origin, tracker: Tracker, output: Path) -> None:
    """Trains the variants, tests the run's features, and leaves tables and figures in a folder and in MLflow."""
    _, drc = origin
    base, schedule = drc.config, {"epochs": config.comparator_epochs, "seed": config.run.seed}
    train, test = samples(config, drc)
    measures = {analysis.THIS: ranks_of(drc.results)}
    for variant, clustering in analysis.variants(base.clustering, config.k, plain=config.without_repulsion).items():
        measures[variant] = train_variant(config, base, clustering, output.parent.name, variant)
    measures |= analysis.feature_measures(train, test, base, **schedule)
    kinds = analysis.KINDS if base.clustering.num_clusters > 1 else ()
    clusters = {by: analysis.cluster_anew(train, by, base) for by in kinds}
    orid = load_networks(drc.results / MODEL).orid
    for by, found in clusters.items():
        regrouped = analysis.regrouped_measures(train, test, found, by, orid, base, **schedule)
        measures[f"clusters of {by}"] = regrouped
    for title, figure in analysis.figures(train, clusters, config.run.seed):
        figure.savefig(output / f"{title}.png", dpi=120)
    for title, table in analysis.tables(measures, base).items():
        table.to_csv(output / f"{title}.csv")
    sizes = drc.assignments().query("split == @TRAIN")["cluster"].value_counts().sort_index()
    results = Results(measures, sizes.tolist(), analysis.note(train, test, base))
    results.write(output)
    tracker.metrics(results.flat())
    tracker.artifacts(output)


def train_variant(
    config: AnalyseConfig, base: DrcConfig, clustering: ClusteringConfig, analysis_name: str, variant_name: str
) -> dict[str, float]:
    """Trains a run as the base, with other clusters, unless that was done; its measures of held-out ranks."""
    name = f"{analysis_name}-{variant_name}"
    print(f"\nrun {name}: {clustering.num_clusters} clusters, repulsion {clustering.repulsion:g}", flush=True)
    variant = replace(
        base,
        clustering=clustering,
        training=replace(base.training, **asdict(config.training)),
        # An experiment of its own: else the newest model of the base's name would be a variant's.
        run=replace(config.run, name=name, seed=base.run.seed, experiment=f"{config.run.experiment}-variants"),
    )
    try:
        training.train("variant", variant, open_checked, train_drc.run)
    except SystemExit:  # the line before named the variant
        print(f"the whole analysis goes on with --run.name {analysis_name}", file=sys.stderr)
        raise
    return ranks_of(config.run.storage_path / name / "results")


def ranks_of(results: Path) -> dict[str, float]:
    """What a run of train_drc.py measured of its own."""
    return next(iter(Results.read(results).measures.values()))


def samples(config: AnalyseConfig, drc: FinishedRun[DrcConfig]) -> tuple[analysis.Sample, analysis.Sample]:
    """Features of training and of held-out images, at most as many of each as the settings allow."""
    source, assigned, model = open_again(drc), drc.assignments(), drc.results / MODEL
    parts = [assigned[assigned["split"] == split] for split in (TRAIN, TEST)]
    parts = [part.iloc[np.argsort(random_keys(part.index.to_numpy(), config.run.seed))] for part in parts]
    train, test = (part.iloc[: config.analysed_images].sort_index() for part in parts)
    if len(train) < 2 * drc.config.clustering.num_clusters:
        raise InputError(
            f"--analysed-images is {config.analysed_images}; {drc.config.clustering.num_clusters} clusters need at "
            f"least {2 * drc.config.clustering.num_clusters}"
        )
    chosen = np.zeros(len(source.manifest), dtype=bool)
    chosen[np.concatenate([train.index, test.index])] = True
    images = decoded_stream(source, sizes_of(model), drc.config.data.max_pixels, chosen)
    features = encode(images, model, int(chosen.sum()))
    return analysis.sample(features, train), analysis.sample(features, test)


def say(output: Path) -> None:
    """The tables, and what a reader has to know of them."""
    for name, title in analysis.TITLES.items():
        table = pd.read_csv(output / f"{name}.csv", index_col=0)
        print(f"\n{title}\n{analysis.as_text(table)}")
    print(f"\n{Results.read(output).note}")


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
