"""The driver's end of training: one Ray Train run, resumed where a run of the same name stopped."""

import contextlib
import json
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray.data
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
    ResourceRequestPriority,
    get_or_create_autoscaling_coordinator,
)
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    LoggingConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train import RunConfig as TrainRunConfig
from ray.train.torch import TorchTrainer

from ordclust_ray.config import InputError, RunConfig, WorkersConfig
from ordclust_ray.training.checkpoint import HISTORY
from ordclust_ray.training.shares import EqualShares

SECONDS_KEPT = 180.0
"""A driver that is killed keeps its CPU for data so long."""


class TrainingStopped(RuntimeError):  # noqa: N818 - not an error of ours
    """Training ended without its last checkpoint; the same run name goes on from the one before."""


def fit(
    loop: Callable[[dict[str, Any]], str],
    job: Any,
    train: ray.data.Dataset,
    *,
    name: str,
    training: WorkersConfig,
    epochs: int,
    run: RunConfig,
    use_gpu: bool,
    callbacks: Sequence[UserCallback] = (),
) -> Path:
    """Trains, or goes on training, until all epochs are done.

    Args:
        loop: what every worker does; it gets `{"job": job}` and returns why going on makes no sense, or "".
        job: settings and what the workers need of the data.
        train: the images, in a random order.
        name: of the run, in the storage folder.
        training: the workers.
        epochs: of the whole run.
        run: where checkpoints go.
        use_gpu: whether the workers train on GPUs.
        callbacks: are told of each report.

    Returns:
        The folder of the last checkpoint.

    Raises:
        InputError: the settings make training diverge.
        TrainingStopped: workers were lost, or raised, more often than `max_failures`; or Ctrl-C.
    """
    elastic = training.min_workers < training.max_workers
    trainer = TorchTrainer(
        loop,
        train_loop_config={"job": job},
        datasets={"train": train},
        dataset_config=EqualShares(train, training.min_workers, training.max_workers),
        scaling_config=ScalingConfig(
            num_workers=(training.min_workers, training.max_workers) if elastic else training.max_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": training.cpus_per_worker}
            | ({"GPU": training.gpus_per_worker} if use_gpu else {}),
        ),
        run_config=TrainRunConfig(
            name=name,
            storage_path=run.storage if run.in_bucket else str(run.storage_path),
            failure_config=FailureConfig(max_failures=training.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="WARNING"),
            callbacks=list(callbacks),
        ),
    )
    try:
        with _restored_interrupt(), cpu_for_data() if elastic else contextlib.nullcontext():
            result = trainer.fit()
    except TrainingFailedError as error:
        raise TrainingStopped(reason(error)) from error
    except SystemExit:  # Ctrl-C: Ray ends its workers, and then this process
        raise TrainingStopped("interrupted") from None
    if result.return_value:
        raise InputError(result.return_value)
    checkpoint: Checkpoint | None = result.checkpoint
    folder = None if checkpoint is None else _here(checkpoint, run, name)
    if folder is None or len(json.loads((folder / HISTORY).read_text())) < epochs:
        raise TrainingStopped("training stopped before its last epoch")
    return folder


def _here(checkpoint: Checkpoint, run: RunConfig, name: str) -> Path:
    """Its folder, of the last one in a bucket a copy."""
    if not run.in_bucket:
        return Path(checkpoint.path)
    copy = run.storage_path / name / ".last_checkpoint"
    shutil.rmtree(copy, ignore_errors=True)
    return Path(checkpoint.to_directory(str(copy)))


@contextlib.contextmanager
def cpu_for_data() -> Iterator[None]:
    """Keeps a CPU out of the hands of an elastic training, by asking the actor that it will ask for its room.

    It takes all that it gets, and would wait forever for the images of a lost machine, which tasks make again.
    """
    coordinator, name, over = get_or_create_autoscaling_coordinator(), f"data-{uuid.uuid4().hex}", threading.Event()

    def ask() -> None:
        ray.get(
            coordinator.request_resources.remote(
                name, [{"CPU": 1.0}], expire_after_s=SECONDS_KEPT, priority=ResourceRequestPriority.HIGH
            )
        )

    def keep_asking() -> None:
        while not over.wait(SECONDS_KEPT / 3):
            ask()

    ask()
    keeper = threading.Thread(target=keep_asking, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        ray.get(coordinator.cancel_request.remote(name))


@contextlib.contextmanager
def _restored_interrupt() -> Iterator[None]:
    """Ray Train takes Ctrl-C for itself, in the main thread, and keeps it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def reason(error: TrainingFailedError) -> str:
    """One line: what the first worker raised, else what Ray says."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    lines = [line.strip() for line in str(failures[0]).splitlines() if line.strip()]
    return lines[-1] if lines else type(failures[0]).__name__
