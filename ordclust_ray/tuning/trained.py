"""Trials that train: Ray Train inside a function trial of Ray Tune. The images lie in the object store once for all."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import ray.data
from ray import tune
from ray.train import Checkpoint, UserCallback
from ray.tune.integration.ray_train import TuneReportCallback

from ordclust_ray.config import WorkersConfig
from ordclust_ray.training.checkpoint import HISTORY
from ordclust_ray.training.fit import fit
from ordclust_ray.tuning.placement_groups import noted
from ordclust_ray.tuning.record import EPOCHS, finished_alike, reports_of
from ordclust_ray.tuning.space import with_values

TRAINING = "training"
"""Folder of the trials' checkpoints in that of the sweep, and name of the run of Ray Train in that of a trial."""


class Trials(Protocol):
    """What the trials of a sweep have in common: data, and settings that are not searched.

    Attributes:
        METRICS: what a sweep may decide by, and which end of each is best.
        LABELLED: the same, of what looks at known classes or groups.
    """

    METRICS: ClassVar[dict[str, str]]
    LABELLED: ClassVar[dict[str, str]]

    @staticmethod
    def source(config: Any) -> Any:
        """What the images come from, checked before Ray has work to do.

        Raises:
            InputError: data that cannot be used.
        """
        ...

    @staticmethod
    def least_epochs(config: Any) -> int:
        """Epochs before which some settings have not acted on the networks."""
        ...

    @classmethod
    def open(cls, config: Any, source: Any, metric: str, use_gpu: bool, **more: Any) -> "Trials":
        """Decodes the images, once for all trials.

        Args:
            config: settings of all trials.
            source: of the images.
            metric: of the sweep.
            use_gpu: whether the workers train on GPUs.
            more: settings of the validation part, where ranks are known.
        """
        ...

    @property
    def config(self) -> Any:
        """All settings."""
        ...

    @property
    def labelled(self) -> bool:
        """Whether classes or groups are known."""
        ...

    def data(self) -> dict[str, Any]:
        """For `run.refuse_other_data`."""
        ...

    def shared(self) -> "Trials":
        """What trials need of it: without what grows with the number of images, which stays with the driver."""
        ...

    def fit(self, config: Any, trial_id: str, folder: Path, callbacks: Sequence[UserCallback]) -> Path:
        """Trains with these settings, or goes on; the folder of the last checkpoint.

        Args:
            config: all settings.
            trial_id: of the trial.
            folder: of the trial.
            callbacks: are told of each report.
        """
        ...

    def save_model(self, config: Any, checkpoint: Path, model: Path) -> None:
        """Writes the model of a trial that was trained to its end.

        Args:
            config: its settings.
            checkpoint: folder of its last checkpoint.
            model: the folder, made here.
        """
        ...


class Reports(TuneReportCallback):
    """Passes reports of the workers that have the sweep's metric on to Ray Tune."""

    def __init__(self, metric: str, epochs: int) -> None:
        super().__init__()
        self._metric, self._epochs = metric, epochs

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Of the first worker."""
        if self._metric in metrics[0]:
            super().after_report(run_context, [metrics[0] | {EPOCHS: self._epochs}], checkpoint)


def train_trial(values: dict[str, Any], trials: Trials, metric: str, folder: Path) -> None:
    """A trial: trains with these settings, and reports the metric and all else that is known then.

    Where a trial was trained with the same settings before, its reports are repeated: all else, seeds too, is the same.

    Args:
        values: settings by dotted name, from the space.
        trials: data and the other settings.
        metric: of the sweep.
        folder: of the sweep.
    """
    trial_id = tune.get_context().get_trial_id()
    assert trial_id is not None
    config = with_values(trials.config, values)
    alike = finished_alike(folder, values)
    if alike:  # a search that learns comes back to what was good
        for report in reports_of(folder, alike).to_dict("records"):
            tune.report({**report, EPOCHS: config.training.epochs})
        return
    home = folder / TRAINING / trial_id
    was_done = last_checkpoint(home)
    checkpoint = trials.fit(config, trial_id, home, [Reports(metric, config.training.epochs)])
    if checkpoint == was_done:  # the driver ended after the training and before it knew
        tune.report(history_of(checkpoint)[-1] | {EPOCHS: config.training.epochs})


def fit_trial(
    loop: Callable[[dict[str, Any]], str],
    job: Any,
    train: ray.data.Dataset,
    config: Any,
    trial_id: str,
    folder: Path,
    use_gpu: bool,
    callbacks: Sequence[UserCallback],
) -> Path:
    """`training.fit.fit` in a trial's own folder, with its placement group noted; the arguments are those of both."""
    return fit(
        noted(loop, trial_id),
        job,
        train,
        name=TRAINING,
        training=config.training,
        epochs=config.training.epochs,
        run=replace(config.run, storage=str(folder)),
        use_gpu=use_gpu,
        callbacks=callbacks,
    )


def last_checkpoint(home: Path) -> Path | None:
    """Of a trial's folder; None where there is none."""
    return max((file.parent for file in home.glob(f"{TRAINING}/checkpoint_*/{HISTORY}")), default=None)


def forget_others(folder: Path, trial_id: str) -> None:
    """Removes the checkpoints of all trials but one.

    Args:
        folder: of the sweep.
        trial_id: whose checkpoints stay.
    """
    for home in (folder / TRAINING).glob("*"):
        if home.name != trial_id:
            shutil.rmtree(home, ignore_errors=True)


def history_of(checkpoint: Path) -> list[dict[str, Any]]:
    """One record an epoch."""
    found: list[dict[str, Any]] = json.loads((checkpoint / HISTORY).read_text())
    return found


def threads_each(training: WorkersConfig, machines: Sequence[float], at_once: int) -> int:
    """Threads of a worker's arithmetic where so many trials share the machines: more than their cores are far slower.

    Args:
        training: workers of a trial.
        machines: CPUs of each.
        at_once: trials at a time.

    >>> threads_each(WorkersConfig(num_workers=2), [16], 4), threads_each(WorkersConfig(), [4, 4], 1)
    (2, 4)
    >>> threads_each(WorkersConfig(threads_per_worker=3), [16], 4)
    3
    """
    shared = int(sum(machines)) // (at_once * training.max_workers)
    return training.threads_per_worker or max(1, min(shared, int(max(machines))))
