"""References of a run's clusters, and the whole model: `python jobs/select_references.py --model RUN`."""

import gc
import sys
from pathlib import Path

from cli import parse

from ordclust_ray.config import SelectConfig

RECIPES = {"default": SelectConfig}

if __name__ == "__main__":
    parse(RECIPES, "default", sys.argv[1:])  # --help, or a mistake, does not wait for the libraries below

import numpy as np
import pandas as pd
from following import Origin, follow

from ordclust_ray.config import ComparatorConfig, DrcConfig
from ordclust_ray.core.rank_estimator import RankNetworks
from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.prepare import TRAIN
from ordclust_ray.files import read_table
from ordclust_ray.finished import FinishedRun, find_run, open_again, open_origin, require_kind, system_of
from ordclust_ray.models import MODEL, RANKS, load_networks, save_networks, sizes_of
from ordclust_ray.references import Comparison, add_references, choose_candidates, list_candidates
from ordclust_ray.reports.results import Results
from ordclust_ray.serving import OUTPUTS, input_example
from ordclust_ray.tracking import Tracker
from ordclust_ray.training.comparator_weights import describe_comparator, load_comparator

COMPARES = (ComparatorConfig.system, DrcConfig.system)


def main(arguments: list[str]) -> None:
    follow(parse(RECIPES, "default", arguments)[1], "references", open_compared, run, say)


def open_compared(config: SelectConfig) -> Origin:
    """The run whose comparator is used, and the one whose clusters are."""
    folder = find_run(config.model, "model", config.run)
    require_kind(folder, COMPARES, "model")
    return folder, open_origin(folder, "model", config.run, config.path)


def run(config: SelectConfig, origin: Origin, tracker: Tracker, output: Path) -> None:
    """Chooses the references, encodes them, and leaves lists and the whole model in a folder and in MLflow."""
    folder, drc = origin
    source, assigned, model = open_again(drc), drc.assignments(), output / MODEL
    members = assigned[assigned["split"] == TRAIN]
    levels = np.unique(members["rank"].to_numpy())
    centroids = np.stack(read_table(drc.results / "centroids.parquet")["centroid"].to_pylist())
    candidates = choose_candidates(members, len(centroids), levels, config.candidates)
    comparison = write_networks(config, folder, drc, levels, model)
    wanted = np.isin(np.arange(len(source.manifest)), candidates)
    images = decoded_stream(source, sizes_of(model), drc.config.data.max_pixels, wanted)
    add_references(images, model, candidates, centroids, comparison)
    chosen, absent = list_candidates(candidates, members, levels)
    chosen["source"] = source.manifest.loc[chosen["instance_id"], "source"].to_numpy()
    chosen.to_parquet(output / "references.parquet")
    absent.to_csv(output / "absent_ranks.csv", index=False)
    tracker.metrics({"references": float(len(chosen)), "absent_ranks": float(len(absent))})
    tracker.model(model, input_example(model), OUTPUTS[RANKS], config.run.experiment)
    summary(candidates, members).write(output)
    tracker.artifacts(output)


def say(output: Path) -> None:
    """What each cluster has, and which ranks it lacks."""
    absent = pd.read_csv(output / "absent_ranks.csv")
    print(f"\n{Results.read(output).table(decimals=0)}")
    for cluster, ranks in absent.groupby("cluster")["rank"]:
        print(f"cluster {cluster} lacks ranks {', '.join(f'{rank:g}' for rank in ranks)}")


def write_networks(
    config: SelectConfig, origin: Path, drc: FinishedRun[DrcConfig], levels: np.ndarray, model: Path
) -> Comparison:
    """ORID, and the comparator where the model is one's run, into the model's folder; how they compare ranks."""
    orid, results = load_networks(drc.results / MODEL).orid, origin / "results"
    if system_of(origin) == RANKS:
        save_networks(model, RankNetworks(orid), drc.config, comparator=None)
        return Comparison(levels, drc.config.rank.tolerance, drc.config.rank.scale, config)
    found = describe_comparator(results)
    tolerance, scale = found.pop("tolerance"), found.pop("scale")
    save_networks(model, RankNetworks(orid, load_comparator(results)), drc.config, comparator=found)
    return Comparison(levels, tolerance, scale, config)


def summary(candidates: np.ndarray, members: pd.DataFrame) -> Results:
    """Of each cluster: how many ranks have references, how many have none, and candidates in all."""
    present = np.asarray((candidates >= 0).any(axis=2))
    measures = {
        f"cluster {j}": {
            "ranks": float(present[j].sum()),
            "absent ranks": float((~present[j]).sum()),
            "candidates": float((candidates[j] >= 0).sum()),
        }
        for j in range(len(candidates))
    }
    return Results(measures, np.bincount(members["cluster"].astype(int), minlength=len(candidates)).tolist())


if __name__ == "__main__":
    gc.freeze()
    main(sys.argv[1:])
