"""Sweeps as a user runs them: the table, the record in MLflow, a driver killed in the middle, mistakes."""

import json
import os
import re
import signal
import time
from pathlib import Path

import job
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run

SPACE = """
from ray import tune
SYSTEM = "features"
PARAMETERS = {
    "clustering.num_clusters": tune.choice([2, 3, 4]),
    "clustering.repulsion": tune.choice([0.0, 0.1]),
}
METRIC, MODE = "silhouette", "max"
REASON = "six of them"
"""
PLANTED = 3


def planted(file: Path) -> Path:
    """Three groups of features in eight dimensions."""
    rng = np.random.default_rng(0)
    centers = np.linalg.qr(rng.normal(size=(8, PLANTED)))[0].T
    features = centers[np.arange(600) % PLANTED] + 0.15 * rng.normal(size=(600, 8))
    np.save(file, features.astype(np.float32))
    return file


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps")
    planted(folder / "features.npy")
    (folder / "six.py").write_text(SPACE)
    return folder


def line(storage: Path, name: str, *more: str) -> list[str]:
    return [
        *("tune.py", str(storage / "six.py"), "features", "--features", str(storage / "features.npy")),
        *("--algorithm", "grid", "--run.storage", str(storage), "--run.name", name, *more),
    ]


@pytest.fixture(scope="module")
def swept(storage: Path) -> str:
    """What a sweep of six trials printed."""
    return job.run(*line(storage, "undisturbed"), env=job.environment())


def runs_of(storage: Path) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sweeps")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])


def test_the_planted_k_is_found_without_labels(swept: str, storage: Path) -> None:
    best = json.loads((storage / "undisturbed" / "results" / "best.json").read_text())
    assert best["clustering.num_clusters"] == PLANTED
    trials = pd.read_csv(storage / "undisturbed" / "results" / "trials.csv")
    assert len(trials) == 6
    assert trials["silhouette"].is_monotonic_decreasing
    by_k = trials.groupby("clustering.num_clusters")[["silhouette", "stability"]].max()
    assert by_k["silhouette"].idxmax() == by_k["stability"].idxmax() == PLANTED
    assert (trials["clustering.repulsion"].value_counts() == 3).all()


def test_the_table_grows_and_says_the_best_so_far(swept: str) -> None:
    lines = [row for row in swept.splitlines() if re.match(r"trial \d", row)]
    assert [row.split(":")[0] for row in lines] == [f"trial {number}/6" for number in range(1, 7)]
    best = [float(row.rpartition("best ")[2]) for row in lines]
    assert best == sorted(best)
    assert "the best trial of each k, by silhouette; what the criteria say together:" in swept
    assert "6 trials, 0 stopped early, 0 failed" in swept


def test_the_record_is_a_run_with_a_run_a_trial_below(swept: str, storage: Path) -> None:
    runs = {run.info.run_name: run for run in runs_of(storage)}
    parent = runs["undisturbed"]
    below = [run for run in runs.values() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(below) == 6
    for run in below:
        assert run.info.status == "FINISHED"
        assert set(run.data.params) == {"clustering.num_clusters", "clustering.repulsion"}
        assert {"silhouette", "stability", "nearest_same_cluster"} <= set(run.data.metrics)
        assert run.data.tags["stopped"] == "all of it was done"
    client = mlflow.MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {"best.json", "metric_by_setting.png", "parallel_coordinates.png", "trials.csv"}


def test_the_best_settings_cluster_all_rows(swept: str, storage: Path) -> None:
    (command,) = re.findall(r"all rows with the best:  (.*)", swept)
    said = job.shell(f"{command} --run.storage {storage} --run.name rows", job.environment())
    assert "600 rows; k = 3; 2 seeds each" in said
    (run,) = json.loads((storage / "rows" / "results" / "runs.json").read_text())[:1]
    best = pd.read_csv(storage / "undisturbed" / "results" / "trials.csv").iloc[0]
    assert run["objective"] / 600 == pytest.approx(best["objective"], abs=1e-3)


def test_finished_it_is_read_and_not_repeated(swept: str, storage: Path) -> None:
    again = job.run(*line(storage, "undisturbed"), env=job.environment())
    assert again.startswith("sweep undisturbed is finished; its results:")
    assert "6 trials, 0 stopped early, 0 failed" in again
    assert len(runs_of(storage)) == len({run.info.run_name for run in runs_of(storage)})


def test_killed_at_half_it_goes_on(swept: str, storage: Path) -> None:
    """kill -9 of the driver; the rest of the six are tried, and none twice."""
    one_at_a_time = line(storage, "killed", "--concurrent", "1")
    with job.start(*one_at_a_time, env=job.environment()) as process:
        assert process.stdout
        assert any(row.startswith("trial 3/6") for row in process.stdout)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)
    ended = {file.parent.name for file in (storage / "killed" / "records").glob("*/ended.json")}
    assert 3 <= len(ended) < 6
    job.run(*one_at_a_time, env=job.environment())
    trials, undisturbed = (pd.read_csv(storage / name / "results" / "trials.csv") for name in ("killed", "undisturbed"))
    assert ended <= set(trials["trial"])
    columns = ["clustering.num_clusters", "clustering.repulsion", "silhouette", "objective"]
    pd.testing.assert_frame_equal(
        trials[columns].sort_values(columns[:2], ignore_index=True),
        undisturbed[columns].sort_values(columns[:2], ignore_index=True),
    )
    names = [run.info.run_name for run in runs_of(storage) if str(run.info.run_name).startswith("killed-")]
    assert len(names) == len(set(names)) == 6


