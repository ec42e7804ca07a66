"""What goes wrong on clusters, done to real processes; `docs/reliability.md` has a row for each."""

import contextlib
import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import job
import numpy as np
import pandas as pd
import pytest
import torch
from page import mlflow_server
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.timeout(900)
MACHINE = ["--training.cpus-per-worker", "2", "--training.threads-per-worker", "1"]
"""A worker is as large as a machine."""
DEADLINE_S, WITHOUT_S = 15, 70
"""Of a notice; and until another machine comes, more than Ray's patience with workers that find no room."""
EPOCHS = ["--training.warmup-epochs", "2", "--training.epochs-per-round", "2", "--training.rounds"]


@pytest.fixture(params=[1])
def machines(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A head with room for a job's driver, for data, and for as many more CPUs as the test asks for."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": request.param, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def start(cluster: Cluster, storage: Path, name: str, *flags: str) -> subprocess.Popen[str]:
    """A small job of DRC-ORID on the cluster."""
    return start_job("train_drc.py", cluster, storage, name, *job.TINY, *flags)


def start_job(script: str, cluster: Cluster, storage: Path, name: str, *flags: str) -> subprocess.Popen[str]:
    """A job on the digits, with workers as large as a machine."""
    env = job.environment(RAY_ADDRESS=cluster.address, OMP_NUM_THREADS="1")
    where = ["--run.storage", str(storage), "--run.name", name]
    return job.start(script, "digits", *flags, *MACHINE, *where, env=env)


def ended(process: subprocess.Popen[str]) -> str:
    """What a job printed, which has to end well."""
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def wait_for_workers(process: subprocess.Popen[str], folder: Path, number: int) -> None:
    """Until so many workers have written the newest checkpoint."""
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[0]
        newest = max(folder.glob("checkpoint_*/history.json"), default=None)
        if newest and sum(len(list(newest.parent.glob(part))) for part in ("shard-*", "bank-*")) == number:
            return
        time.sleep(0.2)
    raise AssertionError(f"never {number} workers")


def epochs_recorded(storage: Path, name: str) -> tuple[list[int], float]:
    """Epochs of a run in MLflow, and the longest time between two of them, in seconds."""
    with contextlib.closing(sqlite3.connect(storage / "mlflow.db")) as database:
        query = "select step, timestamp from metrics natural join runs where name = ? and key = 'seconds' order by step"
        rows = database.execute(query, (name,)).fetchall()
    return [step for step, _ in rows], max(b - a for a, b in pairwise(sorted(time for _, time in rows))) / 1000


def error_in_ranks(storage: Path, name: str) -> float:
    """Mean absolute error of the held-out digits."""
    found = job.assignments(storage / name).dropna(subset="estimate")
    return float(np.abs(found["estimate"] - found["rank"]).mean())


@pytest.mark.parametrize("machines", [3], indirect=True)
def test_a_machine_joins_late_and_one_is_lost(machines: Cluster, tmp_path: Path) -> None:
    """One worker, two, and one again."""
    flags = [*EPOCHS, "45", "--training.num-workers", "1..2"]
    process = start(machines, tmp_path, "elastic", *flags)
    job.wait_for_epochs(process, tmp_path / "elastic", 2)
    node = machines.add_node(num_cpus=2)
    wait_for_workers(process, tmp_path / "elastic", 2)
    machines.remove_node(node, allow_graceful=False)  # kill -9
    wait_for_workers(process, tmp_path / "elastic", 1)
    ended(process)
    epochs, pause = epochs_recorded(tmp_path, "elastic")
    assert epochs == list(range(1, 93))
    print(f"a lost machine: {pause:.0f} s")
    assert len(job.assignments(tmp_path / "elastic")) == 1797
    assert error_in_ranks(tmp_path, "elastic") < 0.36  # mean and three standard deviations of five undisturbed seeds


@pytest.mark.parametrize("machines", [3], indirect=True)
def test_the_bank_follows_the_number_of_workers(machines: Cluster, tmp_path: Path) -> None:
    """IDFD with two workers; one is lost with its machine, and the other takes over its rows of the bank."""
    flags = ["--model.width", "0.1", "--model.feature-dim", "16", "--training.epochs", "60", "--clustering.every", "30"]
    flags += ["--training.checkpoint-every", "1", "--training.num-workers", "1..2"]
    node = machines.add_node(num_cpus=2)
    process = start_job("train_idfd.py", machines, tmp_path, "idfd", *flags)
    job.wait_for_epochs(process, tmp_path / "idfd", 2)
    wait_for_workers(process, tmp_path / "idfd", 2)
    machines.remove_node(node, allow_graceful=False)  # kill -9
    wait_for_workers(process, tmp_path / "idfd", 1)
    ended(process)
    assert epochs_recorded(tmp_path, "idfd")[0] == list(range(1, 61))
    features = np.load(tmp_path / "idfd" / "features.npy")
    assert features.shape == (1797, 16)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3)
    accuracy = json.loads((tmp_path / "idfd" / "results" / "results.json").read_text())["measures"]["IDFD"]["ACC"]
    assert accuracy > 0.53  # mean less three standard deviations of three undisturbed seeds


