"""`jobs/train_drc.py` as a user runs it: its output, its files, its record, and what kill -9 does to it."""

import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path

import job
import mlflow
import numpy as np
import pandas as pd
import pytest
import ray
import train_drc
from conftest import ClusterRun
from mlflow import MlflowClient
from PIL import Image

ARTIFACTS = {
    "assignments.parquet", "centroids.parquet", "results.json", "history.json", "broken_images.csv",
    "montage.png", "rank_histograms.png", "clustering.png", "tsne_order.png", "tsne_identity.png",
    "reconstructions.png", "order_transfer.png", "references.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def storage(cluster_run: ClusterRun) -> Path:
    return cluster_run.storage


@pytest.fixture(scope="module")
def undisturbed(cluster_run: ClusterRun) -> list[str]:
    """What a small run on the digits, with two training workers, printed: its lines from the preflight to the end."""
    lines = [line.strip() for line in cluster_run.output.splitlines() if "pid=" not in line]  # Ray's may come late
    first = next(i for i, line in enumerate(lines) if "2 workers x 0.5 CPU leave" in line)
    last = next(i for i, line in enumerate(lines) if line.startswith("MLflow:"))
    return lines[first : last + 1]


def test_output_ends_with_table_folder_and_mlflow(undisturbed: list[str], storage: Path) -> None:
    assert f"runs in {storage}" in undisturbed[1]
    assert any(line.startswith("epoch 6/6") for line in undisturbed)  # plain lines: the output is no terminal
    table = next(i for i, line in enumerate(undisturbed) if "DRC-ORID" in line and "median" in line)
    assert [line.split()[0] for line in undisturbed[table + 1 : table + 5]] == ["MAE", "CS", "accuracy", "CA"]
    assert undisturbed[table + 4].split()[1] != "-" != undisturbed[table + 4].split()[-1]  # beside plain k-means
    assert f"results: {storage / 'undisturbed' / 'results'}" in undisturbed
    assert f"mlflow ui --backend-store-uri sqlite:///{storage / 'mlflow.db'}" in undisturbed[-1]


def test_results_beat_the_median(undisturbed: list[str], storage: Path) -> None:
    results = json.loads((storage / "undisturbed" / "results" / "results.json").read_text())
    measures = results["measures"]
    assert measures["DRC-ORID"]["MAE"] < measures["median"]["MAE"] / 3
    assert 2.3 < measures["median"]["MAE"] < 2.7
    assert measures["nearest in pixels"]["MAE"] < 0.2
    assert sum(results["cluster_sizes"]) == 1438


def test_every_image_is_in_the_assignments(undisturbed: list[str], storage: Path) -> None:
    rows = job.assignments(storage / "undisturbed")
    assert sorted(rows.index) == list(range(1797))
    assert set(rows["cluster"]) == {0, 1}
    assert rows["estimate"].notna().sum() == (rows["split"] == "test").sum() == 359
    measured = (rows["estimate"] - rows["rank"]).abs().mean()
    results = json.loads((storage / "undisturbed" / "results" / "results.json").read_text())
    assert measured == pytest.approx(results["measures"]["DRC-ORID"]["MAE"])


def test_mlflow_has_the_whole_record(undisturbed: list[str], storage: Path) -> None:
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("drc-orid")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'undisturbed'")
    assert run.info.status == "FINISHED"
    assert run.data.params["training.rounds"] == "2"
    assert run.data.params["clustering.repulsion"] == "0.1"
    assert {"version.ray", "version.torch"} <= set(run.data.tags)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=job.ROOT, capture_output=True, text=True, check=False)
    assert run.data.tags["git_commit"].removesuffix("-dirty") == (commit.stdout.strip() or "unknown")
    for metric, epochs in (("reconstruction", range(1, 7)), ("centroid_affinity", (2, 4, 6))):
        history = client.get_metric_history(run.info.run_id, metric)
        assert [point.step for point in history] == list(epochs)
    assert run.data.metrics["MAE"] < run.data.metrics["median.MAE"]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= ARTIFACTS
    for name in ARTIFACTS:
        if name.endswith(".png"):
            with Image.open(storage / "undisturbed" / "results" / name) as picture:
                assert min(picture.size) > 100
                assert np.asarray(picture.convert("L")).std() > 5


def test_registered_model_estimates_as_the_run_did(
    undisturbed: list[str], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.datasets import load_digits

    from ordclust_ray.data.images import as_png

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(f"sqlite:///{storage / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/drc-orid@newest")
    rows = job.assignments(storage / "undisturbed").query("split == 'test'").sort_index()
    pixels = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    found = model.predict(pd.DataFrame({"image": [as_png(pixels[i]) for i in rows.index]}))
    np.testing.assert_array_equal(found["rank"], rows["estimate"])
    np.testing.assert_array_equal(found["cluster"], rows["cluster"])
    assert ((found["interval_low"] <= found["rank"]) & (found["rank"] <= found["interval_high"])).mean() > 0.9


def test_finished_run_of_the_same_name_is_read_not_repeated(
    undisturbed: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_drc.main(["digits", *job.two_workers(storage, "undisturbed")])
    assert not ray.is_initialized()
    first, _, *rest = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert first == "run undisturbed is finished, on the images of digits; its results:"
    table = next(i for i, line in enumerate(undisturbed) if "DRC-ORID" in line and "median" in line)
    assert rest[:-1] == undisturbed[table:-1]
    assert rest[-1].split("--backend")[1] == undisturbed[-1].split("--backend")[1]
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    assert [int(version.version) for version in client.search_model_versions("name = 'drc-orid'")] == [1]


def test_known_name_with_other_settings_is_refused(
    undisturbed: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        train_drc.main(["digits", *job.two_workers(storage, "undisturbed"), "--clustering.repulsion", "0.2"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: run 'undisturbed' was started with other settings: --clustering.repulsion was 0.1; "
        "name it differently\n"
    )


def test_killed_worker_and_killed_driver_change_nothing(
    undisturbed: list[str], cluster: dict[str, str], storage: Path
) -> None:
    """A worker is killed, which the run survives, and then the driver, which is started again."""
    folder, line = storage / "disturbed", job.two_workers(storage, "disturbed")
    process = job.start("train_drc.py", "digits", *line, env=cluster)
    job.kill_a_worker_and_then_the_driver(process, folder, epochs=6)
    assert job.status(storage, "disturbed") == "RUNNING"

    job.run("train_drc.py", "digits", *line, env=cluster)
    expected, found = (job.assignments(storage / run) for run in ("undisturbed", "disturbed"))
    pd.testing.assert_series_equal(found["cluster"], expected["cluster"])
    pd.testing.assert_series_equal(found["estimate"], expected["estimate"])
    assert job.status(storage, "disturbed") == "FINISHED"
    with contextlib.closing(sqlite3.connect(storage / "mlflow.db")) as database:
        query = "select count(*), count(distinct step) from metrics natural join runs where name = ? and key = ?"
        assert database.execute(query, ("disturbed", "comparison")).fetchone() == (6, 6)
