"""The driver's end of training: one Ray Train run, resumed where a run of the same name stopped."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray.data
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
    trainer = TorchTrainer(
        loop,
        train_loop_config={"job": job},
        datasets={"train": train},
        dataset_config=EqualShares(),
        scaling_config=ScalingConfig(
            num_workers=training.num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": training.cpus_per_worker}
            | ({"GPU": training.gpus_per_worker} if use_gpu else {}),
        ),
        run_config=TrainRunConfig(
            name=name,
            storage_path=str(run.storage_path),
            failure_config=FailureConfig(max_failures=training.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            logging_config=LoggingConfig(log_level="WARNING"),
            callbacks=list(callbacks),
        ),
    )
    try:
        with _restored_interrupt():
            result = trainer.fit()
    except TrainingFailedError as error:
        raise TrainingStopped(reason(error)) from error
    except SystemExit:  # Ctrl-C: Ray ends its workers, and then this process
        raise TrainingStopped("interrupted") from None
    if result.return_value:
        raise InputError(result.return_value)
    checkpoint: Checkpoint | None = result.checkpoint
    if checkpoint is None or len(json.loads((Path(checkpoint.path) / HISTORY).read_text())) < epochs:
        raise TrainingStopped("training stopped before its last epoch")
    return Path(checkpoint.path)


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
