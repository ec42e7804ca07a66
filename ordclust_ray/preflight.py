"""Checks of the cluster before anything expensive starts: what would hang is an error in one line instead."""

import shutil
from pathlib import Path

import ray

from ordclust_ray.config import TrainingConfig


def preflight(training: TrainingConfig, storage: Path) -> tuple[list[str], bool]:
    """Says what the run will use.

    Args:
        training: workers and what each reserves.
        storage: folder of the runs; made where it is missing.

    Returns:
        Two lines for people, and whether the workers train on GPUs.

    Raises:
        ValueError: workers that the cluster cannot hold, no CPU left for reading data (Ray Data would wait for one
            forever), or a storage folder that cannot be written.
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    workers, each = training.num_workers, training.cpus_per_worker
    left = cpus - workers * each
    plan = f"{cpus:g} CPUs, {gpus} GPUs; {workers} worker{'s' * (workers > 1)} x {each:g} CPU"
    if left < 1:
        raise ValueError(
            f"{plan} leave {left:g} for reading data, which needs 1: "
            "lower --training.num-workers or --training.cpus-per-worker"
        )
    if 0 < gpus < workers:
        raise ValueError(f"{plan}: more workers than GPUs; lower --training.num-workers to {gpus}")
    try:
        storage.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(storage).free
    except OSError as error:
        raise ValueError(f"--run.storage {storage} cannot be used: {error.strerror}") from None
    memory = resources.get("object_store_memory", 0.0)
    lines = [
        f"{plan} leave {left:g} for data",
        f"runs in {storage} ({free / 1e9:.0f} GB free); {memory / 1e9:.1f} GB of shared memory for images",
    ]
    return lines, gpus > 0
