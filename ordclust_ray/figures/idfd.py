"""The figures of IDFD (Tao, Takagi & Nakata, ICLR 2021)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ordclust_ray.figures import maps
from ordclust_ray.figures.style import (
    Integers,
    colour,
    curve_panels,
    finish_panel,
    hide_frame,
    recorded,
    require_same_length,
    show_share,
    with_values,
)
from ordclust_ray.figures.tiles import (
    Floats,
    Images,
    blank_tiles,
    rank_text,
    show_tiles,
    tile_centres,
    tile_figure,
    tile_side,
)

MAX_CLUSTERS = 20
FEW_POINTS = 50
CHARACTER = 0.018  # of the width of the axis: a digit of a tick's number
CHARACTER_INCHES = 0.08
AGREEMENT = {"acc": "ACC", "nmi": "NMI", "ari": "ARI"}
EVALUATIONS = {"silhouette": "silhouette", "nearest_same_cluster": "neighbour in the same cluster"}
LOSSES = ("instance_discrimination", "feature_decorrelation", "orthogonality", "reconstruction")
UNKNOWN = "#BBBBBB"


def accuracy_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Shows how good the clusters are over the epochs, a marker an evaluation (figure 2).

    Args:
        history: Records of epochs; those with "silhouette" are evaluations. Of each: "epoch"; "acc", "nmi" and "ari",
            where classes are known; "silhouette"; "nearest_same_cluster", the share in [0, 1] of the instances whose
            nearest neighbour is in the same cluster. A value that is missing or None leaves a gap; a measure without
            any value is not drawn. Without any evaluation the figure only says so.
    """
    evaluations = [record for record in history if "silhouette" in record]
    epochs = recorded(evaluations, "epoch")
    agreement = with_values(evaluations, AGREEMENT)
    alone = with_values(evaluations, EVALUATIONS)
    number = len(alone) + (len(agreement) > 0)
    figure, panels = curve_panels(number, width=3.2, otherwise="no evaluation of the clusters")
    if agreement:
        axes = panels.pop(0)
        for place, (key, values) in enumerate(agreement.items()):
            _show_curve(axes, epochs, values, color=colour(place), label=AGREEMENT[key])
        axes.legend()
        finish_panel(axes, title="agreement with known classes", over="epoch")
        show_share(axes)
    for axes, (key, values) in zip(panels, alone.items(), strict=True):
        _show_curve(axes, epochs, values, color=colour(0))
        finish_panel(axes, title=EVALUATIONS[key], over="epoch")
        if key == "nearest_same_cluster":
            show_share(axes)
    return figure


