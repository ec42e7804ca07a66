"""The curves that help to choose k."""

import numpy as np
import pandas as pd
from matplotlib.text import Text

from ordclust_ray.figures.quality import quality_curves


def test_a_curve_a_measure_that_has_values() -> None:
    table = pd.DataFrame({"J/n": [0.5, 0.7], "NMI": [np.nan, np.nan], "CA": [np.nan, -0.1]}, index=[2, 3])
    figure = quality_curves(table)
    assert [axes.get_title() for axes in figure.axes] == ["objective per instance", "affinity of centroids"]
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[2, 0.5], [3, 0.7]])


def test_says_when_there_is_no_measure() -> None:
    figure = quality_curves(pd.DataFrame({"NMI": [np.nan]}, index=[2]))
    assert any("no measure" in text.get_text() for text in figure.findobj(Text))
