"""CIFAR-10 and CIFAR-100 in Parquet files, as hubs give them away."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listings import pixels, refused

from ordclust_ray.data.images import as_png
from ordclust_ray.datasets.cifar import CIFAR10, CIFAR100, NAMES_100
from ordclust_ray.datasets.mnist import FASHION_MNIST

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def write_parquet(folder: Path, *names: str) -> None:
    """Two rows a file: an airplane and an automobile."""
    for name in names:
        pq.write_table(pa.table({"image": [b"0", b"1"], "label": [0, 1]}), folder / f"{name}.parquet")


def read_from(source: Path) -> dict[str, str]:
    """Split by the name of the file."""
    rows = CIFAR10.read(source, None).rows
    return dict(zip(rows["source"].map(lambda row: Path(row).stem), rows["split"], strict=True))


def test_parquet_files_of_other_sets_are_not_read(tmp_path: Path) -> None:
    CIFAR10.generate(tmp_path)  # type: ignore[misc]
    write_parquet(tmp_path, "fashion_mnist_train", "train_faces", "part-00000", "coffee_leaf", "mytrain")
    assert len(CIFAR10.read(tmp_path, None).rows) == 70
    other = tmp_path / "other"
    other.mkdir()
    write_parquet(other, "coffee_leaf")
    assert refused(CIFAR10, other).endswith(
        "or cifar10_train*.parquet and cifar10_test*.parquet, or a hub's train-*.parquet and test-*.parquet); "
        "it holds 'coffee_leaf.parquet'"
    )
    assert read_from(other / "coffee_leaf.parquet") == {"coffee_leaf": "train"}  # it is named itself


def test_parquet_files_of_the_set_are_read_by_their_names(tmp_path: Path) -> None:
    write_parquet(tmp_path, "train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001", "validation")
    assert read_from(tmp_path) == {
        "train-00000-of-00002": "train",
        "train-00001-of-00002": "train",
        "test-00000-of-00001": "test",
    }
    write_parquet(tmp_path, "cifar10_train_0", "cifar10_test")  # with the set's own name: those
    assert read_from(tmp_path) == {"cifar10_train_0": "train", "cifar10_test": "test"}
    pq.write_table(pa.table({"img": [b"0"], "label": [0]}), tmp_path / "cifar10_train_1.parquet")  # as a hub calls it
    assert len(CIFAR10.read(tmp_path, None).rows) == 5
    pq.write_table(pa.table({"image": [b"0"]}), tmp_path / "cifar10_train_1.parquet")
    assert "cifar10_train_1.parquet' is not CIFAR-10: it has no column 'label'" in refused(CIFAR10, tmp_path)


def test_the_real_parquet_files(tmp_path: Path) -> None:
    listing = CIFAR10.read(SHARED, None)
    assert listing.rows["split"].value_counts().to_dict() == CIFAR10.published
    assert len(CIFAR10.read(SHARED / "cifar10_train_0.parquet", None).rows) == 25_000


def grey(side: int) -> bytes:
    return as_png(np.zeros((side, side), np.uint8))


def test_parquet_files_of_another_set_are_refused(tmp_path: Path) -> None:
    """Fashion-MNIST's have the same columns; their images have 28 pixels a side."""
    file = tmp_path / "test.parquet"
    for side, theirs, ours, other in ((28, FASHION_MNIST, CIFAR10, 32), (32, CIFAR10, FASHION_MNIST, 28)):
        pq.write_table(pa.table({"image": [grey(side)], "label": [0]}), file)
        assert len(theirs.read(tmp_path, None).rows) == 1
        assert refused(ours, tmp_path) == (
            f"'{file}' is not {ours.title}: its first image has {side} x {side} pixels; {other} x {other} are expected"
        )


@pytest.mark.parametrize("images", [[], [None], [b"broken", grey(28)]], ids=["none", "null", "broken"])
def test_a_first_image_that_tells_no_size_is_let_pass(images: list[bytes | None], tmp_path: Path) -> None:
    labels = pa.array([0] * len(images), pa.int64())
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "label": labels}), tmp_path / "test.parquet")
    assert len(CIFAR10.read(tmp_path / "test.parquet", None).rows) == len(images)


def test_a_hubs_parquet_files_of_cifar100(tmp_path: Path) -> None:
    """Both kinds of labels as they stand together in the published files: worms are invertebrates, and so on."""
    labels = {"fine_label": [0, 4, 99, 100], "coarse_label": [4, 0, 13, 1]}
    images = [{"bytes": grey(32), "path": None}] * 4
    pq.write_table(pa.table({"img": images, **labels}), tmp_path / "train-00000-of-00001.parquet")
    found = CIFAR100.read(tmp_path, None)
    assert found.rows[["label", "fine_label"]].to_numpy().tolist() == [
        ["fruit_and_vegetables", "apple"],
        ["aquatic_mammals", "beaver"],
        ["non-insect_invertebrates", "worm"],
    ]
    assert found.left_out["reason"].tolist() == ["fine_label is 100; it must be from 0 (apple) to 99 (worm)"]
    assert pixels(found, [2])[0].shape == (32, 32)
    names = NAMES_100.split()
    assert len(names) == 100
    assert sorted(set(names)) == names
    assert "has no column 'label'" in refused(CIFAR10, tmp_path)
