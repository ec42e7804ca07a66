"""The papers' numbers against a second transcription, and against what the papers say of them."""

import numpy as np
import pytest

from ordclust_ray.core.metrics import normalized_mutual_information
from ordclust_ray.reports import analysis_table
from ordclust_ray.reproduction.cells import IdfdCell
from ordclust_ray.reproduction.plans import TABLES
from ordclust_ray.reproduction.tables import Entry, Table

MORPH_A = "MORPH II (setting A)"


IDFD_TABLE_1 = {  # as the columns of the paper's page follow one another
    ("CIFAR-10", "ACC"): (31.4, 30.1, 52.2, 62.3, 44.0, 61.7, 88.3, 77.6, 82.8, 81.5),
    ("CIFAR-100", "ACC"): (16.5, 18.5, 23.8, 32.7, 26.7, 25.7, 50.7, 40.9, 42.5, 42.5),
    ("STL-10", "ACC"): (30.3, 35.9, 47.0, 48.2, 51.4, 59.6, 80.9, 72.6, 75.6, 75.6),
    ("CIFAR-10", "NMI"): (23.9, 25.7, 39.6, 49.6, 30.9, 51.1, 79.7, 68.2, 71.4, 71.1),
    ("CIFAR-10", "ARI"): (16.9, 16.1, 30.6, 40.8, 22.1, 41.1, 77.2, 61.6, 67.9, 66.3),
    ("CIFAR-100", "NMI"): (10.0, 13.6, 18.5, 28.5, 22.1, 22.5, 48.6, 39.2, 43.2, 42.6),
    ("CIFAR-100", "ARI"): (4.8, 5.0, 8.8, 17.3, 10.8, 11.7, 33.3, 24.3, 24.4, 26.4),
    ("STL-10", "NMI"): (25.0, 27.6, 36.6, 37.6, 36.2, 49.6, 69.8, 64.0, 63.6, 64.3),
    ("STL-10", "ARI"): (16.1, 18.6, 25.7, 26.2, 28.5, 39.7, 64.6, 52.6, 56.9, 57.5),
    ("ImageNet-10", "ACC"): (31.7, 38.1, 52.7, 71.0, 63.2, None, None, 93.7, 94.2, 95.4),
    ("ImageNet-Dog", "ACC"): (18.5, 19.5, 27.5, 38.3, 36.5, None, None, 47.6, 61.2, 59.1),
    ("ImageNet-10", "NMI"): (21.0, 28.2, 39.4, 60.8, 47.8, None, None, 86.7, 87.1, 89.8),
    ("ImageNet-10", "ARI"): (15.2, 20.3, 30.2, 55.5, 42.0, None, None, 86.5, 87.6, 90.1),
    ("ImageNet-Dog", "NMI"): (10.4, 12.2, 21.9, 32.1, 24.8, None, None, 47.0, 57.9, 54.6),
    ("ImageNet-Dog", "ARI"): (7.3, 7.9, 11.1, 18.2, 17.2, None, None, 33.5, 41.4, 41.3),
}

IDFD_TABLE_4 = {
    ("CIFAR-10", "ACC"): (18.7, 23.6, 76.6, 81.5),
    ("CIFAR-100", "ACC"): (14.8, 16.2, 36.7, 42.5),
    ("STL-10", "ACC"): (19.6, 24.8, 57.1, 75.6),
    ("CIFAR-10", "NMI"): (9.5, 12.1, 65.7, 71.1),
    ("CIFAR-10", "ARI"): (4.1, 6.0, 58.3, 66.3),
    ("CIFAR-100", "NMI"): (10.7, 11.6, 35.7, 42.6),
    ("CIFAR-100", "ARI"): (3.2, 4.4, 21.9, 26.4),
    ("STL-10", "NMI"): (9.0, 17.6, 49.0, 64.3),
    ("STL-10", "ARI"): (3.7, 8.3, 36.8, 57.5),
    ("ImageNet-10", "ACC"): (23.6, 37.2, 85.8, 95.4),
    ("ImageNet-Dog", "ACC"): (12.7, 15.5, 29.4, 59.1),
    ("ImageNet-10", "NMI"): (14.1, 23.8, 79.1, 89.8),
    ("ImageNet-10", "ARI"): (6.2, 15.6, 70.5, 90.1),
    ("ImageNet-Dog", "NMI"): (4.6, 5.5, 16.0, 54.6),
    ("ImageNet-Dog", "ARI"): (1.9, 2.5, 28.5, 41.3),
}

