"""Figures of sweeps."""

import pandas as pd

from ordclust_ray.figures.sweep import metric_by_setting, metric_over_epochs, parallel_coordinates

TRIALS = pd.DataFrame(
    {
        "k": [2, 3, 4, 3],
        "rate": [1e-4, 1e-2, 1e-3, 1e-3],
        "variant": ["id", "idfd", "id", "idfd"],
        "MAE": [4.0, 1, 3, 2],
    }
)
SETTINGS = ["k", "rate", "variant"]


def test_a_line_a_trial_through_an_axis_a_setting() -> None:
    figure = parallel_coordinates(TRIALS, SETTINGS, "MAE")
    axes = figure.axes[0]
    (lines,) = axes.collections
    segments = [line.tolist() for line in lines.get_segments()]  # type: ignore[attr-defined]
    assert len(segments) == 4
    assert segments[0] == [[0, 0], [1, 0], [2, 0], [3, 1]]  # the least k, rate and name; the worst of the metric
    assert segments[1] == [[0, 0.5], [1, 1], [2, 1], [3, 0]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [*SETTINGS, "MAE"]


def test_the_metric_over_each_setting() -> None:
    figure = metric_by_setting(TRIALS, SETTINGS, "MAE")
    assert [axes.get_xlabel() for axes in figure.axes] == SETTINGS
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "log", "linear"]
    points = figure.axes[0].collections[0].get_offsets()
    assert points.tolist() == [[2, 4], [3, 1], [4, 3], [3, 2]]  # type: ignore[union-attr]


def test_the_metric_over_epochs_tells_who_was_stopped() -> None:
    curves = {
        "a": pd.Series([3.0, 2.0, 1.0], index=[2, 4, 6]),
        "b": pd.Series([3.0, 2.5, 2.0], index=[2, 4, 6]),
        "c": pd.Series([4.0], index=[2]),
        "d": pd.Series([5.0], index=[2]),
    }
    axes = metric_over_epochs(curves, {"a", "b"}, "MAE").axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[2, 3], [4, 2], [6, 1]]  # type: ignore[union-attr]
    assert [line.get_color() for line in axes.lines] == ["tab:red", "tab:blue", "0.7", "0.7"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["the best", "trained to the end", "stopped early"]
