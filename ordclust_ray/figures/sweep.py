"""Figures of a sweep: its trials as lines over all settings, the metric over each setting, and over epochs."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

BACKED = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
"""Text that stays legible over lines."""


def parallel_coordinates(trials: pd.DataFrame, settings: Sequence[str], metric: str) -> Figure:
    """A line a trial through an axis a setting, coloured by the metric.

    Args:
        trials: (N, ...) columns of the settings and of the metric, without missing ones.
        settings: columns, at least one.
        metric: column; the last axis.
    """
    columns = [*settings, metric]
    figure = Figure(figsize=(2 + 1.8 * len(columns), 4.5), layout="constrained")
    axes = figure.subplots()
    places = [_places(trials[name]) for name in columns]
    lines = [list(enumerate(heights)) for heights in zip(*(heights for heights, _ in places), strict=True)]
    values = trials[metric].to_numpy(dtype=float)
    drawn = LineCollection(lines, cmap=colormaps["viridis"], norm=Normalize(values.min(), values.max()), alpha=0.8)
    drawn.set_array(values)
    axes.add_collection(drawn)
    for x, (_, ticks) in enumerate(places):
        axes.axvline(x, color="black", linewidth=0.8)
        for height, text in ticks:
            axes.text(x + 0.03, height, text, fontsize=8, va="center", bbox=BACKED)
    axes.set(xlim=(-0.2, len(columns) - 0.5), ylim=(-0.05, 1.05), yticks=[])
    axes.set_xticks(range(len(columns)), [name.rpartition(".")[2] for name in columns])
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, label=metric)
    return figure


def metric_by_setting(trials: pd.DataFrame, settings: Sequence[str], metric: str) -> Figure:
    """The metric over each setting, a point a trial (figures 3, 4 of IDFD and 13 of DRC-ORID).

    Args:
        trials: as `parallel_coordinates` takes them.
        settings: columns, a panel each.
        metric: column.
    """
    figure = Figure(figsize=(3.6 * len(settings), 3.4), layout="constrained")
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, settings, strict=True):
        column = trials[name]
        known = pd.api.types.is_numeric_dtype(column)
        axes.scatter(column if known else column.astype(str), trials[metric], s=14, alpha=0.7)
        if known and _wide(column):
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(metric)
    return figure


def metric_over_epochs(curves: Mapping[str, pd.Series], whole: Collection[str], metric: str) -> Figure:
    """A line a trial: the best one, those that were trained to their end, and those that were stopped early.

    Args:
        curves: the metric by epoch of each trial, the best trial first.
        whole: trials that were trained to their end.
        metric: what is drawn.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    styles = {
        "the best": ("tab:red", 2.2, 3),
        "trained to the end": ("tab:blue", 1.2, 2),
        "stopped early": ("0.7", 1.2, 1),
    }
    named: set[str] = set()
    for number, (trial, curve) in enumerate(curves.items()):
        name = "the best" if number == 0 else "trained to the end" if trial in whole else "stopped early"
        colour, width, order = styles[name]
        label = f"_{trial}" if name in named else name
        axes.plot(
            curve.index.to_numpy(),
            curve.to_numpy(),
            marker=".",
            color=colour,
            linewidth=width,
            zorder=order,
            label=label,
        )
        named.add(name)
    axes.set(xlabel="epoch", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _places(column: pd.Series) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Heights in [0, 1] of the values, and ticks: all values of a choice, else the ends."""
    given = column
    if pd.api.types.is_numeric_dtype(column):
        column = np.log(column) if _wide(column) else column
        low, high = float(column.min()), float(column.max())
        heights = ((column - low) / ((high - low) or 1.0)).to_numpy(dtype=float)
    else:
        codes, known = pd.factorize(column.astype(str), sort=True)
        heights = codes / max(len(known) - 1, 1)
    ticks = pd.Series(given.to_numpy(), index=heights)
    ticks = ticks[~ticks.index.duplicated()].sort_index()
    if len(ticks) > 8:
        ticks = ticks.iloc[[0, -1]]
    return heights, list(zip(ticks.index.to_numpy(dtype=float).tolist(), map(_short, ticks), strict=True))


def _wide(column: pd.Series) -> bool:
    """Whether the logarithm shows more of these numbers."""
    return bool(column.min() > 0 and column.max() > 30 * column.min())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
