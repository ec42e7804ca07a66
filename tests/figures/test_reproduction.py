"""Our curves in place of the papers'."""

from math import nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from ordclust_ray.figures.reproduction import measured_curves


def drawn(*rows: tuple[str, str, Any, float, float]) -> Figure:
    frame = pd.DataFrame(list(rows), columns=["measure", "label", "x", "y", "spread"])
    figure = measured_curves(frame, title="title", x="over")
    figure.draw_without_rendering()
    return figure


def test_a_panel_a_measure_and_a_line_a_label() -> None:
    figure = drawn(
        ("NMI", "a", 3, 0.1, 0.1), ("NMI", "a", 6, 0.2, nan), ("NMI", "b", 3, 0.3, nan), ("CA", "a", 3, -1, 0)
    )
    assert [axes.get_title() for axes in figure.axes] == ["NMI", "CA"]
    first, second = figure.axes[0].lines
    np.testing.assert_array_equal(first.get_xydata(), [[3, 0.1], [6, 0.2]])
    np.testing.assert_array_equal(second.get_xydata(), [[3, 0.3]])
    assert [len(axes.collections) for axes in figure.axes] == [1, 0]  # the band of the one that has a spread
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert figure.axes[1].get_legend() is None


def test_values_of_a_setting_are_on_a_logarithmic_axis() -> None:
    axes = drawn(("ACC", "ID", 0.07, 0.4, 0.1), ("ACC", "ID", 1.0, 0.8, nan)).axes[0]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.07", "1"]
    assert axes.get_xlabel() == "over"


def test_names_stand_side_by_side() -> None:
    axes = drawn(("ACC", "IDFD", "none", 0.8, 0.1), ("ACC", "IDFD", "crop", 0.4, nan)).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["none", "crop"]
    np.testing.assert_array_equal(np.asarray(axes.lines[0].get_ydata()), [0.8, 0.4])


def test_says_when_nothing_was_measured() -> None:
    assert any("nothing measured" in text.get_text() for text in drawn().findobj(Text))
