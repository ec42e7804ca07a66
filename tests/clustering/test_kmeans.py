"""k-means on sharded rows and its measures: by scikit-learn or where the rows are, for any number of processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from ordclust_ray.clustering import measures
from ordclust_ray.clustering.kmeans import COSINES, SQUARED, Clusters, kmeans
from ordclust_ray.clustering.measures import class_measures, nearest_rows, plain_measures
from ordclust_ray.core.shares import share_edges

K, N, D = 5, 403, 8


def groups() -> tuple[Tensor, np.ndarray]:
    """Unit rows in groups of unequal size that touch each other, and their groups; a tenth of these is not known."""
    draw = np.random.default_rng(0)
    labels = draw.choice(K, N, p=[0.4, 0.25, 0.15, 0.1, 0.1])
    rows = draw.normal(size=(K, D))[labels] + 0.7 * draw.normal(size=(N, D))
    unit = torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=1)
    return unit, np.where(draw.random(N) < 0.1, -1, labels)


def clustered(rank: int, size: int, sklearn_rows: int) -> tuple[Clusters, dict[str, Any]]:
    """This process's part of the clusters, and their measures."""
    (rows, labels), edges = groups(), share_edges(N, size)
    first, end = edges[rank], edges[rank + 1]
    found = kmeans(rows[first:end], first, K, starts=7, seed=3, sklearn_rows=sklearn_rows)
    record = plain_measures(rows[first:end], first, N, found.assignments, K, sample=150, seed=1)
    return found, record | class_measures(found.assignments, labels[first:end], K, K)


def test_scikit_learn_where_it_fits() -> None:
    rows, _ = groups()
    found, _ = clustered(0, 1, N)
    expected = KMeans(K, n_init=7, random_state=3).fit(rows.numpy())
    assert found.objective == SQUARED
    np.testing.assert_array_equal(found.assignments, expected.labels_)
    np.testing.assert_allclose(found.centroids, expected.cluster_centers_, atol=1e-6)


def test_beyond_it_spherical_k_means_reaches_at_least_the_cosines_of_plain_k_means() -> None:
    rows, _ = groups()
    found, _ = clustered(0, 1, N - 1)
    assert found.objective == COSINES
    np.testing.assert_allclose(np.linalg.norm(found.centroids, axis=1), 1, rtol=1e-6)
    cosines = (rows.numpy() @ found.centroids.T).max(axis=1)
    np.testing.assert_array_equal(found.assignments, (rows.numpy() @ found.centroids.T).argmax(axis=1))
    plain = KMeans(K, n_init=7, random_state=3).fit(rows.numpy()).cluster_centers_
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    assert cosines.sum() >= (rows.numpy() @ plain.T).max(axis=1).sum() - 1e-4


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5 clusters need at least as many rows; there are 4"):
        kmeans(groups()[0][:4], 0, 5, starts=1, seed=0, sklearn_rows=100)


def _process(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    torch.save([clustered(rank, size, limit) for limit in (N, 0)], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_change_nothing(tmp_path: Path) -> None:
    spawn(_process, args=(3, str(tmp_path)), nprocs=3)
    for way, limit in enumerate((N, 0)):
        expected, record = clustered(0, 1, limit)
        parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=False)[way] for rank in range(3)]
        np.testing.assert_array_equal(np.concatenate([found.assignments for found, _ in parts]), expected.assignments)
        for found, own in parts:
            np.testing.assert_allclose(found.centroids, expected.centroids, atol=1e-6)
            assert own["cluster_sizes"] == record["cluster_sizes"]
            for name in ("silhouette", "nearest_same_cluster", "acc", "nmi", "ari"):
                assert own[name] == pytest.approx(record[name], rel=1e-5)


def test_measures_of_known_classes_leave_out_the_unknown() -> None:
    _, labels = groups()
    found, record = clustered(0, 1, N)
    known = labels >= 0
    assert 0 < known.sum() < N
    pair = labels[known], found.assignments[known]
    assert record["ari"] == pytest.approx(adjusted_rand_score(*pair))
    assert record["nmi"] == pytest.approx(normalized_mutual_info_score(*pair, average_method="geometric"))
    assert record["acc"] > 0.6
    assert class_measures(found.assignments, np.full(N, -1), K, K) == {}


def test_silhouette_and_neighbours_of_all_rows() -> None:
    rows, _ = groups()
    found, _ = clustered(0, 1, N)
    record = plain_measures(rows, 0, N, found.assignments, K, sample=N, seed=1)
    assert record["silhouette"] == pytest.approx(silhouette_score(rows.numpy(), found.assignments), rel=1e-5)
    cosines = rows @ rows.T
    cosines.fill_diagonal_(-2)
    neighbours = found.assignments[cosines.argmax(dim=1).numpy()]
    assert record["nearest_same_cluster"] == pytest.approx((neighbours == found.assignments).mean())
    assert record["cluster_sizes"] == np.bincount(found.assignments).tolist()


def test_a_single_cluster_has_no_silhouette() -> None:
    rows, _ = groups()
    record = plain_measures(rows, 0, N, np.zeros(N, dtype=np.int64), 2, sample=100, seed=0)
    assert record["silhouette"] is None
    assert record["nearest_same_cluster"] == 1.0
    assert record["cluster_sizes"] == [N, 0]


def test_neighbours_in_slices_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = groups()
    expected = nearest_rows(rows[:9], rows, torch.arange(9))
    monkeypatch.setattr(measures, "SIMILARITIES", 9 * 100)  # five slices
    torch.testing.assert_close(nearest_rows(rows[:9], rows, torch.arange(9)), expected)
    here = nearest_rows(rows[:9], rows, torch.full((9,), -1))  # the queries are not among the rows
    torch.testing.assert_close(here[1], torch.arange(9))
    alone = nearest_rows(rows[:1], rows[:1], torch.tensor([0]))
    assert alone[0].tolist() == [-torch.inf]
