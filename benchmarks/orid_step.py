"""Pairs a second of an ORID training step and of its parts, on the CPU or the GPU; needs no Ray.

`python benchmarks/orid_step.py [--width 1] [--batch-size 64] [--precision bfloat16] [--compile]` prints the table.
The network of tables 4-7 takes about 10.5 GFLOP a pair.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ordclust_ray.config import DataConfig, DrcConfig, ModelConfig, TrainingConfig
from ordclust_ray.core import orid_losses
from ordclust_ray.core.networks import to_unit_range
from ordclust_ray.core.order import similar_levels
from ordclust_ray.core.pairs import PairSampler
from ordclust_ray.training.orid import OridTrainer, flip

POOL, LEVELS = 20_000, 62
GFLOP_A_PAIR = 10.5  # at 64 pixels and width 1


def milliseconds(part: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of a call, after two that do not count."""
    times = []
    for _ in range(repeats + 2):
        synchronise(device)
        started = time.perf_counter()
        part()
        synchronise(device)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times[2:]))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def parts_of(trainer: OridTrainer, batch_size: int) -> dict[str, Callable[[], object]]:
    """The whole step, and its parts as far as they can be called alone."""
    device, size = trainer.device, trainer.config.data.image_size
    images = torch.randint(0, 256, (POOL, size, size, 3), dtype=torch.uint8, device=device)
    levels = torch.randint(0, LEVELS, (POOL,), device=device)
    first, last = (torch.from_numpy(edge).to(device) for edge in similar_levels(np.arange(16.0, 16 + LEVELS), 2.0))
    generator = torch.Generator(device).manual_seed(0)
    sampler = PairSampler(levels, torch.zeros_like(levels), first, last)

    def draw() -> tuple[Tensor, Tensor]:
        base = torch.randint(0, POOL, (batch_size,), generator=generator, device=device)
        reference, order = sampler.draw(base, generator)
        return images[torch.cat([base, reference])], order

    pairs, order = draw()
    real = to_unit_range(pairs)
    centroids = F.normalize(torch.randn(2 * batch_size, trainer.config.model.identity_dim, device=device), dim=1)

    def step_alone() -> Tensor:
        return trainer.step(pairs, order, centroids)

    def whole() -> Tensor:
        return trainer.step(*draw(), centroids)

    def forward_backward() -> None:
        with trainer._autocast():
            _, decoded, logits = trainer._orid(real)
        loss = orid_losses.reconstruction_loss(decoded.float(), real)
        (loss + orid_losses.comparison_loss(logits.float(), order)).backward()

    def discriminator() -> Tensor:
        return trainer._discriminator_step(real, real)

    return {
        "whole step": whole,
        "drawing of pairs": draw,
        "flip, to [-1, 1]": lambda: to_unit_range(flip(pairs)),
        "step on drawn pairs": step_alone,
        "encoder, decoder, comparator: forward, backward": forward_backward,
        "discriminator's update": discriminator,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # as in training
    config = DrcConfig(
        data=DataConfig(image_size=options.image_size),
        model=ModelConfig(width=options.width),
        training=TrainingConfig(batch_size=options.batch_size, precision=options.precision, compile=options.compile),
    )
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; {vars(options)}")
    for part, call in parts_of(OridTrainer(config, device), options.batch_size).items():
        taken = milliseconds(call, device, options.repeats)
        speed = options.batch_size / taken * 1e3
        print(f"{part:50s} {taken:9.2f} ms {speed:11.1f} pairs/s")
        if part == "whole step" and options.image_size == 64 and options.width == 1:
            print(f"{'':50s} {speed * GFLOP_A_PAIR / 1e3:9.2f} TFLOP/s")


if __name__ == "__main__":
    main()
