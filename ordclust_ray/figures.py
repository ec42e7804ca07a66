"""The figures of DRC-ORID (Lee & Kim, ICLR 2021) as matplotlib figures, drawn from plain arrays.

No function touches pyplot, files or global state: all work headless and in threads.
Images are uint8 arrays (n, H, W, 3), ranks are floats, clusters are numbered 0, ..., k - 1.
"""

from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from ordclust_ray.tiles import Floats, Images, blank_tiles, rank_text, show_tiles, tile_centres, tile_figure, tile_side

Integers = NDArray[np.integer[Any]]

MAX_COLUMNS = 12
MAX_REFERENCES = 10
MAX_BINS = 100
# Okabe & Ito (2008): safe for the colour-blind.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = "o^sD"  # the next one wherever the colours start again
CURVES = {
    "centroid_affinity": "affinity of centroids",
    "objective_per_instance": "objective per instance",
    "changed": "share of memberships changed",
    "nmi": "NMI with known groups",
}
QUALITY = {
    "J/n": "objective per instance",
    "CA": "affinity of centroids",
    "silhouette": "silhouette",
    "f(k)": "f(k) of Pham et al.",
    "stability": "stability over seeds",
    "NMI": "NMI with known labels",
    "ACC": "accuracy with known labels",
}


def cluster_montage(
    images: Images,
    ranks: Floats,
    assignments: Integers,
    similarities: Floats,
    *,
    num_clusters: int,
    per_cell: int = 4,
) -> Figure:
    """Shows each cluster's most typical images at each rank (figures 3, 4, 8).

    Args:
        images: The instances, (n, H, W, 3).
        ranks: Their ranks, (n,). Of more than 12 distinct ones, 12 are chosen evenly.
        assignments: Their clusters, (n,).
        similarities: Their similarities to the centroid of their own cluster, (n,).
        num_clusters: The number of clusters; an empty one keeps its block.
        per_cell: The number of images in a cell, the most similar on top; what is missing stays blank.

    Raises:
        ValueError: The arrays are empty or differ in length.
    """
    _require_same_length(images=images, ranks=ranks, assignments=assignments, similarities=similarities)
    levels = _evenly_chosen(np.unique(ranks), MAX_COLUMNS)
    side = tile_side(len(levels))
    height = per_cell * side * images.shape[1] / images.shape[2] + 0.35
    figure = Figure(figsize=(len(levels) * side + 0.6, num_clusters * height + 0.3), layout="constrained")
    for cluster, axes in enumerate(figure.subplots(num_clusters, 1, squeeze=False)[:, 0]):
        tiles = blank_tiles(per_cell, len(levels), images)
        for column, level in enumerate(levels):
            cell = np.flatnonzero((assignments == cluster) & (ranks == level))
            best = cell[np.argsort(-similarities[cell], kind="stable")[:per_cell]]
            tiles[: len(best), column] = images[best]
        show_tiles(axes, tiles, levels)
        axes.set_ylabel(f"cluster {cluster}", color=_colour(cluster), fontweight="bold")
    figure.suptitle("rank", fontsize="medium")
    return figure


