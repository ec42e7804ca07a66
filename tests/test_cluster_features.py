"""`jobs/cluster_features.py` as a user runs it: files in, groups and a table that helps to choose k out."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import cluster_features
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job import ROOT, environment, readme, shell
from mlflow import MlflowClient
from sklearn.datasets import load_digits

from ordclust_ray import RepulsiveKMeans

N, ALL_K = 600, list(range(2, 13))
COLUMNS = ["--column", "pixels", "--id-column", "name", "--label-column", "digit"]
SETTINGS = ["--seeds", "2", "--init", "random", "--tolerance", "0", "--repulsion", "0.2"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as features in two Parquet files, with ids and labels; the command is the README's."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    column = pa.FixedSizeListArray.from_arrays(pa.array(data.data[:N].astype(np.float32).ravel()), 64)
    ids = [f"digit-{i}" for i in range(N)]
    table = pa.table({"name": ids, "pixels": column, "digit": data.target[:N]})
    pq.write_table(table.slice(0, 350), folder / "a.parquet", row_group_size=100)
    pq.write_table(table.slice(350), folder / "b.parquet", row_group_size=100)
    return folder


def flags(data: Path, storage: Path, *more: str) -> list[str]:
    return ["--features", str(data), "--run.storage", str(storage), "--run.name", "groups", *more]


@pytest.fixture(scope="module")
def done(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    storage = tmp_path_factory.mktemp("runs")
    command = readme("python jobs/cluster_features.py").replace("features.parquet", str(digits))
    return storage, shell(
        shlex.join([*shlex.split(command), *flags(digits, storage, *COLUMNS, *SETTINGS)[2:]]), environment()
    )


def test_table_helps_to_choose_k(done: tuple[Path, str]) -> None:
    table = pd.read_csv(done[0] / "groups/results/quality.csv", index_col="k")
    assert table.index.tolist() == ALL_K
    measures = [
        "J/n",
        "CA",
        "silhouette",
        "f(k)",
        "stability",
        "smallest",
        "largest",
        "iterations",
        "NMI",
        "ARI",
        "ACC",
    ]
    assert table.columns.tolist() == measures
    assert table.notna().all().all()
    assert (table["largest"] + table["smallest"] * (table.index - 1) <= N).all()
    assert (table["smallest"] >= N // (2 * table.index)).all()
    for k, row in table.iterrows():
        assert re.search(rf"^{k} .*{row['silhouette']:.4f}", done[1], re.MULTILINE), "the table is printed"


def test_clusters_are_those_of_the_estimator(done: tuple[Path, str]) -> None:
    """From where the best start ended, one more iteration changes nothing: it converged."""
    results = done[0] / "groups/results"
    pixels = load_digits().data[:N]
    centroids = pd.read_parquet(results / "centroids.parquet")
    runs = pd.DataFrame(json.loads((results / "runs.json").read_text()))
    for k in (2, 7, 12):
        own = centroids[centroids["k"] == k]
        start = np.stack(own["centroid"].tolist())
        model = RepulsiveKMeans(k, repulsion=0.2, init=start, tol=0.0).fit(pixels.astype(np.float32))
        found = pd.read_parquet(results / f"assignments/k={k}").set_index("name")
        assert found.index.tolist() == [f"digit-{i}" for i in range(N)]
        np.testing.assert_array_equal(found["cluster"], model.labels_)
        np.testing.assert_allclose(np.stack(found["similarities"].tolist()), model.transform(pixels), atol=1e-5)
        picked = found["similarities"].map(list).combine(found["cluster"], lambda row, cluster: row[cluster])
        np.testing.assert_array_equal(found["similarity"], picked.astype(np.float32))
        np.testing.assert_array_equal(own["members"], found["cluster"].value_counts().sort_index())
        assert runs[runs["k"] == k]["objective"].max() == pytest.approx(model.objective_)


def test_the_run_is_recorded(done: tuple[Path, str]) -> None:
    client = MlflowClient(f"sqlite:///{done[0] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("drc-features")
    assert experiment is not None
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    assert record.data.params["k"] == "2..12"
    assert [metric.step for metric in client.get_metric_history(record.info.run_id, "silhouette")] == ALL_K
    kept = {file.path for file in client.list_artifacts(record.info.run_id)}
    assert kept == {"centroids.parquet", "quality.csv", "quality.png", "runs.json"}


def test_a_finished_run_says_its_results_again(
    done: tuple[Path, str], digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it in other tests of this process
    again = ["--num-shards", "3", *COLUMNS, *SETTINGS]
    cluster_features.main([*flags(digits, done[0], *again), "--k", "2..12"])
    out = capsys.readouterr().out
    assert "run groups is finished" in out
    table = out[out.index("J/n") : out.index("MLflow:")]
    assert table.count("\n") == 2 + len(ALL_K) + 2  # its head; an empty line, and where the results are
    assert table in done[1]
    with pytest.raises(SystemExit):
        cluster_features.main([*flags(digits, done[0], *again), "--k", "2..5"])
    assert "was started with other settings: --k was '2..12'; name it differently" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--k", "5..2"], "--k is '5..2'; it must be numbers of at least 1, like 8, 2..12 or 2,4,8"),
        (["--features", ""], "--features is missing; it must be a Parquet file, a folder of them, or a .npy file"),
    ],
)
def test_mistakes_are_one_line(digits: Path, tmp_path: Path, more: list[str], message: str) -> None:
    command = [sys.executable, "jobs/cluster_features.py", *flags(digits, tmp_path), *more]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr.strip()) == (2, f"error: {message}")


def test_rows_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    """Known only when the actors have read the file."""
    features = np.ones((50, 3), np.float32)
    features[[4, 9]] = 0
    np.save(tmp_path / "x.npy", features)
    command = [sys.executable, "jobs/cluster_features.py", *flags(tmp_path / "x.npy", tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    message = "error: 2 feature rows are zero, NaN or infinite; first instances: [4, 9]"
    assert ended.stderr.strip().splitlines()[-1] == message
