"""The figures of DRC-ORID show what they say: the right images in the right places, and readable axes."""

import numpy as np
import pytest
from matplotlib.text import Text
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from ordclust_ray.figures import drc


def digits(n: int = 60) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    data = load_digits()
    grey = (data.images[:n] * (255 / 16)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3), data.target[:n].astype(float)


def test_montage_has_a_block_a_cluster_and_the_most_typical_on_top() -> None:
    images, ranks = digits()
    assignments = np.arange(60) % 2
    similarities = np.linspace(0, 1, 60)
    figure = drc.cluster_montage(images, ranks, assignments, similarities, num_clusters=2, per_cell=3)
    assert len(figure.axes) == 2
    canvas = np.asarray(figure.axes[1].images[0].get_array())
    zeros = np.flatnonzero((assignments == 1) & (ranks == 0))
    best = images[zeros[np.argmax(similarities[zeros])]]
    tile = next(canvas[y : y + 8, x : x + 8] for y in range(3) for x in range(3) if canvas[y, x].max() < 255)
    np.testing.assert_array_equal(tile, best)


def test_histograms_count_every_instance() -> None:
    _, ranks = digits()
    figure = drc.rank_histograms(ranks, np.arange(60) % 3, num_clusters=3)
    for cluster, axes in enumerate(figure.axes):
        heights = [patch.get_height() for patch in axes.patches]  # type: ignore[attr-defined]
        assert sum(heights) == 20
        assert f"cluster {cluster}" in axes.get_title(loc="left")


def test_curves_draw_a_point_a_round_and_say_when_there_is_none() -> None:
    history = [
        {"epoch": e, "centroid_affinity": -0.1 * e, "objective_per_instance": 0.5, "changed": 0.1, "nmi": 0.2 * e}
        for e in (3, 6, 9)
    ]
    drawn = drc.clustering_curves(history)
    nmi = next(axes for axes in drawn.axes if "NMI" in axes.get_title())
    points = np.asarray(nmi.lines[0].get_xydata(), dtype=float)
    np.testing.assert_allclose(points, np.array([[3, 0.6], [6, 1.2], [9, 1.8]]))
    without = [{key: value for key, value in record.items() if key != "nmi"} for record in history]
    assert len(drc.clustering_curves(without).axes) == len(drawn.axes) - 1
    empty = drc.clustering_curves([])
    assert any("no clustering" in text.get_text() for text in empty.findobj(Text))


def test_map_is_the_same_for_a_seed() -> None:
    images, ranks = digits(40)
    features = images[..., 0].reshape(40, -1).astype(float)
    drawn = [drc.feature_map(features, ranks, np.arange(40) % 2, title="map", seed=seed).axes[0] for seed in (0, 0)]
    points = [np.asarray(axes.collections[0].get_offsets()) for axes in drawn]
    assert points[0].shape == (40, 2)
    np.testing.assert_array_equal(points[0], points[1])


def test_order_transfer_has_a_row_an_identity_and_a_column_an_order() -> None:
    images, _ = digits(12)
    decoded = np.broadcast_to(images[7], (3, 4, 8, 8, 3))
    canvas = np.asarray(drc.order_transfer(images[:3], images[3:7], decoded).axes[0].images[0].get_array())
    rows, columns = canvas.shape[0] // 8, canvas.shape[1] // 8
    assert (rows, columns) == (4, 5)


def test_reference_panel_has_a_posterior_an_image() -> None:
    images, ranks = digits(30)
    levels = np.arange(10.0)
    posteriors = np.full((2, 10), 0.1)
    references, of_ranks = [images[10:20], images[20:25]], [ranks[10:20], ranks[20:25]]
    figure = drc.reference_panel(images[:2], ranks[:2], ranks[:2], references, of_ranks, posteriors, levels)
    bars = [len(axes.patches) for axes in figure.axes if axes.patches]
    assert bars == [10, 10]


def test_reconstructions_have_a_row_a_part_of_the_features() -> None:
    images, _ = digits(5)
    figure = drc.reconstructions(images, images, images, images)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "original", "decoded", "identity alone", "order alone"
    ]  # fmt: skip
    assert np.asarray(figure.axes[0].images[0].get_array()).shape[0] // 8 == 4


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\Aranks is empty\Z"):
        drc.rank_histograms(np.zeros(0), np.zeros(0, int), num_clusters=1)


def test_lengths_that_differ_are_named() -> None:
    images, ranks = digits()
    with pytest.raises(ValueError, match=r"60.*59|59.*60"):
        drc.cluster_montage(images, ranks[:-1], np.zeros(60, int), np.zeros(60), num_clusters=1)


def test_map_of_features_of_one_dimension() -> None:
    rng = np.random.default_rng(0)
    figure = drc.feature_map(rng.normal(size=(30, 1)), rng.normal(size=30), np.arange(30) % 2, title="t", seed=0)
    assert np.shape(figure.axes[0].collections[0].get_offsets()) == (30, 2)