DRC_TABLE_1 = {
    ("Setting A", "MAE"): (2.91, 2.52, None, None, 2.38, 2.37, 2.41, 3.36, 2.35, 2.26),
    ("Setting A", "CS (%)"): (82.9, 85.0, None, None, 91.0, None, 91.7, 80.1, 92.4, 93.8),
    ("Setting B", "MAE"): (2.98, 2.70, None, None, 2.63, 2.53, 2.75, 3.32, 2.64, 2.51),
    ("Setting B", "CS (%)"): (None, None, None, None, 86.0, None, 88.2, 80.1, 88.9, 89.7),
    ("Setting C", "MAE"): (None, None, 2.80, 2.79, None, None, 2.68, 3.40, 2.64, 2.58),
    ("Setting C", "CS (%)"): (None, None, 87.0, None, None, None, 88.8, 79.7, 89.0, 89.5),
    ("Setting D", "MAE"): (2.17, None, 2.41, 2.16, None, 1.94, 2.22, 2.99, 2.22, 2.16),
    ("Setting D", "CS (%)"): (91.3, None, 90.0, None, None, None, 93.3, 84.9, 93.3, 93.5),
}

DRC_TABLE_3 = {
    ("HCI", "Accuracy (%)"): (41.36, 41.31, 44.92, 35.92, 44.67, 50.12, 46.60, 44.72),
    ("HCI", "MAE (decade)"): (0.99, 0.95, 0.93, 0.96, 0.81, 0.82, 0.76, 0.80),
}

DRC_TABLE_13 = {
    ("Setting A", "Male"): (897, 209, None),
    ("Setting A", "Female"): (196, 3152, None),
    ("Setting A", "all groups"): (None, None, 0.48),
    ("Setting B", "Caucasian"): (3507, 26, None),
    ("Setting B", "African"): (63, 3404, None),
    ("Setting B", "all groups"): (None, None, 0.90),
    ("Setting C", "Caucasian"): (8, 8427, None),
    ("Setting C", "African"): (33008, 1065, None),
    ("Setting C", "Hispanic"): (4, 115, None),
    ("Setting C", "Asian"): (0, 50, None),
    ("Setting C", "Others"): (46, 1384, None),
    ("Setting C", "all groups"): (None, None, 0.74),
}

DRC_TABLE_14 = {
    ("Balanced", "MAE", "k = 1"): (4.49, 4.23, None, 4.15),
    ("Balanced", "MAE", "k = 2"): (4.52, 4.18, 4.16, 4.01),
    ("Balanced", "MAE", "k = 3"): (4.44, 4.19, 4.17, 4.02),
    ("Balanced", "MAE", "k = 6"): (4.40, 4.18, 4.16, 4.05),
    ("Balanced", "CS (%)", "k = 1"): (69.9, 73.2, None, 74.0),
    ("Balanced", "CS (%)", "k = 2"): (70.1, 73.4, 74.0, 74.8),
    ("Balanced", "CS (%)", "k = 3"): (70.3, 73.4, 73.9, 74.8),
    ("Balanced", "CS (%)", "k = 6"): (69.6, 74.0, 74.0, 74.6),
}


def a_table(name: str) -> Table:
    found = TABLES[name]
    assert isinstance(found, Table)
    return found


def by_place(table: Table) -> dict[tuple[str, tuple[str, ...]], Entry]:
    return {(entry.row, entry.column): entry for entry in table.entries}


def by_column(table: Table) -> dict[tuple[str, ...], tuple[float | None, ...]]:
    rows = [table.published(row) for row in table.rows]
    return {column: tuple(row.get(column) for row in rows) for column in table.columns}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drc-table-1", DRC_TABLE_1),
        ("drc-table-3", DRC_TABLE_3),
        ("drc-table-13", DRC_TABLE_13),
        ("drc-table-14", DRC_TABLE_14),
        ("idfd-table-1", IDFD_TABLE_1),
        ("idfd-table-4", IDFD_TABLE_4),
    ],
)
def test_every_published_number(name: str, expected: dict[tuple[str, ...], tuple[float | None, ...]]) -> None:
    assert by_column(a_table(name)) == expected


def test_rows_are_those_of_the_paper_in_its_order() -> None:
    assert a_table("idfd-table-1").rows == (
        *("AE", "DEC", "DAC", "DCCM", "ID(original)", "IIC", "SCAN", "ID(tuned)", "IDFO", "IDFD"),
    )
    assert [row.split()[0] for row in a_table("drc-table-1").rows] == [
        *("DRFs", "MO-CNN*", "MV", "MV*", "BridgeNet*", "AVDL*", "OL*"),
        *("Proposed-Vanilla", "Proposed-VGG", "Proposed-VGG"),
    ]
    assert [column[0] for column in a_table("idfd-table-1").columns[::3]] == [
        *("CIFAR-10", "CIFAR-100", "STL-10", "ImageNet-10", "ImageNet-Dog"),
    ]