def test_interrupted_it_says_what_is_known_and_goes_on(storage: Path) -> None:
    slowly = line(storage, "interrupted", "--concurrent", "1", "--seeds", "100")
    with job.start(*slowly, env=job.environment()) as process:
        assert process.stdout
        assert any(row.startswith("trial 2/6") for row in process.stdout)
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 2
    assert "the best trial of each k, by silhouette" in said
    assert re.search(r"\n[2-5] trials, 0 stopped early, 0 failed(, 1 interrupted)?\n", said)
    assert said.splitlines()[-1] == "error: interrupted; the same command with --run.name interrupted goes on"
    assert "Traceback" not in said
    assert job.status(storage, "interrupted") == "FAILED"
    assert "6 trials, 0 stopped early, 0 failed" in job.run(*slowly, env=job.environment())
    assert job.status(storage, "interrupted") == "FINISHED"


def test_interrupted_before_a_trial_has_ended(storage: Path) -> None:
    slowly = line(storage, "at-once", "--seeds", "2000")
    with job.start(*slowly, env=job.environment()) as process:
        assert process.stdout
        assert any(row.startswith("sweep at-once: 6 trials") for row in process.stdout)
        wait_for(storage / "at-once" / "records")
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert re.search(r"\nno trial has ended, \d interrupted\n", said)
    assert said.splitlines()[-1] == "error: interrupted; the same command with --run.name at-once goes on"
    assert not (storage / "at-once" / "results" / "best.json").exists()


def test_killed_before_the_first_trial_it_begins_anew(storage: Path) -> None:
    command = line(storage, "early")
    with job.start(*command, env=job.environment()) as process:
        wait_for(storage / "early" / "trials" / "tuner.pkl")
        os.kill(process.pid, signal.SIGKILL)
    assert "6 trials, 0 stopped early, 0 failed" in job.run(*command, env=job.environment())


def wait_for(file: Path) -> None:
    for _ in range(6000):
        if file.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"there is no {file}")


def test_after_the_time_budget_the_sweep_is_over(storage: Path) -> None:
    many = ["--algorithm", "tpe", "--num-trials", "1000", "--time-budget", "6", "--concurrent", "1"]
    said = job.run(*line(storage, "budget", *many), env=job.environment())
    trials = pd.read_csv(storage / "budget" / "results" / "trials.csv")
    assert 1 <= len(trials) < 1000
    reasons = trials["stopped"].value_counts()
    assert reasons.get("the time was over", 0) <= 1
    assert reasons["all of it was done"] >= len(trials) - 1
    assert "interrupted" not in said
    assert job.status(storage, "budget") == "FINISHED"


def test_a_trial_that_fails_is_recorded_and_the_sweep_goes_on(storage: Path) -> None:
    """Killed after it, too."""
    own = SPACE.replace("[2, 3, 4]", "[5000, 3]").replace("[0.0, 0.1]", "[0.1]")
    (storage / "two.py").write_text(own)
    command = [argument.replace("six.py", "two.py") for argument in line(storage, "failing", "--concurrent", "1")]
    command += ["--seeds", "50"]
    with job.start(*command, env=job.environment()) as process:
        assert process.stdout
        assert any(row.startswith("trial 1/2") and row.endswith("(failed)\n") for row in process.stdout)
        os.kill(process.pid, signal.SIGKILL)
    said = job.run(*command, env=job.environment())
    assert "2 trials, 0 stopped early, 1 failed" in said
    assert "failed: ValueError: n_samples=600 should be >= n_clusters=5000" in said
    assert "Traceback" not in said
    assert json.loads((storage / "failing" / "results" / "best.json").read_text())["clustering.num_clusters"] == 3
    (failed,) = (
        run for run in runs_of(storage) if run.info.status == "FAILED" and str(run.info.run_name).startswith("failing-")
    )
    assert failed.data.tags["stopped"] == "failed: ValueError: n_samples=600 should be >= n_clusters=5000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "a space comes first: one of drc, drc_groups, drc_losses, groups, idfd, rank, or a file that ends in .py",
        ),
        (
            ["nosuch"],
            "there is no space 'nosuch'; it must be one of drc, drc_groups, drc_losses, groups, idfd, rank, or a file",
        ),
        (["groups", "digits"], "there is no recipe 'digits'; it must be one of features"),
        (["groups"], "--features is missing; it must be a Parquet or a .npy file"),
        (["groups", "features", "--num-trials", "0"], "--num-trials is 0; it must be at least 1"),
        (["idfd", "--algorithm", "grid"], "--algorithm grid needs tune.choice for every setting; 'loss.instance_temp"),
        (["drc", "--reduction-factor", "1"], "--reduction-factor is 1; it must be at least 1.5"),
        (["idfd", "small", "--validation-fraction", "0.5"], "--validation-fraction"),
        (["rank"], "--drc is missing; it must be the folder, the name or the MLflow run id of a finished run"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    import tune

    with pytest.raises(SystemExit):
        tune.main(arguments)
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
