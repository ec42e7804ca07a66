"""The record in a real MLflow store: whole, found again, and never in the way."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ordclust_ray.config import InputError
from ordclust_ray.tracking import Tracker, git_commit


def tracker(folder: Path, name: str = "leaves") -> Tracker:
    return Tracker(f"sqlite:///{folder / 'mlflow.db'}", "drc-orid", name, folder / name)


def test_a_name_has_one_run_however_often_it_starts(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    first = tracker(tmp_path)
    first.start({"run.seed": 3})
    first.epoch({"epoch": 1, "seconds": 0.5})
    first.finish("FAILED")
    again = tracker(tmp_path)
    assert not again.finished
    again.start({"run.seed": 3, "rank.tolerance": 0.1})
    assert again.run_id == first.run_id
    assert again.logged_epochs() == {1}
    run = MlflowClient(again.uri).get_run(again.run_id)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"run.seed": "3", "rank.tolerance": "0.1"}
    again.finish()
    assert tracker(tmp_path).finished
    assert Tracker(f"sqlite:///{tmp_path / 'other.db'}", "drc-orid", "leaves", tmp_path / "leaves").run_id == ""
    shutil.rmtree(tmp_path / "leaves")  # the folder is gone, and its run with it
    anew = tracker(tmp_path)
    assert not anew.finished
    assert anew.run_id == ""


def test_a_store_that_lost_a_run_gets_it_anew(tmp_path: Path) -> None:
    """The store was a file of a machine that is gone; the run's folder was kept elsewhere."""
    (tmp_path / "leaves").mkdir()
    first = tracker(tmp_path)
    first.start({})
    first.finish()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("delete from runs")
        database.commit()
    again = tracker(tmp_path)
    assert not again.finished
    again.start({"run.seed": 3})
    assert again.run_id != first.run_id
    assert MlflowClient(again.uri).get_run(again.run_id).data.params == {"run.seed": "3"}


def test_a_deleted_experiment_is_named(tmp_path: Path) -> None:
    first = tracker(tmp_path)
    MlflowClient(first.uri).delete_experiment(first.experiment_id)
    with pytest.raises(InputError, match="experiment 'drc-orid' was deleted there; name it differently or restore it"):
        tracker(tmp_path)


def test_an_epoch_is_recorded_with_all_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    run = tracker(tmp_path)
    run.start({})
    run.epoch(
        {"epoch": 4, "pair_accuracy": 0.5, "nmi": 0.25, "cluster_sizes": [3, 4], "centroid_affinity": float("nan")}
    )
    client = MlflowClient(run.uri)
    assert client.get_run(run.run_id).data.metrics == {"epoch": 4.0, "pair_accuracy": 0.5, "nmi": 0.25}
    assert [point.step for point in client.get_metric_history(run.run_id, "nmi")] == [4]


def test_epochs_that_are_missing_are_recorded_once(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    run = tracker(tmp_path)
    run.start({})
    history = [{"epoch": epoch, "seconds": 1.0} for epoch in (1, 2, 3)]
    run.epoch(history[1])
    run.missing_epochs(history)
    points = MlflowClient(run.uri).get_metric_history(run.run_id, "seconds")
    assert sorted(point.step for point in points) == [1, 2, 3]


def test_runs_that_are_alike_but_for_a_setting(tmp_path: Path) -> None:
    def run(name: str, status: str = "FINISHED", **parameters: float) -> Tracker:
        (tmp_path / name).mkdir()
        made = tracker(tmp_path, name)
        made.start({"tau": 1.0, "k": 3, **parameters})
        made.metrics({"ACC": parameters.get("tau", 1.0) / 2})
        made.finish(status)
        return made

    mine = run("mine", "FAILED")  # not finished, but it asks
    run("cooler", tau=0.5)
    run("failed", "FAILED", tau=0.25)
    run("other", k=4)
    found = mine.alike({"tau": 1.0, "k": 3}, free={"tau"})
    assert sorted((parameters["tau"], metrics["ACC"]) for parameters, metrics in found) == [("0.5", 0.25), ("1.0", 0.5)]


@pytest.mark.parametrize("uri", ["nonsense://x", "sqlite:////dev/null/mlflow.db"])
def test_a_store_that_cannot_be_opened_is_named(uri: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"MLflow's store {uri} cannot be used"):
        Tracker(uri, "drc-orid", "leaves", tmp_path / "leaves")


def test_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves").mkdir()
    run = tracker(tmp_path)
    run.start({})
    monkeypatch.setenv("PATH", os.defpath)  # as after `make run`: the environment is not active
    program, rest = run.where().split(" ", 1)
    assert os.access(program, os.X_OK)
    assert rest == f"ui --backend-store-uri sqlite:///{tmp_path / 'mlflow.db'}"
    run.uri = "https://mlflow.example/"
    assert run.where() == f"https://mlflow.example/#/experiments/{run.experiment_id}/runs/{run.run_id}"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() == "unknown"
