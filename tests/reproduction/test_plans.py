"""The runs behind the numbers: folds, what tables share, other seeds, other data sets."""

from collections.abc import Sequence
from math import isnan

import pytest

from ordclust_ray.recipes import comparator, drc, idfd
from ordclust_ray.reproduction.cells import AUGMENTATIONS, Cell, DrcCell, IdfdCell
from ordclust_ray.reproduction.curves import Curves
from ordclust_ray.reproduction.plans import TABLES, cells_of, substituted, with_seed
from ordclust_ray.reproduction.tables import Entry, Table

MORPH_A = "MORPH II (setting A)"

VGG = DrcCell("morph-a", 2, comparator="vgg16")


def a_table(name: str) -> Table:
    found = TABLES[name]
    assert isinstance(found, Table)
    return found


def a_figure(name: str) -> Curves:
    found = TABLES[name]
    assert isinstance(found, Curves)
    return found


def by_place(table: Table) -> dict[tuple[str, tuple[str, ...]], Entry]:
    return {(entry.row, entry.column): entry for entry in table.entries}


def test_folds_are_complete() -> None:
    entries = by_place(a_table("drc-table-1"))
    for row, (k, head) in {"Proposed-Vanilla (k = 2)": (2, ""), "Proposed-VGG (k = 1)*": (1, "vgg16")}.items():
        for setting, folds in {"A": [0], "B": [1, 2], "C": [1, 2, 3, 4, 5], "D": [0]}.items():
            cells = entries[row, (f"Setting {setting}", "CS (%)")].cells
            recipe = f"morph-{setting.lower()}"
            assert cells == tuple(DrcCell(recipe, k, comparator=head, fold=fold) for fold in folds)
    tested = by_place(a_table("drc-table-12"))["Order feature", ("MORPH II (setting B)", "Accuracy (%)")]
    assert tested.cells == tuple(DrcCell("morph-b", 2, features=True, fold=fold) for fold in (1, 2))
    assert (tested.measure, tested.factor) == ("accuracy from order", 100)


def test_tables_share_their_runs() -> None:
    places: Sequence[tuple[str, str, tuple[str, ...]]] = [
        ("drc-table-1", "Proposed-VGG (k = 2)*", ("Setting A", "MAE")),
        ("drc-table-8", "Proposed with repulsive term", (MORPH_A, "MAE")),
        ("drc-table-9", "Proposed", (MORPH_A, "MAE", "k = 2")),
    ]
    for name, row, column in places:
        assert by_place(a_table(name))[row, column].cells == (VGG,)
    assert cells_of(a_table("drc-table-11"))[0] in cells_of(a_table("drc-table-12"))
    assert set(cells_of(a_table("drc-table-13"))) <= set(cells_of(a_table("drc-table-1")))
    assert set(cells_of(a_figure("drc-figure-10"))) < set(cells_of(a_figure("drc-figure-13")))
    assert DrcCell("morph-b", 2, fold=1) in cells_of(a_figure("drc-figure-10"))
    assert DrcCell("aadb", 8, comparator="efficientnet-b4") in {*cells_of(a_table("drc-table-2"))} & {
        *cells_of(a_table("drc-table-10"))
    }
    table_1 = cells_of(a_table("idfd-table-1"))
    assert set(cells_of(a_figure("idfd-figure-2"))) < set(table_1)
    assert set(cells_of(a_figure("idfd-figure-3"))) & set(table_1) == {
        IdfdCell("cifar10", "id-original"),
        IdfdCell("cifar10", "id-tuned"),
    }
    for name in ("idfd-figure-4", "idfd-table-2"):
        assert IdfdCell("cifar10") in cells_of(TABLES[name])


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("drc-table-1", 3 * (1 + 2 + 5 + 1)),
        ("drc-table-2", 2),
        ("drc-table-3", 1),
        ("drc-table-8", 2),
        ("drc-table-9", 3),
        ("drc-table-10", 4),
        ("drc-table-11", 1),
        ("drc-table-12", 1 + 2),
        ("drc-table-13", 3),
        ("drc-table-14", 4),
        ("drc-figure-10", 2),
        ("drc-figure-13", 5),
        ("idfd-table-1", 4 * 5),
        ("idfd-table-2", 2 * 4),
        ("idfd-table-4", 4 * 5),
        ("idfd-figure-2", 3),
        ("idfd-figure-3", 8),
        ("idfd-figure-4", 8),
        ("idfd-figure-11", 6),
    ],
)
def test_each_run_once(name: str, runs: int) -> None:
    cells = cells_of(TABLES[name])
    assert len(cells) == len(set(cells)) == runs
    assert cells == cells_of(TABLES[name])
    assert len({cell.name for cell in cells}) == runs


