"""Our curves in place of the papers', of what has been measured."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ordclust_ray.figures.style import colour, curve_panels, finish_panel, hide_frame
from ordclust_ray.figures.tiles import rank_text

FEW_POINTS = 50
BAND = 0.2
"""Opacity of what lies within the spread of a curve."""


def measured_curves(points: pd.DataFrame, *, title: str, x: str) -> Figure:
    """Shows a panel a measure, in it a curve a label, and the spread around it.

    Args:
        points: `measure`, `label`, `x`, `y`, `spread`, as `reproduction.curves.points` gives them; NaN where there is
            no spread. `x` in whole numbers are epochs: lines with a band. Other numbers are values of a setting, all
            positive: points on a logarithmic axis. Text is names: points side by side. Without any point the figure
            only says so.
        title: of the figure.
        x: what the points are over.
    """
    measures = list(points.groupby("measure", sort=False))
    figure, panels = curve_panels(len(measures), width=4.8, otherwise="nothing measured yet")
    for axes, (measure, own) in zip(panels, measures, strict=True):
        curves = list(own.groupby("label", sort=False))
        for place, (label, curve) in enumerate(curves):
            _show(axes, curve, label=str(label), colour=colour(place))
        finish_panel(axes, title=str(measure), over=x) if _of_epochs(own) else _finish(axes, own, str(measure), x)
        if len(curves) > 1:
            axes.legend()
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def _show(axes: Axes, curve: pd.DataFrame, *, label: str, colour: str) -> None:
    spread = curve["spread"].fillna(0)
    if not _of_epochs(curve):
        line = "o-" if _of_values(curve) else "o"
        axes.errorbar(curve["x"], curve["y"], spread, fmt=line, markersize=4, capsize=3, color=colour, label=label)
        return
    size = 4.0 if len(curve) <= FEW_POINTS else 1.5
    axes.plot(curve["x"], curve["y"], "o-", markersize=size, markeredgewidth=0, color=colour, label=label)
    if spread.any():
        low, high = curve["y"] - spread, curve["y"] + spread
        axes.fill_between(curve["x"], low, high, color=colour, alpha=BAND, linewidth=0)


def _finish(axes: Axes, points: pd.DataFrame, measure: str, x: str) -> None:
    """The look of a panel over a setting: a tick a value; those of names are there already."""
    if _of_values(points):
        ticks = points["x"].drop_duplicates()
        axes.set_xscale("log")
        axes.set_xticks(ticks, [rank_text(value) for value in ticks], fontsize="small")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title=measure, xlabel=x)
    axes.grid(alpha=0.3)
    hide_frame(axes)


def _of_epochs(points: pd.DataFrame) -> bool:
    return pd.api.types.is_integer_dtype(points["x"])


def _of_values(points: pd.DataFrame) -> bool:
    return pd.api.types.is_float_dtype(points["x"])
