"""A sweep's pages of MLflow as a browser shows them: the sweep, its figures, and a run a trial below it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import job
import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from page import drawn, mlflow_server, needs_chromium

pytestmark = [pytest.mark.browser, needs_chromium]

SPACE = """
from ray import tune
SYSTEM = "features"
PARAMETERS = {"clustering.num_clusters": tune.choice([2, 3, 4])}
METRIC, MODE = "silhouette", "max"
REASON = "three of them"
"""


@dataclass(frozen=True)
class Sweep:
    """A finished one.

    Attributes:
        parent: its run.
        trials: the runs below it.
        runs: address of the runs of its experiment, which has no others.
    """

    parent: Run
    trials: list[Run]
    runs: str

    def page(self, run: Run) -> str:
        return f"{self.runs}/{run.info.run_id}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """Three trials on three groups of features, and MLflow's pages of them."""
    storage = tmp_path_factory.mktemp("sweep")
    rng = np.random.default_rng(0)
    features = np.eye(8)[np.arange(300) % 3] + 0.15 * rng.normal(size=(300, 8))
    np.save(storage / "features.npy", features.astype(np.float32))
    (storage / "three.py").write_text(SPACE)
    command = [str(storage / "three.py"), "features", "--features", str(storage / "features.npy")]
    where = ["--run.storage", str(storage), "--run.name", "on-a-page"]
    job.run("tune.py", *command, "--algorithm", "grid", *where, env=job.environment())
    uri = f"sqlite:///{storage / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("sweeps")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.info.run_name == "on-a-page")
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    with mlflow_server(uri, storage) as address:
        yield Sweep(parent, trials, f"{address}#/experiments/{experiment.experiment_id}/runs")


def words(page: str) -> set[tuple[str, str]]:
    """What stands next to what in a page: a setting's or a metric's name, and its value."""
    return set(pairwise(re.findall(r">([^<>]+)<", page)))


def linked(page: str, title: str) -> dict[str, str]:
    """Names by id of the runs that a run's page links to under a title."""
    below = page.partition(f'data-testid="key-value-{title}"')[2].partition("data-testid=")[0]
    return dict(re.findall(r'<a href="#/experiments/\d+/runs/(\w+)">([^<]+)</a>', below))


def test_page_of_the_sweep_shows_settings_the_best_and_its_trials(sweep: Sweep, tmp_path: Path) -> None:
    overview = drawn(sweep.page(sweep.parent), tmp_path)
    assert '<span data-testid="runs-header">on-a-page</span>' in overview
    shown = words(overview)
    for name in ("recipe", "clustering.repulsion", "algorithm", "space"):
        assert (name, sweep.parent.data.params[name]) in shown
    assert ("best.silhouette", str(sweep.parent.data.metrics["best.silhouette"])) in shown
    assert len(sweep.trials) == 3
    assert linked(overview, "Child runs") == {run.info.run_id: run.info.run_name for run in sweep.trials}


@pytest.mark.parametrize("figure", ["parallel_coordinates.png", "metric_by_setting.png"])
def test_figures_are_drawn(sweep: Sweep, figure: str, tmp_path: Path) -> None:
    server = sweep.runs.partition("#")[0]
    artifacts = drawn(f"{sweep.page(sweep.parent)}/artifacts/{figure}", tmp_path)
    assert f'<img alt="{figure}" src="blob:{server}' in artifacts


def test_table_of_runs_has_the_trials_below_the_sweep(sweep: Sweep, tmp_path: Path) -> None:
    table = drawn(sweep.runs, tmp_path)
    assert "<strong>4</strong> matching runs" in table
    rows = re.findall(r'<div class="[^"]*ag-row [^"]*"[^>]* row-id="(\w+)"', table)
    assert set(rows) == {sweep.parent.info.run_id}  # which a click opens


def test_page_of_a_trial_shows_what_it_tried_and_how_it_ended(sweep: Sweep, tmp_path: Path) -> None:
    trial = next(run for run in sweep.trials if run.data.params["clustering.num_clusters"] == "3")
    overview = drawn(sweep.page(trial), tmp_path)
    shown = words(overview)
    assert ("clustering.num_clusters", "3") in shown
    assert ("silhouette", str(trial.data.metrics["silhouette"])) in shown
    assert ("stopped", ": all of it was done") in shown
    assert linked(overview, "Parent run") == {sweep.parent.info.run_id: "on-a-page"}
