"""Maps of features in the plane, by t-SNE."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ordclust_ray.figures.style import Integers, colour, marker
from ordclust_ray.figures.tiles import Floats

DOTS: dict[str, Any] = {"s": 12, "alpha": 0.8, "linewidths": 0}
LEGEND_ROWS = 20


def in_the_plane(features: Floats, *, seed: int) -> Floats:
    """Points (n, 2) for at least two features (n, d); the same seed gives the same points."""
    perplexity = min(30.0, (len(features) - 1) / 3)
    start = "pca" if features.shape[1] > 1 else "random"
    tsne = TSNE(init=start, perplexity=perplexity, max_iter=500, random_state=seed)
    # The sums change with the number of threads, and on busy cores threads that await each other are slower than one.
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(features))


def show_groups(axes: Axes, points: Floats, groups: Integers, *, legend: str, names: Sequence[str] = ()) -> None:
    """Shows each group's points in a colour and a marker of its own; the legend names all that the axes show.

    Args:
        axes: Where.
        points: The instances in the plane, (n, 2).
        groups: Their groups, (n,).
        legend: What the groups are.
        names: Names of the groups; one without is called by its number.
    """
    for group in np.unique(groups).tolist():
        name = names[group] if group < len(names) else f"{group}"
        axes.scatter(*points[groups == group].T, color=colour(group), marker=marker(group), label=name, **DOTS)
    columns = -(-len(axes.collections) // LEGEND_ROWS)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1), "frameon": False}
    axes.legend(title=legend, markerscale=2, ncols=columns, **place)


def finish_map(axes: Axes, title: str) -> None:
    """No ticks: the units of t-SNE mean nothing."""
    axes.set(title=title, xlabel="t-SNE 1", ylabel="t-SNE 2", xticks=[], yticks=[])
