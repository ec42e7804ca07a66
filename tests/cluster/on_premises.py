"""A real `ray up` of machines that are there already: three hosts of this machine, each with its own SSH and disk."""

import contextlib
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hosts
import job
import pytest

why_not = hosts.missing()
pytestmark = [pytest.mark.hosts, pytest.mark.skipif(bool(why_not), reason=why_not)]
DASHBOARD, MLFLOW = 18265, 15000
"""This machine's ends of the tunnels."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that `ray up` made.

    Attributes:
        machines: the head, and two workers.
        config: file of the cluster.
        env: of those who may use it, with tunnels to its dashboard and its MLflow.
        runs: folder of the runs, which all hosts share.
    """

    machines: list[hosts.Host]
    config: Path
    env: dict[str, str]
    runs: Path

    @property
    def head(self) -> hosts.Host:
        return self.machines[0]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder, home = tmp_path_factory.mktemp("hosts"), tmp_path_factory.mktemp("laptop")
    runs = tmp_path_factory.mktemp("shared_runs")
    with hosts.hosts(folder, ["head", "worker1", "worker2"], [job.ROOT, runs]) as found:
        config = home / "on_premises.yaml"
        config.write_text(mine((job.ROOT / "deploy" / "on_premises.yaml").read_text(), found, runs))
        env = {key: value for key, value in job.environment().items() if key != "RAY_ADDRESS"}
        env |= {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": ".venv"}
        job.shell("ray get-auth-token --generate", env)
        launcher(f"up --yes --no-config-cache {config}", env)
        with tunnel(found[0], DASHBOARD, 8265), tunnel(found[0], MLFLOW, 5000):
            wait_for_nodes(found[0], 3)
            yield Cluster(found, config, env | {"RAY_API_SERVER_ADDRESS": address()}, runs)
        launcher(f"down --yes {config}", env)
        assert not [process for host in found for process in host.processes("raylet")]


def mine(text: str, found: list[hosts.Host], runs: Path) -> str:
    """The file with our machines, folders and user in the place of the example's."""
    head, *workers = (host.address for host in found)
    changes = {
        "head_ip: 192.0.2.10": f"head_ip: {head}",
        "[192.0.2.11, 192.0.2.12]": f"[{', '.join(workers)}]",
        "ssh_user: ray": "ssh_user: root",
        "~/.ssh/id_ed25519": str(found[0].key),
        "/srv/ordclust_ray": str(job.ROOT),
        "/srv/ordclust_runs": str(runs),
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
    command = f". {job.ROOT}/.venv/bin/activate && RAY_AUTH_MODE=token ray status"
    for _ in range(40):
        with contextlib.suppress(AssertionError):
            if re.search(rf"Active:\n {number} ", head.run(command)):
                return
        time.sleep(1)
    raise AssertionError(head.run(command))


def test_only_who_has_the_token_is_let_in(cluster: Cluster) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address("/api/jobs/"))
    assert refused.value.code in (401, 403)
    token = (Path(cluster.env["HOME"]) / ".ray" / "auth_token").read_text().strip()
    request = urllib.request.Request(address("/api/jobs/"), headers={"Authorization": f"Bearer {token}"})
    assert urllib.request.urlopen(request).status == 200
    for port in (8265, 5000):  # from outside nobody reaches them at all
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(f"http://{cluster.head.address}:{port}", timeout=2)
    for host in cluster.machines:
        assert host.run("stat -c %a ~/.ray/auth_token").strip() == "600"


def test_training_on_two_hosts(cluster: Cluster) -> None:
    size = [*job.TINY, *job.SIX_EPOCHS, "--training.num-workers", "2", "--training.cpus-per-worker", "2"]
    said = job.shell(
        f"ray job submit --working-dir {job.ROOT} -- python jobs/train_drc.py digits {' '.join(size)} "
        f"--training.threads-per-worker 1 --run.storage {cluster.runs} --run.name up",
        cluster.env,
    )
    assert "succeeded" in said
    assert len(job.assignments(cluster.runs / "up")) == 1797
    with urllib.request.urlopen(address(port=MLFLOW, path="/health")) as page:
        assert page.status == 200
