"""RepulsiveKMeans as users of scikit-learn know estimators, and against the loop it wraps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from ordclust_ray import RepulsiveKMeans
from ordclust_ray.clustering.engine import LocalEngine
from ordclust_ray.core.metrics import centroid_affinity
from ordclust_ray.core.repulsive_kmeans import floor_size, repulsive_kmeans
from ordclust_ray.core.shard import Shard

OTHERS = {"check_array_api_input", "check_estimators_dtypes"}
"""The first wants array API support switched on; in the second integers have a row of zeros, which has no direction."""
ESTIMATORS = [RepulsiveKMeans(n_clusters=3), RepulsiveKMeans(2, repulsion=0, min_cluster_fraction=0, n_init=2)]
CHECKS = [
    (estimator, check)
    for own in ESTIMATORS
    for estimator, check in estimator_checks_generator(own)
    if check.func.__name__ not in OTHERS
]


def features(n: int = 400, d: int = 9, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    groups = rng.normal(size=(4, d))[rng.integers(0, 4, n)]
    return (groups + 0.4 * rng.normal(size=(n, d))).astype(np.float32)


def assert_same(found: RepulsiveKMeans, expected: RepulsiveKMeans) -> None:
    np.testing.assert_array_equal(found.labels_, expected.labels_)
    np.testing.assert_array_equal(found.cluster_centers_, expected.cluster_centers_)
    assert (found.objective_, found.n_iter_) == (expected.objective_, expected.n_iter_)


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=lambda value: getattr(value, "func", type).__name__)
def test_scikit_learns_checks(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def test_numbers_of_every_type() -> None:
    """scikit-learn's check of types, but for its row of zeros."""
    numbers = 1 + 3 * np.random.RandomState(0).uniform(size=(20, 5))
    for dtype in (np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8):
        x = numbers.astype(dtype)
        model = RepulsiveKMeans(3, random_state=1).fit(x)
        same = RepulsiveKMeans(3, random_state=1).fit(x.astype(np.float64))
        np.testing.assert_array_equal(model.labels_, same.labels_)
        assert model.predict(x).shape == (20,)
        assert model.transform(x).shape == (20, 3)


def test_it_is_the_loop() -> None:
    x = features()
    start = x[:4].astype(np.float64)
    model = RepulsiveKMeans(4, repulsion=0.3, min_cluster_fraction=0.9, init=start, tol=0.0, max_iter=20).fit(x)
    engine = LocalEngine(Shard(x, np.arange(len(x))))
    rules = {"repulsion": 0.3, "min_size": floor_size(400, 4, 0.9), "tolerance": 0.0, "max_iterations": 20}
    expected = repulsive_kmeans(engine, start, **rules)  # type: ignore[arg-type]
    np.testing.assert_array_equal(model.labels_, engine.shard.assignments)
    np.testing.assert_array_equal(model.cluster_centers_, expected.centroids)
    assert model.objective_ == expected.objective
    assert model.centroid_affinity_ == centroid_affinity(expected.centroids)
    assert np.bincount(model.labels_).min() >= 90


def test_any_array_and_tensor_of_the_same_numbers_gives_the_same_clusters(tmp_path: Path) -> None:
    x = features()
    expected = RepulsiveKMeans(4, random_state=0).fit(x)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((400, 18), np.float32)
    wide[:, ::2] = x
    for same in (np.load(tmp_path / "x.npy", mmap_mode="r"), np.asfortranarray(x), wide[:, ::2], torch.from_numpy(x)):
        assert_same(RepulsiveKMeans(4, random_state=0).fit(same), expected)
        np.testing.assert_array_equal(expected.predict(same), expected.predict(x))
        np.testing.assert_array_equal(expected.transform(same), expected.transform(x))
    np.testing.assert_array_equal(
        RepulsiveKMeans(4, random_state=0).fit(x.astype(np.float64)).labels_, expected.labels_
    )


def test_half_precision_is_read_as_it_is() -> None:
    half, brain = features().astype(np.float16), torch.from_numpy(features()).bfloat16()
    for narrow, same in ((half, half.astype(np.float32)), (brain, brain.float())):
        assert_same(RepulsiveKMeans(4, random_state=0).fit(narrow), RepulsiveKMeans(4, random_state=0).fit(same))


def test_threads_change_nothing() -> None:
    x = features(5000)
    models = [RepulsiveKMeans(6, random_state=0, n_jobs=threads, tol=0.0).fit(x) for threads in (1, 2, 5)]
    assert_same(models[1], models[0])
    assert_same(models[2], models[0])