def test_a_machine_that_is_taken_away_with_notice(machines: Cluster, tmp_path: Path) -> None:
    """A checkpoint in the middle of an epoch in time; training waits for another machine, and goes on there."""
    slow = ["--data.image-size", "128", "--training.batch-size", "2"]
    flags = [*slow, "--training.warmup-epochs", "2", "--training.rounds", "0"]
    leaving = machines.add_node(num_cpus=2)
    process = start(machines, tmp_path, "notice", *flags)
    job.wait_for_epochs(process, tmp_path / "notice", 1)
    notice = f"--reason DRAIN_NODE_REASON_PREEMPTION --reason-message spot --deadline-remaining-seconds {DEADLINE_S}"
    told = time.monotonic()
    job.shell(f"ray drain-node --address {machines.address} --node-id {leaving.node_id} {notice}", job.environment())
    epochs, steps = wait_for_begun(process, tmp_path / "notice")
    waited = time.monotonic() - told
    print(f"a notice: checkpoint after {waited:.1f} s, with {steps} steps of epoch {epochs + 1}")
    assert waited < DEADLINE_S
    time.sleep(max(0, DEADLINE_S - waited))
    machines.remove_node(leaving, allow_graceful=False)
    time.sleep(WITHOUT_S)
    assert process.poll() is None, process.communicate()[0]
    machines.add_node(num_cpus=2)
    ended(process)
    recorded, pause = epochs_recorded(tmp_path, "notice")
    print(f"a machine taken away: {pause:.0f} s between two epochs")
    assert recorded == [1, 2]

    ended(start(machines, tmp_path, "undisturbed", *flags))
    found, expected = (
        json.loads((tmp_path / run / "results" / "history.json").read_text()) for run in ("notice", "undisturbed")
    )
    assert [record["steps"] for record in found] == [719, 1438] == [record["steps"] for record in expected]
    for name in ("reconstruction", "comparison"):  # dropout draws anew
        assert found[1][name] == pytest.approx(expected[1][name], rel=0.05)


def wait_for_begun(process: subprocess.Popen[str], folder: Path) -> tuple[int, int]:
    """Until a checkpoint has a part of an epoch; how many whole ones it has, and how many steps of that."""
    for _ in range(400):
        assert process.poll() is None, process.communicate()[0]
        for file in folder.glob("checkpoint_*/training.pt"):
            with contextlib.suppress(OSError, RuntimeError, EOFError):  # it is being written, or was just replaced
                state = torch.load(file, weights_only=True)
                if "begun" in state:
                    return job.reported_epochs(folder), state["begun"]["steps"]
        time.sleep(0.1)
    raise AssertionError("no checkpoint in the middle of an epoch")


def test_mlflow_is_down_for_a_minute(tmp_path: Path) -> None:
    """The training does not wait for it, and what was not recorded then is recorded later."""
    store = f"sqlite:///{tmp_path / 'server.db'}"
    with mlflow_server(store, tmp_path) as address:
        line = job.two_workers(tmp_path, "unheard", [*job.TINY, *EPOCHS, "8"])
        process = job.start("train_drc.py", "digits", *line, "--run.tracking-uri", address, env=job.environment())
        job.wait_for_epochs(process, tmp_path / "unheard", 2)
    before = job.reported_epochs(tmp_path / "unheard")
    time.sleep(60)
    assert job.reported_epochs(tmp_path / "unheard") > before
    with mlflow_server(store, tmp_path, urlsplit(address).port or 0):
        ended(process)
    with contextlib.closing(sqlite3.connect(tmp_path / "server.db")) as database:
        query = "select count(*), count(distinct step), status from metrics natural join runs where key = 'comparison'"
        assert database.execute(query).fetchone() == (18, 18, "FINISHED")


def test_images_that_do_not_fit_into_memory(tmp_path: Path) -> None:
    """They are spilled to disk and read back: slower, with the same result."""
    short = ["--data.image-size", "128", "--training.warmup-epochs", "1", "--training.rounds", "0"]
    seconds = {}
    for name, room in (("enough", {}), ("small", {"RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "80000000"})):
        began = time.monotonic()
        env = job.environment(OMP_NUM_THREADS="1", **room)
        process = job.start("train_drc.py", "digits", *job.two_workers(tmp_path, name, [*job.TINY, *short]), env=env)
        spilled = False
        while process.poll() is None:
            spilled |= any(Path("/tmp/ray/session_latest").resolve().glob("ray_spilled_objects*/*"))
            time.sleep(0.2)
        ended(process)
        assert spilled == bool(room)
        seconds[name] = time.monotonic() - began
    print(f"too little memory: {seconds['small']:.0f} s instead of {seconds['enough']:.0f} s")
    pd.testing.assert_frame_equal(job.assignments(tmp_path / "small"), job.assignments(tmp_path / "enough"))
