"""What all figures share: the colours of clusters, the look of axes and curves, and checks of the arrays."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ordclust_ray.figures.tiles import Floats

Integers = NDArray[np.integer[Any]]

# Okabe & Ito (2008): safe for the colour-blind.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = "o^sD"  # the next one wherever the colours start again


def colour(cluster: int) -> str:
    """The same for a cluster in every figure; it comes again after eight."""
    return COLOURS[cluster % len(COLOURS)]


def marker(cluster: int) -> str:
    """With the colour it tells 32 clusters apart."""
    return MARKERS[cluster // len(COLOURS) % len(MARKERS)]


def hide_frame(axes: Axes) -> None:
    """Leaves the axes at the left and below only."""
    axes.spines[["top", "right"]].set_visible(False)


def curve_panels(number: int, *, width: float, otherwise: str) -> tuple[Figure, list[Axes]]:
    """A figure of panels side by side, `width` inches each; without any, it only says `otherwise`."""
    figure = Figure(figsize=(max(width * number, 4.0), 2.8), layout="constrained")
    if number == 0:
        figure.text(0.5, 0.5, otherwise, ha="center", va="center", fontsize="large")
        return figure, []
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def finish_panel(axes: Axes, *, title: str, over: str) -> None:
    """The look of a panel of curves over whole numbers."""
    axes.set(title=title, xlabel=over)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    hide_frame(axes)


def show_share(axes: Axes) -> None:
    """The whole of [0, 1], with room for the markers at its ends."""
    axes.set_ylim(-0.05, 1.05)


def recorded(history: Sequence[Mapping[str, Any]], key: str) -> Floats:
    """A value a record; NaN where it is missing or None, which leaves a gap in a curve."""
    return np.array([record.get(key) for record in history], float)


def with_values(history: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> dict[str, Floats]:
    """What is recorded under those of the keys that have a value at all."""
    columns = {key: recorded(history, key) for key in keys}
    return {key: values for key, values in columns.items() if np.isfinite(values).any()}


def evenly_chosen(values: NDArray[Any], at_most: int) -> NDArray[Any]:
    """First, last, and evenly between them where there are more than `at_most`."""
    places = np.linspace(0, len(values) - 1, min(len(values), at_most))
    return np.take(values, places.round().astype(int))


def require_same_length(**arrays: Sized) -> None:
    """Raises a ValueError that names the first array where it is empty, else any other of another length."""
    (first, expected), *others = ((name, len(array)) for name, array in arrays.items())
    if expected == 0:
        raise ValueError(f"{first} is empty")
    for name, length in others:
        if length != expected:
            raise ValueError(f"{name} has length {length}, but {first} has length {expected}")
