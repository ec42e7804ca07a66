"""A real `ray up` of machines that are there already: three hosts of this machine, each with its own SSH and disk.

It is called by a laptop that has a copy of this folder, and `ray[default]`, nothing else.
"""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import buckets
import hosts
import job
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from pyarrow import fs

why_not = hosts.missing()
pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900), pytest.mark.skipif(bool(why_not), reason=why_not)]
DASHBOARD, MLFLOW = 18265, 15000
"""This machine's ends of the tunnels."""
TRAINING = ["--training.num-workers", "2", "--training.cpus-per-worker", "2", "--training.threads-per-worker", "1"]


@dataclass(frozen=True)
class Cluster:
    """A cluster that `ray up` made.

    Attributes:
        machines: the head, and two workers.
        laptop: a copy of the checkout.
        env: of those who may use it, with tunnels to its dashboard and its MLflow.
        runs: folder of the runs, which all hosts share.
    """

    machines: list[hosts.Host]
    laptop: Path
    env: dict[str, str]
    runs: Path

    @property
    def head(self) -> hosts.Host:
        return self.machines[0]

    def submit(self, command: str, **env: str) -> subprocess.Popen[str]:
        """Starts a job, from the laptop's folder, with this in its environment."""
        more = f"--runtime-env-json {shlex.quote(json.dumps({'env_vars': env}))}" if env else ""
        return subprocess.Popen(
            f"ray job submit --working-dir . {more} -- python {command}",
            shell=True,
            cwd=self.laptop,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def training(self, name: str, storage: str = "", **env: str) -> subprocess.Popen[str]:
        """Starts a small training; two workers fit only on two hosts."""
        flags = [*job.TINY, *job.SIX_EPOCHS, *TRAINING, "--run.storage", storage or str(self.runs), "--run.name", name]
        return self.submit(f"jobs/train_drc.py digits {' '.join(flags)}", **env)

    def that_trains(self) -> hosts.Host:
        """A host that does, and is not the head."""
        names = self.with_process("RayTrainWorker") - {"head"}
        return next(host for host in self.machines if host.name in names)

    def is_as_undisturbed(self, name: str) -> None:
        """A run has the clusters and estimates of the one that nothing happened to."""
        found, expected = (job.assignments(self.runs / run) for run in (name, "undisturbed"))
        pd.testing.assert_frame_equal(found, expected)

    def with_process(self, words: str) -> set[str]:
        """Names of the hosts that have such a process."""
        return {host.name for host in self.machines if host.processes(words)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder, home = tmp_path_factory.mktemp("hosts"), tmp_path_factory.mktemp("laptop")
    runs = tmp_path_factory.mktemp("shared_runs")
    with hosts.hosts(folder, ["head", "worker1", "worker2"], [job.ROOT, runs]) as found:
        config = home / "on_premises.yaml"
        config.write_text(mine((job.ROOT / "deploy" / "on_premises.yaml").read_text(), found, runs))
        env = laptop_with_ray_alone(home)
        launcher("get-auth-token --generate", env)
        launcher(f"up --yes --no-config-cache {config}", env)
        with tunnel(found[0], DASHBOARD, 8265), tunnel(found[0], MLFLOW, 5000):
            wait_for_nodes(found[0], 3)
            yield Cluster(found, home / "ordclust_ray", env | {"RAY_API_SERVER_ADDRESS": address()}, runs)
        launcher(f"down --yes {config}", env)
        for _ in range(100):
            left = [host.name for host in found if host.processes("raylet")]
            if not left:
                return
            time.sleep(1)
        raise AssertionError(f"Ray still runs on {left}")


def laptop_with_ray_alone(home: Path) -> dict[str, str]:
    """A copy of the checkout and an environment with `ray[default]`; returns what a shell there knows."""
    ignored = shutil.ignore_patterns(".venv*", ".git", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(job.ROOT, home / "ordclust_ray", ignore=ignored)
    uv, own = job.ROOT / ".venv" / "tools" / "bin" / "uv", home / "venv"
    python = job.ROOT / ".venv" / "bin" / "python"
    job.shell(f"{uv} venv --quiet --python {python} {own}", job.environment())
    wanted = f"--constraint {job.ROOT / 'requirements.lock'} 'ray[default]=={version('ray')}'"
    install = f"{uv} pip install --quiet --compile-bytecode --python {own / 'bin' / 'python'} {wanted}"
    job.shell(install, job.environment())
    assert not list(own.glob("lib/*/site-packages/torch"))
    env = {key: value for key, value in job.environment().items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
    return env | {"HOME": str(home), "RAY_AUTH_MODE": "token", "PATH": f"{own / 'bin'}:{env['PATH'].split(':', 1)[1]}"}


def mine(text: str, found: list[hosts.Host], runs: Path) -> str:
    """The file with our machines, folders and user in the place of the example's; they share two cores."""
    head, *workers = (host.address for host in found)
    changes = {
        "head_ip: 192.0.2.10": f"head_ip: {head}",
        "[192.0.2.11, 192.0.2.12]": f"[{', '.join(workers)}]",
        "ssh_user: ray": "ssh_user: root",
        "~/.ssh/id_ed25519": str(found[0].key),
        "/srv/ordclust_ray": str(job.ROOT),
        "/srv/ordclust_runs": str(runs),
        "unset OMP_NUM_THREADS": "export OMP_NUM_THREADS=1",
    }
    for example, ours in changes.items():
        assert example in text
        text = text.replace(example, ours)
    return text


def address(path: str = "", port: int = DASHBOARD) -> str:
    return f"http://127.0.0.1:{port}{path}"


@contextlib.contextmanager
def tunnel(host: hosts.Host, here: int, there: int) -> Iterator[None]:
    with subprocess.Popen(
        host.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{here}:127.0.0.1:{there}")
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def launcher(arguments: str, env: dict[str, str]) -> None:
    """Runs `ray up` or `ray down`, which has to end well. Connections that it leaves open would hold a pipe open."""
    file = Path(env["HOME"]) / "launcher.log"
    with file.open("w") as output:
        done = subprocess.run(
            f"ray {arguments}", shell=True, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=200
        )
    assert done.returncode == 0, file.read_text()


def wait_for_nodes(head: hosts.Host, number: int) -> None:
    """Until so many nodes have joined."""
    for _ in range(40):
        with contextlib.suppress(AssertionError):
            if re.search(rf"Active:\n {number} ", head.run(". ~/.ordclust && ray status")):
                return
        time.sleep(1)
    raise AssertionError(head.run(". ~/.ordclust && ray status"))


def ended(process: subprocess.Popen[str]) -> str:
    """What a job printed, which has to end well."""
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "succeeded" in said, said
    return said


def test_only_who_has_the_token_is_let_in(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address("/api/jobs/"))
    with refused.value as answer:
        assert answer.code in (401, 403)
    token = (Path(cluster.env["HOME"]) / ".ray" / "auth_token").read_text().strip()
    request = urllib.request.Request(address("/api/jobs/"), headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as page:
        assert page.status == 200
    for port in (8265, 5000):  # from outside nobody reaches them at all
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(f"http://{cluster.head.address}:{port}", timeout=2)
    for host in cluster.machines:
        assert host.run("stat -c %a ~/.ray/auth_token").strip() == "600"


def test_the_working_directory_is_what_runs(cluster: Cluster) -> None:
    (cluster.laptop / "jobs" / "where.py").write_text("import ordclust_ray; print(ordclust_ray.__file__)")
    assert re.search(r"runtime_resources/\S+/ordclust_ray/__init__.py", ended(cluster.submit("jobs/where.py")))


def test_training_on_two_hosts(cluster: Cluster) -> None:
    process, seen = cluster.training("undisturbed"), set[str]()
    while process.poll() is None and len(seen) < 2:
        seen |= cluster.with_process("RayTrainWorker")
        time.sleep(0.5)
    assert "3 machines with python" in ended(process)
    assert len(seen) == 2
    assert len(job.assignments(cluster.runs / "undisturbed")) == 1797
    client = MlflowClient(address(port=MLFLOW))
    experiment = client.get_experiment_by_name("drc-orid")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("undisturbed", "FINISHED")
    assert len(client.get_metric_history(run.info.run_id, "reconstruction")) == 6
    assert "assignments.parquet" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_network_that_is_cut_for_half_a_minute(cluster: Cluster) -> None:
    process = cluster.training("cut")
    job.wait_for_epochs(process, cluster.runs / "cut", 2)
    with cluster.that_trains().cut_off():
        time.sleep(30)
    ended(process)
    cluster.is_as_undisturbed("cut")


def test_a_disk_that_is_full(cluster: Cluster) -> None:
    """Where training cannot go on it ends and says so; when there is room again, the same command goes on."""
    process = cluster.training("full")
    job.wait_for_epochs(process, cluster.runs / "full", 2)
    host = cluster.that_trains()
    host.run("cat /dev/zero > /tmp/fill || true")  # until there is no room
    said, _ = process.communicate(timeout=600)
    host.run("rm /tmp/fill")
    assert process.returncode == 0 or "No space left on device" in said, said
    print(f"a full disk: the job ended with {process.returncode}")
    began = time.monotonic()
    ended(cluster.training("full"))
    print(f"a full disk: {time.monotonic() - began:.0f} s for the rest, once there was room")
    cluster.is_as_undisturbed("full")


def test_runs_in_object_storage(cluster: Cluster) -> None:
    """The hosts share no folder of runs then."""
    with buckets.served(f"{hosts.NETWORK}.1") as env:
        said = ended(cluster.training("in_bucket", buckets.RUNS, **env))
        store = fs.S3FileSystem(
            access_key=env["AWS_ACCESS_KEY_ID"],
            secret_key=env["AWS_SECRET_ACCESS_KEY"],
            region=env["AWS_DEFAULT_REGION"],
            endpoint_override=env["AWS_ENDPOINT_URL"],
        )
        found = pd.read_parquet("bucket/of/runs/in_bucket/results/assignments.parquet", filesystem=store)
        names = {info.base_name for info in store.get_file_info(fs.FileSelector("bucket/of/runs/in_bucket"))}
    assert f"all of them write to {buckets.RUNS}" in said
    assert len([name for name in names if re.match(r"checkpoint_\d", name)]) == 2
    pd.testing.assert_frame_equal(found, job.assignments(cluster.runs / "undisturbed"))


def test_clustering_on_three_hosts(cluster: Cluster) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(60_000, 64)) + 4 * np.eye(64)[random.integers(5, size=60_000)]
    np.save(cluster.runs / "features.npy", rows.astype(np.float32))
    where = f"--features {cluster.runs / 'features.npy'} --run.storage {cluster.runs} --run.name clusters"
    process = cluster.submit(f"jobs/cluster_features.py --k 4..6 --num-shards 3 --seeds 2 {where}")
    seen = set[str]()
    while process.poll() is None and len(seen) < 3:
        seen |= cluster.with_process("ShardActor")
        time.sleep(0.2)
    ended(process)
    assert seen == {"head", "worker1", "worker2"}


def test_runs_that_are_not_shared_are_refused(cluster: Cluster) -> None:
    process = cluster.submit(f"jobs/train_drc.py digits {' '.join(TRAINING)} --run.storage /tmp/own_runs")
    said, _ = process.communicate(timeout=100)
    assert "--run.storage /tmp/own_runs is not shared: machine 10.213.7.11" in said
    assert process.returncode == 1
    assert "Traceback" not in said
