"""Small generated copies of the data sets, in their real layout, on which whole tables run in a minute."""

from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version

from ordclust_ray.config import ComparatorConfig, InputError, ReproduceConfig
from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.reproduction.cells import Cell
from ordclust_ray.reproduction.cost import trained_of

FOLDER = f"generated-{version('ordclust_ray')}"
"""Another version may generate others, and measure otherwise."""


def generate_copies(options: ReproduceConfig, cells: Iterable[Cell]) -> ReproduceConfig:
    """Writes the copies that cells need and that are not there yet; options that find them."""
    folder = options.run.storage_path / FOLDER
    configs = [config for cell in cells for config in trained_of(cell, options)]
    names = {config.data.dataset for config in configs if not isinstance(config, ComparatorConfig)}
    for name in sorted(names):
        if name not in DATASETS:
            raise InputError("--scale smoke needs a recipe of a data set, of which it makes a small copy")
        if not (folder / name).exists():
            new = folder / f"{name}.new"
            new.mkdir(parents=True, exist_ok=True)
            generate = DATASETS[name].generate
            assert generate is not None, f"{name} has no generated copy"
            generate(new)
            new.rename(folder / name)
    return replace(options, data=str(folder))
