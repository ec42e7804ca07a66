"""Maps of features keep their groups apart."""

from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ordclust_ray.figures import maps
from ordclust_ray.figures.style import COLOURS


def test_many_groups_differ_in_colour_or_marker_and_the_legend_has_room() -> None:
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    maps.show_groups(axes, np.random.default_rng(0).normal(size=(64, 2)), np.arange(64) % 32, legend="cluster")
    groups: list[Any] = list(axes.collections)
    looks = {(to_hex(dots.get_facecolor()[0]), dots.get_paths()[0].vertices.tobytes()) for dots in groups}
    assert len(looks) == 32
    assert to_hex(groups[9].get_facecolor()[0]) == COLOURS[1].lower()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [f"{group}" for group in range(32)]
    figure.draw_without_rendering()
    assert figure.bbox.containsy(legend.get_window_extent().y0)
