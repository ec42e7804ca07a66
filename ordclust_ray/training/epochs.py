"""What the epochs of both systems share: pools of images, seeds, numbers of steps, losses that have to be finite."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ordclust_ray.processes import all_reduce_sum, process_rank, world_size


class DivergedError(ArithmeticError):
    """Training has left the finite numbers; repeating the epoch would not help."""


@dataclass(frozen=True)
class Pool:
    """Images that batches are drawn from, on the device that trains.

    Attributes:
        images: (N, S, S, 3) uint8.
        rows: (N,) where these images stand in the worker's shard.
    """

    images: Tensor
    rows: Tensor


def identity(module: nn.Module) -> nn.Module:
    """The wrapper of a single process."""
    return module


def steps_a_pool(num_bases: int, batch_size: int) -> int:
    """Batches that so many images, or pairs, are dealt into: of at most this size, and of at least 2.

    >>> steps_a_pool(10, 4), steps_a_pool(3, 2)
    (3, 1)
    """
    return max(1, min(-(-num_bases // batch_size), num_bases // 2))


Measure = Callable[[Any], dict[str, float]]
"""What somebody wants to know of the model after an epoch, asked in every process: numbers for the epoch's record."""
OnStep = Callable[[int, int, int, Mapping[str, Tensor]], None]
"""Is told of a step: the epoch from 0, the step from 1, steps an epoch, the step's losses."""


def ignore_step(epoch: int, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
    """Tells nobody."""


def ask_nothing(model: Any) -> dict[str, float]:
    """Wants to know nothing."""
    return {}


@dataclass(frozen=True)
class Begun:
    """An epoch in its middle. One that a checkpoint holds goes on with its next step: no image comes twice.

    Attributes:
        steps: that are done.
        total: sum over them of what is measured; of a checkpoint the mean over the processes.
        seconds: that they took.
    """

    steps: int = 0
    total: Tensor | float = 0.0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; asked in every process at the same step."""
        total = all_reduce_sum(torch.as_tensor(self.total)) / world_size()
        return {"steps": self.steps, "total": total, "seconds": self.seconds}


OnBegun = Callable[[Begun], None]
"""Is told how far the epoch has come, after each step but the last, in every process."""


def keep_nothing(begun: Begun) -> None:
    """Nobody wants to know."""


def begin_epoch(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    """Seeds torch by the run's seed, the epoch and the process, so that an epoch can be repeated.

    Returns:
        A generator on the device, of the same seed.
    """
    own = int(np.random.SeedSequence([seed, epoch, process_rank()]).generate_state(1)[0])
    torch.manual_seed(own)
    return torch.Generator(device).manual_seed(own)


def require_finite(losses: Tensor, epoch: int) -> None:
    """Raises DivergedError where the mean losses of an epoch, counted from 0, are not finite."""
    if not losses.isfinite().all():
        raise DivergedError(f"the losses of epoch {epoch + 1} are not finite: lower --training.learning-rate")


def synchronise_buffers(module: nn.Module) -> None:
    """Batch normalisation's statistics are those of process 0, as in the checkpoint, in every process."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
