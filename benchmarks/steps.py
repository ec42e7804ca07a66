"""Pairs or images a second of each network that the papers' tables train, at full size; needs no Ray.

`python benchmarks/steps.py --output steps.json` on the machine that is to train them (on CPUs with `--repeats 1`);
`python jobs/reproduce.py list --steps steps.json` then says what each table would cost there.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.orid_step import milliseconds, parts_of
from ordclust_ray.config import ComparatorConfig, DrcConfig, ReproduceConfig
from ordclust_ray.reproduction.cost import Trained, network_of, trained_of
from ordclust_ray.reproduction.plans import TABLES, cells_of
from ordclust_ray.training.comparator import ComparatorTrainer
from ordclust_ray.training.idfd import IdfdTrainer
from ordclust_ray.training.orid import OridTrainer

BANK_ROWS = 50_000


def networks() -> dict[str, Trained]:
    """Settings of every network of the tables, by name."""
    options = ReproduceConfig()
    cells = [cell for plan in TABLES.values() for cell in cells_of(plan)]
    return {network_of(config): config for cell in cells for config in trained_of(cell, options)}


def step_of(config: Trained, device: torch.device) -> Callable[[], object]:
    """One step of training on random images that lie on the device."""
    if isinstance(config, DrcConfig):
        return parts_of(OridTrainer(config, device), config.training.batch_size)["whole step"]
    generator, batch = torch.Generator(device).manual_seed(0), config.training.batch_size
    if isinstance(config, ComparatorConfig):
        size, comparator = config.comparator.image_size, ComparatorTrainer(config, device)
        pairs = torch.randint(0, 256, (2 * batch, size, size, 3), dtype=torch.uint8, device=device)
        order = torch.randint(0, 3, (batch,), device=device)
        return lambda: comparator.step(pairs, order, generator)
    size, trainer = config.data.image_size, IdfdTrainer(config, BANK_ROWS, device)
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device=device)
    rows = torch.arange(batch, device=device)
    return lambda: trainer.step(images, rows, [batch], generator)


def on(config: Any, device: torch.device) -> Any:
    """Settings as the device is used: on a GPU the recipes' own, on CPUs neither bfloat16 nor compiled networks."""
    if device.type == "cuda":
        return config
    return replace(config, training=replace(config.training, precision="float32", compile=False))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # as in training
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU cores"
    speeds: dict[str, float] = {}
    kind = "GPU" if device.type == "cuda" else "CPU"
    found = {"machine": machine, "of": kind, "date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
    for name, config in networks().items():
        if options.only in name:
            settings = on(config, device)
            taken = milliseconds(step_of(settings, device), device, options.repeats)
            speeds[name] = round(settings.training.batch_size / taken * 1e3, 1)
            print(f"{name:60} {speeds[name]:10.1f}", flush=True)
            options.output.write_text(json.dumps(found | {"per_second": speeds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
