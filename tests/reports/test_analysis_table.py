"""`reports.analysis_table`: the paper's tables with our columns, by hand."""

from dataclasses import replace
from math import isnan, nan

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from ordclust_ray.clustering.estimator import RepulsiveKMeans
from ordclust_ray.config import ClusteringConfig, DrcConfig, RankConfig
from ordclust_ray.core.networks import Orid, initialise
from ordclust_ray.core.rank_estimator import Encoded, Grouped
from ordclust_ray.reports import analysis_table as analysis

RUN = DrcConfig(clustering=ClusteringConfig(num_clusters=2), rank=RankConfig(cumulative_score_at=1.0))
MEASURES = {
    "this run": {"MAE": 0.25, "CS at 1": 0.9, "accuracy": 0.8, "CA": -0.5},
    "alpha0": {"MAE": 0.5, "CS at 1": 0.8, "CA": 0.25},
    "k1": {"MAE": 0.375, "CS at 1": 0.875},
    "k12": {"MAE": 0.75, "CS at 1": 0.5},
    "order feature": {"held-out accuracy": 0.75},
    "identity feature": {"held-out accuracy": 0.5},
    "clusters of order": {"MAE": 1.0, "CS at 1": 0.625, "NMI with ranks": 0.5, "NMI with groups": nan},
    "clusters of whole": {"MAE": 2.0, "CS at 1": 0.75, "NMI with ranks": 0.25, "NMI with groups": nan},
    "clusters of identity": {"MAE": 3.0, "CS at 1": 1.0, "NMI with ranks": 0.0, "NMI with groups": nan},
}


def rows(table: pd.DataFrame) -> dict[object, list[float | None]]:
    """None where a number is not known."""
    found = zip(table.index, table.to_numpy().tolist(), strict=True)
    return {label: [None if isnan(value) else value for value in values] for label, values in found}


def test_runs_that_are_needed_beside_the_run() -> None:
    run = RUN.clustering
    found = analysis.variants(run, (4, 2, 1, 4))
    assert found == {
        "alpha0": replace(run, repulsion=0.0),
        "k1": replace(run, num_clusters=1),
        "k4": replace(run, num_clusters=4),
    }
    assert set(analysis.variants(replace(run, repulsion=0.0), ())) == set()
    assert set(analysis.variants(replace(run, num_clusters=1), (1, 2))) == {"k2"}


def test_tables_are_the_papers_with_our_columns() -> None:
    found = analysis.tables(MEASURES, RUN)
    assert rows(found["table_8"]) == {"without": [2.47, 90.7, 0.5, 80, 0.25], "with": [2.26, 93.8, 0.25, 90, -0.5]}
    assert found["table_8"].columns.tolist() == ["paper MAE", "paper CS at 5, %", "our MAE", "our CS at 1, %", "our CA"]
    assert rows(found["table_9"]) == {
        1: [None, None, None, 0.375, 87.5],
        2: [2.26, 93.8, None, 0.25, 90],
        3: [2.32, 92.7, None, None, None],
        4: [2.43, 91.4, 0.1073, None, None],
        6: [None, None, 0.1059, None, None],
        8: [None, None, 0.1056, None, None],
        10: [None, None, 0.106, None, None],
        12: [None, None, None, 0.75, 50],
    }
    assert rows(found["table_11"]) == {
        "order": [2.42, 91.5, 1, 62.5, 0.5, None],
        "whole": [2.59, 90.7, 2, 75, 0.25, None],
        "identity": [2.26, 93.8, 3, 100, 0, None],
    }
    assert rows(found["table_12"]) == {
        "order feature": [81.4, 75.4, 75],
        "identity feature": [43.2, 40.8, 50],
        "random guess": [33.3, 33.3, pytest.approx(100 / 3)],
    }
    assert set(found) == set(analysis.TITLES)


def test_a_run_without_repulsion_is_the_row_without() -> None:
    measures = {name: MEASURES[name] for name in ("this run", "order feature", "identity feature")}
    found = analysis.tables(measures, replace(RUN, clustering=ClusteringConfig(num_clusters=2, repulsion=0)))
    assert rows(found["table_8"]) == {"without": [2.47, 90.7, 0.25, 90, -0.5], "with": [2.26, 93.8, None, None, None]}


def test_one_cluster_has_no_column_in_tables_of_clusters() -> None:
    measures = {name: MEASURES[name] for name in ("this run", "order feature", "identity feature")}
    found = analysis.tables(measures, replace(RUN, clustering=ClusteringConfig(num_clusters=1)))
    for name in ("table_8", "table_11"):
        assert all(values[2:] == [None] * len(values[2:]) for values in rows(found[name]).values())
    assert rows(found["table_9"])[1] == [None, None, None, 0.25, 90]


