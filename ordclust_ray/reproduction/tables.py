"""Tables of the papers: what was published, the runs that our numbers come from, and both together as text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan

import numpy as np
import pandas as pd

from ordclust_ray.reproduction.cells import Cell, Measured
from ordclust_ray.reproduction.matching import PublishedClusters, cluster_of, matched

Cells = tuple[Cell, ...]
Column = tuple[str, ...]
"""Its headings from the top: the data set as the paper calls it, then what distinguishes its columns."""
Published = dict[str, dict[Column, float]]
"""Numbers by row and column, in the paper's order; NaN where it has none."""
Results = Mapping[Cell, Measured]
PAPER, OURS, DIFFERENCE = "paper", "ours", "difference"
UNKNOWN = "-"


@dataclass(frozen=True)
class Source:
    """Where a number of ours comes from: the mean over cells of a measure.

    Attributes:
        cells: the runs, one a fold where the protocol has folds.
        measure: of `Measured.measures`.
        factor: that it is multiplied with, 100 for per cent.
    """

    cells: Cells
    measure: str
    factor: float = 1.0


@dataclass(frozen=True)
class Entry:
    """A number of the table that we have one for: the mean over cells of a measure, times a factor.

    Attributes:
        row: of the table.
        column: of the table.
        paper: the published number; NaN where there is none.
        cells: the runs, one a fold where the protocol has folds.
        measure: of `Measured.measures`.
        factor: 100 for per cent.
    """

    row: str
    column: Column
    paper: float
    cells: Cells
    measure: str
    factor: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        title: what it shows.
        rows: in the paper's order.
        columns: in the paper's order, all with as many headings.
        entries: the numbers that we have runs for.
        given: the other published numbers, by row and column.
        decimals: that are shown, by column.
        note: what a reader has to know, beside the units that the headings have.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    entries: tuple[Entry, ...]
    given: Published
    decimals: dict[Column, int]
    note: str = ""

    @property
    def cells(self) -> list[Cell]:
        """The runs that the table needs, each once, in the order of rows and columns."""
        return each_once(cell for entry in self.entries for cell in entry.cells)

    def with_cells(self, change: Callable[[Cell], Cell]) -> "Table":
        """The same table of other runs."""
        entries = [replace(entry, cells=tuple(each_once(map(change, entry.cells)))) for entry in self.entries]
        return replace(self, entries=tuple(entries))

    def published(self, row: str) -> dict[Column, float]:
        """All that the paper has in a row."""
        ours = {entry.column: entry.paper for entry in self.entries if entry.row == row}
        return {column: value for column, value in (ours | self.given.get(row, {})).items() if isfinite(value)}


def each_once(cells: Iterable[Cell]) -> list[Cell]:
    """In their order, without those that were there before."""
    return list(dict.fromkeys(cells))


def numbers(columns: Sequence[Column], text: str) -> Published:
    """Published numbers from text: a line a row, "name | 2.91 82.9 -", a dash where the paper has none.

    Raises:
        ValueError: a row has more or fewer numbers than there are columns.

    >>> numbers([("A", "MAE"), ("A", "CS")], "MV | 2.80 -")
    {'MV': {('A', 'MAE'): 2.8, ('A', 'CS'): nan}}
    """
    rows = (line.split("|") for line in text.strip().splitlines())
    values = {name.strip(): [nan if word == UNKNOWN else float(word) for word in row.split()] for name, row in rows}
    return {name: dict(zip(columns, found, strict=True)) for name, found in values.items()}


def table(title: str, published: Published, source: Callable[[str, Column], Source | None], note: str = "") -> Table:
    """A table from its published numbers.

    Args:
        title: what it shows.
        published: all of its rows.
        source: of our number in a row and column; None where we have no run.
        note: what a reader has to know.
    """
    columns = tuple(dict.fromkeys(column for row in published.values() for column in row))
    entries = [
        Entry(row, column, value, found.cells, found.measure, found.factor)
        for row, values in published.items()
        for column, value in values.items()
        if (found := source(row, column))
    ]
    ours = {(entry.row, entry.column) for entry in entries}
    given = {
        row: {column: value for column, value in values.items() if (row, column) not in ours}
        for row, values in published.items()
    }
    decimals = {column: _column_decimals(column, published, entries) for column in columns}
    return Table(title, tuple(published), columns, tuple(entries), given, decimals, note)


