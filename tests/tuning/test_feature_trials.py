"""Criteria of clusterings without labels, and features as they are read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ordclust_ray.config import ClusteringConfig, FeatureTrialConfig, InputError
from ordclust_ray.tuning.feature_trials import criteria, read_features, stability

PLANTED = 4
NO_CLASS = np.full(800, -1)


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Four groups of 200 unit rows in 16 dimensions."""
    rng = np.random.default_rng(0)
    centers = np.linalg.qr(rng.normal(size=(16, PLANTED)))[0].T
    rows = centers[np.arange(800) % PLANTED] + 0.1 * rng.normal(size=(800, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def settings(k: int, repulsion: float = 0.1) -> FeatureTrialConfig:
    return FeatureTrialConfig(features="f.npy", clustering=ClusteringConfig(num_clusters=k, repulsion=repulsion))


def test_silhouette_and_stability_are_best_at_the_planted_k(features: NDArray[np.float32]) -> None:
    found = {k: criteria(replace(settings(k), seeds=5), features, NO_CLASS) for k in range(2, 7)}
    for name in ("silhouette", "stability"):
        assert max(found, key=lambda k: found[k][name]) == PLANTED
    assert found[PLANTED]["stability"] == pytest.approx(1)
    assert found[PLANTED]["nearest_same_cluster"] == 1
    assert found[PLANTED]["smallest"] == 200
    assert "acc" not in found[PLANTED]


def test_known_classes_are_reported_where_there_are_some(features: NDArray[np.float32]) -> None:
    found = criteria(settings(PLANTED), features, np.arange(800) % PLANTED)
    assert (found["acc"], found["nmi"], found["ari"]) == pytest.approx((1, 1, 1))


def test_repulsion_lowers_the_affinity_of_the_centroids(features: NDArray[np.float32]) -> None:
    plain, repelled = (criteria(settings(3, repulsion), features, NO_CLASS)["CA"] for repulsion in (0.0, 0.2))
    assert repelled < plain


def test_one_cluster_says_nothing(features: NDArray[np.float32]) -> None:
    found = criteria(settings(1), features, NO_CLASS)
    assert np.isnan([found["silhouette"], found["stability"], found["CA"]]).all()


def test_stability_is_the_agreement_of_all_pairs() -> None:
    halves, quarters = np.repeat([0, 1], 8), np.tile([0, 1], 8)
    assert stability([halves, 1 - halves], 2) == pytest.approx(1)
    assert stability([halves, halves, quarters], 2) == pytest.approx((1 + 2 * stability([halves, quarters], 2)) / 3)
    assert np.isnan(stability([halves], 2))


def test_features_of_a_table_have_unit_length_and_their_classes(tmp_path: Path) -> None:
    rows = [[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]]
    file = tmp_path / "features.parquet"
    pq.write_table(pa.table({"vector": rows, "kind": ["b", None, "a"]}), file)
    config = FeatureTrialConfig(features=str(file), column="vector", label_column="kind")
    found, labels = read_features(config)
    assert found.ravel().tolist() == pytest.approx([0.6, 0.8, 0, 1, 1, 0])
    assert labels.tolist() == [1, -1, 0]
    assert read_features(replace(config, label_column=""))[1].tolist() == [-1, -1, -1]


def test_a_row_without_direction_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match=r"row 1 of --features '.*features\.npy' is zero, or not finite"):
        read_features(FeatureTrialConfig(features=str(tmp_path / "features.npy")))
    with pytest.raises(InputError, match="nosuch"):
        read_features(FeatureTrialConfig(features=str(tmp_path / "nosuch.npy")))
