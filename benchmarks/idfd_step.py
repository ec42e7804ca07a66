"""Images a second of IDFD's training and the shares of its parts, against the loop that a user would write; no Ray.

`python benchmarks/idfd_step.py [--network convnet] [--width 0.25] [--image-size 32] [--batch-size 128]` prints the
tables; on a GPU add `--precision bfloat16 --compile`. Both train the same network on the same random images with the
same losses. The plain loop decodes nothing either: torchvision's transforms per image, in a DataLoader's processes.
"""

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ordclust_ray.config import (
    AugmentationConfig,
    FeaturesConfig,
    IdfdConfig,
    IdfdTrainingConfig,
    KMeansConfig,
    UnlabelledConfig,
)
from ordclust_ray.core.feature_networks import FeatureNetwork
from ordclust_ray.core.idfd_losses import decorrelation_loss
from ordclust_ray.training.idfd import PARTS, IdfdTrainer
from ordclust_ray.training.idfd_run import Idfd, ImagesInMemory

RESNET18_GFLOP = 3.3  # an image of 32 pixels, forward and backward


class Views(Dataset[tuple[Tensor, int]]):
    """What a user writes: an image at a time through torchvision."""

    def __init__(self, images: NDArray[np.uint8], flip: bool) -> None:
        self.images = images
        size = images.shape[1]
        self.transform = v2.Compose(
            [
                v2.ToPILImage(),
                v2.RandomResizedCrop(size, scale=(0.2, 1.0)),
                v2.ColorJitter(0.4, 0.4, 0.4),
                v2.RandomGrayscale(0.2),
                v2.RandomHorizontalFlip(0.5 if flip else 0.0),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(self.images[i]), i


def plain_epochs(config: IdfdConfig, images: NDArray[np.uint8], device: torch.device, workers: int) -> Iterator[float]:
    """Seconds of an epoch of the plain loop, again and again."""
    model, training = config.model, config.training
    torch.manual_seed(0)
    network = FeatureNetwork(model.network, config.data.image_size, model.feature_dim, model.width).to(device)
    bank = F.normalize(torch.randn(len(images), model.feature_dim, device=device), dim=1)
    optimizer = torch.optim.SGD(network.parameters(), training.learning_rate, 0.9, weight_decay=5e-4)
    loader = DataLoader(
        Views(images, config.augmentation.flip),
        training.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        started = time.perf_counter()
        for views, rows in loader:
            views, rows = views.to(device, non_blocking=True), rows.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                features = network(views)
            loss = F.cross_entropy(features @ bank.T, rows) + decorrelation_loss(features)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bank[rows] = F.normalize(0.5 * bank[rows] + 0.5 * features.detach(), dim=1)
        synchronise(device)
        yield time.perf_counter() - started


def our_epochs(model: Idfd) -> Iterator[float]:
    """Seconds of an epoch of ours, again and again."""
    while True:
        yield model.run_epoch()["seconds"]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Clock:
    """Seconds by part; each part waits for the device, so the whole is a little slower."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, defaultdict[str, float](float)

    def __call__(self, part: str) -> AbstractContextManager[None]:
        return self._measure(part)

    @contextmanager
    def _measure(self, part: str) -> Iterator[None]:
        synchronise(self.device)
        started = time.perf_counter()
        yield
        synchronise(self.device)
        self.seconds[part] += time.perf_counter() - started


def shares(model: Idfd, device: torch.device) -> dict[str, float]:
    """Of an epoch: waiting for data, the parts of the steps, and what is left."""
    clock = Clock(device)
    model.trainer.measure = clock
    record = model.run_epoch()
    found = {"data wait": record["data_wait"]}
    found |= {part: clock.seconds[part] / record["seconds"] for part in PARTS}
    return found | {"else": 1 - sum(found.values())}


def in_turns(ours: Iterator[float], theirs: Iterator[float], repeats: int) -> tuple[list[float], list[float]]:
    """One epoch of each after another, so that a noisy machine is noisy for both; the first of each does not count."""
    times = [(next(ours), next(theirs)) for _ in range(repeats + 1)][1:]
    return [mine for mine, _ in times], [its for _, its in times]


def settings(options: argparse.Namespace) -> IdfdConfig:
    return IdfdConfig(
        data=UnlabelledConfig(image_size=options.image_size),
        model=FeaturesConfig(network=options.network, width=options.width),
        augmentation=AugmentationConfig(flip=True),
        clustering=KMeansConfig(every=10**6),
        training=IdfdTrainingConfig(
            epochs=10**6,
            batch_size=options.batch_size,
            precision=options.precision,
            compile=options.compile,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--loader-workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # as in training
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; torch {torch.__version__}; {vars(options)}")
    report(settings(options), options, device)


def report(config: IdfdConfig, options: Any, device: torch.device) -> None:
    size, n = config.data.image_size, options.images
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    data = ImagesInMemory(torch.from_numpy(images).to(device), torch.arange(n, device=device))
    torch.manual_seed(0)
    model = Idfd(config, 2, np.full(n, -1), data, IdfdTrainer(config, n, device))
    ours, theirs = in_turns(
        our_epochs(model), plain_epochs(config, images, device, options.loader_workers), options.repeats
    )
    mine, its = n / np.median(ours), n / np.median(theirs)
    print(f"{'ours':20s} {mine:10.1f} images/s   ({n / max(ours):.1f} to {n / min(ours):.1f})")
    print(f"{'plain loop':20s} {its:10.1f} images/s   ({n / max(theirs):.1f} to {n / min(theirs):.1f})")
    print(f"{'ratio':20s} {mine / its:10.2f}")
    if options.network == "resnet18" and options.width == 1 and size == 32:
        print(f"{'arithmetic':20s} {mine * RESNET18_GFLOP / 1e3:10.2f} TFLOP/s")
    for part, share in shares(model, device).items():
        print(f"{part:20s} {share:10.1%}")


if __name__ == "__main__":
    main()
