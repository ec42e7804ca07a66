"""From a cell to the settings of its jobs, at a scale."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from ordclust_ray.config import (
    ComparatorConfig,
    ComparatorNetworkConfig,
    ComparatorTrainingConfig,
    DrcConfig,
    IdfdConfig,
    ImagesConfig,
    InputError,
    ModelConfig,
    ReproduceConfig,
    RunConfig,
    TrainingConfig,
)
from ordclust_ray.datasets.registry import dataset
from ordclust_ray.recipes import comparator, drc, idfd
from ordclust_ray.reproduction.cells import DrcCell, IdfdCell

Found = TypeVar("Found")
OFF: dict[str, dict[str, Any]] = {
    "crop": {"min_crop": 1.0},
    "jitter": {"jitter": 0.0},
    "grey": {"grey": 0.0},
    "flip": {"flip": False},
}
"""What turns an augmentation off."""
SMOKE_SIZE = 16
ANALYSIS_EPOCHS = {"smoke": 3, "small": 30, "full": 30}
"""Of the small comparators of tables 11 and 12, by scale."""


def drc_config(cell: DrcCell, options: ReproduceConfig) -> DrcConfig:
    """The settings of the cell's run of train_drc.py.

    Raises:
        InputError: there is no such recipe, or a fold of a set that has none.
    """
    recipe = recipe_of(drc.RECIPES, cell.recipe)
    base = recipe()
    data = replace(
        base.data,
        path=path_of(cell.recipe, base.data, options),
        lists=_absolute(options.lists),
    )
    if cell.fold:
        data = replace(data, train_fold=cell.fold) if data.train_fold else replace(data, test_fold=cell.fold)
    base = replace(
        base,
        data=data,
        clustering=replace(base.clustering, num_clusters=cell.num_clusters, repulsion=cell.repulsion),
        training=replace(base.training, **asdict(options.training)),
        run=_run(cell.seed, options),
    )
    if options.scale == "small":
        small = drc.small()
        own = {name: getattr(small.training, name) for name in ("rounds", "batch_size", "learning_rate", "precision")}
        base = replace(base, model=small.model, training=replace(base.training, **own))
        return replace(base, data=replace(base.data, image_size=small.data.image_size))
    if options.scale == "smoke":
        training = TrainingConfig(warmup_epochs=1, rounds=1, epochs_per_round=1, batch_size=32, learning_rate=1e-3)
        model = ModelConfig(width=0.1, order_dim=8, identity_dim=16)
        base = replace(base, model=model, training=training)
        return replace(base, data=replace(base.data, image_size=SMOKE_SIZE))
    return base


def comparator_config(cell: DrcCell, options: ReproduceConfig) -> ComparatorConfig:
    """The settings of the comparator that is trained on the cell's clusters."""
    base = recipe_of(comparator.RECIPES, cell.comparator)()
    training = replace(base.training, **asdict(options.training))
    base = replace(base, training=training, run=_run(cell.seed, options))
    if options.scale == "small":
        small = comparator.small()
        return replace(base, comparator=small.comparator, training=small.training)
    if options.scale == "smoke":
        network = ComparatorNetworkConfig(image_size=SMOKE_SIZE, width=0.1, weights="none")
        return replace(base, comparator=network, training=ComparatorTrainingConfig(epochs=1, learning_rate=1e-3))
    return base


def idfd_config(cell: IdfdCell, options: ReproduceConfig) -> IdfdConfig:
    """The settings of the cell's run of train_idfd.py."""
    base = recipe_of(idfd.RECIPES, cell.recipe)()
    views = base.augmentation if options.scale == "full" else idfd.fashion_mnist().augmentation
    if cell.flip:
        views = replace(views, flip=True)
    for name in cell.without:
        views = replace(views, **OFF[name])
    base = replace(
        base,
        data=replace(base.data, path=path_of(cell.recipe, base.data, options)),
        model=replace(base.model, network=cell.network),
        loss=replace(
            base.loss,
            variant=cell.variant,
            instance_temperature=cell.instance_temperature,
            decorrelation_temperature=cell.decorrelation_temperature,
        ),
        augmentation=views,
        training=replace(base.training, **asdict(options.training)),
        run=_run(cell.seed, options),
    )
    if options.scale == "small":
        training = replace(idfd.small().training, epochs=options.epochs, precision="bfloat16")
        return replace(
            base,
            data=replace(base.data, max_images=options.images, image_size=min(base.data.image_size, 32)),
            model=replace(base.model, width=0.25),
            training=training,
            clustering=idfd.small().clustering,
        )
    if options.scale == "smoke":
        training = replace(idfd.small().training, epochs=1, batch_size=32)
        model = replace(base.model, width=0.05, feature_dim=8)
        clustering = replace(idfd.small().clustering, starts=2)
        data = replace(base.data, image_size=SMOKE_SIZE)
        return replace(base, data=data, model=model, training=training, clustering=clustering)
    return base


def path_of(recipe: str, data: ImagesConfig, options: ReproduceConfig) -> str:
    """Where the images of a recipe are: in a folder of the set's name or, where there is none, of its download's."""
    if options.path and recipe == options.recipe:
        return _absolute(options.path)
    if not data.dataset:
        return data.path
    own, shared = (options.data_path / name for name in (data.dataset, dataset(data.dataset).home or data.dataset))
    return str(shared if shared.exists() and not own.exists() else own)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _run(seed: int, options: ReproduceConfig) -> RunConfig:
    return replace(options.run, seed=seed, name="")


def recipe_of(recipes: Mapping[str, Found], name: str) -> Found:
    """A named recipe.

    Raises:
        InputError: there is none of that name.
    """
    if name not in recipes:
        raise InputError(f"there is no recipe {name!r}; it must be one of {', '.join(recipes)}")
    return recipes[name]
