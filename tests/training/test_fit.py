"""Training that cannot go on ends in one line that says why."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from ray.train import ControllerError, WorkerGroupError

from ordclust_ray.config import DrcConfig, InputError, ModelConfig, RunConfig, TrainingConfig
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.fit import TrainingStopped, fit, reason
from ordclust_ray.training.orid_worker import TrainJob, train_orid


def trained(config: DrcConfig, prepared: Prepared, watcher: Watcher, name: str) -> Path:
    problem = Problem.of(prepared.train.count(), prepared.rank_levels, config.rank, len(prepared.groups))
    return fit(
        train_orid,
        TrainJob(config, problem, watcher.monitor),
        prepared.train,
        name=name,
        training=config.training,
        epochs=config.training.epochs,
        run=config.run,
        use_gpu=False,
    )


def tiny(config: DrcConfig, storage: Path, **training: float) -> DrcConfig:
    return replace(
        config,
        model=ModelConfig(width=0.1, order_dim=8, identity_dim=12),
        training=TrainingConfig(rounds=100, **training),  # type: ignore[arg-type]
        run=RunConfig(storage=str(storage)),
    )


def test_a_diverged_training_is_not_tried_again(prepared: Prepared, small_config: DrcConfig, tmp_path: Path) -> None:
    config = tiny(small_config, tmp_path, learning_rate=1e30)
    records: list[dict[str, int]] = []
    with (
        Watcher(ProgressBar(config.training.epochs), records.append) as watcher,
        pytest.raises(InputError, match=r"\Athe losses of epoch 1 are not finite: lower --training.learning-rate\Z"),
    ):
        trained(config, prepared, watcher, "diverged")
    assert records == []
    assert not list((tmp_path / "diverged").glob("checkpoint_*"))


def test_ctrl_c_stops_and_is_given_back(prepared: Prepared, small_config: DrcConfig, tmp_path: Path) -> None:
    config = tiny(small_config, tmp_path)
    before = signal.getsignal(signal.SIGINT)
    pressed: list[int] = []

    def press(record: dict[str, int]) -> None:
        if not pressed:
            os.kill(os.getpid(), signal.SIGINT)
        pressed.append(record["epoch"])

    with (
        Watcher(ProgressBar(config.training.epochs), press) as watcher,
        pytest.raises(TrainingStopped, match="interrupted"),
    ):
        trained(config, prepared, watcher, "interrupted")
    assert pressed[0] == 1
    assert pressed[-1] < config.training.epochs
    assert signal.getsignal(signal.SIGINT) is before
    assert list((tmp_path / "interrupted").glob("checkpoint_*"))


def test_what_the_first_worker_raised() -> None:
    trace = "Traceback (most recent call last):\n  File x\nValueError: 3 feature rows are zero or not finite\n"
    failed = WorkerGroupError("two workers", {1: RuntimeError(trace), 2: RuntimeError("other")})
    assert reason(failed) == "ValueError: 3 feature rows are zero or not finite"


def test_what_ray_says_where_no_worker_raised() -> None:
    assert "no placement group" in reason(ControllerError(RuntimeError("no placement group")))
