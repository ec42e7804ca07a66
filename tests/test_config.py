"""Settings: every limit, the names, the recipes."""

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from ordclust_ray.config import (
    ClusteringConfig,
    DataConfig,
    DrcConfig,
    InputError,
    LossConfig,
    ModelConfig,
    RankConfig,
    RunConfig,
    TrainingConfig,
)
from ordclust_ray.recipes.drc import RECIPES

SECTIONS: dict[str, Any] = {
    "data": DataConfig,
    "rank": RankConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "clustering": ClusteringConfig,
    "training": TrainingConfig,
    "run": RunConfig,
}
INFINITE = math.inf
LIMITS: dict[str, tuple[float, float]] = {
    "data.test_fraction": (0.01, 0.9),
    "data.max_pixels": (1, INFINITE),
    "data.max_broken_fraction": (0, 1),
    "data.pool_images": (2, INFINITE),
    "data.train_fold": (0, INFINITE),
    "data.test_fold": (0, INFINITE),
    "rank.tolerance": (0, INFINITE),
    "rank.step": (0, INFINITE),
    "rank.references": (1, INFINITE),
    "rank.candidates": (1, INFINITE),
    "rank.credible_mass": (0.01, 1),
    "rank.cumulative_score_at": (0, INFINITE),
    "model.width": (0.01, 4),
    "model.order_dim": (1, INFINITE),
    "model.identity_dim": (2, INFINITE),
    "loss.reconstruction_weight": (0, INFINITE),
    "loss.clustering_weight": (0, INFINITE),
    "loss.comparison_weight": (0, INFINITE),
    "loss.adversarial_weight": (0, INFINITE),
    "clustering.num_clusters": (1, INFINITE),
    "clustering.repulsion": (0, INFINITE),
    "clustering.repulsion_halved_after": (1, INFINITE),
    "clustering.min_cluster_fraction": (0, 1),
    "clustering.max_iterations": (1, INFINITE),
    "clustering.tolerance": (0, 1),
    "training.warmup_epochs": (1, INFINITE),
    "training.rounds": (0, INFINITE),
    "training.epochs_per_round": (1, INFINITE),
    "training.batch_size": (2, INFINITE),
    "training.learning_rate": (0, INFINITE),
    "training.learning_rate_halved_every": (1, INFINITE),
    "training.discriminator_learning_rate": (0, INFINITE),
    "training.num_workers": (1, INFINITE),
    "training.gpus_per_worker": (0.01, 1),
    "training.cpus_per_worker": (0.01, INFINITE),
    "training.threads_per_worker": (0, INFINITE),
    "training.max_failures": (0, INFINITE),
    "run.seed": (0, 2**32 - 1),
}
FLOATS = [name for name, value in DrcConfig().flat().items() if isinstance(value, float)]


def with_setting(name: str, value: object) -> Any:
    section, field = name.split(".")
    return SECTIONS[section](**{field: value})


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def written(number: float) -> str:
    """A pattern for a number in a message: as people write it."""
    return re.escape(str(number) if isinstance(number, int) else f"{number:g}")


def test_the_table_of_limits_has_every_number() -> None:
    numbers = {k for k, v in DrcConfig().flat().items() if isinstance(v, int | float) and not isinstance(v, bool)}
    assert set(LIMITS) | {"data.image_size"} == numbers


@pytest.mark.parametrize("name", LIMITS)
def test_lowest_value_is_allowed_and_less_is_not(name: str) -> None:
    low, high = LIMITS[name]
    with_setting(name, low)
    less = low - 1 if name not in FLOATS else math.nextafter(low, -1.0)
    allowed = f"at least {written(low)}" if high == INFINITE else f"from {written(low)} to .+"
    with pytest.raises(ValueError, match=rf"^{flag(name)} is [-\d.e]+; it must be {allowed}$"):
        with_setting(name, less)


@pytest.mark.parametrize("name", [name for name, (_, high) in LIMITS.items() if high < INFINITE])
def test_highest_value_is_allowed_and_more_is_not(name: str) -> None:
    low, high = LIMITS[name]
    with_setting(name, high)
    more = high + 1
    message = rf"^{flag(name)} is {written(more)}; it must be from {written(low)} to {written(high)}$"
    with pytest.raises(ValueError, match=message):
        with_setting(name, more)


@pytest.mark.parametrize("name", FLOATS)
def test_not_a_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{flag(name)} is nan; it must be "):
        with_setting(name, math.nan)


