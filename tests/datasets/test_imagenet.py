"""ImageNet-10 and ImageNet-Dog out of a folder of ImageNet."""

from pathlib import Path

import pytest
from listings import refused, sizes

from ordclust_ray.datasets.imagenet import DOGS, IMAGENET_10, IMAGENET_DOG, TEN
from ordclust_ray.datasets.stored import FileImages


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    IMAGENET_10.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "train"


def test_the_ten_classes_by_hand(ten: Path) -> None:
    """Six images a class, numbered 7, 17, ..., 57; as text 17 comes before 7."""
    listing = IMAGENET_10.read(ten.parent, None)
    rows = listing.rows
    assert rows.index.tolist() == list(range(60))
    assert set(rows["split"]) == {"train"}
    assert rows["label"].tolist() == [name for name in TEN.values() for _ in range(6)]
    names = [f"n02056570_{number}.JPEG" for number in (17, 27, 37, 47, 57, 7)]
    assert rows["source"].iloc[:6].tolist() == [str(ten / "n02056570" / name) for name in names]
    assert sizes(listing) == [(32, 24)] * 2
    assert listing.left_out.empty


def test_the_fifteen_dogs_by_hand(tmp_path: Path) -> None:
    IMAGENET_DOG.generate(tmp_path)  # type: ignore[misc]
    rows = IMAGENET_DOG.read(tmp_path, None).rows
    assert rows["label"].value_counts().to_dict() == dict.fromkeys(DOGS.values(), 6)
    assert len(rows) == 90


def test_the_two_share_the_maltese_dog_only() -> None:
    assert len(TEN) == len(set(TEN.values())) == 10
    assert len(DOGS) == len(set(DOGS.values())) == 15
    assert {*TEN.items()} & {*DOGS.items()} == {("n02085936", "Maltese dog")}
    assert (IMAGENET_10.image_size, IMAGENET_DOG.image_size) == (96, 96)


@pytest.mark.parametrize("place", ["", "train", "ILSVRC/Data/CLS-LOC/train"])
def test_where_the_classes_may_lie(ten: Path, tmp_path: Path, place: str) -> None:
    """Among other classes and a validation part, which are passed over."""
    home = tmp_path / "given" / place
    home.parent.mkdir(parents=True, exist_ok=True)
    ten.rename(home)
    (home / "n01440764").mkdir()
    (home / "n01440764" / "n01440764_1.JPEG").write_bytes(b"a tench")
    (home.parent / "val").mkdir()
    rows = IMAGENET_10.read(tmp_path / "given", None).rows
    assert len(rows) == 60
    assert rows["source"].iloc[59] == str(home / "n07747607" / "n07747607_7.JPEG")
    assert IMAGENET_10.read(home, None).rows.equals(rows)


def test_more_images_than_published_are_fine_and_others_are_named(ten: Path) -> None:
    for name in ("n02056570_99.jpg", "list.txt", ".DS_Store"):
        (ten / "n02056570" / name).touch()
    listing = IMAGENET_10.read(ten, None)
    assert len(listing.rows) == 61
    assert listing.left_out.to_dict("records") == [
        {"source": str(ten / "n02056570" / "list.txt"), "reason": "not a JPEG file by its name"}
    ]
    assert isinstance(listing.images, FileImages)
    assert listing.rows["source"].iloc[6].endswith("n02056570_99.jpg")


def test_a_missing_class_and_a_wrong_folder_are_named(ten: Path, tmp_path: Path) -> None:
    assert "ImageNet-10 has no published lists" in refused(IMAGENET_10, ten, tmp_path)
    assert refused(IMAGENET_DOG, tmp_path) == f"'{ten}' lacks the folder 'n02086646', a class of ImageNet-Dog"
    for file in (ten / "n04254680").iterdir():
        file.unlink()
    assert refused(IMAGENET_10, tmp_path) == f"'{ten / 'n04254680'}', a class of ImageNet-10, is empty"
    (ten / "n04254680").rmdir()
    assert refused(IMAGENET_10, tmp_path) == f"'{ten}' lacks the folder 'n04254680', a class of ImageNet-10"
    (tmp_path / "empty").mkdir()
    assert "is not ImageNet-10 as it comes (train/n02085936/" in refused(IMAGENET_10, tmp_path / "empty")
    assert refused(IMAGENET_10, tmp_path / "none") == f"there is no '{tmp_path / 'none'}'"


def test_a_class_that_leads_elsewhere_is_named(ten: Path, tmp_path: Path) -> None:
    (ten / "n04254680").rename(tmp_path / "elsewhere")
    (ten / "n04254680").symlink_to(tmp_path / "elsewhere")
    said = refused(IMAGENET_10, ten)
    assert said.startswith(f"'{ten / 'n04254680'}' is a link that leads out of '{ten}'")
