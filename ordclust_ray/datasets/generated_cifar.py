"""Small copies of CIFAR-10 and CIFAR-100 in their Python version."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ordclust_ray.datasets.generated_pictures import class_picture

SUPERCLASSES = (
    *("aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices"),
    *("household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things"),
    *("large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates"),
    *("people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2"),
)
FINE_CLASSES = 5  # of each superclass
SIDE = 32


def generate_cifar10(folder: Path, classes: Sequence[str]) -> None:
    """Writes `cifar-10-batches-py`: one image a class in each of five batches, two in the test batch; 70 in all."""
    home = folder / "cifar-10-batches-py"
    home.mkdir(parents=True)
    numbers = list(range(len(classes)))
    for batch in range(1, 6):
        _write(
            home / f"data_batch_{batch}", _batch(f"training batch {batch} of 5", numbers, batch, {"labels": numbers})
        )
    _write(home / "test_batch", _batch("testing batch 1 of 1", 2 * numbers, 6, {"labels": 2 * numbers}))
    names = [name.encode() for name in classes]
    _write(home / "batches.meta", {"num_cases_per_batch": len(classes), "label_names": names, "num_vis": 3 * SIDE**2})


def generate_cifar100(folder: Path) -> None:
    """Writes `cifar-100-python`: three images a superclass for training, two for tests; 100 in all.

    They are of different fine classes; fine class f belongs to superclass f modulo 20.
    """
    home = folder / "cifar-100-python"
    home.mkdir(parents=True)
    for name, each in (("train", 3), ("test", 2)):
        fine = list(range(each * len(SUPERCLASSES)))
        coarse = [number % len(SUPERCLASSES) for number in fine]
        labels = {"fine_labels": fine, "coarse_labels": coarse}
        _write(home / name, _batch(f"{name}ing batch 1 of 1", coarse, each, labels))
    fine_names = [f"{name}_{i}".encode() for i in range(1, FINE_CLASSES + 1) for name in SUPERCLASSES]
    names = [name.encode() for name in SUPERCLASSES]
    _write(home / "meta", {"fine_label_names": fine_names, "coarse_label_names": names})


def _batch(title: str, shown: list[int], seed: int, labels: dict[str, list[int]]) -> dict[str, object]:
    """Rows of pixels, channels first."""
    classes = max(shown) + 1
    images = [class_picture(number, classes, SIDE, 1_000 * seed + row) for row, number in enumerate(shown)]
    data = np.stack(images).transpose(0, 3, 1, 2).reshape(len(shown), -1)
    names = [f"image_{seed}_{row}.png".encode() for row in range(len(shown))]
    return {"batch_label": title.encode(), "data": data, "filenames": names, **labels}


def _write(file: Path, fields: dict[str, object]) -> None:
    """As Python 2 did: the second protocol, with keys of bytes."""
    file.write_bytes(pickle.dumps({key.encode(): value for key, value in fields.items()}, protocol=2))
