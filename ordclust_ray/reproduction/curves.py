"""Curves of the papers' figures: which runs each point needs, and the points of what has been measured."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

import pandas as pd

from ordclust_ray.reproduction.cells import Cell, Measured
from ordclust_ray.reproduction.tables import Cells, Results, by_seed, each_once

Points = dict[float | str, Cells]
Line = Cells | Points
"""Runs whose epochs are shown; or, by a setting's value or name, those that are compared by what they achieve."""
LAST_QUARTER = 0.75
"""Epochs after this share of all: the last 500 of the paper's 2,000."""


@dataclass(frozen=True)
class Curves:
    """A figure of curves, over the epochs or over a setting.

    Attributes:
        title: what it shows.
        x: what it is over: "epoch", or the setting.
        y: a panel each: its name, and the key in `Measured.history`, or over a setting in `Measured.measures`.
        lines: by label.
        last_quarter: over a setting: the mean and the standard deviation of `history` over the last quarter of the
            epochs, in place of `measures`.
        note: what a reader has to know.
    """

    title: str
    x: str
    y: dict[str, str]
    lines: dict[str, Line]
    last_quarter: bool = False
    note: str = ""

    @property
    def cells(self) -> list[Cell]:
        """The runs that the figure needs, each once, in the order of its lines."""
        lines = [[line] if isinstance(line, tuple) else line.values() for line in self.lines.values()]
        return each_once(cell for line in lines for cells in line for cell in cells)

    def with_cells(self, change: Callable[[Cell], Cell]) -> "Curves":
        """The same figure of other runs."""

        def changed(cells: Cells) -> Cells:
            return tuple(each_once(map(change, cells)))

        def of_line(line: Line) -> Line:
            return changed(line) if isinstance(line, tuple) else {x: changed(cells) for x, cells in line.items()}

        return replace(self, lines={label: of_line(line) for label, line in self.lines.items()})


def points(curves: Curves, results: Results) -> pd.DataFrame:
    """What has been measured of a figure.

    Args:
        curves: the figure.
        results: of all cells that have been measured, whatever their seeds; a seed counts where all cells have it.

    Returns:
        `measure`, `label`, `x`, `y` (mean over cells and seeds), `spread` (standard deviation over them, or over the
        epochs too where the last quarter of them is meant; NaN of a single value).
    """
    rows = [
        (measure, label, *point)
        for measure, key in curves.y.items()
        for label, line in curves.lines.items()
        for point in _points_of(line, key, results, curves.last_quarter)
    ]
    return pd.DataFrame(rows, columns=["measure", "label", "x", "y", "spread"])


def last_quarter(history: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """What was recorded under a key in the last quarter of the epochs.

    >>> last_quarter([{"epoch": 3, "acc": 0.5}, {"epoch": 4, "acc": 0.7}], "acc")
    [0.7]
    """
    last = max((record["epoch"] for record in history), default=0)
    return [value for epoch, value in _recorded(history, key) if epoch > LAST_QUARTER * last]


def _points_of(line: Line, key: str, results: Results, quarter: bool) -> Iterator[tuple[Any, float, float]]:
    if isinstance(line, tuple):
        yield from _over_epochs(_runs(line, results), key)
        return
    for x, cells in line.items():
        found = [_values(run, key, quarter) for run in _runs(cells, results)]
        values = pd.Series([value for own in found for value in own], dtype=float)
        if len(values):
            yield x, values.mean(), values.std()


def _over_epochs(runs: Sequence[Measured], key: str) -> Iterator[tuple[int, float, float]]:
    values = [record for run in runs for record in _recorded(run.history, key)]
    epochs = pd.DataFrame(values, columns=["epoch", "y"]).groupby("epoch")["y"]
    yield from zip(epochs.mean().index.tolist(), epochs.mean(), epochs.std(), strict=True)


def _values(run: Measured, key: str, quarter: bool) -> list[float]:
    if quarter:
        return last_quarter(run.history, key)
    return [value for value in [run.measures.get(key, nan)] if isfinite(value)]


def _recorded(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """Epochs with a value; there is none in an epoch without a clustering, and None where it means nothing."""
    found = [(record["epoch"], record.get(key)) for record in history]
    return [(epoch, value) for epoch, value in found if value is not None and isfinite(value)]


def _runs(cells: Cells, results: Results) -> list[Measured]:
    return [run for runs in by_seed(cells, results) for run in runs]
