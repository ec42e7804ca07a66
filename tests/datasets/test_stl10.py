"""STL-10: columns before rows, labels from 1."""

import hashlib
import pickle
from functools import partial
from pathlib import Path

import listings
import numpy as np
import pytest
from listings import pixels

from ordclust_ray.datasets.generated_pictures import class_picture
from ordclust_ray.datasets.stl10 import STL10, read_stl10

FILES = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    STL10.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "stl10_binary"


refused = partial(listings.refused, STL10)


def test_the_generated_copy_by_hand(home: Path) -> None:
    """Five rounds of the ten classes, and two for tests."""
    listing = read_stl10(home.parent)
    rows = listing.rows
    assert rows.index.tolist() == list(range(70))
    assert rows["split"].tolist() == ["train"] * 50 + ["test"] * 20
    classes = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    assert rows["label"].tolist() == classes * 7
    assert rows["source"].iloc[[49, 50]].tolist() == [f"{home / 'train_X.bin'}#49", f"{home / 'test_X.bin'}#0"]
    assert read_stl10(home).rows.equals(rows)
    first, last_train, last = pixels(listing, [0, 49, 69])
    np.testing.assert_array_equal(first, class_picture(0, 10, 96, 5_000))
    np.testing.assert_array_equal(last_train, class_picture(9, 10, 96, 5_049))
    np.testing.assert_array_equal(last, class_picture(9, 10, 96, 2_019))


def test_the_file_holds_columns_before_rows(home: Path) -> None:
    """Image 3, red: byte i of the file is column i // 96, row i % 96."""
    content = bytearray((home / "train_X.bin").read_bytes())
    start = 3 * 3 * 96 * 96
    content[start : start + 96 * 96] = bytes(96 * 96)
    content[start + 96 * 2 + 5] = 255
    (home / "train_X.bin").write_bytes(content)
    (image,) = pixels(read_stl10(home), [3])
    assert np.argwhere(image[:, :, 0]).tolist() == [[5, 2]]


def test_a_listing_holds_no_pixels(home: Path) -> None:
    assert len(pickle.dumps(read_stl10(home).images)) < 2_000


def test_the_images_without_a_class_are_passed_over(home: Path) -> None:
    assert not any("unlabeled" in note for note in read_stl10(home).notes)
    (home / "unlabeled_X.bin").write_bytes(bytes(3 * 96 * 96))
    listing = read_stl10(home)
    assert len(listing.rows) == 70
    assert listing.notes[-1] == "unlabeled_X.bin was passed over: its images have no class"
    assert not any("unlabeled_X.bin differs" in note for note in listing.notes)


def test_an_unknown_label_leaves_its_image_out(home: Path) -> None:
    labels = bytearray((home / "train_y.bin").read_bytes())
    labels[1], labels[7] = 0, 11
    (home / "train_y.bin").write_bytes(labels)
    listing = read_stl10(home)
    assert listing.left_out.to_dict("records") == [
        {
            "source": f"{home / 'train_X.bin'}#1",
            "reason": "label is 0; it must be from 1 (airplane) to 10 (truck)",
        },
        {
            "source": f"{home / 'train_X.bin'}#7",
            "reason": "label is 11; it must be from 1 (airplane) to 10 (truck)",
        },
    ]
    assert listing.rows["label"].iloc[:8].tolist() == (
        ["airplane", "car", "cat", "deer", "dog", "horse", "ship", "truck"]
    )
    (ship,) = pixels(listing, [6])
    np.testing.assert_array_equal(ship, class_picture(8, 10, 96, 5_008))


def test_a_missing_file_and_a_wrong_folder_are_named(home: Path, tmp_path: Path) -> None:
    assert "STL-10 has no published lists" in refused(home, tmp_path)
    (home / "test_y.bin").unlink()
    (home / "class_names.txt").unlink()
    assert refused(tmp_path) == f"'{home}' lacks 'test_y.bin', 'class_names.txt' of STL-10"
    (tmp_path / "empty").mkdir()
    assert "is not STL-10 as it comes (a folder stl10_binary with train_X.bin" in refused(tmp_path / "empty")
    assert refused(tmp_path / "empty").endswith("it holds nothing")
    assert refused(tmp_path / "none") == f"there is no '{tmp_path / 'none'}'"


@pytest.mark.parametrize("labels", [b"", bytes(49), bytes(51)], ids=len)
def test_images_and_labels_must_be_as_many(home: Path, labels: bytes) -> None:
    (home / "train_y.bin").write_bytes(labels)
    assert refused(home) == (
        f"'{home / 'train_X.bin'}' has 1382400 bytes; "
        f"train_y.bin has {len(labels)} labels, for images of 27648 bytes each"
    )


def test_files_are_compared_with_the_published_ones(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    listing = read_stl10(home)
    assert listing.verified == []
    assert listing.notes == [f"{name} differs from the published file" for name in FILES]
    sums = [[name, hashlib.md5((home / name).read_bytes()).hexdigest()] for name in FILES]
    monkeypatch.setattr(datasets.STL10, "train_list", [*sums[:2], ["unlabeled_X.bin", "0" * 32]])
    monkeypatch.setattr(datasets.STL10, "test_list", sums[2:])
    listing = read_stl10(home)
    assert listing.verified == FILES
    assert listing.notes == []
