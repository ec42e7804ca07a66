"""Small copies of the sets that come as arrays: STL-10, Fashion-MNIST, RetinaMNIST."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ordclust_ray.datasets.generated_pictures import class_picture

STL_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FASHION_CLASSES = 10
GRADES = 5


def generate_stl10(folder: Path) -> None:
    """Writes `stl10_binary`: five images a class for training, two for tests; 70 in all."""
    home = folder / "stl10_binary"
    home.mkdir(parents=True)
    (home / "class_names.txt").write_text("".join(f"{name}\n" for name in STL_CLASSES))
    for part, each in (("train", 5), ("test", 2)):
        labels = _labels(len(STL_CLASSES), each)
        (home / f"{part}_X.bin").write_bytes(_images(labels, 96, seed=each).transpose(0, 3, 2, 1).tobytes())
        (home / f"{part}_y.bin").write_bytes((labels + 1).tobytes())


def generate_fashion(folder: Path) -> None:
    """Writes `FashionMNIST/raw`, packed: six images a class for training, two for tests; 80 in all."""
    home = folder / "FashionMNIST" / "raw"
    home.mkdir(parents=True)
    for part, each in (("train", 6), ("t10k", 2)):
        labels = _labels(FASHION_CLASSES, each)
        grey = _images(labels, 28, seed=each).mean(axis=3).astype(np.uint8)
        (home / f"{part}-images-idx3-ubyte.gz").write_bytes(_idx(grey))
        (home / f"{part}-labels-idx1-ubyte.gz").write_bytes(_idx(labels))


def generate_retina(folder: Path) -> None:
    """Writes `retinamnist.npz`: twelve images a grade for training, two for validation, four for tests; 90 in all."""
    folder.mkdir(parents=True, exist_ok=True)
    train, val, test = (_labels(GRADES, each) for each in (12, 2, 4))
    np.savez_compressed(
        folder / "retinamnist.npz",
        train_images=_images(train, 28, seed=12),
        train_labels=train[:, None],
        val_images=_images(val, 28, seed=2),
        val_labels=val[:, None],
        test_images=_images(test, 28, seed=4),
        test_labels=test[:, None],
    )


def _labels(classes: int, each: int) -> NDArray[np.uint8]:
    """0, 1, 2, ..., 0, 1, 2, ..."""
    return np.tile(np.arange(classes, dtype=np.uint8), each)


def _images(labels: NDArray[np.uint8], side: int, seed: int) -> NDArray[np.uint8]:
    classes = int(labels.max()) + 1
    keys = range(1_000 * seed, 1_000 * seed + len(labels))
    return np.stack([class_picture(int(label), classes, side, key) for label, key in zip(labels, keys, strict=True)])


def _idx(array: NDArray[np.uint8]) -> bytes:
    """Packed, without the time of day."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return gzip.compress(head + array.tobytes(), mtime=0)
