"""Settings of the stronger comparator: every limit, ranks as in the run or not, the recipes."""

import dataclasses
import json
import math
from typing import Any

import pytest
from cli import parse

from ordclust_ray.config import (
    ComparatorConfig,
    ComparatorNetworkConfig,
    ComparatorTrainingConfig,
    ComparedRankConfig,
    InputError,
    RankConfig,
    RunConfig,
)
from ordclust_ray.core.image_comparator import NETWORKS
from ordclust_ray.recipes.comparator import RECIPES

SECTIONS: dict[str, Any] = {
    "comparator": ComparatorNetworkConfig,
    "rank": ComparedRankConfig,
    "training": ComparatorTrainingConfig,
    "run": RunConfig,
}
INFINITE = math.inf
LIMITS: dict[str, tuple[float, float]] = {
    "comparator.image_size": (16, 512),
    "comparator.width": (0.01, 4),
    "training.batch_size": (2, INFINITE),
    "training.epochs": (1, INFINITE),
    "training.learning_rate": (0, INFINITE),
    "training.learning_rate_factor": (0.01, 1),
    "training.learning_rate_every": (1, INFINITE),
    "training.min_crop": (0.01, 1),
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


def test_the_table_of_limits_has_every_number() -> None:
    flat = ComparatorConfig().flat()
    numbers = {k for k, v in flat.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert set(LIMITS) == numbers


@pytest.mark.parametrize("name", [*LIMITS, "rank.tolerance"])
def test_values_outside_of_the_limits_are_refused_by_name(name: str) -> None:
    low, high = LIMITS.get(name, (0, INFINITE))
    whole = isinstance(ComparatorConfig().flat()[name], int)
    with_setting(name, low)
    wrong: list[float] = [low - 1 if whole else math.nextafter(low, -1.0)]
    if high < INFINITE:
        with_setting(name, high)
        wrong.append(high + 1)
    if not whole:
        wrong.append(math.nan)
    for value in wrong:
        flag = "--" + name.replace("_", "-")
        with pytest.raises(InputError, match=rf"^{flag} is (?:[-\d.e]+|nan); it must be .+$"):
            with_setting(name, value)


def test_networks_are_those_that_there_are() -> None:
    for network in NETWORKS:
        assert parse(RECIPES, "small", ["--comparator.network", network, "--comparator.width", "1"])[1].comparator.width


def test_efficientnet_has_one_width() -> None:
    with pytest.raises(InputError, match=r"^--comparator.width is 0\.5; it must be 1 with efficientnet_b4$"):
        ComparatorNetworkConfig(network="efficientnet_b4", width=0.5)


def test_ranks_are_those_of_the_run_unless_given() -> None:
    run = RankConfig(scale="geometric", tolerance=0.1, step=5.0)
    assert ComparedRankConfig().resolved(run) == run
    assert ComparedRankConfig(tolerance=0.2).resolved(run) == dataclasses.replace(run, tolerance=0.2)
    found = ComparedRankConfig(scale="linear", tolerance=0.0).resolved(run)
    assert found == dataclasses.replace(run, scale="linear", tolerance=0.0)
    with pytest.raises(InputError, match=r"^--rank.scale is linear, that of the run geometric; it needs a --rank.tol"):
        ComparedRankConfig(scale="linear").resolved(run)
    assert ComparedRankConfig(scale="geometric").resolved(RankConfig()).scale == "geometric"


def test_learning_rate_falls_again_and_again() -> None:
    training = ComparatorTrainingConfig(learning_rate=1.0, learning_rate_factor=0.5, learning_rate_every=10)
    assert [training.learning_rate_after(steps) for steps in (0, 9, 10, 19, 20, 35)] == [1, 1, 0.5, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_parsed_and_kept(recipe: str) -> None:
    name, config = parse(RECIPES, "small", [recipe, "--drc", "a-run", "--rank.tolerance", "0.25"])
    assert (name, config.drc, config.rank.tolerance) == (recipe, "a-run", 0.25)
    assert ComparatorConfig.from_flat(json.loads(json.dumps(config.flat()))) == config
    assert (RECIPES[recipe].__doc__ or "").splitlines()[0].endswith(".")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("vgg16", ("vgg16", 224, 1.0, "imagenet", "geometric", 0.1, 32, 1e-4, 0.5, 80_000, True)),
        ("efficientnet-b4", ("efficientnet_b4", 224, 1.0, "imagenet", "linear", 0.15, 16, 1e-4, 0.8, 8_000, True)),
    ],
)
def test_the_paper_s_comparators_have_the_paper_s_settings(recipe: str, expected: tuple[Any, ...]) -> None:
    flat, training = RECIPES[recipe]().flat(), ("batch_size", "learning_rate", "learning_rate_factor")
    names = [f"comparator.{name}" for name in ("network", "image_size", "width", "weights")]
    names += ["rank.scale", "rank.tolerance"]
    names += [f"training.{name}" for name in (*training, "learning_rate_every", "flip")]
    assert tuple(flat[name] for name in names) == expected


def test_digits_are_not_mirrored() -> None:
    assert not RECIPES["digits"]().training.flip