def test_text_has_dashes_and_four_digits() -> None:
    table = pd.DataFrame({"our MAE": {"a": 0.0306407, "b": nan}})
    assert [line.split() for line in analysis.as_text(table).splitlines()] == [
        ["our", "MAE"],
        ["a", "0.03064"],
        ["b", "-"],
    ]


def planted(seed: int, size: int) -> analysis.Sample:
    """Order features along the rank (0 to 4), identity features in two groups that have nothing to do with it."""
    draw = np.random.default_rng(seed)
    ranks, groups = draw.integers(5, size=size).astype(float), draw.integers(2, size=size)
    angles = 2.2 * groups + 0.1 * draw.standard_normal(size)
    order = np.stack([np.cos(ranks / 3), np.sin(ranks / 3)], axis=1) + 0.01 * draw.standard_normal((size, 2))
    identity = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    parts = (torch.from_numpy(part.astype(np.float32)) for part in (order, identity, order))
    return analysis.Sample(np.arange(size) * 2, Encoded(*parts), ranks, groups)


@pytest.fixture(scope="module")
def found() -> dict[Grouped, tuple[RepulsiveKMeans, dict[str, float]]]:
    """Clusters of each kind of feature, and what is measured of them."""
    train, test = planted(0, 400), planted(1, 100)
    orid = Orid(16, 0.1, order_dim=2, identity_dim=2).apply(initialise)
    result: dict[Grouped, tuple[RepulsiveKMeans, dict[str, float]]] = {}
    for by in analysis.KINDS:
        clusters = analysis.cluster_anew(train, by, RUN)
        measures = analysis.regrouped_measures(train, test, clusters, by, orid, RUN, epochs=60, seed=0)
        result[by] = clusters, measures
    return result


def test_identity_features_give_the_groups_and_order_features_the_ranks(
    found: dict[Grouped, tuple[RepulsiveKMeans, dict[str, float]]],
) -> None:
    measures = {by: values for by, (_, values) in found.items()}
    assert measures["identity"]["NMI with groups"] == 1 > 0.1 > measures["identity"]["NMI with ranks"]
    assert measures["order"]["NMI with groups"] < 0.1 < 0.4 < measures["order"]["NMI with ranks"]
    assert {by: clusters.n_features_in_ for by, (clusters, _) in found.items()} == {
        "order": 2,
        "whole": 4,
        "identity": 2,
    }


def test_ranks_are_estimated_by_the_comparator_that_was_trained(
    found: dict[Grouped, tuple[RepulsiveKMeans, dict[str, float]]],
) -> None:
    """ORID's own comparator is untrained here; the median rank has an MAE of 1.2."""
    assert found["identity"][1]["MAE"] < 0.4
    assert found["identity"][1]["CS at 1"] > 0.9


def test_comparators_tell_ranks_from_order_features_only() -> None:
    measures = analysis.feature_measures(planted(0, 400), planted(1, 200), RUN, epochs=60, seed=0)
    accuracy = {feature: values["held-out accuracy"] for feature, values in measures.items()}
    assert accuracy["order feature"] > 0.9
    assert 0.2 < accuracy["identity feature"] < 0.45


def test_note_says_what_the_tables_are_of() -> None:
    train, test = planted(0, 40), planted(1, 10)
    lines = analysis.note(train, test, RUN).splitlines()
    assert lines[0] == "ours: 40 training and 10 held-out images of digits"
    assert lines[1].startswith("Table 11: the paper trains its VGG16 comparator")
    assert lines[2] == "Whole features: order features, 1 long in the mean, and identity features of length 1."
    alone = analysis.note(train, test, replace(RUN, clustering=ClusteringConfig(num_clusters=1)))
    assert alone.splitlines()[1:] == [analysis.ONE_CLUSTER]


def test_sample_keeps_usable_images_in_the_order_of_their_ids() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    columns: dict[str, NDArray] = dict.fromkeys(("compared", "identity", "order"), rows)
    columns |= {"instance_id": np.array([1, 3, 4, 6]), "error": np.array(["", "", "truncated", ""], dtype=object)}
    images = pd.DataFrame({"rank": [10.0, 40.0, 60.0], "group": ["b", "a", ""]}, index=[1, 4, 6])
    sample = analysis.sample(columns, images)
    assert sample.instance_ids.tolist() == [1, 6]
    assert sample.ranks.tolist() == [10, 60]
    assert sample.groups.tolist() == [0, -1]
    assert sample.encoded.order.tolist() == [[0, 1], [6, 7]]
    ungrouped = analysis.sample(columns, images[["rank"]])
    assert ungrouped.groups.tolist() == [-1, -1]
