"""Training of IDFD in plain torch: a step on a batch of images (Tao, Takagi & Nakata 2021, section 3)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import record_function

from ordclust_ray.config import IdfdConfig
from ordclust_ray.core import idfd_losses
from ordclust_ray.core.augmentation import augment
from ordclust_ray.core.feature_networks import FeatureNetwork, ImageDecoder
from ordclust_ray.processes import world_size
from ordclust_ray.training.bank import Bank, gather, gather_rows
from ordclust_ray.training.epochs import identity

NARROW = 16
PARTS = ("augmentation", "forward", "bank", "backward", "optimiser")
"""The parts of a step, as a profiler shows them."""


class IdfdTrainer:
    """The network, its optimiser, the bank, and the step.

    Args:
        config: the run's settings.
        num_rows: n, instances of all processes.
        device: that trains.
        wrap: makes the network's gradients the mean of those of all processes (DistributedDataParallel).
    """

    def __init__(
        self,
        config: IdfdConfig,
        num_rows: int,
        device: torch.device,
        wrap: Callable[[nn.Module], nn.Module] = identity,
    ) -> None:
        model, training, self.config, self.device = config.model, config.training, config, device
        size = config.data.image_size
        self.modules = nn.ModuleList([FeatureNetwork(model.network, size, model.feature_dim, model.width)])
        if config.loss.reconstructs:
            self.modules.append(ImageDecoder(size, model.feature_dim, model.width))
        self._memory_format = memory_format_of(self.modules, device)
        self.modules.to(device=device, memory_format=self._memory_format)  # type: ignore[call-overload]
        if device.type == "cuda" and world_size() > 1:  # statistics of the whole batch, as all else; not on CPUs
            self.modules = nn.SyncBatchNorm.convert_sync_batchnorm(self.modules)
        if training.compile:
            for module in self.modules:
                module.compile(dynamic=False)  # batches have two sizes: a graph each, instead of one for any
        self._wrapped = [wrap(module) for module in self.modules]
        self.optimizer = torch.optim.SGD(
            self.modules.parameters(),
            training.learning_rate,
            training.momentum,
            weight_decay=training.weight_decay,
            fused=device.type == "cuda",
        )
        self.measure: Callable[[str], AbstractContextManager[Any]] = record_function
        """Surrounds each of the parts of a step: for profilers, and for benchmarks with another clock."""
        self.bank = Bank(num_rows, model.feature_dim, device, seed=config.run.seed, negatives=config.bank.negatives)

    def step(
        self, images: Tensor, bank_rows: Tensor, sizes: list[int], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """One update of the network, and then of the bank.

        Args:
            images: (B_w, S, S, 3) uint8 of this process.
            bank_rows: (B_w,) the bank's row of each.
            sizes: B_w of each process.
            generator: of the views, on the device.

        Returns:
            The terms of the loss, of the whole batch; of the reconstruction this process's part, the mean of which over
            the processes is the whole.
        """
        with self.measure("augmentation"):
            views = augment(images, generator, **vars(self.config.augmentation))
        with self.measure("forward"), self._autocast():
            own = self._wrapped[0](views.to(memory_format=self._memory_format))
        with self.measure("bank"):
            features, rows = gather(own, sizes), gather_rows(bank_rows, sizes)
            losses = self._losses(features, rows)
        if self.config.loss.reconstructs:
            with self.measure("forward"), self._autocast():
                decoded = self._wrapped[1](own)
            # of the processes' means the wrapper takes the mean, where that of all images is meant
            share = len(own) * len(sizes) / sum(sizes)
            losses["reconstruction"] = share * F.mse_loss(decoded.float(), views)
        with self.measure("backward"):
            self.optimizer.zero_grad()
            self._total(losses).backward()
        with self.measure("optimiser"):
            self.optimizer.step()
        with self.measure("bank"):
            self.bank.update(features, rows, momentum=self.config.bank.momentum)
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses(self, features: Tensor, rows: Tensor) -> dict[str, Tensor]:
        settings, losses = self.config.loss, {}
        if settings.discriminates:
            losses["instance_discrimination"] = self.bank.loss(features, rows, temperature=settings.tau)
        if settings.decorrelates:
            losses["feature_decorrelation"] = idfd_losses.decorrelation_loss(
                features, decorrelation_temperature=settings.decorrelation_temperature
            )
        if settings.orthogonalises:
            losses["orthogonality"] = idfd_losses.orthogonality_loss(features)
        return losses

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        settings = self.config.loss
        weights = {
            "feature_decorrelation": settings.decorrelation_weight,
            "orthogonality": settings.orthogonality_weight,
        }
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.training.precision == "bfloat16")

    def set_learning_rate(self, learning_rate: float) -> None:
        """For the steps that follow."""
        self.optimizer.param_groups[0]["lr"] = learning_rate

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and containers only, so that it loads with `weights_only`; without the bank's rows."""
        return {"modules": self.modules.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])


def memory_format_of(network: nn.Module, device: torch.device) -> torch.memory_format:
    """channels_last, which is faster; not on CPUs where a 1 x 1 convolution is narrow.

    There oneDNN's backward pass writes beyond its memory (AVX-512, fewer channels than a vector holds floats).
    """
    pointwise = [part for part in network.modules() if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1)]
    narrow = any(min(part.in_channels, part.out_channels) < NARROW for part in pointwise)
    return torch.contiguous_format if device.type == "cpu" and narrow else torch.channels_last