def test_there_is_a_plan_for_each_name() -> None:
    assert len(TABLES) == 19
    assert all(name in str([*TABLES]) for name in ("drc-table-14", "drc-figure-13", "idfd-table-4", "idfd-figure-11"))


@pytest.mark.parametrize("name", TABLES)
def test_recipes_exist(name: str) -> None:
    for cell in cells_of(TABLES[name]):
        if isinstance(cell, DrcCell):
            assert cell.recipe in drc.RECIPES
            assert cell.comparator in ("", *comparator.RECIPES)
        else:
            assert cell.recipe in idfd.RECIPES


def test_temperatures_and_augmentations() -> None:
    lines = a_figure("idfd-figure-3").lines["ID"]
    assert isinstance(lines, dict)
    assert list(lines) == [0.07, 0.2, 0.5, 0.8, 1, 2, 5, 10]
    assert lines[5] == (IdfdCell("cifar10", "id-tuned", instance_temperature=5),)
    lines = a_figure("idfd-figure-4").lines["IDFD"]
    assert isinstance(lines, dict)
    assert list(lines) == [0.1, 0.5, 1, 2, 3, 4, 5, 10]
    assert lines[0.1] == (IdfdCell("cifar10", decorrelation_temperature=0.1),)
    lines = a_figure("idfd-figure-11").lines["IDFD"]
    assert isinstance(lines, dict)
    assert list(lines) == ["none", "crop", "jitter", "grey", "flip", "all"]
    assert lines["grey"] == (IdfdCell("cifar10", flip=True, without=("grey",)),)


@pytest.mark.parametrize("name", TABLES)
def test_other_seeds(name: str) -> None:
    plan = TABLES[name]
    assert cells_of(with_seed(plan, 0)) == cells_of(plan)
    assert {cell.seed for cell in cells_of(with_seed(plan, 3))} == {3}
    assert len(cells_of(with_seed(plan, 3))) == len(cells_of(plan))


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("drc-table-8", [DrcCell("coffee", 2, 0.0), DrcCell("coffee", 2)]),
        ("drc-table-9", [DrcCell("coffee", k) for k in (2, 3, 4)]),
        ("drc-table-11", [DrcCell("coffee", 2, features=True)]),
        ("drc-table-12", [DrcCell("coffee", 2, features=True)]),
        ("drc-figure-10", [DrcCell("coffee", 2, 0.0), DrcCell("coffee", 2)]),
        ("drc-table-1", [DrcCell("coffee", 2), DrcCell("coffee", 1)]),
    ],
)
def test_another_set_of_ranks(name: str, cells: list[Cell]) -> None:
    assert cells_of(substituted(TABLES[name], "coffee")) == cells


def test_columns_that_fall_together_become_one() -> None:
    table = substituted(TABLES["idfd-table-4"], "fashion-mnist")
    assert isinstance(table, Table)
    assert table.columns[:4] == (
        *(("fashion-mnist", name) for name in ("ACC", "NMI", "ARI")),
        ("CIFAR-10", "ACC"),
    )
    assert len(table.columns) == 3 + 15
    assert len(table.entries) == 4 * 3
    assert all(isnan(entry.paper) for entry in table.entries)
    original = a_table("idfd-table-4")
    assert [table.published(row) for row in table.rows] == [original.published(row) for row in original.rows]
    assert cells_of(table) == [
        IdfdCell("fashion-mnist", "id-tuned", without=AUGMENTATIONS),
        IdfdCell("fashion-mnist", without=AUGMENTATIONS),
        IdfdCell("fashion-mnist", "id-tuned"),
        IdfdCell("fashion-mnist"),
    ]


def test_networks_stay_on_another_set() -> None:
    table = substituted(TABLES["idfd-table-2"], "fashion-mnist")
    assert isinstance(table, Table)
    assert {cell.network for cell in cells_of(table) if isinstance(cell, IdfdCell)} == {
        *("convnet", "vgg16", "resnet18", "resnet34")
    }
    assert table.columns[0] == ("fashion-mnist", "ConvNet", "ACC")
    assert table.columns[12] == ("CIFAR-10", "ConvNet", "ACC")


def test_says_what_is_other_on_another_set() -> None:
    unit = "Our ranks: severity, 0 is healthy; our CS: errors up to 1."
    note = substituted(TABLES["drc-table-8"], "coffee").note
    assert note == f"On the other data set, ours are by ORID's own comparator. {unit}"
    without = substituted(TABLES["drc-table-12"], "coffee").note
    assert without.endswith(unit)
    assert "own comparator" not in without
    assert "Our ranks" not in substituted(TABLES["idfd-table-2"], "fashion-mnist").note
