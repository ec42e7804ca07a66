"""`jobs/train_idfd.py` as a user runs it: its output, its files, its record, and what kill -9 does to it."""

import json
import re
from pathlib import Path

import job
import mlflow
import numpy as np
import pandas as pd
import pytest
import ray
import torch
import train_idfd
from mlflow import MlflowClient
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from ordclust_ray.core.nearest_centroid import assign
from ordclust_ray.data.images import as_png, decode
from ordclust_ray.models import load_clusters

EPOCHS = 6
SMALL = ["--model.width", "0.1", "--model.feature-dim", "16", "--training.epochs", str(EPOCHS)]
SMALL += ["--clustering.every", "3", "--clustering.starts", "3", "--training.checkpoint-every", "1"]
FIGURES = {"accuracy", "losses", "clusters", "borders", "tsne", "feature_correlation"}
ARTIFACTS = {"assignments.parquet", "centroids.parquet", "results.json", "history.json", "broken_images.csv", "model"}
ARTIFACTS |= {f"{name}.png" for name in FIGURES}


def flags(storage: Path, name: str) -> list[str]:
    return job.two_workers(storage, name, SMALL)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idfd_runs")


@pytest.fixture(scope="module")
def undisturbed(cluster: dict[str, str], storage: Path) -> list[str]:
    """What a small run on the digits, with two training workers, printed."""
    output = job.run("train_idfd.py", "digits", *flags(storage, "undisturbed"), env=cluster)
    return [line.strip() for line in output.splitlines()]


def results(storage: Path) -> Path:
    return storage / "undisturbed" / "results"


def test_output_ends_with_table_folder_and_mlflow(undisturbed: list[str], storage: Path) -> None:
    assert "1797 images, 0 broken; 10 clusters, 10 known classes to report on" in undisturbed
    assert any(re.match(r"epoch 6/6, 0:00 left instances 7\.\d+, decorrelation", line) for line in undisturbed)
    table = next(i for i, line in enumerate(undisturbed) if "IDFD" in line and "k-means on pixels" in line)
    names = ("ACC", "NMI", "ARI", "silhouette", "neighbour")
    assert tuple(line.split()[0] for line in undisturbed[table + 1 : table + 6]) == names
    assert f"results: {results(storage)}" in undisturbed
    assert any(line.startswith("MLflow:") for line in undisturbed)


def test_every_image_has_a_cluster_and_the_measures_are_those_of_the_export(
    undisturbed: list[str], storage: Path
) -> None:
    rows = job.assignments(storage / "undisturbed")
    assert rows.index.tolist() == list(range(1797))
    assert rows["label"].astype(int).tolist() == load_digits().target.tolist()
    table = json.loads((results(storage) / "results.json").read_text())
    assert np.bincount(rows["cluster"], minlength=10).tolist() == table["cluster_sizes"]
    assert adjusted_rand_score(rows["label"], rows["cluster"]) == pytest.approx(table["measures"]["IDFD"]["ARI"])
    assert 0.75 < table["measures"]["k-means on pixels"]["ACC"] < 0.85
    assert (rows["margin"] >= 0).all()


def test_features_are_kept_by_instance_id(undisturbed: list[str], storage: Path) -> None:
    features = np.load(storage / "undisturbed" / "features.npy", mmap_mode="r")
    assert features.shape == (1797, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    centroids = np.stack(pd.read_parquet(results(storage) / "centroids.parquet")["centroid"].to_list())
    found = assign(torch.from_numpy(np.array(features)), torch.from_numpy(centroids))
    rows = job.assignments(storage / "undisturbed")
    np.testing.assert_array_equal(found.clusters.numpy(), rows["cluster"])
    np.testing.assert_allclose(found.distances.numpy(), rows["distance"], rtol=1e-4)


def test_mlflow_has_the_whole_record(undisturbed: list[str], storage: Path) -> None:
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("idfd")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'undisturbed'")
    assert run.info.status == "FINISHED"
    assert run.data.params["loss.variant"] == "idfd"
    assert run.data.params["loss.instance_temperature"] == "1.0"
    for metric, epochs in (("instance_discrimination", range(1, 7)), ("acc", (3, 6)), ("data_wait", range(1, 7))):
        assert [point.step for point in client.get_metric_history(run.info.run_id, metric)] == list(epochs)
    assert run.data.metrics["ACC"] == run.data.metrics["acc"]
    assert "k-means_on_pixels.ACC" in run.data.metrics
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= ARTIFACTS
    for name in FIGURES:
        with Image.open(results(storage) / f"{name}.png") as picture:
            assert min(picture.size) > 100
            assert np.asarray(picture.convert("L")).std() > 5


def test_registered_model_is_the_trained_one(
    undisturbed: list[str], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(f"sqlite:///{storage / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/idfd@newest")
    pixels = (load_digits().images[:50] * (255 / 16)).round().astype(np.uint8)
    encoded = [as_png(image) for image in pixels]
    found = model.predict(pd.DataFrame({"image": encoded}))
    images = np.stack([decode(image, 16, 1000) for image in encoded])
    ours = load_clusters(results(storage) / "model").assigned(torch.from_numpy(images))
    np.testing.assert_array_equal(found["cluster"], ours.clusters.numpy())
    np.testing.assert_allclose(found["distance"], ours.distances.numpy(), rtol=1e-4)


def test_finished_run_of_the_same_name_is_read_not_repeated(
    undisturbed: list[str], storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train_idfd.main(["digits", *flags(storage, "undisturbed")])
    assert not ray.is_initialized()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "run undisturbed is finished, on the images of digits; its results:"
    table = next(i for i, line in enumerate(undisturbed) if "IDFD" in line and "k-means on pixels" in line)
    assert lines[2:8] == undisturbed[table : table + 6]


def test_killed_worker_and_killed_driver_change_nothing(
    undisturbed: list[str], cluster: dict[str, str], storage: Path
) -> None:
    """A worker is killed, which the run survives, and then the driver, which is started again."""
    line = flags(storage, "disturbed")
    process = job.start("train_idfd.py", "digits", *line, env=cluster)
    job.kill_a_worker_and_then_the_driver(process, storage / "disturbed", epochs=EPOCHS)
    assert job.status(storage, "disturbed") == "RUNNING"
    job.run("train_idfd.py", "digits", *line, env=cluster)
    expected, found = (np.load(storage / name / "features.npy") for name in ("undisturbed", "disturbed"))
    np.testing.assert_array_equal(found, expected)
    before, after = (job.assignments(storage / name)["cluster"] for name in ("undisturbed", "disturbed"))
    pd.testing.assert_series_equal(after, before)
    assert job.status(storage, "disturbed") == "FINISHED"
