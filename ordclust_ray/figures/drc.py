"""The figures of DRC-ORID (Lee & Kim, ICLR 2021); ranks are floats."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ordclust_ray.figures import maps
from ordclust_ray.figures.style import (
    Integers,
    colour,
    curve_panels,
    evenly_chosen,
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

MAX_COLUMNS = 12
MAX_REFERENCES = 10
MAX_BINS = 100
CURVES = {
    "centroid_affinity": "affinity of centroids",
    "objective_per_instance": "objective per instance",
    "changed": "share of memberships changed",
    "nmi": "NMI with known groups",
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
    require_same_length(images=images, ranks=ranks, assignments=assignments, similarities=similarities)
    levels = evenly_chosen(np.unique(ranks), MAX_COLUMNS)
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
        axes.set_ylabel(f"cluster {cluster}", color=colour(cluster), fontweight="bold")
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
    require_same_length(ranks=ranks, assignments=assignments)
    edges = _bin_edges(np.unique(ranks))
    figure = Figure(figsize=(7.0, 1.4 * num_clusters + 0.8), layout="constrained")
    panels = figure.subplots(num_clusters, 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for cluster, axes in enumerate(panels):
        members = ranks[assignments == cluster]
        axes.hist(members, bins=edges, color=colour(cluster), edgecolor="white", linewidth=0.5)
        axes.set_title(f"cluster {cluster} ({len(members)} instances)", loc="left", fontsize="medium")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        hide_frame(axes)
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
    shown = with_values(history, CURVES)
    figure, panels = curve_panels(len(shown), width=3.2, otherwise="no clustering at k = 1")
    for axes, (key, values) in zip(panels, shown.items(), strict=True):
        axes.plot(recorded(history, "epoch"), values, marker="o", markersize=4, color=colour(0))
        finish_panel(axes, title=CURVES[key], over="epoch")
        if key in ("changed", "nmi"):
            show_share(axes)
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
    require_same_length(features=features, ranks=ranks, assignments=assignments)
    points = maps.in_the_plane(features, seed=seed)
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    by_rank, by_cluster = figure.subplots(1, 2)
    dots = by_rank.scatter(*points.T, c=ranks, cmap="viridis", **maps.DOTS)
    figure.colorbar(dots, ax=by_rank, label="rank")
    maps.show_groups(by_cluster, points, assignments, legend="cluster")
    maps.finish_map(by_rank, "by rank")
    maps.finish_map(by_cluster, "by cluster")
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
    require_same_length(images=images, decoded=decoded, of_identity=of_identity, of_order=of_order)
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
    require_same_length(identity_images=identity_images, decoded=decoded)
    require_same_length(order_images=order_images, decoded_row=decoded[0])
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
    require_same_length(images=images, ranks=ranks, estimates=estimates, posteriors=posteriors)
    require_same_length(images=images, reference_images=reference_images, reference_ranks=reference_ranks)
    require_same_length(rank_levels=rank_levels, posterior=posteriors[0])
    columns = min(MAX_REFERENCES, max(map(len, reference_ranks)))
    figure = Figure(figsize=(0.8 * columns + 4.8, 1.3 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), 3, squeeze=False, width_ratios=(1.6, 0.8 * columns, 2.8))
    for row, (shown, listed, posterior) in enumerate(grid):
        require_same_length(reference_images=reference_images[row], reference_ranks=reference_ranks[row])
        show_tiles(shown, images[None, None, row])
        shown.set_title(f"rank {rank_text(ranks[row])}, estimated {rank_text(estimates[row])}", fontsize="small")
        chosen = evenly_chosen(np.argsort(reference_ranks[row], kind="stable"), MAX_REFERENCES)
        tiles = blank_tiles(1, columns, images)
        tiles[0, : len(chosen)] = reference_images[row][chosen]
        show_tiles(listed, tiles, reference_ranks[row][chosen])
        posterior.bar(rank_levels, posteriors[row], width=0.9 * _step(rank_levels), color=colour(0))
        posterior.axvline(float(estimates[row]), color=colour(3), linestyle="--")
        hide_frame(posterior)
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
