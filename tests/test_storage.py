"""Runs in object storage: a real server of S3's interface, real jobs, machines that do not see each other's files."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import buckets
import job
import numpy as np
import pandas as pd
import pytest
from buckets import RUNS
from conftest import ClusterRun
from pyarrow import fs

from ordclust_ray.config import InputError, RunConfig
from ordclust_ray.storage import place_of, pull, push


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    """By which the bucket of `RUNS` is found."""
    with pytest.MonkeyPatch.context() as patch, buckets.served("127.0.0.1") as env:
        for name, value in env.items():
            patch.setenv(name, value)
        yield env


@pytest.fixture(scope="module")
def bucket(env: dict[str, str]) -> fs.FileSystem:
    """The bucket's file system."""
    return fs.FileSystem.from_uri(RUNS)[0]


@pytest.fixture
def machines(bucket: fs.FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Machines":
    return Machines(tmp_path, monkeypatch)


class Machines:
    """One after the other uses a run; each has a home of its own."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home, self._monkeypatch = home, monkeypatch

    def use(self, name: str) -> Path:
        """The copy of the runs in this one's home."""
        self._monkeypatch.setenv("HOME", str(self._home / name))
        return RunConfig(storage=RUNS).storage_path


def below(bucket: fs.FileSystem, run: str) -> list[str]:
    """Files of a run in the bucket."""
    found = bucket.get_file_info(fs.FileSelector(f"bucket/of/runs/{run}", recursive=True, allow_not_found=True))
    return sorted(info.path.partition(f"{run}/")[2] for info in found if info.is_file)


def test_what_one_machine_has_another_gets(bucket: fs.FileSystem, machines: Machines) -> None:
    run, first = RunConfig(storage=RUNS), machines.use("first")
    (first / "one" / "results").mkdir(parents=True)
    (first / "one" / "results" / "a.json").write_text("1")
    (first / "one" / "b b%20.txt").write_text("2")
    (first / "one" / ".lock").touch()
    push(run, "one")
    assert below(bucket, "one") == ["b b%20.txt", "results/a.json"]

    second = machines.use("second")
    assert second != first
    assert pull(run, "one") == second / "one"
    assert (second / "one" / "results" / "a.json").read_text() == "1"
    assert (second / "one" / "b b%20.txt").read_text() == "2"
    (second / "one" / "results" / "a.json").write_text("3")  # as long, within the same second
    (second / "one" / "b b%20.txt").unlink()
    push(run, "one")
    assert below(bucket, "one") == ["results/a.json"]

    machines.use("first")
    time.sleep(1.1)  # S3 dates by whole seconds
    (second / "one" / "results" / "a.json").touch()
    machines.use("second")
    push(run, "one")
    machines.use("first")
    pull(run, "one")
    assert (first / "one" / "results" / "a.json").read_text() == "3"


def test_what_was_not_sent_stays(bucket: fs.FileSystem, machines: Machines) -> None:
    """A driver that was killed left newer files here than the bucket has."""
    run, home = RunConfig(storage=RUNS), machines.use("only")
    (home / "two").mkdir(parents=True)
    (home / "two" / "a").write_text("old")
    push(run, "two")
    sent = bucket.get_file_info("bucket/of/runs/two/a").mtime_ns
    (home / "two" / "a").write_text("newer")
    os.utime(home / "two" / "a", ns=(sent + 10**9, sent + 10**9))
    pull(run, "two")
    assert (home / "two" / "a").read_text() == "newer"
    push(run, "two")
    push(run, "two")  # nothing to do
    with bucket.open_input_stream("bucket/of/runs/two/a") as file:
        assert file.read() == b"newer"


def test_checkpoints_are_neither_copied_nor_deleted(bucket: fs.FileSystem, machines: Machines) -> None:
    run, home = RunConfig(storage=RUNS), machines.use("only")
    for name in ("checkpoint_a/training.pt", "checkpoint_manager_snapshot.json", ".validate_storage_marker"):
        with bucket.open_output_stream(f"bucket/of/runs/three/{name}") as file:
            file.write(b"x")
    pull(run, "three")
    assert not (home / "three").exists()
    (home / "three").mkdir(parents=True)
    push(run, "three")
    assert len(below(bucket, "three")) == 3


@pytest.mark.parametrize("key", ["../../x", "a/../../x", "/x", "a//x", "./x"])
def test_no_name_leads_out_of_the_folder(
    key: str, bucket: fs.FileSystem, machines: Machines, env: dict[str, str], tmp_path: Path
) -> None:
    client = boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"])
    for name in (key, "fine"):
        client.put_object(Bucket="bucket", Key=f"of/runs/four/{name}", Body=b"x")
    machines.use("only")
    pull(RunConfig(storage=RUNS), "four")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["fine"]
    client.delete_object(Bucket="bucket", Key=f"of/runs/four/{key}")


def test_a_folder_is_no_bucket(tmp_path: Path) -> None:
    run = RunConfig(storage=str(tmp_path))
    assert pull(run, "one") == tmp_path / "one"
    push(run, "one")
    assert list(tmp_path.iterdir()) == []
    assert place_of(run, tmp_path / "one" / "results") == str(tmp_path / "one" / "results")
    assert place_of(RunConfig(storage=RUNS), RunConfig(storage=RUNS).storage_path / "a" / "b") == f"{RUNS}/a/b"


@pytest.mark.parametrize("storage", ["s3://", "ftp://bucket/a", "s3://ID:SECRET@bucket/a", "s3://bucket/a?b=c"])
def test_other_addresses_are_refused(storage: str) -> None:
    with pytest.raises(InputError, match=r"it must be a folder, on a cluster one that all share, or like s3://bucket/"):
        RunConfig(storage=storage)


def flags(name: str) -> list[str]:
    return [RUNS if "runs" in flag else flag for flag in job.two_workers(Path("runs"), name)]


def test_a_bucket_that_is_not_there_is_one_line(machines: Machines) -> None:
    machines.use("only")
    line = [flag.replace("s3://bucket", "s3://another") for flag in flags("a")]
    process = job.start("train_drc.py", "digits", *line, env=job.environment())
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 2
    assert said.splitlines()[-1].startswith("error: --run.storage s3://another/of/runs cannot be used: ")
    assert "The specified bucket does not exist" in said.splitlines()[-1]


@pytest.mark.parametrize("script", ["tune.py drc digits", "reproduce.py drc-table-1 --scale smoke"])
def test_sweeps_and_tables_need_a_folder(script: str, machines: Machines) -> None:
    machines.use("only")
    process = job.start(*script.split(), "--run.storage", RUNS, env=job.environment())
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "it must be a folder that all machines share" in said.splitlines()[-1]


def test_a_lost_head_loses_nothing(cluster_run: ClusterRun, bucket: fs.FileSystem, machines: Machines) -> None:
    """The machine of the driver is gone, with all its files; on another the run goes on, and others go on from it."""
    machines.use("first")
    process = job.start("train_drc.py", "digits", *flags("drc"), env=job.environment())
    wait_for_checkpoint(process, bucket)
    job.kill(process.pid)
    process.communicate()
    assert "config.json" in below(bucket, "drc")
    assert "results/results.json" not in below(bucket, "drc")

    home = machines.use("second")
    said = job.run("train_drc.py", "digits", *flags("drc"), env=job.environment())
    assert f"results: {RUNS}/drc/results" in said
    expected = job.assignments(cluster_run.storage / "undisturbed")
    found = job.assignments(home / "drc")
    pd.testing.assert_series_equal(found["cluster"], expected["cluster"])
    pd.testing.assert_series_equal(found["estimate"], expected["estimate"])
    assert not list((home / "drc").glob("checkpoint_*"))

    third = machines.use("third")
    where = ("--run.storage", RUNS, "--run.name")
    job.run("select_references.py", "--model", "drc", *where, "references", env=job.environment())
    model = third / "references" / "results" / "model" / "networks.safetensors"
    assert model.read_bytes() == (third / "drc" / "results" / "model" / "networks.safetensors").read_bytes()

    fourth = machines.use("fourth")
    job.run("estimate_ranks.py", "--model", "references", *where, "estimates", env=job.environment())
    estimates = pd.read_parquet(fourth / "estimates" / "results" / "estimates").set_index("instance_id").sort_index()
    held_out = expected.query("split == 'test'")
    np.testing.assert_array_equal(estimates.index, held_out.index)
    assert "results/estimates/000000.parquet" in below(bucket, "estimates")


def wait_for_checkpoint(process: subprocess.Popen[str], bucket: fs.FileSystem) -> None:
    """Until an epoch is in the bucket."""
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[0]
        for path in below(bucket, "drc"):
            if path.endswith("history.json"):
                try:
                    with bucket.open_input_stream(f"bucket/of/runs/drc/{path}") as file:
                        if 1 <= len(json.loads(file.read())) < 5:
                            return
                except (FileNotFoundError, json.JSONDecodeError):
                    pass
        time.sleep(0.1)
    raise AssertionError("no checkpoint")


def test_actors_write_into_the_bucket(bucket: fs.FileSystem, machines: Machines, tmp_path: Path) -> None:
    home = machines.use("only")
    features = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    where = ("--run.storage", RUNS, "--run.name", "groups", "--num-shards", "2", "--k", "3")
    said = job.run("cluster_features.py", "--features", str(tmp_path / "features.npy"), *where, env=job.environment())
    assert f"results: {RUNS}/groups/results" in said
    parts = [path for path in below(bucket, "groups") if "assignments" in path]
    assert len(parts) == 2
    found = pd.read_parquet(home / "groups" / "results" / "assignments" / "k=3").sort_values("row")
    assert found["row"].tolist() == list(range(300))
