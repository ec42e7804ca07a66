"""Fashion-MNIST's IDX files, packed or not."""

import gzip
import hashlib
from functools import partial
from pathlib import Path

import listings
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listings import pixels

from ordclust_ray.config.common import InputError
from ordclust_ray.data.images import decode
from ordclust_ray.datasets.generated_pictures import class_picture
from ordclust_ray.datasets.mnist import FASHION_MNIST, read_fashion, read_idx

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
FILES = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


refused = partial(listings.refused, FASHION_MNIST)


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    FASHION_MNIST.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "FashionMNIST" / "raw"


def unpack(home: Path) -> None:
    for file in list(home.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()


def test_fashion_by_hand(fashion: Path) -> None:
    """Six rounds of the ten classes, and two for tests; the pixels are the mean of the picture's colours."""
    listing = read_fashion(fashion.parent.parent)
    rows = listing.rows
    assert rows.index.tolist() == list(range(80))
    assert rows["split"].tolist() == ["train"] * 60 + ["test"] * 20
    assert rows["label"].tolist() == CLASSES * 8
    assert rows["source"].iloc[[59, 60]].tolist() == [
        f"{fashion / 'train-images-idx3-ubyte.gz'}#59",
        f"{fashion / 't10k-images-idx3-ubyte.gz'}#0",
    ]
    first, last = pixels(listing, [0, 79])
    np.testing.assert_array_equal(first, class_picture(0, 10, 28, 6_000).mean(axis=2).astype(np.uint8))
    np.testing.assert_array_equal(last, class_picture(9, 10, 28, 2_019).mean(axis=2).astype(np.uint8))
    assert listing.left_out.empty


def test_fashion_may_be_unpacked_and_its_folder_given(fashion: Path) -> None:
    packed = read_fashion(fashion)
    images = pixels(packed, [0, 37, 79])
    unpack(fashion)
    listing = read_fashion(fashion)
    assert listing.rows[["label", "split"]].equals(packed.rows[["label", "split"]])
    np.testing.assert_array_equal(pixels(listing, [0, 37, 79]), images)
    assert listing.notes == ["checksums are published of the packed files only, and not all are packed"]
    assert read_fashion(fashion.parent).rows.equals(listing.rows)


def test_an_unknown_class_of_fashion_is_left_out(fashion: Path) -> None:
    unpack(fashion)
    labels = bytearray((fashion / "t10k-labels-idx1-ubyte").read_bytes())
    labels[8 + 4] = 10
    (fashion / "t10k-labels-idx1-ubyte").write_bytes(labels)
    listing = read_fashion(fashion)
    assert listing.left_out.to_dict("records") == [
        {
            "source": f"{fashion / 't10k-images-idx3-ubyte'}#4",
            "reason": "label is 10; it must be from 0 (T-shirt/top) to 9 (Ankle boot)",
        }
    ]
    (sandal,) = pixels(listing, [64])
    assert listing.rows["label"].iloc[64] == "Sandal"
    np.testing.assert_array_equal(sandal, class_picture(5, 10, 28, 2_005).mean(axis=2).astype(np.uint8))


def test_what_fashion_lacks_is_named(fashion: Path, tmp_path: Path) -> None:
    (fashion / "t10k-labels-idx1-ubyte.gz").unlink()
    assert refused(tmp_path) == (f"'{fashion}' lacks 't10k-labels-idx1-ubyte' of Fashion-MNIST, packed (.gz) or not")
    (tmp_path / "empty").mkdir()
    assert "is not Fashion-MNIST as it comes (a folder, or FashionMNIST/raw" in refused(tmp_path / "empty")
    assert refused(tmp_path / "none") == f"there is no '{tmp_path / 'none'}'"
    assert "Fashion-MNIST has no published lists" in refused(fashion, tmp_path)


def idx(magic: str, shape: tuple[int, ...], content: bytes) -> bytes:
    return bytes.fromhex(magic) + np.array(shape, dtype=">u4").tobytes() + content


def test_idx_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx("00000803", (2, 1, 3), bytes(range(6))))
    assert read_idx(str(tmp_path / "a")).tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    (tmp_path / "b").write_bytes(idx("00000801", (3,), b"\x05\x06\x07"))
    assert read_idx(str(tmp_path / "b"), dimensions=1).tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with nothing; an IDX file of this kind begins with 00000803"),
        (idx("00000801", (60,), bytes(60)), "begins with 00000801; an IDX file of this kind begins with 00000803"),
        (idx("00000d03", (60, 1, 1), bytes(60)), "begins with 00000d03"),
        (bytes.fromhex("0000080300"), "says it holds [0, 0, 0] bytes and has 0"),
        (idx("00000803", (60, 28, 28), bytes(60)), "says it holds [60, 28, 28] bytes and has 60"),
        (idx("00000803", (59, 1, 1), bytes(59)), "holds 59 images and train-labels-idx1-ubyte 60 labels"),
    ],
    ids=["empty", "of labels", "of floats", "torn head", "torn", "of another number"],
)
def test_damaged_idx_files_are_named(fashion: Path, content: bytes, said: str) -> None:
    unpack(fashion)
    (fashion / "train-images-idx3-ubyte").write_bytes(content)
    refusal = refused(fashion)
    assert refusal.startswith(f"'{fashion / 'train-images-idx3-ubyte'}'")
    assert said in refusal


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, 100), slice(2, None)])
def test_what_cannot_be_unpacked_is_named(fashion: Path, cut: slice) -> None:
    file = fashion / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[cut])
    assert str(file) in refused(fashion)


def test_fashion_is_compared_with_the_published_files(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    listing = read_fashion(fashion)
    assert listing.verified == []
    assert listing.notes == [f"{name} differs from the published file" for name in FILES]
    sums = [(name, hashlib.md5((fashion / name).read_bytes()).hexdigest()) for name in FILES]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", sums)
    listing = read_fashion(fashion)
    assert listing.verified == FILES
    assert listing.notes == []


SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def test_parquet_files_are_read_too() -> None:
    listing = read_fashion(SHARED / "fashion_mnist_*.parquet")
    assert listing.rows["split"].value_counts().to_dict() == {"train": 60_000, "test": 10_000}
    assert listing.rows["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 7_000)
    assert listing.rows["split"].iloc[[0, 9_999, 10_000]].tolist() == ["test", "test", "train"]
    ids = np.array([9_999, 10_000])
    images = [decode(image, 28, 1000) for image in listing.images.read(ids, listing.rows["source"][ids].tolist())]
    for image, file, row in zip(images, ("test", "train"), (9_999, 0), strict=True):
        stored = pq.read_table(SHARED / f"fashion_mnist_{file}.parquet", columns=["image"])["image"][row].as_py()
        assert (image == decode(stored if isinstance(stored, bytes) else stored["bytes"], 28, 1000)).all()


@pytest.mark.parametrize("source", [SHARED, SHARED / "fashion_mnist_test.parquet"], ids=["folder", "file"])
def test_of_a_folder_its_own_parquet_files_are_read(source: Path) -> None:
    files = {Path(row).name.partition("#")[0] for row in read_fashion(source).rows["source"]}
    assert files == {"fashion_mnist_test.parquet"} | ({"fashion_mnist_train.parquet"} if source == SHARED else set())


def test_parquet_without_labels_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet' is not Fashion-MNIST: it has no column 'label'"):
        read_fashion(tmp_path)
