"""Whether the machines of a cluster are alike and see the same files, before anything expensive starts."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ordclust_ray.config import DIGITS, InputError, RunConfig
from ordclust_ray.storage import names_in, said, seen_by_all, touch

PACKAGES = ("ray", "torch", "numpy", "pyarrow", "pillow")
"""Whose versions pickles, tensors, tables and decoded pixels depend on."""
ANSWERS_WITHIN_S = 60
SECONDS_APART, BYTES_FREE = 5.0, 10 * 2**30
"""Clocks that differ by more, and disks that have less, are worth a note."""


@dataclass(frozen=True)
class Machine:
    """What a machine says of itself.

    Attributes:
        name: its address.
        versions: by package, Python's among them.
        storage: why the folder of the runs cannot be used there; empty where it can.
        data: the same of the images.
        clock: seconds by which it is ahead of the driver's.
        free: bytes on the disk of temporary files, which objects spill to.
        gpus: that Ray reckons with.
        gpus_seen: that the driver of the GPUs lists.
    """

    name: str
    versions: dict[str, str]
    storage: str
    data: str
    clock: float
    free: int
    gpus: int
    gpus_seen: int


def require_alike(run: RunConfig, path: str) -> list[str]:
    """Asks every machine of the cluster; nothing where there is only one.

    Args:
        run: says where runs are kept.
        path: of the images.

    Returns:
        Lines for people.

    Raises:
        InputError: machines that differ, or do not see the files.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return []
    with seen_by_all(run) if run.in_bucket else _folder_in(run.storage_path) as place:
        asked = {
            ray.remote(num_cpus=0)(describe)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(node["NodeManagerAddress"], int(node["Resources"].get("GPU", 0)), place, path): node
            for node in nodes
        }
        machines, waiting, end = [], list(asked), time.monotonic() + ANSWERS_WITHIN_S
        while waiting:
            answered, waiting = ray.wait(waiting, timeout=max(0.0, end - time.monotonic()))
            if not answered:
                raise InputError(f"machine {asked[waiting[0]]['NodeManagerAddress']} does not answer")
            machine = ray.get(answered[0])
            machines.append(replace(machine, clock=machine.clock - time.time()))
        written = names_in(place) if run.in_bucket else {file.name for file in Path(place).iterdir()}
    where = run.storage if run.in_bucket else str(run.storage_path)
    return compare(sorted(machines, key=lambda machine: machine.name), where, path, written)


def _folder_in(storage: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=storage, prefix=".seen-by-")


def describe(name: str, gpus: int, place: str, path: str) -> Machine:
    """This machine, with its own time; leaves a file of its name where the driver looks.

    Args:
        name: its address.
        gpus: that Ray reckons with.
        place: folder in that of the runs, or an address in their bucket.
        path: of the images.
    """
    versions = {"python": python_version()} | {package: version(package) for package in PACKAGES}
    free = shutil.disk_usage(tempfile.gettempdir()).free
    storage, data, seen = unwritable(place, name), unreadable(path), gpus_listed()
    return Machine(name, versions, storage, data, time.time(), free, gpus, seen)


def unwritable(place: str, name: str) -> str:
    """Why there can be no file of this name in a folder that exists, or in a bucket; empty where it was written."""
    try:
        if "://" in place:
            touch(place, name)
        else:
            Path(place, name).touch()
    except OSError as error:
        return said(error)
    return ""


def unreadable(path: str) -> str:
    """Why a file, the first of a pattern, or a folder cannot be read; empty where it can."""
    if path in ("", DIGITS):
        return ""
    wanted = Path(path).expanduser()
    try:
        first = min(wanted.parent.glob(wanted.name), default=wanted)
        if first.is_dir():
            with os.scandir(first) as entries:
                next(entries, None)
        else:
            with first.open("rb") as file:
                file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def gpus_listed() -> int:
    """GPUs that their driver lists; Ray hides them from who has reserved none."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def compare(machines: Sequence[Machine], storage: str, path: str, written: set[str]) -> list[str]:
    """See `require_alike`.

    Args:
        machines: that answered.
        storage: where runs are kept.
        path: of the images.
        written: names of the machines whose file the driver sees.
    """
    first = machines[0]
    for machine in machines:
        for package, found in machine.versions.items():
            if found != first.versions[package]:
                raise InputError(
                    f"{package} is {first.versions[package]} on machine {first.name} and {found} on {machine.name}; "
                    "install requirements.lock on all of them"
                )
        if machine.storage or machine.name not in written:
            why = machine.storage or "what it writes there is not seen here"
            raise InputError(f"--run.storage {storage} is not shared: machine {machine.name}: {why}")
        if machine.data:
            raise InputError(f"--data.path {path!r} cannot be read on machine {machine.name}: {machine.data}")
        if machine.gpus_seen < machine.gpus:
            raise InputError(
                f"machine {machine.name} offers {machine.gpus} GPUs, of which its driver lists {machine.gpus_seen}"
            )
    versions = ", ".join(f"{package} {found}" for package, found in first.versions.items())
    lines = [f"{len(machines)} machines with {versions}", f"all of them write to {storage}, and read the images"]
    lines += [
        f"note: the clock of machine {machine.name} differs by {machine.clock:+.0f} s"
        for machine in machines
        if abs(machine.clock) > SECONDS_APART
    ]
    lines += [
        f"note: machine {machine.name} has {machine.free / 1e9:.1f} GB of disk left for what does not fit into memory"
        for machine in machines
        if machine.free < BYTES_FREE
    ]
    return lines
