"""Checks of the cluster before anything expensive starts: what would hang is an error in one line instead."""

import shutil
import tempfile

import ray

from ordclust_ray.config import InputError, RunConfig, WorkersConfig
from ordclust_ray.machines import require_alike
from ordclust_ray.storage import make_bucket_usable


def preflight(training: WorkersConfig, run: RunConfig, path: str = "") -> tuple[list[str], bool]:
    """Says what the run will use.

    Args:
        training: workers and what each reserves.
        run: where it is kept.
        path: of the images.

    Returns:
        Lines for people, and whether the workers train on GPUs.

    Raises:
        InputError: workers that the machines cannot hold, no CPU left for reading data (Ray Data would wait for one
            forever), machines that differ or do not share the files.
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    workers, each = training.min_workers, training.cpus_per_worker
    left = cpus - workers * each
    plan = f"{cpus:g} CPUs, {gpus} GPUs; {training.num_workers} worker{'s' * (training.max_workers > 1)} x {each:g} CPU"
    if left < 1:
        raise InputError(
            f"{plan} leave {left:g} for reading data, which needs 1: "
            "lower --training.num-workers or --training.cpus-per-worker"
        )
    most = gpus * int(1 / training.gpus_per_worker + 1e-9)
    if gpus > 0 and most < workers:
        raise InputError(f"{plan}: more workers than GPUs; lower --training.num-workers to {most}")
    room = room_for(training)
    if room < workers:
        raise InputError(
            f"{plan}: beside a whole CPU for data the machines have room for {room}, as a worker has to fit on one"
        )
    free, memory = shutil.disk_usage(run.storage_path).free, resources.get("object_store_memory", 0.0)
    left = cpus - min(room, training.max_workers) * each
    busy = cpus - ray.available_resources().get("CPU", 0.0)
    where = f"{run.storage}, copies in {run.storage_path}" if run.in_bucket else run.storage_path
    lines = [
        f"{plan} leave {left:g} for data" + (f"; {busy:g} are in use by others, and waited for" if busy else ""),
        f"runs in {where} ({free / 1e9:.0f} GB free); {memory / 1e9:.1f} GB of shared memory for images",
    ]
    return lines + require_alike(run, path), gpus > 0


def room_for(training: WorkersConfig) -> int:
    """How many such workers fit on the cluster beside a CPU for data."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [(own.get("CPU", 0.0), own.get("GPU", 0.0)) for own in alive]
    gpus = training.gpus_per_worker if any(gpus for _, gpus in machines) else 0.0
    return room_for_workers(machines, training.cpus_per_worker, gpus)


def room_for_workers(machines: list[tuple[float, float]], cpus_each: float, gpus_each: float = 0.0) -> int:
    """How many workers fit on machines with so many CPUs and GPUs, one CPU of which is kept for data; none is divided.

    >>> room_for_workers([(4, 0), (1, 0), (1, 0)], 2)
    2
    >>> room_for_workers([(8, 0), (1, 2)], 1, 1)  # the CPU for data is one without a GPU
    1
    >>> room_for_workers([(8, 2)], 1, 0.4)  # two share a GPU, and what is left of both is no third
    4
    """

    def fits(cpus: float, gpus: float) -> int:
        workers = int(max(cpus, 0) / cpus_each + 1e-9)
        return min(workers, int(gpus) * int(1 / gpus_each + 1e-9)) if gpus_each else workers

    lost = [fits(cpus, gpus) - fits(cpus - 1, gpus) for cpus, gpus in machines if cpus >= 1]
    return sum(fits(cpus, gpus) for cpus, gpus in machines) - min(lost, default=0)


def make_storage(run: RunConfig) -> None:
    """Makes the folder of the runs where it is missing.

    Raises:
        InputError: it cannot be made, or not be written.
    """
    storage = run.storage_path
    try:
        storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=storage):
            pass
    except OSError as error:
        raise InputError(f"--run.storage {storage} cannot be used: {error.strerror}") from None
    if run.in_bucket:
        make_bucket_usable(run)