def by_seed(cells: Cells, results: Results) -> list[list[Measured]]:
    """The runs of these cells, or of the same ones with another seed: those seeds that have all of them."""
    seeds = sorted({cell.seed for cell in results})
    wanted = [[replace(cell, seed=seed) for cell in cells] for seed in seeds]
    return [[results[cell] for cell in same] for same in wanted if all(cell in results for cell in same)]


def compare(plan: Table, results: Results) -> pd.DataFrame:
    """Ours beside the published numbers.

    Args:
        plan: the table.
        results: of all cells that have been measured, whatever their seeds; a seed counts where all cells have it.

    Returns:
        A row an entry: `row`, `column`, `paper`, `ours` (mean over seeds), `spread` (standard deviation over seeds,
        NaN with fewer than two), `seeds` (their number), `difference` (ours less the paper's). NaN where not known.
    """
    results = matched(_published_clusters(plan), results)
    rows = []
    for entry in plan.entries:
        values = pd.Series([_mean(entry, runs) for runs in by_seed(entry.cells, results)], dtype=float).dropna()
        ours = values.mean()
        rows.append((entry.row, entry.column, entry.paper, ours, values.std(), len(values), ours - entry.paper))
    return pd.DataFrame(rows, columns=["row", "column", PAPER, OURS, "spread", "seeds", DIFFERENCE])


def rendered(plan: Table, results: Results) -> pd.DataFrame:
    """The paper's table, and below each row of which we have runs a line "ours" and a line "difference".

    Args:
        plan: the table.
        results: as `compare` takes them.

    Returns:
        Text by (row, line) and column; "2.31 ± 0.04" is the mean and the standard deviation over seeds.
    """
    decimals = plan.decimals
    lines: dict[tuple[str, str], dict[Column, str]] = {}
    for row in plan.rows:
        lines[row, PAPER] = {column: _text(value, decimals[column]) for column, value in plan.published(row).items()}
    for found in compare(plan, results).to_dict("records"):
        row, column, places = found["row"], found["column"], decimals[found["column"]]
        spread = f" ± {_text(found['spread'], places)}" if isfinite(found["spread"]) else ""
        lines.setdefault((row, OURS), {})[column] = _text(found[OURS], places) + spread
        if isfinite(found[PAPER]):
            lines.setdefault((row, DIFFERENCE), {})[column] = _text(found[DIFFERENCE], places, sign="+")
    order = [(row, line) for row in plan.rows for line in (PAPER, OURS, DIFFERENCE) if (row, line) in lines]
    cells = [[lines[place].get(column, UNKNOWN) for column in plan.columns] for place in order]
    return pd.DataFrame(cells, index=pd.MultiIndex.from_tuples(order), columns=pd.MultiIndex.from_tuples(plan.columns))


def as_text(plan: Table, results: Results) -> str:
    """`rendered` with title and note, for a terminal."""
    several = compare(plan, results)["seeds"].max()
    seeds = f"±: standard deviation over {several} seeds" if several > 1 else ""
    return "\n".join(filter(None, [plan.title, rendered(plan, results).to_string(), plan.note, seeds]))


def _mean(entry: Entry, runs: Sequence[Measured]) -> float:
    return entry.factor * float(np.mean([run.measures.get(entry.measure, nan) for run in runs]))


def _published_clusters(plan: Table) -> PublishedClusters:
    """What table 13 has of each cell: it is there that the numbers of clusters mean something."""
    found: PublishedClusters = {}
    for entry in plan.entries:
        place = cluster_of(entry.measure)
        if place and isfinite(entry.paper):
            for cell in entry.cells:
                found.setdefault(replace(cell, seed=0), {})[place] = entry.paper
    return found


def _column_decimals(column: Column, published: Published, entries: Sequence[Entry]) -> int:
    """Those of its numbers, and of ours of the same measures in other columns: 0.1060 is not 0.106."""
    measures = {entry.measure for entry in entries if entry.column == column}
    same = [entry.paper for entry in entries if entry.measure in measures]
    return _decimals([*same, *(row[column] for row in published.values())])


def _decimals(values: Iterable[float]) -> int:
    """As many as the most exact of them has."""
    shown = [f"{value:g}".partition(".")[2] for value in values if isfinite(value)]
    return max(map(len, shown), default=0)


def _text(value: float, decimals: int, sign: str = "") -> str:
    return f"{value:{sign}.{decimals}f}" if isfinite(value) else UNKNOWN
