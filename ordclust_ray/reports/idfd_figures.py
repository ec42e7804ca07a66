"""The figures of a run of IDFD: which images and numbers go into which of the paper's figures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ordclust_ray.data.unlabelled import Unlabelled
from ordclust_ray.figures import idfd as figures
from ordclust_ray.reports.idfd_table import class_shares

MAP_POINTS = 1_000
TEMPERATURES = {
    "loss.instance_temperature": ("accuracy_over_instance_temperature", "instance temperature"),
    "loss.decorrelation_temperature": ("accuracy_over_decorrelation_temperature", "decorrelation temperature"),
}


def run_figures(
    prepared: Unlabelled,
    features: NDArray[np.float32],
    rows: pd.DataFrame,
    history: Sequence[Mapping[str, Any]],
    images: Mapping[str, NDArray[Any]],
    seed: int,
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another.

    Args:
        prepared: the data.
        features: (n, d) of all images, in the order of the instance ids.
        rows: from `idfd_table.assignments`.
        history: a record an epoch.
        images: "ids" and "images" of a sample.
        seed: of t-SNE.
    """
    k, places = prepared.num_clusters, prepared.rows_of(images["ids"])
    own = rows.iloc[places]
    clusters = own["cluster"].to_numpy()
    yield "accuracy", figures.accuracy_curves(history)
    yield "losses", figures.loss_curves(history)
    yield (
        "clusters",
        figures.cluster_samples(
            images["images"],
            clusters,
            own["distance"].to_numpy(),
            num_clusters=k,
            class_shares=class_shares(rows, prepared),
        ),
    )
    yield (
        "borders",
        figures.border_images(
            images["images"], clusters, own["second"].to_numpy(), own["margin"].to_numpy(), num_clusters=k
        ),
    )
    shown = places[:MAP_POINTS]
    labels = prepared.labels[shown] if prepared.classes else None
    yield (
        "tsne",
        figures.cluster_map(
            np.array(features[shown]), clusters[:MAP_POINTS], labels, class_names=prepared.classes, seed=seed
        ),
    )
    yield (
        "feature_correlation",
        figures.feature_correlation(np.array(features[places]), title="features"),
    )


def temperature_figures(
    runs: Sequence[tuple[Mapping[str, str], Mapping[str, float]]], setting: str
) -> Iterator[tuple[str, Figure]]:
    """Measures of the runs that differ in a temperature (figures 3, 4), where there are two values of it at least.

    Args:
        runs: parameters and metrics of each.
        setting: the temperature's name among the parameters.
    """
    known = [(float(parameters[setting]), metrics) for parameters, metrics in runs if "ACC" in metrics]
    values = np.array([value for value, _ in known])
    if len(np.unique(values)) > 1:
        name, words = TEMPERATURES[setting]
        measures = {measure: np.array([metrics[measure] for _, metrics in known]) for measure in ("ACC", "NMI", "ARI")}
        yield name, figures.accuracy_over(values, measures, name=words)
