"""The cluster files: Ray takes them, and what their commands do, seen by running them where programs take notes."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
import yaml  # type: ignore[import-untyped]
from cli import parse
from job import ROOT
from ray.autoscaler._private.aws.config import DEFAULT_AMI
from ray.autoscaler._private.providers import _get_default_config
from ray.autoscaler._private.util import prepare_config, validate_config

from ordclust_ray.recipes.drc import RECIPES

FILES = [ROOT / "cluster.yaml", *sorted((ROOT / "deploy").glob("*.yaml"))]
RAY_FILES = [file for file in FILES if re.search(r"^cluster_name:", file.read_text(), re.M)]
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
NOTE = (
    f"#!{sys.executable} -IS\n"
    + """
# Stands in for a program of a node: notes who was called how, and makes what later commands look for.
import json, os, pathlib, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
called = {"program": sys.argv[0], "arguments": arguments, "environment": dict(os.environ)}
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps(called) + "\\n")
made = {"-m venv": ["pip", "uv"], "venv": ["python", "ray", "mlflow"]}.get(
    "-m venv" if arguments[:2] == ["-m", "venv"] else arguments[0] if name == "uv" else "", [])
for program in made:
    file = pathlib.Path(arguments[-1]) / "bin" / program
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(pathlib.Path(sys.argv[0]).read_text())
    file.chmod(0o755)
if name == "aws":
    print("named-by-" + arguments[arguments.index("--name") + 1].split("/")[-1])
sys.exit(name == "mountpoint")
"""
)


class Call(NamedTuple):
    program: str
    arguments: list[str]
    environment: dict[str, str]

    @property
    def line(self) -> str:
        return " ".join([Path(self.program).name, *self.arguments])


class Node(NamedTuple):
    """What a node's commands called, and the home that they left."""

    calls: list[Call]
    home: Path

    def starting(self, text: str) -> list[Call]:
        return [call for call in self.calls if call.line.startswith(text)]


