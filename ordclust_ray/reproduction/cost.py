"""What a cell would cost: how often its networks see an image, and how long that takes where it was measured."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from ordclust_ray.config import (
    ComparatorConfig,
    DataConfig,
    DrcConfig,
    IdfdConfig,
    ImagesConfig,
    InputError,
    ReproduceConfig,
)
from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.reproduction.cells import Cell, DrcCell
from ordclust_ray.reproduction.plans import Plan, cells_of
from ordclust_ray.reproduction.settings import comparator_config, drc_config, idfd_config

Trained = DrcConfig | ComparatorConfig | IdfdConfig
PAIRS, IMAGES = "pairs", "images"
STEPS = "measured_steps.json"
SUBSETS, FOLDS = 3, 5
"""Of MORPH's settings B and C."""
CLUSTERED_WHOLE = ("stl10", "imagenet10", "imagenet-dog")
"""Of other sets a part is held out."""


def trained_of(cell: Cell, options: ReproduceConfig) -> list[Trained]:
    """The settings of the networks that a cell trains."""
    if not isinstance(cell, DrcCell):
        return [idfd_config(cell, options)]
    found: list[Trained] = [drc_config(cell, options)]
    return [*found, comparator_config(cell, options)] if cell.comparator else found


def work_of(cell: Cell, options: ReproduceConfig) -> dict[str, int]:
    """Pairs, or images, that each of the cell's networks is trained on, by the names of `network_of`."""
    configs = trained_of(cell, options)
    assert not isinstance(configs[0], ComparatorConfig)
    images = training_images(configs[0].data)
    return {network_of(config): images * config.training.epochs for config in configs}


def network_of(config: Trained) -> str:
    """Name of what is trained, with the side of its images: "ORID, 64 pixels, pairs"."""
    if isinstance(config, DrcConfig):
        return f"ORID, {config.data.image_size} pixels, {PAIRS}"
    if isinstance(config, ComparatorConfig):
        return f"comparator {config.comparator.network}, {config.comparator.image_size} pixels, {PAIRS}"
    return f"{config.model.network}, {config.data.image_size} pixels, {IMAGES}"


def training_images(data: ImagesConfig) -> int:
    """Of the published counts of a set: those that a run is trained on."""
    published = DATASETS[data.dataset].published
    if isinstance(data, DataConfig) and data.train_fold:
        return published["images"] // SUBSETS
    if isinstance(data, DataConfig) and data.test_fold:
        return published["images"] * (FOLDS - 1) // FOLDS
    if "images" in published:
        return published["images"] if data.dataset in CLUSTERED_WHOLE else published["images"] * 4 // 5
    return published["train"] + (published["test"] if data.dataset in CLUSTERED_WHOLE else 0)


def measured_steps(file: Path | None = None) -> dict[str, Any]:
    """What `benchmarks/steps.py` measured; ours where no file is given.

    Returns:
        `machine`, `of` ("GPU" or "CPU"), `date`, and `per_second` by network.

    Raises:
        InputError: there is no such file, or it is another one.
    """
    if file is None:
        return json.loads((files("ordclust_ray.reproduction") / STEPS).read_text())
    if not file.is_file():
        raise InputError(f"--steps is {str(file)!r}; there is no such file")
    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = {}
    if missing := {"machine", "of", "date", "per_second"} - {*found}:
        raise InputError(f"--steps is {str(file)!r}, which lacks {min(missing)!r}; it must be of benchmarks/steps.py")
    return found


def hours(cells: Iterable[Cell], options: ReproduceConfig, per_second: Mapping[str, float]) -> float:
    """Of training alone, what cells share once; NaN where a network's speed was not measured."""
    work = {(cell.base, network): amount for cell in cells for network, amount in work_of(cell, options).items()}
    return sum(amount / per_second.get(network, float("nan")) / 3600 for (_, network), amount in work.items())


def overview(plans: Mapping[str, Plan], options: ReproduceConfig) -> str:
    """What each table needs: data sets, runs, pairs and images, and the hours of training on the measured machine."""
    steps = measured_steps(Path(options.steps).expanduser() if options.steps else None)
    rows = []
    for name, plan in plans.items():
        cells = [replace(cell, seed=seed) for seed in options.seeds for cell in cells_of(plan)]
        sets = dict.fromkeys(
            config.data.dataset for cell in cells for config in trained_of(cell, options)
            if not isinstance(config, ComparatorConfig)
        )  # fmt: skip
        taken = hours(cells, options, steps["per_second"])
        rows.append((name, len(cells), taken, ", ".join(sets), plan.title))
    unit = f"{steps['of']} hours"
    table = pd.DataFrame(rows, columns=["name", "runs", unit, "data sets", "what"]).set_index("name")
    return (
        f"{table.to_string(float_format='{:,.0f}'.format, max_colwidth=80)}\n\n"
        f"{unit}: of training alone, from steps measured on {steps['machine']} ({steps['date']}; "
        "benchmarks/steps.py measures those of another machine, for --steps); tables share runs"
    )