def test_order_of_the_rows_changes_nothing_but_ties_of_the_floor() -> None:
    x, order = features(), np.random.default_rng(0).permutation(400)
    start = x[:5]
    expected = RepulsiveKMeans(5, init=start).fit(x)
    found = RepulsiveKMeans(5, init=start).fit(x[order])
    np.testing.assert_array_equal(found.labels_, expected.labels_[order])
    np.testing.assert_array_equal(found.cluster_centers_, expected.cluster_centers_)


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "k-means", "random"])
def test_best_of_several_starts_is_kept(init: str) -> None:
    """Also its labels: those of the best start, not of the last one."""
    x = features(d=4)
    several = RepulsiveKMeans(7, init=init, n_init=6, random_state=3).fit(x)
    seeds = np.random.RandomState(3).randint(np.iinfo(np.int32).max, size=6)
    alone = [_from_seed(x, init, int(seed)) for seed in seeds]
    best = max(alone, key=lambda model: model.objective_)
    assert_same(several, best)


def _from_seed(x: NDArray[np.float32], init: str, seed: int) -> RepulsiveKMeans:
    from ordclust_ray.core.starts import STARTS

    start = STARTS[init](LocalEngine(Shard(x, np.arange(len(x)))), 7, seed)
    return RepulsiveKMeans(7, init=start).fit(x)


def test_predict_transform_and_score_agree() -> None:
    x, fresh = features(), features(seed=1)
    model = RepulsiveKMeans(4, random_state=0, repulsion=0.2).fit(x)
    similarities = model.transform(fresh)
    unit = fresh / np.linalg.norm(fresh, axis=1, keepdims=True)
    np.testing.assert_allclose(similarities, unit @ model.cluster_centers_.T, atol=1e-5)
    np.testing.assert_array_equal(model.predict(fresh), similarities.argmax(axis=1))
    own = similarities.max(axis=1).sum(dtype=np.float64)
    assert model.score(fresh) == pytest.approx(own - 0.2 / 3 * (similarities.sum(dtype=np.float64) - own), rel=1e-5)
    assert similarities.dtype == np.float32
    assert model.transform(fresh.astype(np.float64)).dtype == np.float64


def test_without_floor_and_tolerance_labels_are_those_of_predict() -> None:
    x = features()
    model = RepulsiveKMeans(5, min_cluster_fraction=0.0, tol=0.0, max_iter=300, random_state=1).fit(x)
    assert model.n_iter_ < 300
    np.testing.assert_array_equal(model.labels_, model.predict(x))


def test_in_a_pipeline_with_names() -> None:
    pipeline = make_pipeline(StandardScaler(), RepulsiveKMeans(3, random_state=0))
    assert pipeline.fit_transform(features()).shape == (400, 3)
    assert pipeline.get_feature_names_out().tolist() == [f"repulsivekmeans{j}" for j in range(3)]


@pytest.mark.parametrize(
    ("rows", "value"), [([3, 7], 0.0), ([5], np.nan), ([0, 399], np.inf)], ids=["zero", "NaN", "infinite"]
)
def test_bad_rows_are_named(rows: list[int], value: float) -> None:
    x = features()
    x[rows] = value
    message = rf"{len(rows)} feature rows are zero, NaN or infinite; first instances: \[{', '.join(map(str, rows))}\]"
    with pytest.raises(ValueError, match=message):
        RepulsiveKMeans(2).fit(x)
    good = RepulsiveKMeans(2).fit(features())
    with pytest.raises(ValueError, match=message):
        good.predict(x)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 0}, r"'n_clusters' .* must be an int in the range \[1, inf\). Got 0"),
        ({"n_clusters": 401}, r"n_samples=400 should be >= n_clusters=401"),
        ({"repulsion": -0.1}, r"'repulsion' .* must be a float in the range \[0.0, inf\). Got -0.1"),
        ({"min_cluster_fraction": 1.5}, r"'min_cluster_fraction' .* in the range \[0.0, 1.0\]. Got 1.5"),
        ({"init": "best"}, r"'init' .* must be a str among .*'k-means\|\|'.* Got 'best'"),
        ({"init": np.ones((2, 9))}, r"init has shape \(2, 9\); it must be finite numbers of shape \(8, 9\)"),
        ({"init": np.zeros((8, 9))}, r"init has rows that are zero: \[0, 1, 2, 3, 4, 5, 6, 7\]"),
        ({"tol": 2}, r"'tol' .* in the range \[0.0, 1.0\]. Got 2"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RepulsiveKMeans(**parameters).fit(features())


def test_importing_the_package_does_not_import_scikit_learn() -> None:
    """Workers of a run do without; the estimator comes when it is asked for."""
    import subprocess
    import sys

    code = "import sys, ordclust_ray; assert 'sklearn' not in sys.modules; ordclust_ray.RepulsiveKMeans"
    subprocess.run([sys.executable, "-c", code], check=True)
