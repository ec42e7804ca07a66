"""Metrics against scikit-learn, plain loops and the paper's table 13."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import normalized_mutual_info_score

from ordclust_ray.core import metrics

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
# Table 13 at k = 2: clusters of MORPH II against gender (A) or race (B, C)
TABLE_13 = {
    "A": [[897, 196], [209, 3152]],
    "B": [[3507, 63], [26, 3404]],
    "C": [[8, 33008, 4, 0, 46], [8427, 1065, 115, 50, 1384]],
}
TABLES = npst.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 30))


def labels_of(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two labellings whose contingency table it is."""
    rows, columns = np.indices(table.shape)
    return rows.ravel().repeat(table.ravel()), columns.ravel().repeat(table.ravel())


def test_mean_absolute_error_by_hand() -> None:
    assert metrics.mean_absolute_error(np.array([20.0, 31.0, 40.0]), np.array([22.0, 30.0, 40.0])) == 1.0


def test_cumulative_score_counts_errors_up_to_the_limit() -> None:
    ranks = np.full(6, 30.0)
    estimates = ranks + np.array([0.0, -5.0, 5.0, 5.001, -6.0, 4.0])
    assert metrics.cumulative_score(estimates, ranks, 5.0) == pytest.approx(4 / 6)
    assert metrics.cumulative_score(estimates, ranks, 0.0) == pytest.approx(1 / 6)


def test_cumulative_score_leaves_room_for_rounding() -> None:
    """0.3 - 0.1 is 0.19999999999999998 and 0.8 - 0.6 is 0.20000000000000007: both are errors of 0.2."""
    assert metrics.cumulative_score(np.array([0.3, 0.8]), np.array([0.1, 0.6]), 0.2) == 1.0


def test_accuracy_counts_exact_hits() -> None:
    assert metrics.accuracy(np.array([1.0, 2.0, 3.0, 5.0]), np.array([1.0, 2.0, 4.0, 4.0])) == 0.5


def test_contingency_by_hand() -> None:
    clusters, groups = np.array([0, 0, 1, 1, 1]), np.array([2, 0, 2, 2, 1])
    assert metrics.contingency(clusters, groups, 3, 3).tolist() == [[1, 0, 1], [0, 1, 2], [0, 0, 0]]


@PROPERTY
@given(table=TABLES, cut=st.integers(0, 100))
def test_contingency_undoes_labels_and_adds_up_over_shards(table: np.ndarray, cut: int) -> None:
    clusters, groups = labels_of(table)
    order = np.random.default_rng(cut).permutation(len(clusters))
    clusters, groups = clusters[order], groups[order]
    np.testing.assert_array_equal(metrics.contingency(clusters, groups, *table.shape), table)
    parts = [metrics.contingency(clusters[p], groups[p], *table.shape) for p in (slice(cut), slice(cut, None))]
    np.testing.assert_array_equal(parts[0] + parts[1], table)


@PROPERTY
@given(table=TABLES)
def test_nmi_is_that_of_scikit_learn(table: np.ndarray) -> None:
    assume((table.sum(axis=0) > 0).sum() > 1)
    assume((table.sum(axis=1) > 0).sum() > 1)
    expected = normalized_mutual_info_score(*labels_of(table), average_method="geometric")
    assert metrics.normalized_mutual_information(table) == pytest.approx(expected, abs=1e-9)


@PROPERTY
@given(table=TABLES)
def test_nmi_is_symmetric_and_between_0_and_1(table: np.ndarray) -> None:
    assume(table.sum() > 0)
    value = metrics.normalized_mutual_information(table)
    assert 0.0 <= value <= 1.0
    assert metrics.normalized_mutual_information(table.T) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("setting", "expected"), [("A", 0.48), ("B", 0.90), ("C", 0.74)])
def test_nmi_of_table_13(setting: str, expected: float) -> None:
    assert round(metrics.normalized_mutual_information(np.array(TABLE_13[setting])), 2) == expected


def test_nmi_by_the_terms_of_equation_29() -> None:
    table = TABLE_13["C"]
    total = sum(map(sum, table))
    rows, columns = [sum(row) for row in table], [sum(row[j] for row in table) for j in range(5)]
    mutual = 0.0
    for i in range(2):
        for j in range(5):
            if table[i][j]:
                mutual += table[i][j] * math.log(total * table[i][j] / (rows[i] * columns[j]))
    scale = sum(r * math.log(r / total) for r in rows) * sum(c * math.log(c / total) for c in columns)
    assert metrics.normalized_mutual_information(np.array(table)) == pytest.approx(mutual / math.sqrt(scale))


@pytest.mark.parametrize("table", [[[3, 4]], [[3], [4]], [[3, 4], [0, 0]], [[7]]])
def test_nmi_is_0_where_a_partition_says_nothing(table: list[list[int]]) -> None:
    assert metrics.normalized_mutual_information(np.array(table)) == 0.0


def test_nmi_ignores_the_names_of_the_clusters() -> None:
    table = np.array([[5, 1, 0], [2, 8, 1], [0, 3, 9]])
    shuffled = table[[2, 0, 1]][:, [1, 2, 0]]
    expected = metrics.normalized_mutual_information(table)
    assert metrics.normalized_mutual_information(shuffled) == pytest.approx(expected)
    assert 0.0 < expected < 1.0


def test_nmi_of_independent_partitions_is_0() -> None:
    assert metrics.normalized_mutual_information(np.outer([1, 2, 3], [4, 5])) == 0.0


def test_centroid_affinity_by_loops() -> None:
    rng = np.random.default_rng(0)
    for K in (2, 3, 7):
        centroids = rng.normal(size=(K, 5))
        total = 0.0  # eq. (30)
        for j in range(K):
            for other in range(j + 1, K):
                total += float(centroids[j] @ centroids[other])
        assert metrics.centroid_affinity(centroids) == pytest.approx(2 / (K * (K - 1)) * total)


def test_centroid_affinity_of_a_simplex() -> None:
    """Three directions at 120 degrees: every cosine is -1/2, the least that three can have."""
    angles = np.array([0, 2, 4]) * np.pi / 3
    assert metrics.centroid_affinity(np.stack([np.cos(angles), np.sin(angles)], axis=1)) == pytest.approx(-0.5)


def test_centroid_affinity_of_equal_centroids_is_1() -> None:
    assert metrics.centroid_affinity(np.tile([0.6, 0.8], (4, 1))) == pytest.approx(1.0)


def test_centroid_affinity_of_one_cluster_is_undefined() -> None:
    assert math.isnan(metrics.centroid_affinity(np.array([[1.0, 0.0]])))