def rank_histograms(ranks: Floats, assignments: Integers, *, num_clusters: int) -> Figure:
    """Shows how each cluster's instances spread over the ranks, one cluster below another.

    Args:
        ranks: Ranks of the instances, (n,). On a grid of at most 100 steps, each step has a bar.
        assignments: Their clusters, (n,).
        num_clusters: The number of clusters; an empty one keeps its axes.

    Raises:
        ValueError: The arrays are empty or differ in length.
    """
    _require_same_length(ranks=ranks, assignments=assignments)
    edges = _bin_edges(np.unique(ranks))
    figure = Figure(figsize=(7.0, 1.4 * num_clusters + 0.8), layout="constrained")
    panels = figure.subplots(num_clusters, 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for cluster, axes in enumerate(panels):
        members = ranks[assignments == cluster]
        axes.hist(members, bins=edges, color=_colour(cluster), edgecolor="white", linewidth=0.5)
        axes.set_title(f"cluster {cluster} ({len(members)} instances)", loc="left", fontsize="medium")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("rank")
    figure.supylabel("number of instances", fontsize="medium")
    return figure


def clustering_curves(history: Sequence[Mapping[str, float | None]]) -> Figure:
    """Shows how the clustering settles over the epochs, a marker per clustering round (figure 10).

    Args:
        history: Of each round: "epoch"; "centroid_affinity"; "objective_per_instance"; "changed", the
            share in [0, 1] of the memberships that changed; "nmi" in [0, 1], where groups are known.
            A value that is missing or None leaves a gap; a quantity without any value has no axes.
            Without any round the figure only says that there was no clustering.
    """
    shown = [key for key in CURVES if any(clustering.get(key) is not None for clustering in history)]
    figure = Figure(figsize=(max(3.2 * len(shown), 4.0), 2.8), layout="constrained")
    if not shown:
        figure.text(0.5, 0.5, "no clustering at k = 1", ha="center", va="center", fontsize="large")
        return figure
    for axes, key in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        epochs, values = (np.array([row.get(name) for row in history], float) for name in ("epoch", key))
        axes.plot(epochs, values, marker="o", markersize=4, color=_colour(0))
        axes.set(title=CURVES[key], xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if key in ("changed", "nmi"):
            axes.set_ylim(-0.05, 1.05)
    return figure


def quality_curves(table: pd.DataFrame) -> Figure:
    """Shows what helps to choose k: a curve a measure.

    Args:
        table: Measures by k, as `clustering.study.quality_table` gives them; one without any value has no axes.
    """
    shown = [str(name) for name in table.columns if name in QUALITY and table[name].notna().any()]
    figure = Figure(figsize=(max(3.0 * len(shown), 4.0), 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.plot(table.index, table[name], marker="o", markersize=4, color=_colour(0))
        axes.set(title=QUALITY[name], xlabel="k")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def feature_map(features: Floats, ranks: Floats, assignments: Integers, *, title: str, seed: int) -> Figure:
    """Shows features in the plane, by t-SNE, coloured by rank and by cluster (figures 5, 12).

    Args:
        features: Features of the instances, (n, d).
        ranks: Their ranks, (n,).
        assignments: Their clusters, (n,).
        title: What the features are.
        seed: Seed of t-SNE; the same seed gives the same map.

    Raises:
        ValueError: The arrays differ in length, or n < 2.
    """
    _require_same_length(features=features, ranks=ranks, assignments=assignments)
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if features.shape[1] > 1 else "random"
    points = TSNE(init=start, perplexity=perplexity, max_iter=500, random_state=seed).fit_transform(features)
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    by_rank, by_cluster = figure.subplots(1, 2)
    style: dict[str, Any] = {"s": 12, "alpha": 0.8, "linewidths": 0}
    dots = by_rank.scatter(*points.T, c=ranks, cmap="viridis", **style)
    figure.colorbar(dots, ax=by_rank, label="rank")
    for cluster in np.unique(assignments).tolist():
        members = points[assignments == cluster].T
        marker = MARKERS[cluster // len(COLOURS) % len(MARKERS)]
        by_cluster.scatter(*members, color=_colour(cluster), marker=marker, label=f"{cluster}", **style)
    by_cluster.legend(title="cluster", loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=2)
    by_rank.set(title="by rank", xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    by_cluster.set(title="by cluster", xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
    figure.suptitle(title)
    return figure


def reconstructions(images: Images, decoded: Images, of_identity: Images, of_order: Images) -> Figure:
    """Shows images above what is decoded of them, and of either half of their features (figure 18).

    Args:
        images: The images, (n, H, W, 3).
        decoded: Of their whole features, (n, H, W, 3).
        of_identity: Of the identity features, the order features being 0, (n, H, W, 3).
        of_order: Of the order features, the identity features being 0, (n, H, W, 3).

    Raises:
        ValueError: The arrays are empty or differ in length.
    """
    _require_same_length(images=images, decoded=decoded, of_identity=of_identity, of_order=of_order)
    tiles = np.stack([images, decoded, of_identity, of_order])
    figure, axes = tile_figure(tiles)
    axes.set_yticks(tile_centres(tiles, 0), ["original", "decoded", "identity alone", "order alone"])
    return figure


def order_transfer(identity_images: Images, order_images: Images, decoded: Images) -> Figure:
    """Shows what is decoded from the identity of one image and the order of another (figures 6, 17).

    Args:
        identity_images: The images that give the identity, (n, H, W, 3): the first column.
        order_images: The images that give the order, (m, H, W, 3): the first row.
        decoded: The image decoded from identity i and order j, in cell (i, j), (n, m, H, W, 3).

    Raises:
        ValueError: The sides of `decoded` are not the numbers of images, or there are none.
    """
    _require_same_length(identity_images=identity_images, decoded=decoded)
    _require_same_length(order_images=order_images, decoded_row=decoded[0])
    tiles = blank_tiles(len(identity_images) + 1, len(order_images) + 1, order_images)
    tiles[1:, 0] = identity_images
    tiles[0, 1:] = order_images
    tiles[1:, 1:] = decoded
    figure, axes = tile_figure(tiles)
    axes.axhline(tile_centres(tiles, 0)[:2].mean(), color="black", linewidth=1)
    axes.axvline(tile_centres(tiles, 1)[:2].mean(), color="black", linewidth=1)
    axes.set_title("order from", fontsize="medium")
    axes.set_ylabel("identity from")
    return figure


def reference_panel(
    images: Images,
    ranks: Floats,
    estimates: Floats,
    reference_images: Sequence[Images],
    reference_ranks: Sequence[Floats],
    posteriors: Floats,
    rank_levels: Floats,
) -> Figure:
    """Shows how the ranks of test images are estimated from references, an image a row (figure 19).

    Args:
        images: The test images, (t, H, W, 3).
        ranks: Their true ranks, (t,).
        estimates: Their estimated ranks, (t,).
        reference_images: For each test image i its references, (r_i, H, W, 3), at most 10 of which are shown.
        reference_ranks: For each test image i the ranks of its references, (r_i,).
        posteriors: For each test image the probabilities of the rank levels, (t, m).
        rank_levels: The rank levels, ascending, (m,).

    Raises:
        ValueError: The arrays are empty or differ in length.
    """
    _require_same_length(images=images, ranks=ranks, estimates=estimates, posteriors=posteriors)
    _require_same_length(images=images, reference_images=reference_images, reference_ranks=reference_ranks)
    _require_same_length(rank_levels=rank_levels, posterior=posteriors[0])
    columns = min(MAX_REFERENCES, max(map(len, reference_ranks)))
    figure = Figure(figsize=(0.8 * columns + 4.8, 1.3 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 3, squeeze=False, width_ratios=(1.6, 0.8 * columns, 2.8))
    for row, (shown, listed, posterior) in enumerate(grid):
        _require_same_length(reference_images=reference_images[row], reference_ranks=reference_ranks[row])
        show_tiles(shown, images[None, None, row])
        shown.set_title(f"rank {rank_text(ranks[row])}, estimated {rank_text(estimates[row])}", fontsize="small")
        chosen = _evenly_chosen(np.argsort(reference_ranks[row], kind="stable"), MAX_REFERENCES)
        tiles = blank_tiles(1, columns, images)
        tiles[0, : len(chosen)] = reference_images[row][chosen]
        show_tiles(listed, tiles, reference_ranks[row][chosen])
        posterior.bar(rank_levels, posteriors[row], width=0.9 * _step(rank_levels), color=_colour(0))
        posterior.axvline(float(estimates[row]), color=_colour(3), linestyle="--")
        posterior.spines[["top", "right"]].set_visible(False)
    grid[-1, 2].set_xlabel("rank")
    grid[0, 2].set_title("posterior, and estimate (dashed)", fontsize="small")
    return figure


def _bin_edges(levels: Floats) -> Floats:
    step = _step(levels)
    lowest, highest = float(levels[0]), float(levels[-1])
    bins = round((highest - lowest) / step) + 1
    if bins > MAX_BINS:
        return np.linspace(lowest, highest, 31)
    return lowest + step * (np.arange(bins + 1) - 0.5)


def _step(levels: Floats) -> float:
    """Returns the smallest distance between ascending levels; 1 where there is only one level."""
    return float(np.diff(levels).min()) if len(levels) > 1 else 1.0


def _evenly_chosen(values: NDArray[Any], at_most: int) -> NDArray[Any]:
    places = np.linspace(0, len(values) - 1, min(len(values), at_most))
    return np.take(values, places.round().astype(int))


def _colour(cluster: int) -> str:
    return COLOURS[cluster % len(COLOURS)]


def _require_same_length(**arrays: Sized) -> None:
    (first, expected), *others = ((name, len(array)) for name, array in arrays.items())
    if expected == 0:
        raise ValueError(f"{first} is empty")
    for name, length in others:
        if length != expected:
            raise ValueError(f"{name} has length {length}, but {first} has length {expected}")
