"""What would hang is an error in one line, before anything expensive starts."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import job
import pytest

from ordclust_ray.config import InputError, RunConfig, TrainingConfig
from ordclust_ray.machines import Machine, compare, unreadable, unwritable
from ordclust_ray.preflight import make_storage, preflight


def test_two_lines_say_what_is_used(local_ray: None, tmp_path: Path) -> None:
    run = RunConfig(storage=str(tmp_path / "runs"))
    make_storage(run)
    job.wait_for_cpus(4)
    lines, use_gpu = preflight(TrainingConfig(num_workers=2), run)
    assert lines[0] == "4 CPUs, 0 GPUs; 2 workers x 1 CPU leave 2 for data"
    assert lines[1].startswith(f"runs in {tmp_path / 'runs'} (")
    assert len(lines) == 2
    assert not use_gpu


def test_workers_that_leave_no_cpu_for_data_are_refused(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"4 workers x 1 CPU leave 0 for reading data, which needs 1: lower"):
        preflight(TrainingConfig(num_workers=4), RunConfig(storage=str(tmp_path)))
    lines, _ = preflight(TrainingConfig(num_workers=4, cpus_per_worker=0.5), RunConfig(storage=str(tmp_path)))
    assert "4 workers x 0.5 CPU leave 2 for data" in lines[0]


def test_storage_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--run\.storage .*file cannot be used: File exists"):
        make_storage(RunConfig(storage=str(tmp_path / "file")))


def test_storage_is_made(tmp_path: Path) -> None:
    make_storage(RunConfig(storage=str(tmp_path / "of" / "runs")))
    assert list((tmp_path / "of" / "runs").iterdir()) == []


TWO_MACHINES = """
import sys
from ray.cluster_utils import Cluster
import ray
from ordclust_ray.config import RunConfig
from ordclust_ray.machines import require_alike

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
try:
    print("\\n".join(require_alike(RunConfig(storage=sys.argv[1]), sys.argv[2])))
finally:
    ray.shutdown()
    cluster.shutdown()
"""
ALIKE = Machine("10.0.0.1", {"python": "3.11.7", "ray": "2.60.0"}, "", "", 0.1, 2**40, 1, 1)


def test_machines_are_asked(tmp_path: Path) -> None:
    """A cluster of two, in processes of its own."""
    command = [sys.executable, "-c", TWO_MACHINES, str(tmp_path), str(tmp_path / "*.parquet")]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=job.ROOT, env=job.environment())
    assert "cannot be read on machine" in refused.stderr.splitlines()[-1]
    assert "No such file or directory" in refused.stderr.splitlines()[-1]
    (tmp_path / "a.parquet").touch()
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=job.ROOT, env=job.environment())
    assert done.stdout.splitlines()[0].startswith("2 machines with python 3.")
    assert done.stdout.splitlines()[1] == f"all of them write to {tmp_path}, and read the images"
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    ("other", "written", "message"),
    [
        (
            {"versions": {"python": "3.11.7", "ray": "2.59.0"}},
            True,
            "ray is 2.60.0 on machine 10.0.0.1 and 2.59.0 on 10.0.0.2; install requirements.lock on all of them",
        ),
        ({"storage": "No such file"}, False, "--run.storage /runs is not shared: machine 10.0.0.2: No such file"),
        ({}, False, "--run.storage /runs is not shared: machine 10.0.0.2: what it writes there is not seen here"),
        ({"data": "Permission denied"}, True, "--data.path '/images' cannot be read on machine 10.0.0.2: Permission"),
        ({"gpus_seen": 0}, True, "machine 10.0.0.2 offers 1 GPUs, of which its driver lists 0"),
    ],
)
def test_a_machine_that_differs_is_named(other: dict[str, Any], written: bool, message: str) -> None:
    machines = [ALIKE, replace(ALIKE, name="10.0.0.2", **other)]
    with pytest.raises(InputError) as refused:
        compare(machines, "/runs", "/images", {"10.0.0.1", *(["10.0.0.2"] if written else [])})
    assert str(refused.value).startswith(message)


def test_clocks_and_disks_are_worth_a_note() -> None:
    machines = [ALIKE, replace(ALIKE, name="10.0.0.2", clock=-90.0, free=10**9)]
    lines = compare(machines, "/runs", "", {"10.0.0.1", "10.0.0.2"})
    assert lines == [
        "2 machines with python 3.11.7, ray 2.60.0",
        "all of them write to /runs, and read the images",
        "note: the clock of machine 10.0.0.2 differs by -90 s",
        "note: machine 10.0.0.2 has 1.0 GB of disk left for what does not fit into memory",
    ]


def test_what_can_be_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "image.png", tmp_path / "*.png", "digits", ""):
        assert unreadable(str(path)) == ""
    assert unreadable(str(tmp_path / "none")) == "No such file or directory"
    assert unwritable(str(tmp_path), "here") == ""
    assert unwritable(str(tmp_path / "none"), "here") == "No such file or directory"
