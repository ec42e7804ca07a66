"""Table, export and figures of a run of IDFD, from features and clusters that are known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ordclust_ray.config import IdfdConfig, IdfdLossConfig
from ordclust_ray.data.unlabelled import Unlabelled
from ordclust_ray.reports.idfd_figures import run_figures, temperature_figures
from ordclust_ray.reports.idfd_table import assignments, class_shares, evaluate, write_features
from ordclust_ray.training.checkpoint import save_bank

N, K, D = 60, 3, 5
FIGURES = ["accuracy", "losses", "clusters", "borders", "tsne", "feature_correlation"]
RECORD: dict[str, Any] = {"epoch": 2, "instance_discrimination": 4.0, "learning_rate": 0.03, "silhouette": 0.5}
RECORD |= {"nearest_same_cluster": 0.9, "cluster_sizes": [20, 20, 20], "kmeans_objective": "cosines"}


def data(classes: list[str]) -> Unlabelled:
    """Three groups of 20 images each, of three shades; every tenth id is missing."""
    ids = np.array([i for i in range(70) if i % 10 != 9][:N])
    labels = np.arange(N) % K if classes else np.full(N, -1)
    manifest = pd.DataFrame({"source": [f"{i}.png" for i in ids]}, index=pd.Index(ids, name="instance_id"))
    train: Any = SimpleNamespace()
    return Unlabelled(train, manifest, classes, labels.astype(np.int64), K, pd.DataFrame(), np.zeros(70, np.uint32))


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    centres = np.eye(K, D)[np.arange(N) % K]
    rows = centres + 0.1 * np.random.default_rng(0).normal(size=(N, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def images() -> dict[str, NDArray[Any]]:
    """A sample of 40 images in another order; shade by group."""
    prepared = data([])
    places = np.random.default_rng(1).permutation(N)[:40]
    shades = np.array([20, 120, 220], dtype=np.uint8)[places % K]
    pixels = np.broadcast_to(shades[:, None, None, None], (40, 8, 8, 3)).copy()
    return {"ids": prepared.manifest.index.to_numpy()[places], "images": pixels}


def test_features_are_written_whole_from_the_parts_of_any_workers(
    features: NDArray[np.float32], tmp_path: Path
) -> None:
    for first, end in ((0, 7), (7, 60)):
        save_bank(tmp_path, first, torch.from_numpy(features[first:end]))
    write_features(tmp_path, N, tmp_path / "features.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), features)


def test_assignments_and_shares(features: NDArray[np.float32]) -> None:
    rows = assignments(data(["ant", "bee", "cat"]), features, torch.eye(K, D))
    assert rows["cluster"].tolist() == (np.arange(N) % K).tolist()
    assert (rows["second"] != rows["cluster"]).all()
    assert class_shares(rows, data(["ant", "bee", "cat"])) == ["100% ant", "100% bee", "100% cat"]
    moved = rows.assign(cluster=np.where(np.arange(N) < 30, 0, rows["cluster"]))
    assert class_shares(moved, data(["ant", "bee", "cat"]))[0] == "50% ant"
    assert class_shares(rows, data([])) == []


def test_the_table_stands_beside_k_means_on_pixels() -> None:
    config = IdfdConfig(loss=IdfdLossConfig(variant="id-tuned"))
    found = evaluate(config, data(["ant", "bee", "cat"]), RECORD | {"acc": 0.7, "nmi": 0.6, "ari": 0.5}, images())
    assert found.measures["ID(tuned)"] == {
        "ACC": 0.7, "NMI": 0.6, "ARI": 0.5, "silhouette": 0.5, "neighbour in same cluster": 0.9
    }  # fmt: skip
    assert found.measures["k-means on pixels of 40 images"] == {"ACC": 1.0, "NMI": 1.0, "ARI": 1.0}  # a shade a group
    assert found.flat()["k-means_on_pixels_of_40_images.ACC"] == 1.0
    alone = evaluate(config, data([]), RECORD, images())
    assert list(alone.measures) == ["ID(tuned)"]
    assert list(alone.measures["ID(tuned)"]) == ["silhouette", "neighbour in same cluster"]
    assert alone.table().endswith("cluster sizes: 20, 20, 20\nk-means: the best of 20 starts by cosines")
    few = data(["ant", "bee", "cat"])
    few.labels[6:] = -1  # so that the sample cannot tell how good k-means on pixels is
    assert list(evaluate(config, few, RECORD, images()).measures) == ["ID(tuned)"]


@pytest.mark.parametrize("classes", [["ant", "bee", "cat"], []])
def test_figures_with_and_without_known_classes(classes: list[str], features: NDArray[np.float32]) -> None:
    prepared = data(classes)
    rows = assignments(prepared, features, torch.eye(K, D))
    found = dict(run_figures(prepared, features, rows, [RECORD], images(), seed=0))
    assert list(found) == FIGURES
    labels = [text.get_text() for text in found["clusters"].axes[0].get_yticklabels()]
    assert labels == [
        f"cluster {i}" + (f"\n100% {name}" if classes else "") for i, name in enumerate(["ant", "bee", "cat"])
    ]
    assert len(found["tsne"].axes) == (2 if classes else 1)
    canvas = found["clusters"].axes[0].images[0].get_array()
    assert canvas is not None
    assert canvas[4, 4, 0] == 20  # the first cluster's images are dark


def test_temperatures_need_two_values() -> None:
    def runs(*values: float) -> list[tuple[dict[str, str], dict[str, float]]]:
        return [({"loss.instance_temperature": str(v)}, {"ACC": v / 2, "NMI": 0.1, "ARI": 0.2}) for v in values]

    assert list(temperature_figures(runs(1.0, 1.0), "loss.instance_temperature")) == []
    assert (
        list(temperature_figures([*runs(1.0), ({"loss.instance_temperature": "2"}, {})], "loss.instance_temperature"))
        == []
    )
    ((name, figure),) = temperature_figures(runs(0.07, 1.0, 1.0), "loss.instance_temperature")
    assert name == "accuracy_over_instance_temperature"
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_xlabel() == "instance temperature"
