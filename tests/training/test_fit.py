"""Training that cannot go on ends in one line that says why."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ordclust_ray.config import DrcConfig, ModelConfig, RunConfig, TrainingConfig
from ordclust_ray.core.order import similar_levels
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.progress import ProgressBar, Watcher
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.fit import TrainingStopped, fit
from ordclust_ray.training.worker import TrainJob


def test_features_that_overflow_are_named(prepared: Prepared, small_config: DrcConfig, tmp_path: Path) -> None:
    config = replace(
        small_config,
        model=ModelConfig(width=0.1, order_dim=8, identity_dim=12),
        training=TrainingConfig(warmup_epochs=1, rounds=1, learning_rate=1e30, max_failures=0),
        run=RunConfig(storage=str(tmp_path)),
    )
    first, last = (torch.from_numpy(edge) for edge in similar_levels(prepared.rank_levels, 0.0))
    problem = Problem(prepared.train.count(), first, last, 0)
    with Watcher(ProgressBar(config.training.epochs), lambda record: None) as watcher:
        job = TrainJob(config, problem, watcher.monitor)
        with pytest.raises(TrainingStopped, match="feature rows are zero or not finite; first instances: "):
            fit(job, prepared.train, name="diverged", use_gpu=False)
