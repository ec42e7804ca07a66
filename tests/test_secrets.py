"""Secrets in addresses reach neither MLflow nor the run's folder nor what the jobs say."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ordclust_ray.config import ClusterFeaturesConfig, InputError, RunConfig, without_secrets
from ordclust_ray.run import SETTINGS, kept, opened, recorded, refuse_other_settings, write_once
from ordclust_ray.tracking import Tracker

SECRET = "s3cr3t-of-mine"
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("text", "public"),
    [
        (f"http://user:{SECRET}@host:5000/path", "http://***@host:5000/path"),
        (f"http://{SECRET}@host/", "http://***@host/"),
        (f"http://user:a@{SECRET}@host/", "http://***@host/"),
        (f"s3://ID:a/{SECRET}/b@bucket/images", "s3://***@bucket/images"),
        (f"s3:/ID:{SECRET}@bucket", "s3:/***@bucket"),
        (f"postgresql+psycopg://user:{SECRET}@host/db?x=1", "postgresql+psycopg://***@host/db?x=1"),
        (f"s3://bucket/a?access_key={SECRET}&region=eu", "s3://bucket/a?access_key=***&region=eu"),
        (f"'https://host/a?X-Amz-Signature={SECRET}' is", "'https://host/a?X-Amz-Signature=***' is"),
        (f"abfs://host/a?sv=2&sig={SECRET}#x", "abfs://host/a?sv=2&sig=***#x"),
        (f"http://h/?api_token={SECRET}; and http://u:{SECRET}@h", "http://h/?api_token=***; and http://***@h"),
    ],
)
def test_what_is_left_of_an_address(text: str, public: str) -> None:
    assert without_secrets(text) == public


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/user@host/mlflow.db",
        "http://127.0.0.1:5000",
        "https://mlflow.example/#/experiments/1/runs/2",
        "/images/a@b:c/*.parquet",
        "s3://bucket/a?region=eu",
        "mail to me@example.com: 3:1",
    ],
)
def test_addresses_without_secrets_stay(text: str) -> None:
    assert without_secrets(text) == text


def everything_below(folder: Path) -> bytes:
    """Names and contents of all files."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    assert files
    return b"\n".join(str(file).encode() + file.read_bytes() for file in files)


def settings(storage: Path) -> ClusterFeaturesConfig:
    """With a secret in each address. SQLite ignores what it cannot use of what stands behind `?`."""
    uri = f"sqlite:///file:{storage / 'mlflow.db'}?uri=true&token={SECRET}"
    where = f"s3://ID:{SECRET}@bucket/features?secret_key={SECRET}"
    return ClusterFeaturesConfig(features=where, run=RunConfig(name="one", storage=str(storage), tracking_uri=uri))


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow's, of pandas
def test_neither_the_store_nor_the_folder_holds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run from its settings to its model, as a job records it."""
    config, output = settings(tmp_path / "runs"), tmp_path / "runs" / "one" / "results"
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    with opened(config.run, "one", kept(config)) as (folder, tracker):
        write_once(folder / SETTINGS, kept(config))
        with recorded(tracker, config.flat()):
            output.mkdir()
            (output / "model.json").write_text("{}")
            tracker.tag("where", config.features)
            tracker.metrics({"objective": 1.0})
            tracker.artifacts(output)
            tracker.model(output, b"image", {"cluster": "long"}, "a-model")
        said = tracker.where()
        run = MlflowClient(tracker.uri).get_run(tracker.run_id)
    with opened(config.run, "one", kept(config)) as (_, again):
        assert again.finished, "the run is found again without its secret"
    assert run.data.params["features"] == "s3://***@bucket/features?secret_key=***"
    assert run.data.tags["where"] == run.data.params["features"]
    assert "token=***" in run.data.params["run.tracking_uri"]
    assert SECRET not in said
    assert SECRET.encode() not in everything_below(tmp_path)


def test_another_secret_is_the_same_setting(tmp_path: Path) -> None:
    """Keys change while a run goes on."""
    config, folder = settings(tmp_path), tmp_path / "one"
    folder.mkdir()
    write_once(folder / SETTINGS, kept(config))
    refuse_other_settings(kept(replace(config, features=config.features.replace(SECRET, "another"))), folder)
    with pytest.raises(InputError, match=r"--features was 's3://\*\*\*@bucket"):
        refuse_other_settings(kept(replace(config, features="s3://other")), folder)


@pytest.mark.parametrize("uri", [f"nonsense://user:{SECRET}@host", f"postgresql://user:{SECRET}@127.0.0.1:9/db"])
def test_a_store_that_cannot_be_used_is_named_without_it(uri: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"MLflow's store \w+://\*\*\*@\S+ cannot be used") as caught:
        Tracker(uri, "drc-orid", "one", tmp_path / "one")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_page_is_named_with_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "drc-orid", "one", tmp_path / "one")
    tracker.uri, tracker.run_id = f"https://user:{SECRET}@mlflow.example/", "1"
    assert tracker.where() == f"https://***@mlflow.example/#/experiments/{tracker.experiment_id}/runs/1"


@pytest.mark.parametrize(
    ("job", "flags"),
    [
        ("train_drc.py", ["digits", "--data.path", f"s3://ID:{SECRET}@bucket/a"]),
        ("train_drc.py", ["digits", "--run.storage", f"s3://ID:{SECRET}@bucket/a"]),
        ("predict.py", ["--model", "a", "--path", "b", "--output", "c", "--tracking-uri", f"http://u:{SECRET}@h:x"]),
    ],
)
def test_what_a_job_says_of_a_mistake_has_none(job: str, flags: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / job), *flags], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert SECRET not in done.stdout + done.stderr
