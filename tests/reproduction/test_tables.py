"""Rendering of made-up results, worked by hand."""

from dataclasses import replace
from math import isnan, nan

import numpy as np
import pandas as pd
import pytest

from ordclust_ray.reproduction.cells import Cell, DrcCell, IdfdCell, Measured
from ordclust_ray.reproduction.curves import Curves, last_quarter, points
from ordclust_ray.reproduction.matching import matched
from ordclust_ray.reproduction.plans import TABLES, cells_of, substituted, with_seed
from ordclust_ray.reproduction.tables import Source, Table, as_text, compare, numbers, rendered, table

ONE, TWO = DrcCell("morph-b", 2, fold=1), DrcCell("morph-b", 2, fold=2)
COLUMNS = [("Setting B", "MAE"), ("Setting B", "CS (%)")]
SMALL = table(
    "Ages",
    numbers(COLUMNS, "Other | 2.70 -\nOurs | 2.5 89.7\nOurs too | 2.6 -"),
    lambda row, column: {
        ("Ours", "MAE"): Source((ONE, TWO), "MAE"),
        ("Ours", "CS (%)"): Source((ONE, TWO), "CS", 100.0),
        ("Ours too", "MAE"): Source((replace(ONE, num_clusters=3),), "MAE"),
    }.get((row, column[1])),
    note="A note.",
)


def ranks(mae: float, score: float = nan) -> Measured:
    return Measured({"MAE": mae} | ({} if isnan(score) else {"CS": score}), [])


def lines(plan: Table, results: dict[Cell, Measured]) -> dict[tuple[str, str], list[str]]:
    frame = rendered(plan, results)
    return {(row, line): values for (row, line), values in zip(frame.index, frame.to_numpy().tolist(), strict=True)}


def test_mean_over_folds_and_difference() -> None:
    assert lines(SMALL, {ONE: ranks(2.0, 0.9), TWO: ranks(3.5, 0.85)}) == {
        ("Other", "paper"): ["2.7", "-"],
        ("Ours", "paper"): ["2.5", "89.7"],
        ("Ours", "ours"): ["2.8", "87.5"],  # 2.75 and 100 (0.9 + 0.85) / 2
        ("Ours", "difference"): ["+0.2", "-2.2"],  # 0.25 to even
        ("Ours too", "paper"): ["2.6", "-"],
        ("Ours too", "ours"): ["-", "-"],
        ("Ours too", "difference"): ["-", "-"],
    }


def test_mean_and_spread_over_seeds() -> None:
    """Seed 0: (2 + 3) / 2 = 2.5; seed 1: (3 + 4) / 2 = 3.5; seed 2 lacks a fold."""
    first: dict[Cell, Measured] = {ONE: ranks(2.0), TWO: ranks(3.0)}
    second: dict[Cell, Measured] = {replace(ONE, seed=1): ranks(3.0), replace(TWO, seed=1): ranks(4.0)}
    results = {**first, **second, replace(ONE, seed=2): ranks(9.0)}
    found = compare(SMALL, results).set_index(["row", "column"]).loc[[("Ours", COLUMNS[0])]].iloc[0]
    assert (found["ours"], found["seeds"], found["difference"]) == (3.0, 2, 0.5)
    assert found["spread"] == pytest.approx(0.5**0.5)
    assert lines(SMALL, results)["Ours", "ours"] == ["3.0 ± 0.7", "-"]
    other = with_seed(SMALL, 7)
    assert isinstance(other, Table)
    assert compare(other, results).equals(compare(SMALL, results))
    assert as_text(SMALL, results).endswith("A note.\n±: standard deviation over 2 seeds")
    assert as_text(SMALL, first).endswith("A note.")


def test_a_fold_that_is_missing_leaves_a_dash() -> None:
    assert lines(SMALL, {ONE: ranks(2.0, 0.9)})["Ours", "ours"] == ["-", "-"]
    assert lines(SMALL, {ONE: ranks(2.0, 0.9), TWO: ranks(3.0)})["Ours", "ours"] == ["2.5", "-"]


