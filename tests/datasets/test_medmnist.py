"""MedMNIST's arrays, whose labels are grades, and RetinaMNIST also as Parquet."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listings import pixels, refused

from ordclust_ray.datasets import medmnist
from ordclust_ray.datasets.generated_pictures import class_picture
from ordclust_ray.datasets.listing import DataSet
from ordclust_ray.datasets.medmnist import MEDMNIST, RETINA, read_medmnist, read_retina

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def retina(tmp_path: Path) -> Path:
    RETINA.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "retinamnist.npz"


def change(file: Path, **changed: Any) -> None:
    """Replaces arrays; None takes one away."""
    with np.load(file) as loaded:
        arrays = {**loaded, **changed}
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize("data", [MEDMNIST, RETINA], ids=lambda data: data.name)
def test_grades_by_hand(data: DataSet, retina: Path) -> None:
    """Twelve, two and four rounds of the grades 0 to 4."""
    listing = data.read(retina.parent, None)
    rows = listing.rows
    assert rows.index.tolist() == list(range(90))
    assert rows["split"].tolist() == ["train"] * 60 + ["validation"] * 10 + ["test"] * 20
    assert rows["rank"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0] * 18
    assert rows["label"].tolist() == ["0", "1", "2", "3", "4"] * 18
    assert rows["source"].iloc[[59, 60, 70]].tolist() == [
        f"{retina}/{name}" for name in ("train_images#59", "val_images#0", "test_images#0")
    ]
    first, validation, last = pixels(listing, [0, 61, 89])
    np.testing.assert_array_equal(first, class_picture(0, 5, 28, 12_000))
    np.testing.assert_array_equal(validation, class_picture(1, 5, 28, 2_001))
    np.testing.assert_array_equal(last, class_picture(4, 5, 28, 4_019))
    assert data.read(retina, None).rows.equals(rows)
    assert len(pickle.dumps(listing.images)) < 2_000


def test_grey_images_and_labels_of_one_dimension(retina: Path) -> None:
    change(retina, val_images=np.full((2, 9, 7), 5, np.uint8), val_labels=np.array([7, 3], dtype=np.int64))
    listing = read_medmnist(retina)
    assert listing.rows["rank"].iloc[60:62].tolist() == [7.0, 3.0]
    (image,) = pixels(listing, [61])
    assert image.shape == (9, 7)
    assert (image == 5).all()


def test_a_grade_that_retina_does_not_have_is_left_out(retina: Path) -> None:
    change(retina, val_labels=np.array([[0], [5]] * 5))
    listing = read_retina(retina)
    assert len(listing.rows) == 85
    assert listing.left_out["source"].tolist() == [f"{retina}/val_images#{row}" for row in (1, 3, 5, 7, 9)]
    assert set(listing.left_out["reason"]) == {"label is 5; it must be a whole number from 0 to 4"}
    (image,) = pixels(listing, [61])
    np.testing.assert_array_equal(image, class_picture(2, 5, 28, 2_002))
    assert len(read_medmnist(retina).rows) == 90


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_labels": np.zeros((60, 14), np.uint8)}, "14 labels an image (train_labels), which are no ordinal"),
        ({"train_labels": np.zeros((60, 1))}, "train_labels of '{file}' is float64 (60, 1); whole numbers"),
        ({"train_labels": np.array(3)}, "train_labels of '{file}' is int64 (); whole numbers"),
        ({"val_labels": np.zeros((9, 1), np.uint8)}, "holds 10 of val_images and 9 of val_labels"),
        ({"test_images": None}, "is not of MedMNIST: "),
        ({"test_labels": None}, "is not of MedMNIST: "),
        ({"val_images": np.zeros((10, 28, 28, 28), np.uint8)}, "val_images of '{file}' is uint8 (10, 28, 28, 28)"),
        ({"val_images": np.zeros((10, 28, 28))}, "val_images of '{file}' is float64 (10, 28, 28)"),
        ({"train_labels": np.array([[Path()]] * 60)}, "is not an .npz of arrays: Object arrays cannot be loaded"),
    ],
)
def test_what_is_not_graded_is_named(retina: Path, changed: dict[str, Any], said: str) -> None:
    change(retina, **changed)
    refusal = refused(MEDMNIST, retina)
    assert str(retina) in refusal
    assert said.format(file=retina) in refusal


@pytest.mark.parametrize("content", [b"", b"a page that says 404", b"PK\x03\x04 torn"], ids=len)
def test_what_is_no_npz_is_named(retina: Path, content: bytes) -> None:
    retina.write_bytes(content)
    assert f"'{retina}' is not an .npz of arrays" in refused(MEDMNIST, retina)


def test_a_single_array_is_no_npz(retina: Path) -> None:
    np.save(retina.with_suffix(".npy"), np.zeros(3))
    retina.with_suffix(".npy").rename(retina)
    assert f"'{retina}' is not an .npz of arrays" in refused(MEDMNIST, retina)


def test_the_file_is_the_only_one_or_named(retina: Path, tmp_path: Path) -> None:
    (tmp_path / "bloodmnist.npz").write_bytes(retina.read_bytes())
    said = refused(MEDMNIST, tmp_path)
    assert said.endswith("holds 2 files of MedMNIST (bloodmnist.npz, retinamnist.npz); name the file itself")
    assert len(read_retina(tmp_path).rows) == len(read_medmnist(tmp_path / "bloodmnist.npz").rows) == 90
    (tmp_path / "empty").mkdir()
    assert "is not MedMNIST as it comes (one .npz of MedMNIST" in refused(MEDMNIST, tmp_path / "empty")
    (tmp_path / "a.txt").touch()
    assert refused(RETINA, tmp_path / "a.txt").endswith("it is a file")
    assert refused(RETINA, tmp_path / "none") == f"there is no '{tmp_path / 'none'}'"
    assert "RetinaMNIST has no published lists" in refused(RETINA, retina, tmp_path)
    assert "MedMNIST has no published lists" in refused(MEDMNIST, retina, tmp_path)


def test_retina_is_compared_with_the_published_files(retina: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = read_retina(retina)
    assert listing.verified == []
    assert listing.notes == ["retinamnist.npz differs from the published file"]
    monkeypatch.setattr(medmnist, "RETINA_CHECKSUMS", ("0" * 32, hashlib.md5(retina.read_bytes()).hexdigest()))
    listing = read_retina(retina)
    assert listing.verified == ["retinamnist.npz"]
    assert listing.notes == []


@pytest.mark.parametrize("source", [SHARED, SHARED / "retinamnist.parquet"], ids=["folder", "file"])
def test_the_real_retina(source: Path) -> None:
    """Counts of MedMNIST's own `info.py`, and the grades that its authors' paper gives."""
    listing = read_retina(source)
    rows = listing.rows
    assert rows.index.tolist() == list(range(1_600))
    assert rows["split"].value_counts().to_dict() == RETINA.published
    assert rows["rank"].value_counts().sort_index().to_dict() == {0.0: 714, 1.0: 186, 2.0: 326, 3.0: 282, 4.0: 92}
    assert (rows["rank"].astype(int).astype(str) == rows["label"]).all()
    assert rows["source"].iloc[7] == f"{SHARED / 'retinamnist.parquet'}#7"
    assert [image.shape for image in pixels(listing, [0, 1_599])] == [(28, 28, 3), (28, 28, 3)]
    assert listing.left_out.empty


def test_a_retina_parquet_with_unknown_values(tmp_path: Path) -> None:
    file = tmp_path / "retinamnist.parquet"
    splits = ["train", "val", "test", "valid", None, "test"]
    columns = {"image": [str(i).encode() for i in range(6)], "label": [4, 9, 0, 1, 2, None], "split": splits}
    pq.write_table(pa.table(columns), file)
    listing = read_retina(tmp_path)
    assert listing.rows[["rank", "label", "split"]].to_dict("list") == {
        "rank": [4.0, 0.0],
        "label": ["4", "0"],
        "split": ["train", "test"],
    }
    assert list(listing.images.read(np.array([0, 1]), ["", ""])) == [b"0", b"2"]
    allowed = "it must be one of train (train), val (validation), test (test)"
    assert [reason.split(";") for reason in listing.left_out["reason"]] == [
        ["label is 9.0", " it must be a whole number from 0 to 4"],
        ["split is valid", f" {allowed}"],
        [listing.left_out["reason"].iloc[2].split(";")[0], f" {allowed}"],
        ["label is nan", " it must be a whole number from 0 to 4"],
    ]
    pq.write_table(pa.table({name: columns[name] for name in ("image", "label")}), file)
    assert "is not RetinaMNIST: it has no column 'split'; its columns are 'image', 'label'" in refused(RETINA, file)
    pq.write_table(pa.table({**columns, "image": splits}), file)
    assert f"column 'image' of '{file}' holds string; it must hold encoded images" in refused(RETINA, file)
    file.write_bytes(b"PAR1")
    assert f"'{file}' is not a Parquet file" in refused(RETINA, file)