@pytest.mark.parametrize("name", ["rank.step", "loss.clustering_weight", "training.learning_rate"])
def test_infinity_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{flag(name)} is inf; it must be "):
        with_setting(name, INFINITE)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_image_sizes(size: int) -> None:
    assert DrcConfig(data=DataConfig(image_size=size)).data.image_size == size


@pytest.mark.parametrize("size", [-16, 0, 15, 63, 256])
def test_other_image_sizes(size: int) -> None:
    with pytest.raises(ValueError, match=rf"^--data.image-size is {size}; it must be one of 16, 32, 64, 128$"):
        DrcConfig(data=DataConfig(image_size=size))


def test_each_worker_needs_two_pairs() -> None:
    assert TrainingConfig(batch_size=8, num_workers=4).num_workers == 4
    with pytest.raises(ValueError, match=r"^--training.batch-size is 7; 4 workers need at least 2 each$"):
        TrainingConfig(batch_size=7, num_workers=4)


@pytest.mark.parametrize(("number", "least", "most"), [(3, 3, 3), ("3", 3, 3), ("1..4", 1, 4), ("2..2", 2, 2)])
def test_number_of_workers(number: int | str, least: int, most: int) -> None:
    training = TrainingConfig(num_workers=number)
    assert (training.min_workers, training.max_workers) == (least, most)


@pytest.mark.parametrize("number", ["", "many", "4..1", "1..", "1-4", "1..-4", "0.5"])
def test_other_numbers_of_workers(number: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^--training.num-workers is {number}; it must be a number like 4, or as 1..4$"
    ):
        TrainingConfig(num_workers=number)


@pytest.mark.parametrize("name", ["", "digits-2", "Morph_A.k3"])
def test_run_name(name: str) -> None:
    assert RunConfig(name=name).name == name


@pytest.mark.parametrize("name", ["a/b", "two words", "été", "..", "."])
def test_run_name_must_be_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(ValueError, match=r"^--run.name is '.+'; it may hold .+$"):
        RunConfig(name=name)


def test_storage_path_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(RunConfig(storage="~/runs").storage_path) == "/home/ada/runs"
    assert RunConfig(storage="runs").storage_path.is_absolute()


@pytest.mark.parametrize(
    ("warmup", "rounds", "a_round", "epochs"), [(3, 30, 3, 93), (3, 0, 3, 3), (1, 1, 1, 2), (2, 5, 4, 22)]
)
def test_epochs(warmup: int, rounds: int, a_round: int, epochs: int) -> None:
    assert TrainingConfig(warmup_epochs=warmup, rounds=rounds, epochs_per_round=a_round).epochs == epochs


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DrcConfig().run.seed = 3  # type: ignore[misc]


def test_flat_has_each_setting_once_by_its_section() -> None:
    config = DrcConfig(rank=RankConfig(tolerance=0.25), run=RunConfig(seed=9))
    flat = config.flat()
    assert flat["rank.tolerance"] == 0.25
    assert flat["clustering.tolerance"] == 0.01
    assert flat["run.seed"] == 9
    expected = {f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)}
    assert set(flat) == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_builds(recipe: str) -> None:
    config = RECIPES[recipe]()
    assert isinstance(config, DrcConfig)
    assert json.loads(json.dumps(config.flat())) == config.flat(), "settings are stored with a run"
    assert (RECIPES[recipe].__doc__ or "").splitlines()[0].endswith(".")


def test_the_default_recipe_needs_no_files() -> None:
    assert RECIPES["digits"]().data.path == "digits"
    assert not RECIPES["digits"]().training.flip, "a mirrored 2 is no 2"


def test_repulsion_is_halved_after_its_epoch() -> None:
    clustering = ClusteringConfig(repulsion=0.2, repulsion_halved_after=200)
    assert [clustering.repulsion_after(epochs) for epochs in (1, 200, 201, 1000)] == [0.2, 0.2, 0.1, 0.1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fold_column": "f"}, "--data.fold-column is 'f', --data.train-fold 0 and --data.test-fold 0; a column needs"),
        ({"test_fold": 2}, "--data.fold-column is '', --data.train-fold 0 and --data.test-fold 2; a column needs"),
        ({"fold_column": "f", "train_fold": 1, "test_fold": 2}, "--data.fold-column is 'f', --data.train-fold 1 and"),
        ({"fold_column": "f", "split_column": "s", "test_fold": 2}, "--data.fold-column and --data.split-column both"),
    ],
)
def test_a_fold_column_needs_one_fold(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        DataConfig(**values)
