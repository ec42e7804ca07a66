"""The curves that help to choose k."""

import pandas as pd
from matplotlib.figure import Figure

from ordclust_ray.figures.style import colour, curve_panels, finish_panel

QUALITY = {
    "J/n": "objective per instance",
    "CA": "affinity of centroids",
    "silhouette": "silhouette",
    "f(k)": "f(k) of Pham et al.",
    "stability": "stability over seeds",
    "NMI": "NMI with known labels",
    "ACC": "accuracy with known labels",
}


def quality_curves(table: pd.DataFrame) -> Figure:
    """Shows what helps to choose k: a curve a measure.

    Args:
        table: Measures by k, as `clustering.study.quality_table` gives them; one without any value has no axes.
            Without any measure the figure only says so.
    """
    shown = [str(name) for name in table.columns if name in QUALITY and table[name].notna().any()]
    figure, panels = curve_panels(len(shown), width=3.0, otherwise="no measure of any k")
    for axes, name in zip(panels, shown, strict=True):
        axes.plot(table.index, table[name], marker="o", markersize=4, color=colour(0))
        finish_panel(axes, title=QUALITY[name], over="k")
    return figure
