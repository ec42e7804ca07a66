"""Sweeps over trainings, on a Ray whose dashboard is off: stopped trials hold nothing, the best one is a model."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import job
import numpy as np
import pandas as pd
import pytest
import ray
import torch
import tune
from cli import parse
from conftest import ClusterRun
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.datasets import load_digits

from ordclust_ray.config import ValidationConfig
from ordclust_ray.data.decoded import collected
from ordclust_ray.data.images import as_png
from ordclust_ray.data.prepare import TRAIN, open_checked, prepare
from ordclust_ray.models import load_clusters, load_estimator
from ordclust_ray.recipes import comparator, drc, idfd
from ordclust_ray.tuning import record
from ordclust_ray.tuning.drc_trials import validation_split
from ordclust_ray.tuning.record import EARLY, FAILED, FINISHED, reports_of
from ordclust_ray.tuning.results import read

pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # in MLflow

SPACE = """
from ray import tune
SYSTEM = "{system}"
PARAMETERS = {{"training.learning_rate": tune.choice({rates})}}
METRIC, MODE = "{metric}", "{mode}"
REASON = "one of them learns"
"""
RATES = (1e-3, 1e-8, 1e-7)
WORKERS = ("--training.cpus-per-worker", "0.5", "--training.threads-per-worker", "1")
ONE_BY_ONE = ("--algorithm", "grid", "--concurrent", "1", *WORKERS)
TWO_AT_A_TIME = ("--algorithm", "grid", "--concurrent", "2", *WORKERS)
TWO_WORKERS = ("--training.num-workers", "2")


def space(folder: Path, system: str, metric: str, mode: str, rates: Sequence[float] = RATES) -> str:
    file = folder / f"{system}.py"
    file.write_text(SPACE.format(system=system, metric=metric, mode=mode, rates=list(rates)))
    return str(file)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


def sweep(storage: Path, name: str, *arguments: str, how: Sequence[str] = ONE_BY_ONE) -> pd.DataFrame:
    """Its trials, the best first; nothing of the cluster is in use afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tune.main([*arguments, *how, "--run.storage", str(storage), "--run.name", name])
    groups = ray.util.placement_group_table().values()
    assert {group["state"] for group in groups} <= {"REMOVED"}
    job.wait_for_cpus(4)
    return read(storage / name / "results")


def runs_of(storage: Path, experiment: str, parent: str) -> tuple[Run, list[Run]]:
    """The run of a sweep, and those below it."""
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    (own,) = (run for run in runs if run.info.run_name == parent)
    return own, [run for run in runs if run.data.tags.get("mlflow.parentRunId") == own.info.run_id]


@pytest.fixture(scope="module")
def ranked(local_ray: None, storage: Path) -> pd.DataFrame:
    """A sweep of three small trainings of DRC-ORID, with two workers each."""
    file = space(storage, "drc-orid", "MAE", "min")
    return sweep(storage, "ranked", file, "digits", "--grace-epochs", "3", *job.TINY, *job.SIX_EPOCHS, *TWO_WORKERS)


def test_bad_trials_are_stopped_early(ranked: pd.DataFrame) -> None:
    assert ranked["training.learning_rate"].iloc[0] == RATES[0]
    assert ranked["stopped"].to_list() == [FINISHED, EARLY, EARLY]
    assert ranked["epoch"].to_list() == [6, 4, 4]
    assert ranked["MAE"].iloc[0] < 2 < ranked["MAE"].iloc[1]
    assert (ranked["error"] == "").all()


def test_the_error_is_that_of_the_model_on_images_of_the_training_part(ranked: pd.DataFrame, storage: Path) -> None:
    config = parse(drc.RECIPES, "digits", ["--recipe", str(storage / "ranked" / "results" / "best.json")])[1]
    assert config.training.learning_rate == RATES[0]
    assert (config.training.num_workers, config.run.name) == (1, "")
    held_out = open_checked(config)
    everyone = prepare(open_checked(config), config).manifest
    held_out.manifest["split"] = validation_split(held_out.manifest, config, ValidationConfig())
    validation = collected(prepare(held_out, config).test)
    assert (everyone["split"][validation["instance_id"]] == TRAIN).all()
    assert len(validation["instance_id"]) == pytest.approx(0.2 * (everyone["split"] == TRAIN).sum(), abs=1)
    estimator = load_estimator(storage / "ranked" / "results" / "model")
    with torch.inference_mode():
        ranks = estimator.estimate(torch.from_numpy(np.array(validation["image"]))).ranks.numpy()
    errors = np.abs(ranks - everyone["rank"][validation["instance_id"]].to_numpy())
    assert ranked["MAE"].iloc[0] == pytest.approx(errors.mean(), abs=1e-6)
    assert ranked["accuracy"].iloc[0] == pytest.approx((errors == 0).mean(), abs=1e-6)


