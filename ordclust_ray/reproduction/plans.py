"""All tables and figures that can be reproduced, and what can be asked of any of them."""

from dataclasses import replace
from math import nan

from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.recipes import drc
from ordclust_ray.reproduction import drc_tables, idfd_tables
from ordclust_ray.reproduction.cells import Cell, DrcCell
from ordclust_ray.reproduction.curves import Curves
from ordclust_ray.reproduction.settings import recipe_of
from ordclust_ray.reproduction.tables import Column, Entry, Table

Plan = Table | Curves
TABLES: dict[str, Plan] = {**drc_tables.PLANS, **idfd_tables.PLANS}
"""By their names on the command line."""

OWN_COMPARATOR = "On the other data set, ours are by ORID's own comparator."


def cells_of(plan: Plan) -> list[Cell]:
    """The runs that a plan needs, each once, in the order of its rows and columns, or of its lines."""
    return plan.cells


def with_seed(plan: Plan, seed: int) -> Plan:
    """The same plan with all runs of this seed."""
    return plan.with_cells(lambda cell: replace(cell, seed=seed))


def substituted(plan: Plan, recipe: str) -> Plan:
    """The same plan with all runs on one data set, without folds and with the runs' own comparators.

    Args:
        plan: a table or a figure.
        recipe: of the other data set.

    Returns:
        Columns of several data sets become one of the new set; the published numbers stay, in columns of their own
        set's name, and there are no differences.
    """
    moved = plan.with_cells(lambda cell: _on(cell, recipe))
    ranked = [cell for cell in plan.cells if isinstance(cell, DrcCell)]
    compared = OWN_COMPARATOR if any(cell.comparator for cell in ranked) else ""
    note = " ".join(filter(None, [plan.note, compared, unit_of(recipe) if ranked else ""]))
    moved = replace(moved, title=f"{plan.title}; ours: {recipe}", note=note)
    return _merged(moved, recipe) if isinstance(moved, Table) else moved


def unit_of(recipe: str) -> str:
    """What errors of a recipe's data set are in, whatever the headings of the paper's table say."""
    config = recipe_of(drc.RECIPES, recipe)()
    dataset = DATASETS.get(config.data.dataset)
    unit = dataset.rank_unit if dataset else "as the data set has them"
    return f"Our ranks: {unit}; our CS: errors up to {config.rank.cumulative_score_at:g}."


def _on(cell: Cell, recipe: str) -> Cell:
    if isinstance(cell, DrcCell):
        return replace(cell, recipe=recipe, comparator="", fold=0)
    return replace(cell, recipe=recipe)


def _merged(table: Table, recipe: str) -> Table:
    """One column where several differ by their data set alone."""
    entries: dict[tuple[str, Column], Entry] = {}
    for entry in table.entries:
        column = (recipe, *entry.column[1:])
        entries.setdefault((entry.row, column), replace(entry, column=column, paper=nan))
    columns = dict.fromkeys([*(column for _, column in entries), *table.columns])
    given = {row: table.published(row) for row in table.rows}
    decimals = {(recipe, *column[1:]): places for column, places in table.decimals.items()} | table.decimals
    return replace(table, columns=tuple(columns), entries=tuple(entries.values()), given=given, decimals=decimals)
