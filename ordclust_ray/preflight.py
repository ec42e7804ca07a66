"""Checks of the cluster before anything expensive starts: what would hang is an error in one line instead."""

import shutil
import tempfile
from pathlib import Path

import ray

from ordclust_ray.config import InputError, TrainingConfig


def preflight(training: TrainingConfig, storage: Path) -> tuple[list[str], bool]:
    """Says what the run will use.

    Args:
        training: workers and what each reserves.
        storage: folder of the runs.

    Returns:
        Two lines for people, and whether the workers train on GPUs.

    Raises:
        InputError: workers that the machines cannot hold, no CPU left for reading data (Ray Data would wait for one
            forever).
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    workers, each = training.num_workers, training.cpus_per_worker
    left = cpus - workers * each
    plan = f"{cpus:g} CPUs, {gpus} GPUs; {workers} worker{'s' * (workers > 1)} x {each:g} CPU"
    if left < 1:
        raise InputError(
            f"{plan} leave {left:g} for reading data, which needs 1: "
            "lower --training.num-workers or --training.cpus-per-worker"
        )
    room = room_for_workers([node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]], each)
    if room < workers:
        raise InputError(
            f"{plan}: beside a whole CPU for data the machines have room for {room}, as a worker has to fit on one"
        )
    if 0 < gpus < workers:
        raise InputError(f"{plan}: more workers than GPUs; lower --training.num-workers to {gpus}")
    free, memory = shutil.disk_usage(storage).free, resources.get("object_store_memory", 0.0)
    lines = [
        f"{plan} leave {left:g} for data",
        f"runs in {storage} ({free / 1e9:.0f} GB free); {memory / 1e9:.1f} GB of shared memory for images",
    ]
    return lines, gpus > 0


def room_for_workers(cpus: list[float], each: float) -> int:
    """How many workers fit on machines with so many CPUs, one CPU of which is kept for data; none is divided.

    >>> room_for_workers([4, 1, 1], 2), room_for_workers([2, 2], 1.5), room_for_workers([2], 0.4)
    (2, 1, 2)
    """
    room = [int(machine / each + 1e-9) for machine in cpus]
    with_data = [int(max(machine - 1, 0) / each + 1e-9) for machine in cpus]
    return sum(room) - min(a - b for a, b, machine in zip(room, with_data, cpus, strict=True) if machine >= 1)


def make_storage(storage: Path) -> None:
    """Makes the folder of the runs where it is missing.

    Raises:
        InputError: it cannot be made, or not be written.
    """
    try:
        storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=storage):
            pass
    except OSError as error:
        raise InputError(f"--run.storage {storage} cannot be used: {error.strerror}") from None