def test_nothing_measured() -> None:
    for plan in TABLES.values():
        if isinstance(plan, Table):
            frame = rendered(plan, {})
            assert set(frame.xs("ours", level=1).to_numpy().ravel()) == {"-"}
            assert plan.title in as_text(plan, {})
        else:
            assert points(plan, {}).empty


def test_columns_show_as_many_decimals_as_the_paper() -> None:
    plan = TABLES["drc-table-10"]
    assert isinstance(plan, Table)
    results = {cell: ranks(0.1) for cell in cells_of(plan)}
    assert lines(plan, results) == {
        ("Proposed", "paper"): ["0.1073", "0.1059", "0.1056", "0.1060"],
        ("Proposed", "ours"): ["0.1000"] * 4,
        ("Proposed", "difference"): ["-0.0073", "-0.0059", "-0.0056", "-0.0060"],
    }


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        numbers(COLUMNS, "MV | 2.80")


def test_ours_of_another_set_has_no_difference() -> None:
    plan = substituted(TABLES["drc-table-12"], "coffee")
    assert isinstance(plan, Table)
    cell = DrcCell("coffee", 2, features=True)
    results: dict[Cell, Measured] = {cell: Measured({"accuracy from order": 0.75, "accuracy from identity": 0.5}, [])}
    assert lines(plan, results) == {
        ("Order feature", "paper"): ["-", "81.4", "75.4"],
        ("Order feature", "ours"): ["75.0", "-", "-"],
        ("Identity feature", "paper"): ["-", "43.2", "40.8"],
        ("Identity feature", "ours"): ["50.0", "-", "-"],
        ("Random guess", "paper"): ["-", "33.3", "33.3"],
    }
    assert [*rendered(plan, {}).columns.get_level_values(0)][:2] == ["coffee", "MORPH II (setting A)"]


def sizes(*clusters: dict[str, float]) -> dict[str, float]:
    return {f"cluster {j} of {group}": n for j, own in enumerate(clusters, 1) for group, n in own.items()}


def test_clusters_get_the_numbers_of_the_paper() -> None:
    """Setting A as it is, B the other way round: the paper's cluster 1 holds males, and Caucasians."""
    plan = TABLES["drc-table-13"]
    assert isinstance(plan, Table)
    males, females = {"male": 900.0, "female": 100.0}, {"male": 200.0, "female": 3200.0}
    caucasians, africans = {"Caucasian": 3500.0, "African": 0.0}, {"Caucasian": 0.0, "African": 3400.0}
    results: dict[Cell, Measured] = {
        DrcCell("morph-a", 2): Measured(sizes(males, females) | {"NMI": 0.5}, []),
        ONE: Measured(sizes(africans, caucasians), []),
    }
    found = lines(plan, results)
    assert found["1", "ours"][:6] == ["900", "100", "-", "3500", "0", "-"]
    assert found["2", "ours"][:6] == ["200", "3200", "-", "0", "3400", "-"]
    assert found["1", "difference"][:6] == ["+3", "-96", "-", "-7", "-63", "-"]
    assert found["NMI", "ours"] == ["-", "-", "0.50", *["-"] * 9]
    assert found["1", "ours"][6:] == ["-"] * 6


def test_each_seed_is_matched_by_itself() -> None:
    plan = TABLES["drc-table-13"]
    assert isinstance(plan, Table)
    cell = DrcCell("morph-a", 2)
    results: dict[Cell, Measured] = {
        cell: Measured(sizes({"male": 800, "female": 100}, {"male": 300, "female": 3200}), []),
        replace(cell, seed=1): Measured(sizes({"male": 300, "female": 3200}, {"male": 800, "female": 100}), []),
    }
    assert lines(plan, results)["1", "ours"][:2] == ["800 ± 0", "100 ± 0"]


