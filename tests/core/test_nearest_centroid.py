"""The nearest centroids by their distances."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ordclust_ray.core.nearest_centroid import assign


def test_worked_by_hand() -> None:
    found = assign(torch.tensor([[0.0, 0.0], [4.0, 0.5]]), torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 9.0]]))
    assert found.clusters.tolist() == [1, 0]
    assert found.seconds.tolist() == [0, 1]
    torch.testing.assert_close(found.distances, torch.tensor([1.0, 1.25**0.5]))
    torch.testing.assert_close(found.margins, torch.tensor([2.0, 9.25**0.5 - 1.25**0.5]))


@settings(deadline=None, database=None, derandomize=True, max_examples=40)
@given(n=st.integers(1, 9), k=st.integers(2, 6), d=st.integers(1, 5), seed=st.integers(0, 999))
def test_by_all_distances(n: int, k: int, d: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    features, centroids = (torch.randn(rows, d, generator=draw, dtype=torch.float64) for rows in (n, k))
    distances = np.linalg.norm(features.numpy()[:, None] - centroids.numpy()[None], axis=2)
    found, ordered = assign(features, centroids), np.sort(distances, axis=1)
    np.testing.assert_array_equal(found.clusters, distances.argmin(axis=1))
    np.testing.assert_array_equal(found.seconds, distances.argsort(axis=1)[:, 1])
    np.testing.assert_allclose(found.distances, ordered[:, 0], atol=1e-7)
    np.testing.assert_allclose(found.margins, ordered[:, 1] - ordered[:, 0], atol=1e-7)