def loaded(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def prepared(file: Path) -> dict[str, Any]:
    """The file with Ray's defaults, as `ray up` reads it."""
    return prepare_config(loaded(file))


def played(home: Path, commands: list[str]) -> Node:
    """Runs a node's commands as Ray's SSH does, twice over, as `ray up` may come twice; nothing real is called."""
    programs, notes = home / "programs", home / "notes"
    programs.mkdir(parents=True)
    for name in ("sudo", "aws", "cloud-init", "mountpoint", "python3", "ray", "pip", "uv"):
        (programs / name).write_text(NOTE)
        (programs / name).chmod(0o755)
    (home / "ordclust").mkdir()  # Ray makes the folders of file_mounts before
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("token")
    (home / ".ray" / "auth_token").chmod(0o644)  # as Ray writes it on the laptop
    environment = {"HOME": str(home), "NOTES": str(notes), "PATH": f"{programs}:{os.environ['PATH']}"}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_HEAD_IP": "10.0.0.5"}
    for command in commands * 2:
        shell = ["bash", "-c", f"({command})"]
        result = subprocess.run(shell, cwd=home, env=environment, capture_output=True, text=True, timeout=30)
        assert result.returncode == 0, f"{command}\n{result.stderr}"
    return Node([Call(**json.loads(line)) for line in notes.read_text().splitlines()], home)


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return prepared(ROOT / "cluster.yaml")


@pytest.fixture(scope="module")
def head(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Node:
    commands = config["head_setup_commands"] + config["head_start_ray_commands"]
    return played(tmp_path_factory.mktemp("head") / "home", commands)


@pytest.fixture(scope="module")
def worker(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Node:
    commands = config["worker_setup_commands"] + config["worker_start_ray_commands"]
    return played(tmp_path_factory.mktemp("worker") / "home", commands)


@pytest.mark.parametrize("file", RAY_FILES, ids=lambda file: file.name)
def test_ray_accepts_the_file(file: Path) -> None:
    validate_config(prepared(file))


@pytest.mark.parametrize("file", RAY_FILES, ids=lambda file: file.name)
def test_nothing_listens_on_every_address(file: Path) -> None:
    commands = [command for key in COMMANDS for command in prepared(file)[key]]
    assert not [command for command in commands if re.search(r"0\.0\.0\.0|[\s=]::", command)]
    starts = [command for command in commands if "ray start --head" in command]
    assert starts
    assert all("--dashboard-host=127.0.0.1" in shlex.split(command) for command in starts)


@pytest.mark.parametrize("file", RAY_FILES, ids=lambda file: file.name)
def test_no_command_of_rays_defaults_is_left(file: Path) -> None:
    ours, defaults = prepared(file), _get_default_config(loaded(file)["provider"])
    left = {command for key in COMMANDS for command in ours[key]} & {c for key in COMMANDS for c in defaults[key]}
    assert left <= {"ray stop"}


@pytest.mark.parametrize("node", ["head", "worker"])
def test_ray_starts_with_the_token_from_the_environment_of_the_lock(node: str, request: pytest.FixtureRequest) -> None:
    seen: Node = request.getfixturevalue(node)
    starts = seen.starting("ray start")
    assert len(starts) == 2  # once a round
    for call in seen.starting("ray "):
        assert call.program == f"{seen.home}/ordclust/venv/bin/ray"
        assert call.environment["RAY_AUTH_MODE"] == "token"
        assert "OMP_NUM_THREADS" not in call.environment
    wanted = "--head" if node == "head" else "--address=10.0.0.5:6379"
    assert wanted in starts[0].arguments
    token = seen.home / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("node", ["head", "worker"])
def test_every_shell_of_a_node_finds_the_same(node: str, request: pytest.FixtureRequest) -> None:
    seen: Node = request.getfixturevalue(node)
    assert (seen.home / ".bashrc").read_text() == ". ~/ordclust/shell\n"  # after two rounds
    script = 'source ~/.bashrc; echo "$RAY_AUTH_MODE"; command -v ray'
    shell = subprocess.run(
        ["bash", "-c", script], env={"HOME": str(seen.home), "PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert shell.stdout.split() == ["token", f"{seen.home}/ordclust/venv/bin/ray"]


@pytest.mark.parametrize("node", ["head", "worker"])
def test_nodes_have_the_locks_packages_and_no_others(
    node: str, config: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    seen: Node = request.getfixturevalue(node)
    synced = {remote.replace("~", str(seen.home)): local for remote, local in config["file_mounts"].items()}
    installs = [call for call in seen.calls if "install" in call.arguments or "sync" in call.arguments]
    pips = [call.arguments for call in installs if Path(call.program).name in ("pip", "uv")]
    assert {tuple(arguments[:1]) for arguments in pips} == {("install",), ("pip",)}
    for arguments in pips:
        if arguments[0] == "install":
            assert [a for a in arguments[1:] if not a.startswith("-")] == [arguments[-1]]
            assert re.fullmatch(r"uv==[\d.]+", arguments[-1])
        else:
            assert arguments[:2] == ["pip", "sync"]
            assert f"{seen.home}/ordclust/venv/bin/python" in arguments
            assert synced[arguments[-1]] == "requirements.lock"


def test_the_lock_has_what_runs_here_and_what_the_head_needs() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={ray.__version__}\n" in lock  # a laptop and its cluster have to have the same
    assert re.search(r"^boto3==", lock, re.M)  # Ray's autoscaler, and MLflow's artifacts


@pytest.mark.parametrize("node", ["head", "worker"])
def test_runs_are_mounted_through_a_tunnel_that_checks_the_server(node: str, request: pytest.FixtureRequest) -> None:
    seen: Node = request.getfixturevalue(node)
    (mount, _) = seen.starting("sudo mount")
    assert mount.arguments[-2:] == ["127.0.0.1:/", "/mnt/ordclust"]
    tunnel = dict(
        line.split(" = ") for line in (seen.home / "ordclust/tunnel").read_text().splitlines() if "= " in line
    )
    assert f"port={tunnel['accept'].partition(':')[2]}" in mount.arguments[mount.arguments.index("-o") + 1].split(",")
    assert tunnel["accept"].startswith("127.0.0.1:")
    assert (tunnel["client"], tunnel["verifyChain"]) == ("yes", "yes")
    assert tunnel["connect"] == f"{tunnel['checkHost']}:2049"
    assert tunnel["checkHost"].startswith("named-by-file-system.efs.")
    assert (seen.home / "ordclust_runs").readlink() == Path("/mnt/ordclust/runs")


def test_runs_are_kept_in_the_bucket(head: Node) -> None:
    """What `ray start` knows, the jobs of the head know."""
    assert head.starting("ray start")[0].environment["ORDCLUST_STORAGE"] == "s3://named-by-bucket/runs"


def test_mlflow_runs_on_the_head_alone_and_for_it_alone(head: Node, worker: Node) -> None:
    servers = [call.arguments for call in head.calls if "server" in call.arguments]
    assert len(servers) == 2
    for arguments in servers:
        assert f"{head.home}/ordclust/venv/bin/mlflow" in arguments
        assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
        assert arguments[arguments.index("--artifacts-destination") + 1] == "s3://named-by-bucket/mlflow"
        assert arguments[arguments.index("--backend-store-uri") + 1].startswith("sqlite:////mnt/ordclust/")
        assert "--uid=ubuntu" in arguments  # not root
    assert not [call for call in worker.calls if "server" in call.arguments]
    address = servers[0][servers[0].index("--host") + 1] + ":" + servers[0][servers[0].index("--port") + 1]
    assert head.starting("ray start")[0].environment["MLFLOW_TRACKING_URI"] == f"http://{address}"


def test_workers_alone_wait_for_the_notice_of_spot(head: Node, worker: Node, config: dict[str, Any]) -> None:
    services = [call.arguments for call in worker.calls if "--unit=ordclust-spot" in call.arguments]
    assert len(services) == 2
    assert {"--property=Restart=on-failure", "--collect", "--uid=ubuntu"} <= set(services[0])
    assert not [call for call in head.calls if "--unit=ordclust-spot" in call.arguments]
    (script,) = (remote for remote, local in config["file_mounts"].items() if local == "deploy/spot_notice")
    mounted = Path(script.replace("~", str(worker.home)))
    mounted.write_text('echo "$RAY_AUTH_MODE $(command -v ray) $*"')  # in place of ours: what it would see
    command = services[0][services[0].index("bash") :]
    environment = {"HOME": str(worker.home), "PATH": os.environ["PATH"]}  # systemd sets them for --uid
    seen = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["token", f"{worker.home}/ordclust/venv/bin/ray", "10.0.0.5:6379"]


def test_the_head_is_on_demand_and_workers_are_spot(config: dict[str, Any]) -> None:
    workers = {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}
    head = config["available_node_types"][config["head_node_type"]]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["max_workers"] == 0
    assert workers
    for kind in workers.values():
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert 1 <= kind["min_workers"] < kind["max_workers"] <= config["max_workers"]  # a job counts what is there
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in " ".join(config["head_start_ray_commands"])


def test_every_machine_is_pinned_and_closed(config: dict[str, Any]) -> None:
    kinds = [kind["node_config"] for kind in config["available_node_types"].values()]
    assert len({kind["ImageId"] for kind in kinds}) == 1
    for kind in kinds:
        assert re.fullmatch(r"ami-[0-9a-f]{17}", kind["ImageId"])
        assert kind["ImageId"] not in DEFAULT_AMI.values()
        assert kind["MetadataOptions"]["HttpTokens"] == "required"
        assert all(
            disk["Ebs"]["Encrypted"] and disk["Ebs"]["DeleteOnTermination"] for disk in kind["BlockDeviceMappings"]
        )
    assert config["provider"]["cache_stopped_nodes"] is False


def pods_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [job["spec"]["submitterPodTemplate"], *(group["template"] for group in groups)]


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    text = (ROOT / "deploy" / "rayjob.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_the_rayjob_is_a_job_of_ours_with_flags_that_it_takes(documents: dict[str, dict[str, Any]]) -> None:
    job = documents["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    python, script, recipe, *flags = shlex.split(job["spec"]["entrypoint"])
    assert (python, Path(script).relative_to("/home/ray/ordclust_ray")) == ("python", Path("jobs/train_drc.py"))
    assert (ROOT / "jobs" / Path(script).name).is_file()
    name, settings = parse(RECIPES, "", [recipe, *flags])
    assert name == recipe
    mounts = [c["volumeMounts"] for pod in pods_of(job)[1:] for c in pod["spec"]["containers"]]
    assert {mount["mountPath"] for (mount,) in mounts} == {"/shared"}
    assert settings.run.storage.startswith("/shared/")
    assert settings.run.name  # without one, a job that is started again begins a run of its own


def test_the_rayjobs_versions_are_the_locks(documents: dict[str, dict[str, Any]]) -> None:
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in lock
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-" in (ROOT / "deploy" / "rayjob.yaml").read_text()
    images = {c["image"] for pod in pods_of(documents["RayJob"]) for c in pod["spec"]["containers"]}
    assert len(images) == 1
    assert not images.pop().endswith(":latest")


def test_the_rayjob_is_closed_and_grows(documents: dict[str, dict[str, Any]]) -> None:
    job = documents["RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"]
    assert job["spec"]["shutdownAfterJobFinishes"]
    for pod in pods_of(job):
        labels = documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
        assert labels.items() <= pod["metadata"]["labels"].items()
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    (group,) = cluster["workerGroupSpecs"]
    assert 1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) > 0


def test_the_rayjobs_pods_share_the_runs(documents: dict[str, dict[str, Any]]) -> None:
    claim = documents["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods_of(documents["RayJob"])[1:]:
        (volume,) = pod["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