def test_matching_by_shares_of_groups() -> None:
    """Numbers alone would make our cluster 2 the first, for one more of the published many of a."""
    published: dict[tuple[int, str], float] = {(1, "a"): 1000, (2, "a"): 100, (1, "b"): 0, (2, "b"): 2}
    run = Measured(sizes({"a": 10, "b": 0}, {"a": 11, "b": 10}, {"a": 0, "b": 1}) | {"MAE": 2.0}, [])
    found = matched({ONE: published}, {ONE: run, TWO: run})
    assert found[ONE].measures == {"MAE": 2.0, **sizes({"a": 10, "b": 0}, {"a": 11, "b": 10})}
    assert found[TWO] == run


def epochs(values: dict[int, float | None], key: str = "acc") -> list[dict[str, float | int | None]]:
    return [{"epoch": epoch, **({key: value} if epoch in values else {})} for epoch, value in values.items()]


def test_the_last_quarter_of_the_epochs() -> None:
    """Of 8 epochs: 7 and 8; one without a clustering has no value."""
    history: list[dict[str, float | int | None]] = [{"epoch": epoch} for epoch in range(1, 9)]
    for epoch in (2, 4, 6, 8):
        history[epoch - 1]["acc"] = epoch / 10
    assert last_quarter(history, "acc") == [0.8]
    assert last_quarter([{"epoch": e, "acc": e / 2000} for e in range(1, 2001)], "acc")[::499] == [1501 / 2000, 1.0]
    assert last_quarter([], "acc") == []


def test_curves_over_epochs() -> None:
    cell = IdfdCell("cifar10")
    plan = Curves("t", "epoch", {"ACC": "acc"}, {"IDFD": (cell,), "IDFO": (IdfdCell("cifar10", "idfo"),)})
    results: dict[Cell, Measured] = {
        cell: Measured({}, epochs({1: 0.2, 2: None, 3: 0.4})),
        replace(cell, seed=1): Measured({}, epochs({1: 0.4, 2: 0.5, 3: 0.8})),
    }
    root = 0.5**0.5
    expected = [("ACC", "IDFD", 1, 0.3, 0.2 * root), ("ACC", "IDFD", 2, 0.5, nan), ("ACC", "IDFD", 3, 0.6, 0.4 * root)]
    columns = ["measure", "label", "x", "y", "spread"]
    pd.testing.assert_frame_equal(points(plan, results), pd.DataFrame(expected, columns=columns))


def test_curves_over_a_setting() -> None:
    """tau = 1: the last quarter of 4 epochs is the fourth, of two seeds; tau = 5: of one, tau = 2: not measured."""
    cells: dict[float | str, tuple[Cell, ...]] = {
        tau: (IdfdCell("cifar10", "id-tuned", instance_temperature=tau),) for tau in (1.0, 2.0, 5.0)
    }
    plan = Curves("t", "tau", {"ACC": "acc"}, {"ID": cells}, last_quarter=True)
    first, last = cells[1.0][0], cells[5.0][0]
    results = {
        first: Measured({"acc": 0.9}, epochs({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.5})),
        replace(first, seed=1): Measured({"acc": 0.8}, epochs({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.7})),
        last: Measured({"acc": 0.7}, epochs({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.2})),
    }
    found = points(plan, results)
    assert found["x"].tolist() == [1.0, 5.0]
    np.testing.assert_allclose(found["y"], [0.6, 0.2])
    np.testing.assert_allclose(found["spread"], [0.2 * 0.5**0.5, nan])
    at_the_end = points(replace(plan, last_quarter=False), results)
    np.testing.assert_allclose(at_the_end["y"], [0.85, 0.7])


def test_figure_10_has_two_measures() -> None:
    plan = TABLES["drc-figure-10"]
    assert isinstance(plan, Curves)
    history: list[dict[str, float]] = [{"epoch": 1}, {"epoch": 3, "nmi": 0.5, "centroid_affinity": -0.25}]
    found = points(plan, {DrcCell("morph-b", 2, 0.0, fold=1): Measured({}, history)})
    assert found[["measure", "label", "x", "y"]].to_numpy().tolist() == [
        ["NMI", "alpha = 0", 3, 0.5],
        ["CA", "alpha = 0", 3, -0.25],
    ]
