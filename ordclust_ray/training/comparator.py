"""Training of the stronger comparator in plain torch: a step on a batch of pairs, and epochs (Lee & Kim 2021, C.4).

Clusters are those of DRC-ORID and stay. Where torch.distributed is initialised the processes train together, else the
one at hand does so alone: in a test, in a benchmark, without Ray.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ordclust_ray.config import ComparatorConfig
from ordclust_ray.core.augmentation import augment
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.order import Order
from ordclust_ray.core.orid_losses import comparison_loss
from ordclust_ray.processes import all_reduce_sum, world_size
from ordclust_ray.training.drc_orid import Problem
from ordclust_ray.training.epochs import (
    Begun,
    OnBegun,
    OnStep,
    begin_epoch,
    identity,
    ignore_step,
    keep_nothing,
    require_finite,
    steps_a_pool,
    synchronise_buffers,
)
from ordclust_ray.training.pair_batches import PairData, pair_batches

METRICS = ("loss", "accuracy")
"""What is measured of a step: the cross-entropy of the orders in nats, and the share of orders that were right."""


class ClusteredData(PairData, Protocol):
    """A process's share of the training instances, on the device that trains.

    Attributes:
        clusters: (N,) of DRC-ORID.
    """

    clusters: Tensor

    @property
    def num_pools(self) -> int:
        """Pools of the share, as many in every process."""
        ...


class ComparatorTrainer:
    """The network, its optimiser, and the step.

    Args:
        config: the run's settings.
        device: where the network lives.
        wrap: makes its gradients those of all workers (DistributedDataParallel).
    """

    def __init__(
        self, config: ComparatorConfig, device: torch.device, wrap: Callable[[nn.Module], nn.Module] = identity
    ) -> None:
        settings, self.config, self.device = config.comparator, config, device
        memory_format = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.network = ImageComparator(settings.network, settings.image_size, settings.width)
        self.network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
        if config.training.compile:
            self.network.compile(dynamic=False)  # batches have two sizes: a graph each, instead of one for any
        self._wrapped = wrap(self.network)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), config.training.learning_rate, fused=device.type == "cuda"
        )
        self.steps = 0

    def step(self, images: Tensor, order: Tensor, generator: torch.Generator) -> Tensor:
        """One update, on both orders of each pair: a comparator that is right of (x, y) has to be right of (y, x).

        Args:
            images: (2B, S, S, 3) uint8, the x of all pairs and then their y.
            order: (B,) the order of each pair.
            generator: of the augmentation, on the device.

        Returns:
            (2,) the values of `METRICS`, on the device.
        """
        training = self.config.training
        self.optimizer.param_groups[0]["lr"] = training.learning_rate_after(self.steps)
        views = augmented(images, generator, flip=training.flip, min_crop=training.min_crop)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            logits = torch.cat(self._wrapped(views))
        orders = torch.cat([order, Order.LESS - order])  # greater and less change places
        loss = comparison_loss(logits, orders)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return torch.stack([loss.detach(), (logits.argmax(dim=1) == orders).float().mean()])

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and containers only, so that it loads with `weights_only`."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


class ComparatorRun:
    """The comparator in training.

    Args:
        config: the run's settings.
        problem: what all processes know of the training set.
        data: this process's share.
        trainer: network and optimiser.
        on_step: is told of each step.
        on_begun: is told of it too, with what a checkpoint in the middle of an epoch needs.

    Attributes:
        begun: the part of the next epoch that a checkpoint holds already.
        history: one record an epoch.
    """

    def __init__(
        self,
        config: ComparatorConfig,
        problem: Problem,
        data: ClusteredData,
        trainer: ComparatorTrainer,
        on_step: OnStep = ignore_step,
        on_begun: OnBegun = keep_nothing,
    ) -> None:
        self.config, self.problem, self.data, self.trainer = config, problem, data, trainer
        self._on_step, self._on_begun, self.begun = on_step, on_begun, Begun()
        self._similar = [edges.to(trainer.device) for edges in (problem.first_similar, problem.last_similar)]
        self._batch_size = config.training.batch_size // world_size()
        self._steps_an_epoch = data.num_pools * steps_a_pool(data.bases_a_pool, self._batch_size)
        self.history: list[dict[str, Any]] = []

    def run_epoch(self) -> dict[str, Any]:
        """The next epoch, in which every image is the x of one pair; appends its record and returns it.

        Its randomness depends on the seed and the epoch alone, so that an epoch can be repeated.

        Raises:
            DivergedError: in every process, where the losses are not finite.
        """
        begun, self.begun = self.begun, Begun()
        epoch, started = len(self.history), time.perf_counter() - begun.seconds
        generator = begin_epoch(self.config.run.seed, epoch, self.trainer.device)
        steps, total = begun.steps, begun.total + torch.zeros(len(METRICS), device=self.trainer.device)
        batches = pair_batches(self.data, self.data.clusters, self._similar, self._batch_size, generator)
        for images, order, _ in itertools.islice(batches, min(steps, self._steps_an_epoch - 1), None):
            metrics = self.trainer.step(images, order, generator)
            steps, total = steps + 1, total + metrics
            self._on_step(epoch, steps, self._steps_an_epoch, dict(zip(METRICS, metrics, strict=True)))
            if steps < self._steps_an_epoch:
                self._on_begun(Begun(steps, total, time.perf_counter() - started))
        synchronise_buffers(self.trainer.network)
        means = all_reduce_sum(total) / (steps * world_size())
        require_finite(means, epoch)
        seconds = time.perf_counter() - started
        record: dict[str, Any] = {"epoch": epoch + 1, "steps": self.trainer.steps}
        record |= dict(zip(METRICS, means.tolist(), strict=True))
        record |= {"seconds": seconds, "pairs_per_second": self.problem.num_train / seconds}
        self.history.append(record)
        return record


def augmented(images: Tensor, generator: torch.Generator, *, flip: bool, min_crop: float) -> Tensor:
    """Images cropped and mirrored at random, (N, S, S, 3) uint8 again, as if they had been decoded so."""
    if not flip and min_crop == 1:
        return images
    pixels = augment(images, generator, min_crop=min_crop, jitter=0.0, grey=0.0, flip=flip)
    return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
