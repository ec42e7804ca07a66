"""Settings of IDFD: every limit, the variants, the recipes."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from ordclust_ray.config import (
    AugmentationConfig,
    BankConfig,
    FeaturesConfig,
    IdfdConfig,
    IdfdLossConfig,
    IdfdTrainingConfig,
    InputError,
    KMeansConfig,
    RunConfig,
    UnlabelledConfig,
)
from ordclust_ray.recipes.idfd import RECIPES

SECTIONS: dict[str, Any] = {
    "data": UnlabelledConfig,
    "model": FeaturesConfig,
    "augmentation": AugmentationConfig,
    "loss": IdfdLossConfig,
    "bank": BankConfig,
    "clustering": KMeansConfig,
    "training": IdfdTrainingConfig,
    "run": RunConfig,
}
INFINITE = math.inf
LIMITS: dict[str, tuple[float, float]] = {
    "data.image_size": (16, 256),
    "data.max_images": (0, INFINITE),
    "data.max_pixels": (1, INFINITE),
    "data.max_broken_fraction": (0, 1),
    "data.pool_images": (2, INFINITE),
    "model.width": (0.01, 4),
    "model.feature_dim": (2, INFINITE),
    "augmentation.min_crop": (0.01, 1),
    "augmentation.jitter": (0, 1),
    "augmentation.grey": (0, 1),
    "loss.instance_temperature": (0, 100),
    "loss.decorrelation_temperature": (0.01, 100),
    "loss.decorrelation_weight": (0, INFINITE),
    "loss.orthogonality_weight": (0, INFINITE),
    "bank.momentum": (0, 0.999),
    "bank.negatives": (0, INFINITE),
    "clustering.num_clusters": (0, INFINITE),
    "clustering.starts": (1, INFINITE),
    "clustering.every": (1, INFINITE),
    "clustering.sklearn_images": (0, INFINITE),
    "clustering.sample": (100, INFINITE),
    "training.batch_size": (2, INFINITE),
    "training.epochs": (1, INFINITE),
    "training.learning_rate": (0, INFINITE),
    "training.momentum": (0, 0.999),
    "training.weight_decay": (0, INFINITE),
    "training.checkpoint_every": (1, INFINITE),
    "training.num_workers": (1, INFINITE),
    "training.cpus_per_worker": (0.01, INFINITE),
    "training.gpus_per_worker": (0.01, 1),
    "training.threads_per_worker": (0, INFINITE),
    "training.max_failures": (0, INFINITE),
    "run.seed": (0, 2**32 - 1),
}


def with_setting(name: str, value: object) -> Any:
    section, field = name.split(".")
    return SECTIONS[section](**{field: value})


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_the_table_of_limits_has_every_number() -> None:
    flat = IdfdConfig().flat()
    numbers = {k for k, v in flat.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert set(LIMITS) == numbers
    expected = {f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)}
    assert set(flat) == expected


@pytest.mark.parametrize("name", LIMITS)
def test_values_outside_of_the_limits_are_refused_by_name(name: str) -> None:
    low, high = LIMITS[name]
    whole = isinstance(IdfdConfig().flat()[name], int)
    with_setting(name, low)
    wrong: list[float] = [low - 1 if whole else math.nextafter(low, -1.0)]
    if high < INFINITE:
        with_setting(name, high)
        wrong.append(high + 1)
    if not whole:
        wrong.append(math.nan)
    for value in wrong:
        with pytest.raises(InputError, match=rf"^{flag(name)} is (?:[-\d.e]+|nan); it must be .+$"):
            with_setting(name, value)


def test_what_makes_no_sense_together_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("--clustering.num-clusters is 1; it must be 0 (the known classes)")):
        KMeansConfig(num_clusters=1)
    with pytest.raises(InputError, match=r"--loss.instance-temperature is 0\.001; it must be 0 or from 0\.01"):
        IdfdLossConfig(instance_temperature=0.001)


@pytest.mark.parametrize(
    ("variant", "temperature", "terms"),
    [
        ("id-original", 0.07, ["discriminates"]),
        ("id-tuned", 1.0, ["discriminates"]),
        ("idfo", 1.0, ["discriminates", "orthogonalises"]),
        ("idfd", 1.0, ["discriminates", "decorrelates"]),
        ("ae", 1.0, ["reconstructs"]),
        ("ae-fd", 1.0, ["reconstructs", "decorrelates"]),
    ],
)
def test_variants_of_the_paper(variant: Any, temperature: float, terms: list[str]) -> None:
    loss = IdfdLossConfig(variant=variant)
    assert loss.tau == temperature
    assert IdfdLossConfig(variant=variant, instance_temperature=0.3).tau == 0.3
    names = ("discriminates", "decorrelates", "orthogonalises", "reconstructs")
    assert {name for name in names if getattr(loss, name)} == set(terms)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_builds(recipe: str) -> None:
    config = RECIPES[recipe]()
    assert isinstance(config, IdfdConfig)
    assert json.loads(json.dumps(config.flat())) == config.flat(), "settings are stored with a run"
    assert (RECIPES[recipe].__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize("recipe", ["cifar10", "cifar100", "stl10", "imagenet10", "imagenet-dog"])
def test_the_paper_s_sets_have_the_paper_s_settings(recipe: str) -> None:
    flat = RECIPES[recipe]().flat()
    large = recipe in ("stl10", "imagenet10", "imagenet-dog")
    expected = {
        "data.image_size": 96 if large else 32,
        "model.network": "resnet18", "model.width": 1.0, "model.feature_dim": 128,
        "augmentation.min_crop": 0.2, "augmentation.jitter": 0.4, "augmentation.grey": 0.2, "bank.momentum": 0.5,
        "loss.decorrelation_temperature": 2.0, "loss.decorrelation_weight": 1.0,
        "loss.orthogonality_weight": 0.5 if large else 10.0, "clustering.starts": 20, "training.epochs": 2000,
        "training.batch_size": 128, "training.learning_rate": 0.03, "training.momentum": 0.9,
        "training.weight_decay": 5e-4,
    }  # fmt: skip
    assert {name: flat[name] for name in expected} == expected