def test_tables_of_one_row() -> None:
    assert a_table("drc-table-2").published("MAE") == {
        ("AADB", "Reg-Net (Kong et al., 2016)"): 0.1268,
        ("AADB", "ASM (Lee & Kim, 2019)"): 0.1141,
        ("AADB", "Proposed (k = 1)"): 0.1109,
        ("AADB", "Proposed (k = 8)"): 0.1056,
    }
    assert list(a_table("drc-table-10").published("Proposed").values()) == [0.1073, 0.1059, 0.1056, 0.1060]
    assert list(a_table("drc-table-9").published("Proposed").values()) == [2.26, 2.32, 2.43, 93.8, 92.7, 91.4]


def test_networks() -> None:
    table = a_table("idfd-table-2")
    assert list(table.published("ID(tuned)").values()) == [
        *(26.8, 15.0, 8.9, 39.3, 31.6, 20.9),
        *(77.6, 68.2, 61.6, 80.2, 71.1, 64.6),
    ]
    assert list(table.published("IDFD").values()) == [
        *(42.0, 32.7, 23.2, 56.8, 46.7, 36.5),
        *(81.5, 71.1, 66.3, 82.7, 73.4, 68.4),
    ]
    vgg = by_place(table)["IDFD", ("CIFAR-10", "VGG16", "NMI")]
    assert vgg.cells == (IdfdCell("cifar10", "idfd", "vgg16"),)
    assert (vgg.measure, vgg.factor) == ("nmi", 100)


def test_agrees_with_the_tables_of_a_single_run() -> None:
    """Those that `analysis_table` prints."""

    def ages(name: str, row: str) -> tuple[float, ...]:
        return tuple(a_table(name).published(row).values())

    assert ages("drc-table-8", "Proposed without repulsive term") == analysis_table.MORPH_BY_REPULSION["without"]
    assert ages("drc-table-8", "Proposed with repulsive term") == analysis_table.MORPH_BY_REPULSION["with"]
    by_k = a_table("drc-table-9").published("Proposed")
    for k, (mae, score) in analysis_table.MORPH_BY_K.items():
        assert by_k[MORPH_A, "MAE", f"k = {k}"] == mae
        assert by_k[MORPH_A, "CS (%)", f"k = {k}"] == score
    by_k = a_table("drc-table-10").published("Proposed")
    assert {int(heading.split()[-1]): value for (_, heading), value in by_k.items()} == analysis_table.AADB_BY_K
    rows = {"order": "Order", "whole": "Whole", "identity": "Identity (proposed)"}
    for feature, values in analysis_table.MORPH_BY_FEATURE.items():
        assert ages("drc-table-11", rows[feature]) == values
    for row, values in analysis_table.MORPH_ACCURACY.items():
        assert ages("drc-table-12", row.capitalize()) == values


def test_what_the_papers_say_of_their_tables() -> None:
    ours = a_table("drc-table-14").published("Proposed")
    mae, score = ([ours["Balanced", name, f"k = {k}"] for k in (1, 2, 3, 6)] for name in ("MAE", "CS (%)"))
    assert round(mae[0] - np.mean(mae[1:]), 2) == 0.12
    assert round(np.mean(score[1:]) - score[0], 2) == 0.73
    acc = {row: a_table("idfd-table-1").published(row) for row in ("ID(tuned)", "IDFO", "IDFD")}
    assert [row["CIFAR-10", "ACC"] for row in acc.values()] == [77.6, 82.8, 81.5]
    assert [row["ImageNet-10", "ACC"] for row in acc.values()] == [93.7, 94.2, 95.4]


@pytest.mark.parametrize(("setting", "images"), [("A", 4_454), ("B", 21_000 // 3), ("C", 55_134 * 4 // 5)])
def test_nmi_follows_from_the_published_sizes(setting: str, images: int) -> None:
    table = a_table("drc-table-13")
    rows = [table.published(row) for row in ("1", "2")]
    groups = [column for column in rows[0] if column[0] == f"Setting {setting}"]
    sizes = np.array([[row[column] for column in groups] for row in rows], dtype=np.int64)
    assert sizes.sum() == images
    assert round(normalized_mutual_information(sizes), 2) == table.published("NMI")[f"Setting {setting}", "all groups"]
