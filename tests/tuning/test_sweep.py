"""A sweep whose driver is this process, and under Ray 2.54.1's local mode its trials too."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray
from ray import tune

from ordclust_ray.config import FeatureTrialConfig, SearchConfig
from ordclust_ray.tracking import Tracker
from ordclust_ray.tuning.feature_trials import FeatureTrials, cluster_features
from ordclust_ray.tuning.record import FINISHED, Recorder, ended_because
from ordclust_ray.tuning.space import Space
from ordclust_ray.tuning.sweep import Execution, planned, run_sweep

PLANTED = 3
K, REPULSION = "clustering.num_clusters", "clustering.repulsion"
SIX = Space(
    name="six",
    system="features",
    parameters={K: tune.choice([2, 3, 4]), REPULSION: tune.choice([0.0, 0.1])},
    metric="silhouette",
    mode="max",
    reason="six of them",
)


def planted() -> NDArray[np.float32]:
    """Three groups of 200 unit rows in eight dimensions."""
    rng = np.random.default_rng(0)
    centers = np.linalg.qr(rng.normal(size=(8, PLANTED)))[0].T
    rows = centers[np.arange(600) % PLANTED] + 0.15 * rng.normal(size=(600, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def swept(folder: Path, tracker: Tracker) -> tuple[pd.DataFrame, bool]:
    """Six trials, one at a time: a process of local mode has room for one session of Ray Tune."""
    search = SearchConfig(algorithm="grid")
    recorder = Recorder(
        uri=tracker.uri,
        experiment="sweeps",
        folder=folder,
        parent=tracker.run_id,
        metric=SIX.metric,
        mode=SIX.mode,
        shown=tuple(SIX.parameters),
        total=planned(SIX, search),
    )
    data = {"trials": FeatureTrials(FeatureTrialConfig(features="planted", seeds=3), planted(), np.full(600, -1))}
    execution = Execution({"cpu": 1.0}, concurrent=1, reuse=True)
    return run_sweep(cluster_features, data, SIX, search, execution, folder, callbacks=[recorder], seed=0)


@pytest.mark.local_mode
def test_the_planted_k_is_best_and_every_trial_has_its_record(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # in local mode Ray Tune takes this process into the trial's folder
    folder = tmp_path / "sweep"
    folder.mkdir()
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "sweeps", "sweep", folder)
    tracker.start({})
    trials, complete = swept(folder, tracker)
    assert complete
    assert len(trials) == 6
    assert (trials["error"] == "").all()
    for criterion in ("silhouette", "stability"):
        by_k = trials.groupby(K)[criterion]
        assert by_k.min()[PLANTED] > by_k.max().drop(PLANTED).max()
    assert {ended_because(folder, str(trial)) for trial in trials.index} == {FINISHED}
    below = MlflowClient(tracker.uri).search_runs(
        [tracker.experiment_id], f"tags.mlflow.parentRunId = '{tracker.run_id}'"
    )
    assert [run.info.status for run in below] == ["FINISHED"] * 6
    recorded = {(run.data.params[K], run.data.params[REPULSION]): run.data.metrics["silhouette"] for run in below}
    assert recorded == {
        (str(k), str(repulsion)): pytest.approx(silhouette)
        for k, repulsion, silhouette in trials[[K, REPULSION, "silhouette"]].itertuples(index=False)
    }
