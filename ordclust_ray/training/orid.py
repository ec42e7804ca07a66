"""Training of ORID in plain torch: a step on a batch of pairs, and what surrounds it (section 3.2, B.4)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ordclust_ray.config import DrcConfig
from ordclust_ray.core import orid_losses
from ordclust_ray.core.networks import Discriminator, Orid, initialise, to_unit_range
from ordclust_ray.training.epochs import identity, steps_a_pool


class OridTrainer:
    """The four networks, their optimisers, and the step.

    Args:
        config: the run's settings.
        device: where the networks live.
        wrap: makes a network's gradients those of all workers (DistributedDataParallel).
    """

    def __init__(
        self, config: DrcConfig, device: torch.device, wrap: Callable[[nn.Module], nn.Module] = identity
    ) -> None:
        model, self.config, self.device = config.model, config, device
        size = config.data.image_size
        memory_format = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self.orid = Orid(size, model.width, model.order_dim, model.identity_dim)
        self.discriminator = Discriminator(size, model.width).apply(initialise)
        for network in (self.orid, self.discriminator):
            network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
            if config.training.compile:
                network.compile()  # before it is wrapped: the generator's loss calls the discriminator itself
        self._orid, self._discriminator = wrap(self.orid), wrap(self.discriminator)
        fused = device.type == "cuda"
        self.optimizer = torch.optim.Adam(self.orid.parameters(), config.training.learning_rate, fused=fused)
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.training.discriminator_learning_rate, fused=fused
        )
        self.steps = 0

    def step(self, images: Tensor, order: Tensor, own_centroids: Tensor | None) -> Tensor:
        """One update of encoder, decoder and comparator, then one of the discriminator.

        Args:
            images: (2B, S, S, 3) uint8, the x of all pairs and then their y.
            order: (B,) the order of each pair.
            own_centroids: (2B, D) centroid of each image's cluster, or None where there is no clustering.

        Returns:
            (6,) the values of `METRICS`, on the device.
        """
        weight, training = self.config.loss, self.config.training
        self.optimizer.param_groups[0]["lr"] = training.learning_rate * 0.5 ** (
            self.steps // training.learning_rate_halved_every
        )
        real = to_unit_range(flip(images) if training.flip else images)
        self.discriminator.requires_grad_(False)  # the gradient passes through it, not into it: no wrapper needed
        with self._autocast():
            identity_features, decoded, logits = self._orid(real)
            fooled = orid_losses.generator_loss(self.discriminator(decoded).float())
        reconstruction = orid_losses.reconstruction_loss(decoded.float(), real)
        comparison = orid_losses.comparison_loss(logits.float(), order)
        clustering = torch.zeros((), device=self.device)
        if own_centroids is not None:
            clustering = orid_losses.clustering_loss(identity_features.float(), own_centroids)
        loss = (
            weight.reconstruction_weight * reconstruction
            + weight.clustering_weight * clustering
            + weight.comparison_weight * comparison
            + weight.adversarial_weight * fooled
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        seen_through = self._discriminator_step(real, decoded.detach())
        self.steps += 1
        accuracy = (logits.argmax(dim=1) == order).float().mean()
        return torch.stack([reconstruction, clustering, comparison, fooled, seen_through, accuracy]).detach()

    def _discriminator_step(self, real: Tensor, decoded: Tensor) -> Tensor:
        self.discriminator.requires_grad_(True)
        with self._autocast():
            # One forward each: batch normalisation then sees decoded images alone, as in the generator's loss.
            logits = [self._discriminator(images).float() for images in (real, decoded.float())]
        loss = orid_losses.discriminator_loss(*logits)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        return loss

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.training.precision == "bfloat16")

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and containers only, so that it loads with `weights_only`."""
        return {
            "orid": self.orid.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        for name in ("orid", "discriminator", "optimizer", "discriminator_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.steps = state["steps"]


def flip(images: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2; (N, S, S, 3)."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(2), images)


def base_batches(num_images: int, num_bases: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Every image is a base once, in batches of nearly equal size: at most `batch_size`, at least 2 pairs.

    Args:
        num_images: in the pool; at least 2.
        num_bases: drawn in all; a few more than images where another worker has more of them, so that all
            workers make the same number of steps.
        batch_size: pairs a step.
        generator: of the order.
    """
    device = generator.device
    order = torch.randperm(num_images, generator=generator, device=device)
    order = order[torch.arange(num_bases, device=device) % num_images]
    return list(order.tensor_split(steps_a_pool(num_bases, batch_size)))


@torch.no_grad()
def encode(orid: Orid, images: Tensor, batch_size: int = 512) -> Tensor:
    """Encoder's features h (N, A + D) of uint8 images, by the network as it is in use."""
    was_training = orid.training
    orid.eval()
    parts = [orid.encoder(to_unit_range(batch)) for batch in images.split(batch_size)]
    orid.train(was_training)
    return torch.cat(parts)


def extract_features(orid: Orid, images: Tensor) -> tuple[Tensor, Tensor]:
    """Order features (N, A) and unit identity features (N, D) of uint8 images."""
    return orid.split(encode(orid, images))