def test_the_record_has_curves_reasons_and_the_best_model(ranked: pd.DataFrame, storage: Path) -> None:
    own, below = runs_of(storage, "drc-orid", "ranked")
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    assert len(below) == 3
    for run in below:
        trial = str(run.info.run_name).removeprefix("ranked-")
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "MAE")]
        assert steps == ([2, 4, 6] if trial == ranked.index[0] else [2, 4])
        assert run.data.tags["stopped"] == ranked["stopped"][trial]
        assert {"comparison", "silhouette"} <= set(run.data.metrics)
        assert ("stability" in run.data.metrics) == (trial == ranked.index[0])
    assert own.data.tags["best_trial"] == ranked.index[0]
    files = {file.path for file in client.list_artifacts(own.info.run_id)}
    figures = {"metric_by_setting.png", "metric_over_epochs.png", "parallel_coordinates.png"}
    assert figures | {"best.json", "trials.csv", "model"} == files
    version = client.get_model_version_by_alias("drc-orid", "best")
    assert version.run_id == own.info.run_id
    assert [home.name for home in (storage / "ranked" / "training").iterdir()] == [ranked.index[0]]


def test_trials_without_labels(local_ray: None, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = space(storage, "idfd", "acc", "max", (1e-3, 1e-8, 1e9))
    small = ("--training.epochs", "2", "--clustering.every", "1", "--data.max-images", "300", "--scheduler", "none")
    trials = sweep(storage, "unlabelled", file, "digits", *small, how=TWO_AT_A_TIME)
    said = capsys.readouterr().out
    assert "warning: acc looks at labels; what is chosen by it is not found without them" in said
    assert "2 trials at a time" in said
    assert trials["stopped"].to_list() == [FINISHED, FINISHED, FAILED]
    assert trials["acc"].iloc[:2].is_monotonic_decreasing
    assert trials[["silhouette", "nearest_same_cluster", "stability"]].iloc[:2].notna().all().all()
    reason = r"the losses of epoch \d are not finite: lower --training.learning-rate"
    assert re.search(reason, trials["error"].iloc[2])
    assert f"{trials.index[2]} failed: " in said
    failed = [
        run.data.tags["stopped"] for run in runs_of(storage, "idfd", "unlabelled")[1] if run.info.status == "FAILED"
    ]
    assert len(failed) == 1
    assert re.search(reason, failed[0])
    config = parse(idfd.RECIPES, "digits", ["--recipe", str(storage / "unlabelled" / "results" / "best.json")])[1]
    clusters = load_clusters(storage / "unlabelled" / "results" / "model")
    assert len(clusters.centroids) == 10
    assert config.training.learning_rate == trials["training.learning_rate"].iloc[0]


def test_comparators_are_judged_by_ranks(
    local_ray: None,
    cluster_run: ClusterRun,
    storage: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(record, "SECONDS_BETWEEN_TABLES", 0.0)
    file = space(storage, "comparator", "MAE", "min", (1e-3, 1e-7, 1e-3))
    run = ("--drc", str(cluster_run.storage / "undisturbed"), "--training.epochs", "2", "--grace-epochs", "1")
    trials = sweep(storage, "compared", file, "digits", *run, "--references", "3")
    assert trials["training.learning_rate"].to_list() == [1e-3, 1e-3, 1e-7]
    assert trials["stopped"].to_list() == [FINISHED, FINISHED, EARLY]
    first, again = trials.iloc[0], trials.iloc[1]
    assert again["MAE"] == first["MAE"]
    assert again["seconds"] < first["seconds"] / 5, "it was not trained again"
    settings = json.loads((storage / "compared" / "results" / "best.json").read_text())
    assert settings["references"] == 3
    config = parse(comparator.RECIPES, "digits", ["--recipe", str(storage / "compared" / "results" / "best.json")])[1]
    assert config.drc == run[1]
    assert load_estimator(storage / "compared" / "results" / "model").references == 3
    said = capsys.readouterr().out
    assert "select_references.py --model NAME --references 3 --candidates 50 --credible-mass" in said
    assert "0/3 trials ended, best not known; running:\n  learning_rate 0.001: MAE not known\n" in said
    assert re.search(r"\n1/3 trials ended, best 0.\d{4}; running:\n  learning_rate 1e-07: ", said)


@contextmanager
def half_done(storage: Path, name: str, *more: str) -> Iterator[tuple[list[str], subprocess.Popen[str], str, str]]:
    """A sweep of two trials of eleven epochs and nine reports, while the second of them trains.

    Yields:
        Its command, its process, and the ids of the two trials.
    """
    file, folder = space(storage, "drc-orid", "MAE", "min", RATES[:2]), storage / name
    rounds = ("--training.rounds", "8", "--training.epochs-per-round", "1")
    command = ["tune.py", file, "digits", *ONE_BY_ONE, "--scheduler", "none", *job.TINY, *rounds, *more]
    command += ["--run.storage", str(storage), "--run.name", name]
    with job.start(*command, env=job.environment()) as process:
        assert process.stdout
        assert any(row.startswith("trial 1/2") for row in process.stdout)
        (first,) = (home.name for home in (folder / "records").iterdir() if (home / "ended.json").exists())
        second = next_trial(folder / "training", first)
        yield command, process, first, second


def reports_written(folder: Path, trial: str) -> int:
    """Lines, those of epochs that were reported again among them."""
    return len((folder / "records" / trial / "reports.jsonl").read_text().splitlines())


def test_killed_in_a_trial_it_goes_on_from_its_checkpoint(storage: Path) -> None:
    """kill -9 of the driver; until then a trial trains though the images are gone: they were decoded before."""
    folder, images, away = storage / "killed", storage / "digits.parquet", storage / "away.parquet"
    write_digits(images)
    with half_done(storage, folder.name, "--data.path", str(images)) as (command, process, first, second):
        images.rename(away)
        job.wait_for_epochs(process, folder / "training" / second / "training", 6)
        job.kill(process.pid)
    away.rename(images)
    done, begun = (reports_of(folder, trial) for trial in (first, second))
    assert "2 trials, 0 stopped early, 0 failed" in job.run(*command, env=job.environment())
    trials = pd.read_csv(folder / "results" / "trials.csv", index_col="trial")
    assert {first, second} == set(trials.index)
    assert trials["stopped"].to_list() == [FINISHED] * 2
    assert trials["epoch"].to_list() == [11] * 2
    pd.testing.assert_frame_equal(reports_of(folder, first), done)
    assert 2 <= len(begun) < 9
    assert reports_written(folder, second) <= 9 + 1, "epochs that were checkpointed are not trained again"


def test_interrupted_in_a_trial_it_goes_on_from_its_checkpoint(storage: Path) -> None:
    """Ctrl-C: nothing is registered, and no checkpoint is lost."""
    folder, client = storage / "interrupted", MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    own = ("--run.experiment", "interrupted")
    with half_done(storage, folder.name, *own) as (command, process, first, second):
        job.wait_for_epochs(process, folder / "training" / second / "training", 6)
        process.send_signal(signal.SIGINT)
        assert process.stdout
        said = process.stdout.read()
    assert process.returncode == 2
    assert "\n1 trial, 0 stopped early, 0 failed, 1 interrupted\n" in said
    assert {home.name for home in (folder / "training").iterdir()} == {first, second}
    assert not client.search_model_versions("name = 'interrupted'")
    assert "2 trials, 0 stopped early, 0 failed" in job.run(*command, env=job.environment())
    assert reports_written(folder, second) <= 9 + 1
    assert len(client.search_model_versions("name = 'interrupted'")) == 1


def write_digits(file: Path) -> None:
    """The 8x8 digits as a Parquet file of PNG images with ranks."""
    digits = load_digits()
    images = [as_png((pixels * (255 / 16)).round().astype(np.uint8)) for pixels in digits.images]
    pd.DataFrame({"image": images, "rank": digits.target}).to_parquet(file)


def next_trial(folder: Path, first: str) -> str:
    """The folder of the trial after the first, once there is one."""
    for _ in range(600):
        for home in folder.iterdir():
            if home.name != first:
                return home.name
        time.sleep(0.1)
    raise AssertionError(f"no second trial in {folder}")
