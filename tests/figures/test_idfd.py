"""The figures of IDFD show what they say: values where they belong, the right images in the right places."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from ordclust_ray.figures import idfd

SIDE = 16
STEP = SIDE + 1  # a gap of one pixel
NOTHING = 255  # a blank tile


def numbered(n: int) -> NDArray[np.uint8]:
    """Image i has the colour i."""
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, SIDE, SIDE, 3)).copy()


def tiles_of(axes: Axes) -> list[list[int]]:
    """The numbers of the images, row by row."""
    canvas = np.asarray(axes.images[0].get_array())
    return canvas[SIDE // 2 :: STEP, SIDE // 2 :: STEP, 0].tolist()


def points(line: Any) -> NDArray[np.float64]:
    return np.asarray(line.get_xydata(), dtype=float)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def labels(axes: Axes, axis: str) -> list[str]:
    return [text.get_text() for text in (axes.get_xticklabels() if axis == "x" else axes.get_yticklabels())]


def by_title(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes}


def evaluation(epoch: int, **others: float | None) -> dict[str, Any]:
    return {"epoch": epoch, "silhouette": 0.01 * epoch, "nearest_same_cluster": 0.02 * epoch, **others}


def test_accuracy_has_a_point_an_evaluation() -> None:
    known = [evaluation(e, acc=0.03 * e, nmi=0.04 * e, ari=0.05 * e) for e in (5, 10)]
    agreement, silhouette, nearest = idfd.accuracy_curves([{"epoch": 1, "acc": 0.9}, *known, {"epoch": 11}]).axes
    assert "classes" in agreement.get_title()
    assert [line.get_label() for line in agreement.lines] == ["ACC", "NMI", "ARI"]
    assert agreement.get_legend() is not None
    for line, factor in zip(agreement.lines, (0.03, 0.04, 0.05), strict=True):
        np.testing.assert_allclose(points(line), [[5, 5 * factor], [10, 10 * factor]])
    np.testing.assert_allclose(points(silhouette.lines[0]), [[5, 0.05], [10, 0.1]])
    np.testing.assert_allclose(points(nearest.lines[0]), [[5, 0.1], [10, 0.2]])
    assert len({line.get_color() for line in agreement.lines}) == 3


@pytest.mark.parametrize("place", [0, 2])
def test_shares_are_shown_over_all_of_their_range(place: int) -> None:
    figure = idfd.accuracy_curves([evaluation(e, acc=0.5) for e in (1, 2)])
    low, high = figure.axes[place].get_ylim()
    assert -0.1 < low <= 0
    assert 1 <= high < 1.1


def test_accuracy_without_classes_or_neighbours_has_no_axes_for_them() -> None:
    unknown = [{**evaluation(e), "acc": None} for e in (1, 2)]
    assert list(by_title(idfd.accuracy_curves(unknown))) == ["silhouette", "neighbour in the same cluster"]
    lean = [{"epoch": 1, "silhouette": 0.1, "ari": 0.2}]
    figure = idfd.accuracy_curves(lean)
    assert len(figure.axes) == 2
    assert [line.get_label() for line in figure.axes[0].lines] == ["ARI"]


def test_a_missing_value_leaves_a_gap() -> None:
    history = [evaluation(1, acc=0.1), evaluation(2, acc=None), evaluation(3), {**evaluation(4), "silhouette": None}]
    agreement, silhouette, _ = idfd.accuracy_curves(history).axes
    np.testing.assert_array_equal(points(agreement.lines[0])[:, 1], [0.1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(points(silhouette.lines[0])[:, 1], [0.01, 0.02, 0.03, np.nan])


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "acc": 0.5}], [{"epoch": 1, "silhouette": None}]])
def test_accuracy_says_that_nothing_was_evaluated(history: list[dict[str, Any]]) -> None:
    figure = idfd.accuracy_curves(history)
    assert figure.axes == []
    assert texts(figure) == ["no evaluation of the clusters"]


def test_losses_have_a_panel_each() -> None:
    history = [
        {"epoch": e, "feature_decorrelation": 5 - e, "instance_discrimination": 9 - e, "learning_rate": 0.1**e, "x": 3}
        for e in (1, 2, 3)
    ]
    panels = by_title(idfd.loss_curves(history))
    assert list(panels) == ["instance discrimination", "feature decorrelation", "learning rate"]
    instances, features, rate = panels.values()
    np.testing.assert_allclose(points(instances.lines[0]), [[1, 8], [2, 7], [3, 6]])
    np.testing.assert_allclose(points(features.lines[0]), [[1, 4], [2, 3], [3, 2]])
    np.testing.assert_allclose(points(rate.lines[0]), [[1, 0.1], [2, 0.01], [3, 0.001]])
    assert rate.get_yscale() == "log"
    assert rate.lines[0].get_drawstyle() == "steps-post"
    assert instances.get_yscale() == "linear"


def test_losses_of_an_autoencoder_alone_and_of_nothing() -> None:
    history: list[dict[str, Any]] = [{"epoch": 1, "reconstruction": 0.3, "instance_discrimination": None}, {"epoch": 2}]
    figure = idfd.loss_curves(history)
    assert list(by_title(figure)) == ["reconstruction"]
    np.testing.assert_array_equal(points(figure.axes[0].lines[0])[:, 1], [0.3, np.nan])
    assert texts(idfd.loss_curves([{"epoch": 1}])) == ["no losses"]


def test_a_single_value_among_many_epochs_can_be_seen() -> None:
    """Markers become small where there are many, but not nothing: a line between two gaps has no length."""
    history = [{"epoch": e, "reconstruction": 0.1 if e != 100 else None} for e in range(200)]
    (line,) = idfd.loss_curves(history).axes[0].lines
    assert line.get_marker() == "o"
    assert line.get_markersize() >= line.get_linewidth()


def test_accuracy_over_a_temperature_is_the_mean_of_the_seeds() -> None:
    values = np.array([1.0, 0.07, 1.0, 0.07, 5.0])
    acc, ari = np.array([0.8, 0.4, 0.6, 0.2, 0.5]), np.array([0.7, 0.1, np.nan, 0.2, np.nan])
    (axes,) = idfd.accuracy_over(values, {"ACC": acc, "ARI": ari}, name="instance temperature").axes
    mean, runs, mean_ari, _ = axes.lines
    np.testing.assert_allclose(points(mean), [[0.07, 0.3], [1, 0.7], [5, 0.5]])
    np.testing.assert_allclose(points(runs), np.column_stack([values, acc]))
    np.testing.assert_allclose(points(mean_ari), [[0.07, 0.15], [1, 0.7], [5, np.nan]])
    assert runs.get_linestyle() == "None"
    assert runs.get_marker() == "o"
    assert runs.get_color() == mean.get_color() != mean_ari.get_color()
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "instance temperature")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ACC", "ARI"]  # type: ignore[union-attr]


def test_temperatures_have_their_numbers_where_there_is_room() -> None:
    values = np.array([0.07, 0.2, 0.5, 0.8, 1, 1.01, 2, 5, 10])
    figure = idfd.accuracy_over(values, {"ACC": values / 10}, name="t")
    (axes,) = figure.axes
    assert labels(axes, "x") == ["0.07", "0.2", "0.5", "0.8", "1", "", "2", "5", "10"]
    figure.draw_without_rendering()
    boxes = sorted(
        (box.x0, box.x1) for text in axes.get_xticklabels() if text.get_text() for box in [text.get_window_extent()]
    )
    assert all(end < start for (_, end), (start, _) in pairwise(boxes))


def test_one_temperature_stands_in_the_middle() -> None:
    (axes,) = idfd.accuracy_over(np.full(2, 0.07), {"ACC": np.array([0.3, 0.4])}, name="t").axes
    assert np.sqrt(np.prod(axes.get_xlim())) == pytest.approx(0.07)
    assert labels(axes, "x") == ["0.07"]


def test_temperatures_are_positive_and_one_a_run() -> None:
    with pytest.raises(ValueError, match=r"\Avalues must be positive .* 0.0\Z"):
        idfd.accuracy_over(np.array([0.0, 1.0]), {"ACC": np.ones(2)}, name="t")
    with pytest.raises(ValueError, match=r"\AARI has length 1, but values has length 2\Z"):
        idfd.accuracy_over(np.ones(2), {"ACC": np.ones(2), "ARI": np.ones(1)}, name="t")
    with pytest.raises(ValueError, match=r"\Avalues is empty\Z"):
        idfd.accuracy_over(np.ones(0), {}, name="t")


def drawn_groups(axes: Axes) -> dict[str, NDArray[np.float64]]:
    return {str(dots.get_label()): np.asarray(dots.get_offsets()) for dots in axes.collections}


def test_map_shows_the_same_points_by_cluster_and_by_class() -> None:
    features = np.random.default_rng(0).normal(size=(30, 5))
    clusters, classes = np.arange(30) % 3, np.repeat([-1, 0, 1], 10)
    by_cluster, by_class = idfd.cluster_map(features, clusters, classes, ["cat"], seed=0).axes
    of_clusters, of_classes = drawn_groups(by_cluster), drawn_groups(by_class)
    assert list(of_clusters) == ["0", "1", "2"]
    assert list(of_classes) == ["unknown", "cat", "1"]
    place = np.empty((30, 2))
    for cluster in range(3):
        place[clusters == cluster] = of_clusters[f"{cluster}"]
    np.testing.assert_array_equal(of_classes["unknown"], place[:10])
    np.testing.assert_array_equal(of_classes["cat"], place[10:20])
    unknown = np.asarray(by_class.collections[0].get_facecolor())[0, :3]
    assert len(set(unknown.tolist())) == 1, "not grey"
    again = drawn_groups(idfd.cluster_map(features, clusters, None, seed=0).axes[0])
    np.testing.assert_array_equal(again["1"], of_clusters["1"])


def test_map_without_classes_has_one_panel_and_with_unknown_ones_alone_has_two() -> None:
    features = np.random.default_rng(0).normal(size=(12, 3))
    assert len(idfd.cluster_map(features, np.arange(12) % 2, None, seed=0).axes) == 1
    unknown = idfd.cluster_map(features, np.arange(12) % 2, np.full(12, -1), seed=0)
    assert list(drawn_groups(unknown.axes[1])) == ["unknown"]


def test_map_names_what_has_another_length() -> None:
    with pytest.raises(ValueError, match=r"\Alabels has length 3, but features has length 4\Z"):
        idfd.cluster_map(np.ones((4, 2)), np.zeros(4, int), np.zeros(3, int), seed=0)
    with pytest.raises(ValueError, match=r"\Aassignments has length 5, but features has length 4\Z"):
        idfd.cluster_map(np.ones((4, 2)), np.zeros(5, int), None, seed=0)


def test_borders_have_the_smallest_margins_first_and_the_other_cluster_below() -> None:
    assignments = np.array([0, 0, 0, 0, 2, 2])
    neighbours = np.array([2, 1, 2, 1, 1, 0])
    margins = np.array([0.4, 0.1, 0.3, 0.2, 0.5, -0.1])
    figure = idfd.border_images(numbered(6), assignments, neighbours, margins, num_clusters=3, per_cluster=3)
    assert [tiles_of(axes) for axes in figure.axes] == [
        [[1, 3, 2]], [[NOTHING, NOTHING, NOTHING]], [[5, 4, NOTHING]]
    ]  # fmt: skip
    assert [labels(axes, "x") for axes in figure.axes] == [["1", "1", "2"], [], ["0", "1"]]
    assert [labels(axes, "y") for axes in figure.axes] == [["cluster 0"], ["cluster 1"], ["cluster 2"]]
    figure.draw_without_rendering()
    axes = figure.axes[0]
    first = axes.get_xticklabels()[0].get_window_extent()
    assert first.y1 <= axes.get_window_extent().y0, "the numbers are not below the images"
    middle = axes.transData.inverted().transform(((first.x0 + first.x1) / 2, first.y0))[0]
    assert middle == pytest.approx((SIDE - 1) / 2, abs=0.5)


def test_samples_have_the_most_typical_first() -> None:
    assignments = np.array([0, 0, 0, 0, 2, 2])
    distances = np.array([0.4, 0.1, 0.3, 0.2, 0.5, 0.1])
    shares = ["92% sneaker", "", "50% bag"]
    images = numbered(6)
    figure = idfd.cluster_samples(images, assignments, distances, num_clusters=3, class_shares=shares, columns=3)
    (axes,) = figure.axes
    assert tiles_of(axes) == [[1, 3, 2], [NOTHING] * 3, [5, 4, NOTHING]]
    assert labels(axes, "y") == ["cluster 0\n92% sneaker", "cluster 1", "cluster 2\n50% bag"]
    np.testing.assert_array_equal(axes.get_yticks(), (SIDE - 1) / 2 + STEP * np.arange(3))


def test_rows_are_no_longer_than_the_longest() -> None:
    (axes,) = idfd.cluster_samples(numbered(3), np.array([0, 0, 1]), np.arange(3.0), num_clusters=2).axes
    assert tiles_of(axes) == [[0, 1], [2, NOTHING]]


def test_long_texts_leave_the_images_as_large_as_they_are() -> None:
    def width(*shares: str) -> float:
        same = np.zeros(9, int)
        figure = idfd.cluster_samples(numbered(9), same, np.arange(9.0), num_clusters=1, class_shares=shares)
        figure.draw_without_rendering()
        return figure.axes[0].get_window_extent().width

    assert width("92% a species with a long name") > 0.95 * width()


@pytest.mark.parametrize("hidden", [0, 1, 5])
def test_of_many_clusters_the_largest_are_shown(hidden: int) -> None:
    k = 20 + hidden
    assignments = np.concatenate([np.arange(k), np.arange(hidden, k)])  # the first ones are small
    n = len(assignments)
    images, scores, shares = numbered(n), np.arange(float(n)), [f"{number}% x" for number in range(k)]
    samples = idfd.cluster_samples(images, assignments, scores, num_clusters=k, class_shares=shares)
    borders = idfd.border_images(images, assignments, np.zeros(n, int), scores, num_clusters=k)
    names = [f"cluster {number}" for number in range(hidden, k)]
    assert labels(samples.axes[0], "y") == [f"{name}\n{name.split()[1]}% x" for name in names]
    assert [labels(axes, "y")[0] for axes in borders.axes] == names
    assert [row[0] for row in tiles_of(samples.axes[0])] == list(range(hidden, k))
    said = {0: [], 1: ["1 more cluster"], 5: ["5 more clusters"]}[hidden]
    for figure in (samples, borders):
        found = [text.rpartition("; ")[2] for text in texts(figure) if "more cluster" in text]
        assert found == said


def test_images_and_numbers_have_one_length() -> None:
    images, ids = numbered(3), np.zeros(3, int)
    with pytest.raises(ValueError, match=r"\Amargins has length 2, but images has length 3\Z"):
        idfd.border_images(images, ids, ids, np.zeros(2), num_clusters=1)
    with pytest.raises(ValueError, match=r"\Adistances has length 2, but images has length 3\Z"):
        idfd.cluster_samples(images, ids, np.zeros(2), num_clusters=1)
    with pytest.raises(ValueError, match=r"\Aclass_shares has length 1, but clusters has length 2\Z"):
        idfd.cluster_samples(images, ids, np.zeros(3), num_clusters=2, class_shares=["92% bag"])
    with pytest.raises(ValueError, match=r"\Aimages is empty\Z"):
        idfd.cluster_samples(images[:0], ids[:0], np.zeros(0), num_clusters=1)


def test_correlations_are_cosines_without_sign_or_centre() -> None:
    features = np.array([[3.0, -3.0, 0.0, 3.0], [4.0, -4.0, 0.0, 0.0]])
    figure = idfd.feature_correlation(features, title="bank")
    axes, bar = figure.axes
    expected = np.array([[1, 1, 0, 0.6], [1, 1, 0, 0.6], [0, 0, 0, 0], [0.6, 0.6, 0, 1]])
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), expected)
    assert bar.get_ylabel() == "|cosine|"
    assert axes.get_title() == f"bank\nmean off the diagonal {(1 + 0.6 + 0.6) / 6:.3f}"


def test_correlation_of_one_feature_and_of_no_instances() -> None:
    axes = idfd.feature_correlation(np.ones((3, 1)), title="one").axes[0]
    assert axes.get_title() == "one"
    assert axes.images[0].get_clim() == (0, 1)
    with pytest.raises(ValueError, match=r"\Afeatures is empty\Z"):
        idfd.feature_correlation(np.ones((0, 4)), title="none")


def test_every_loss_of_every_variant_has_a_panel() -> None:
    names = ["instance_discrimination", "feature_decorrelation", "orthogonality", "reconstruction"]
    figure = idfd.loss_curves([{"epoch": e, **dict.fromkeys(names, 1.0 / e)} for e in (1, 2)])
    assert [axes.get_title() for axes in figure.axes] == [name.replace("_", " ") for name in names]
