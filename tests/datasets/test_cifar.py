"""CIFAR-10 and CIFAR-100 in both versions, and pickles that ask for more than arrays."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listings import pixels, refused

from ordclust_ray.datasets.cifar import CIFAR10, CIFAR100
from ordclust_ray.datasets.generated_pictures import class_picture

PUBLISHED_10 = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]


def fields(file: Path) -> dict[bytes, Any]:
    loaded: dict[bytes, Any] = pickle.loads(file.read_bytes())
    return loaded


def change(file: Path, **changed: Any) -> None:
    file.write_bytes(pickle.dumps(fields(file) | {key.encode(): value for key, value in changed.items()}, protocol=2))


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    CIFAR10.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "cifar-10-batches-py"


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    CIFAR100.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "cifar-100-python"


def test_cifar10_by_hand(ten: Path) -> None:
    """Five batches of one image a class, and a test batch of two."""
    listing = CIFAR10.read(ten.parent, None)
    rows = listing.rows
    assert rows.index.tolist() == list(range(70))
    assert rows["split"].tolist() == ["train"] * 50 + ["test"] * 20
    assert rows["label"].iloc[:10].tolist() == (
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    )
    assert rows.groupby(["split", "label"]).size().to_dict() == {
        (split, label): n for split, n in (("train", 5), ("test", 2)) for label in rows["label"].unique()
    }
    assert rows["source"].iloc[[0, 10, 50]].tolist() == [
        f"{ten / 'data_batch_1'}#0",
        f"{ten / 'data_batch_2'}#0",
        f"{ten / 'test_batch'}#0",
    ]
    assert listing.left_out.empty
    assert not set(rows["source"][rows["split"] == "train"]) & set(rows["source"][rows["split"] == "test"])


def test_pixels_have_their_places_and_channels(ten: Path) -> None:
    first, of_second_batch, last = pixels(CIFAR10.read(ten, None), [0, 13, 69])
    np.testing.assert_array_equal(first, class_picture(0, 10, 32, 1_000))
    np.testing.assert_array_equal(of_second_batch, class_picture(3, 10, 32, 2_003))
    np.testing.assert_array_equal(last, class_picture(9, 10, 32, 6_019))


def test_the_folder_may_be_given_itself_or_relative(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = CIFAR10.read(ten.parent, None).rows
    assert CIFAR10.read(ten, None).rows.equals(rows)
    monkeypatch.chdir(ten)
    assert CIFAR10.read(Path(), None).rows.equals(rows)


def test_a_listing_holds_no_pixels(ten: Path) -> None:
    """The pixels of the 70 images are 215,040 bytes."""
    assert len(pickle.dumps(CIFAR10.read(ten, None).images)) < 5_000


def test_a_copy_is_the_same_twice(ten: Path, tmp_path: Path) -> None:
    CIFAR10.generate(tmp_path / "again")  # type: ignore[misc]
    for file in ten.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / ten.name / file.name).read_bytes()


def as_binary(home: Path, names: dict[str, str], kinds: list[bytes]) -> None:
    """Writes the binary version of a Python one: `names` are ours by theirs."""
    for ours, theirs in names.items():
        batch = fields(home / ours)
        labels = [np.array(batch[kind], dtype=np.uint8)[:, None] for kind in kinds]
        target = home.parent / theirs
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(np.hstack([*labels, batch[b"data"]]).tobytes())


def test_the_binary_version_of_cifar10_is_the_same(ten: Path) -> None:
    as_binary(ten, {name: f"cifar-10-batches-bin/{name}.bin" for name in PUBLISHED_10[:-1]}, [b"labels"])
    home = ten.parent / "cifar-10-batches-bin"
    names = [name.decode() for name in fields(ten / "batches.meta")[b"label_names"]]
    (home / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    ours, theirs = CIFAR10.read(ten, None), CIFAR10.read(home, None)
    assert theirs.rows[["label", "split"]].equals(ours.rows[["label", "split"]])
    assert theirs.rows["source"].iloc[12] == f"{home / 'data_batch_2.bin'}#2"
    np.testing.assert_array_equal(pixels(theirs, [0, 37, 69]), pixels(ours, [0, 37, 69]))
    assert theirs.notes == ["no checksums are published of the files of cifar-10-batches-bin"]
    assert CIFAR10.read(ten.parent, None).rows.equals(ours.rows)  # both are there: the Python version

    with (home / "data_batch_3.bin").open("ab") as file:
        file.write(b"1")
    assert "data_batch_3.bin' has 30731 bytes; records of 3073" in refused(CIFAR10, home)


def test_cifar100_by_hand(hundred: Path) -> None:
    """Three and two rounds of the superclasses; round r shows the r-th of their fine classes."""
    rows = CIFAR100.read(hundred.parent, None).rows
    assert rows["split"].tolist() == ["train"] * 60 + ["test"] * 40
    assert rows["label"].nunique() == 20
    assert rows["label"].iloc[[0, 19, 20, 60]].tolist() == [
        *("aquatic_mammals", "vehicles_2"),
        *("aquatic_mammals", "aquatic_mammals"),
    ]
    assert rows["fine_label"].iloc[[0, 20, 40, 80]].tolist() == [
        *("aquatic_mammals_1", "aquatic_mammals_2"),
        *("aquatic_mammals_3", "aquatic_mammals_2"),
    ]
    assert (rows["fine_label"].str.rsplit("_", n=1).str[0] == rows["label"]).all()


def test_the_binary_version_of_cifar100_is_the_same(hundred: Path) -> None:
    home = hundred.parent / "cifar-100-binary"
    as_binary(hundred, {n: f"{home.name}/{n}.bin" for n in ("train", "test")}, [b"coarse_labels", b"fine_labels"])
    for kind in ("coarse", "fine"):
        names = [name.decode() for name in fields(hundred / "meta")[f"{kind}_label_names".encode()]]
        (home / f"{kind}_label_names.txt").write_text("\n".join(names) + "\n")
    ours, theirs = CIFAR100.read(hundred, None), CIFAR100.read(home, None)
    columns = ["label", "fine_label", "split"]
    assert theirs.rows[columns].equals(ours.rows[columns])
    np.testing.assert_array_equal(pixels(theirs, [0, 99]), pixels(ours, [0, 99]))


def test_a_missing_file_and_a_wrong_folder_are_named(ten: Path, tmp_path: Path) -> None:
    (ten / "data_batch_3").unlink()
    (ten / "batches.meta").unlink()
    assert refused(CIFAR10, tmp_path) == f"'{ten}' lacks 'data_batch_3', 'batches.meta' of CIFAR-10"
    assert "is not CIFAR-100 as it comes (a folder cifar-100-python" in refused(CIFAR100, tmp_path)
    assert refused(CIFAR100, tmp_path).endswith("it holds 'cifar-10-batches-py'")
    assert refused(CIFAR10, tmp_path / "none") == f"there is no '{tmp_path / 'none'}'"
    assert refused(CIFAR10, ten / "test_batch").endswith("it is a file")
    assert "CIFAR-10 has no published lists" in refused(CIFAR10, tmp_path, tmp_path)


def test_an_unknown_label_leaves_its_image_out(ten: Path) -> None:
    """Number 10 stands where image 2 of batch 1, a bird, and image 4 of batch 2, a deer, had theirs."""
    change(ten / "data_batch_1", labels=[0, 1, 10, 3, 4, 5, 6, 7, 8, 9])
    change(ten / "data_batch_2", labels=[0, 1, 2, 3, -1, 5, 6, 7, 8, 9])
    listing = CIFAR10.read(ten, None)
    assert listing.left_out.to_dict("records") == [
        {
            "source": f"{ten / 'data_batch_1'}#2",
            "reason": "label is 10; it must be from 0 (airplane) to 9 (truck)",
        },
        {
            "source": f"{ten / 'data_batch_2'}#4",
            "reason": "label is -1; it must be from 0 (airplane) to 9 (truck)",
        },
    ]
    assert listing.rows.index.tolist() == list(range(68))
    assert listing.rows["label"].iloc[[2, 12, 13]].tolist() == ["cat", "cat", "dog"]
    cat, of_second, last = pixels(listing, [2, 13, 67])
    np.testing.assert_array_equal(cat, class_picture(3, 10, 32, 1_003))
    np.testing.assert_array_equal(of_second, class_picture(5, 10, 32, 2_005))
    np.testing.assert_array_equal(last, class_picture(9, 10, 32, 6_019))


PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"\x89T\x00\x18\x00\x00" + bytes([7]) * 3072 + bytes([9]) * 3072 + b"tbU\x06labels](K\x06K\x09eu."
)
"""What cPickle of Python 2 with numpy 1 wrote: two images, a frog of 7s and a truck of 9s."""


def test_a_pickle_of_python_2(ten: Path) -> None:
    (ten / "data_batch_1").write_bytes(PYTHON_2)
    listing = CIFAR10.read(ten, None)
    assert listing.rows["label"].iloc[:3].tolist() == ["frog", "truck", "airplane"]
    frog, truck, airplane = pixels(listing, [0, 1, 2])
    assert (frog == 7).all()
    assert (truck == 9).all()
    np.testing.assert_array_equal(airplane, class_picture(0, 10, 32, 2_000))


def pack_again_as_text(ten: Path) -> None:
    for file in ten.iterdir():
        file.write_bytes(pickle.dumps({key.decode(): value for key, value in fields(file).items()}, protocol=4))


def test_keys_may_have_been_packed_again_as_text(ten: Path) -> None:
    pack_again_as_text(ten)
    assert CIFAR10.read(ten, None).rows["label"].value_counts().to_dict()["ship"] == 7


def test_a_file_that_asks_for_more_than_arrays_is_named(ten: Path) -> None:
    """What is refused, and that it is not run: test_pickles.py."""
    content = (ten / "data_batch_2").read_bytes().replace(b"numpy\nndarray", b"os\nsystem")
    (ten / "data_batch_2").write_bytes(content)
    said = refused(CIFAR10, ten)
    assert said.startswith(f"'{ten / 'data_batch_2'}' is not a pickle of a dictionary of arrays: it asks for os.system")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PYTHON_2[:200], "is not a pickle of a dictionary of arrays"),
        (pickle.dumps({"data": 1}), "has no 'labels'; it holds 'data'"),
        (pickle.dumps({"data": 1, "labels": [0]}), "does not hold 1 x 3072 bytes of 'data'"),
        (pickle.dumps({"data": np.zeros((1, 3072)), "labels": [0]}), "does not hold 1 x 3072 bytes of 'data'"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}), "does not hold 1 x 3072 bytes"),
        (pickle.dumps({"data": 1, "labels": ["cat"]}), "holds labels that are not as many numbers each"),
    ],
    ids=["torn", "no labels", "a number", "floats", "too many images", "no numbers"],
)
def test_damaged_files_are_named(ten: Path, content: bytes, said: str) -> None:
    (ten / "data_batch_4").write_bytes(content)
    refusal = refused(CIFAR10, ten)
    assert str(ten / "data_batch_4") in refusal
    assert said in refusal


@pytest.mark.parametrize("names", [10, "cat", None, np.zeros(10)], ids=["number", "text", "none", "array"])
def test_class_names_that_are_no_list_are_named(ten: Path, names: object) -> None:
    change(ten / "batches.meta", label_names=names)
    kind = type(names).__name__
    assert refused(CIFAR10, ten) == (
        f"'label_names' of '{ten / 'batches.meta'}' is a {kind}; it must be a list of names"
    )


def publish(monkeypatch: pytest.MonkeyPatch, ten: Path) -> None:
    """Makes the generated copy the published one."""
    from torchvision import datasets

    sums = {name: hashlib.md5((ten / name).read_bytes()).hexdigest() for name in PUBLISHED_10}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, sums[name]] for name in PUBLISHED_10[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    )


def test_files_are_compared_with_the_published_ones(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = CIFAR10.read(ten, None)
    assert listing.verified == []
    assert listing.notes == [f"{name} differs from the published file" for name in PUBLISHED_10]
    publish(monkeypatch, ten)
    change(ten / "data_batch_5", labels=list(range(9, -1, -1)))
    listing = CIFAR10.read(ten, None)
    assert listing.verified == [name for name in PUBLISHED_10 if name != "data_batch_5"]
    assert listing.notes == ["data_batch_5 differs from the published file"]