def loss_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Shows the losses and the learning rate over the epochs.

    Args:
        history: Of each epoch: "epoch"; any of the losses of `LOSSES`;
            "learning_rate", which holds until the next epoch. A value that is missing or None leaves a gap; a
            quantity without any value has no axes. Without any the figure only says so.
    """
    shown = with_values(history, (*LOSSES, "learning_rate"))
    figure, panels = curve_panels(len(shown), width=3.2, otherwise="no losses")
    epochs = recorded(history, "epoch")
    for axes, (key, values) in zip(panels, shown.items(), strict=True):
        if key == "learning_rate":
            _show_curve(axes, epochs, values, color=colour(3), drawstyle="steps-post")
            axes.set_yscale("log")
        else:
            _show_curve(axes, epochs, values, color=colour(0))
        finish_panel(axes, title=key.replace("_", " "), over="epoch")
    return figure


def accuracy_over(values: Floats, measures: Mapping[str, Floats], *, name: str) -> Figure:
    """Shows how the clusters depend on a temperature: a point a run, a line through the means (figures 3, 4).

    Args:
        values: The temperatures of the runs, (n,), positive; runs of several seeds have the same one.
        measures: By name ("ACC") a measure in [0, 1] of each run, (n,); NaN where it is unknown.
        name: What the temperature is.

    Raises:
        ValueError: There are no runs, a measure has another number of them, or a temperature is not positive.
    """
    require_same_length(values=values, **measures)
    if not (values > 0).all():
        raise ValueError(f"values must be positive for their logarithmic axis, but the least is {values.min()}")
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, (measure, results) in enumerate(measures.items()):
        means = pd.Series(results).groupby(values).mean()
        axes.plot(means.index, means, color=colour(place), label=measure)
        axes.plot(values, results, "o", markersize=5, alpha=0.6, markeredgewidth=0, color=colour(place))
    axes.set(xscale="log", xlabel=name)
    _tick_temperatures(axes, np.unique(values))
    axes.grid(alpha=0.3)
    hide_frame(axes)
    show_share(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def cluster_map(
    features: Floats, assignments: Integers, labels: Integers | None, class_names: Sequence[str] = (), *, seed: int
) -> Figure:
    """Shows features in the plane, by t-SNE, coloured by cluster and by known class (figure 5).

    Args:
        features: Features of the instances, (n, d).
        assignments: Their clusters, (n,).
        labels: Their known classes, (n,), -1 where unknown; None where no class is known.
        class_names: Names of the classes; one without is called by its number.
        seed: Seed of t-SNE; the same seed gives the same map.

    Raises:
        ValueError: The arrays differ in length, or n < 2.
    """
    require_same_length(features=features, assignments=assignments)
    if labels is not None:
        require_same_length(features=features, labels=labels)
    points = maps.in_the_plane(features, seed=seed)
    figure = Figure(figsize=(5.4 if labels is None else 11.0, 4.6), layout="constrained")
    by_cluster, *by_class = figure.subplots(1, 1 if labels is None else 2, squeeze=False)[0]
    maps.show_groups(by_cluster, points, assignments, legend="cluster")
    maps.finish_map(by_cluster, "by cluster")
    if labels is not None:
        unknown = labels < 0
        if unknown.any():  # first, so that they cover no known one
            by_class[0].scatter(*points[unknown].T, color=UNKNOWN, label="unknown", **maps.DOTS)
        maps.show_groups(by_class[0], points[~unknown], labels[~unknown], legend="class", names=class_names)
        maps.finish_map(by_class[0], "by known class")
    return figure


def border_images(
    images: Images,
    assignments: Integers,
    neighbours: Integers,
    margins: Floats,
    *,
    num_clusters: int,
    per_cluster: int = 12,
) -> Figure:
    """Shows each cluster's images that lie closest to another cluster, its number below them (figure 6).

    Args:
        images: The instances, (n, H, W, 3).
        assignments: Their clusters, (n,).
        neighbours: The cluster of the nearest centroid beside that of their own, (n,).
        margins: Distance to that centroid minus distance to their own, (n,).
        num_clusters: The number of clusters; an empty one keeps its row. Of more than 20 the largest 20 are shown.
        per_cluster: The number of images in a row, the smallest margin first; what is missing stays blank.

    Raises:
        ValueError: The arrays are empty or differ in length.
    """
    require_same_length(images=images, assignments=assignments, neighbours=neighbours, margins=margins)
    clusters = _largest(assignments, num_clusters)
    rows = [_foremost(assignments == cluster, margins, per_cluster) for cluster in clusters]
    columns = max(map(len, rows))
    side = tile_side(columns)
    height = side * images.shape[1] / images.shape[2] + 0.24
    figure = Figure(figsize=(columns * side + 0.9, len(rows) * height + 0.4), layout="constrained")
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, cluster, chosen in zip(panels, clusters, rows, strict=True):
        tiles = blank_tiles(1, columns, images)
        tiles[0, : len(chosen)] = images[chosen]
        show_tiles(axes, tiles)
        axes.set_yticks(tile_centres(tiles, 0), [f"cluster {cluster}"])
        axes.set_xticks(tile_centres(tiles, 1)[: len(chosen)], [f"{number}" for number in neighbours[chosen]])
        axes.tick_params(labeltop=False, labelbottom=True)
    figure.supxlabel(f"number of the second nearest cluster{_more(num_clusters, '; ')}", fontsize="medium")
    return figure


def cluster_samples(
    images: Images,
    assignments: Integers,
    distances: Floats,
    *,
    num_clusters: int,
    class_shares: Sequence[str] = (),
    columns: int = 12,
) -> Figure:
    """Shows the most typical images of each cluster, a cluster a row.

    Args:
        images: The instances, (n, H, W, 3).
        assignments: Their clusters, (n,).
        distances: Their distances to the centroid of their own cluster, (n,).
        num_clusters: The number of clusters; an empty one keeps its row. Of more than 20 the largest 20 are shown.
        class_shares: A text a cluster, such as "92% sneaker", or none.
        columns: The number of images in a row, the smallest distance first; what is missing stays blank.

    Raises:
        ValueError: The arrays are empty or differ in length, or there are texts, but not one a cluster.
    """
    require_same_length(images=images, assignments=assignments, distances=distances)
    if class_shares:
        require_same_length(clusters=range(num_clusters), class_shares=class_shares)
    clusters = _largest(assignments, num_clusters)
    rows = [_foremost(assignments == cluster, distances, columns) for cluster in clusters]
    tiles = blank_tiles(len(rows), max(map(len, rows)), images)
    for row, chosen in enumerate(rows):
        tiles[row, : len(chosen)] = images[chosen]
    figure, axes = tile_figure(tiles)
    shares = class_shares or [""] * num_clusters
    texts = [f"cluster {cluster}\n{shares[cluster]}".rstrip() for cluster in clusters]
    axes.set_yticks(tile_centres(tiles, 0), texts)
    longest = max(len(shares[cluster]) for cluster in clusters)
    figure.set_figwidth(figure.get_figwidth() + CHARACTER_INCHES * max(0, longest - len("cluster 0")))
    axes.set_xlabel(_more(num_clusters))
    return figure


def feature_correlation(features: Floats, *, title: str) -> Figure:
    """Shows how much the features say the same, and the mean of that over all pairs (figures 7, 10).

    Args:
        features: Features of the instances, (n, d); the cosine of two columns is not centred. A column of zeros has
            the cosine 0 with all.
        title: What the features are.

    Raises:
        ValueError: There are no instances.
    """
    require_same_length(features=features)
    norms = np.linalg.norm(features, axis=0)
    unit = features / np.where(norms > 0, norms, 1)
    cosines = np.abs(unit.T @ unit)
    pairs = cosines[~np.eye(len(cosines), dtype=bool)]
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(cosines, vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(shown, ax=axes, label="|cosine|")
    axes.set(xlabel="feature", ylabel="feature")
    axes.set_title(f"{title}\nmean off the diagonal {pairs.mean():.3f}" if len(pairs) else title, fontsize="medium")
    return figure


def _show_curve(axes: Axes, epochs: Floats, values: Floats, **style: Any) -> None:
    """Markers no wider than the line where there are many: they still show a value between two gaps."""
    size = 4.0 if np.isfinite(values).sum() <= FEW_POINTS else 1.5
    axes.plot(epochs, values, marker="o", markersize=size, markeredgewidth=0, **style)


def _tick_temperatures(axes: Axes, values: Floats) -> None:
    """A tick a temperature, from the least; a number that would touch the one before it is left out."""
    axes.set_xlim(values[0] / 1.2, values[-1] * 1.2)
    places = np.log(values) / np.log(1.44 * values[-1] / values[0])
    texts: list[str] = []
    end = -np.inf
    for value, place in zip(values, places, strict=True):
        text = rank_text(value)
        half = CHARACTER * len(text) / 2
        free = bool(place - half > end)
        texts.append(text if free else "")
        end = place + half if free else end
    axes.set_xticks(values, texts)
    axes.xaxis.set_minor_locator(NullLocator())


def _largest(assignments: Integers, num_clusters: int) -> list[int]:
    """At most 20 clusters, by number."""
    sizes = np.bincount(assignments, minlength=num_clusters)[:num_clusters]
    return sorted(np.argsort(-sizes, kind="stable")[:MAX_CLUSTERS].tolist())


def _foremost(members: Any, scores: Floats, at_most: int) -> Integers:
    """The members with the smallest scores, the smallest first."""
    places = np.flatnonzero(members)
    return places[np.argsort(scores[places], kind="stable")[:at_most]]


def _more(num_clusters: int, before: str = "") -> str:
    """Says how many clusters are not shown, if any."""
    hidden = num_clusters - MAX_CLUSTERS
    return f"{before}{hidden} more cluster{'s' * (hidden > 1)}" if hidden > 0 else ""
