"""Any folder of images: its suffixes, classes and splits."""

from pathlib import Path

from listings import names, refused, sizes
from PIL import Image

from ordclust_ray.datasets.folders import FOLDER
from ordclust_ray.datasets.stored import SUFFIXES


def test_all_suffixes_of_images_are_read(tmp_path: Path) -> None:
    """Those that a folder without a data set has, in small letters and capitals."""
    for number, suffix in enumerate(sorted(SUFFIXES)):
        (tmp_path / f"{number:02}{suffix.upper() if number % 2 else suffix}").touch()
    (tmp_path / "notes.txt").touch()
    found = FOLDER.read(tmp_path, None)
    assert [Path(name).suffix.lower() for name in names(found)] == sorted(SUFFIXES)
    assert {".jpg", ".webp", ".tiff", ".pgm", ".avif"} < set(SUFFIXES)
    assert set(found.rows["label"]) == {tmp_path.name}


def test_classes_and_splits_are_the_names_of_folders(tmp_path: Path) -> None:
    for path in ("train/cat/a.png", "val/dog/b.png", "test/cat/c.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        Image.new("L", (3, 2)).save(tmp_path / path)
    found = FOLDER.read(tmp_path, None)
    assert found.rows["label"].tolist() == ["cat", "cat", "dog"]
    assert found.rows["split"].tolist() == ["test", "train", "validation"]
    assert sizes(found) == [(3, 2)] * 2
    assert "split" not in FOLDER.read(tmp_path / "train", None).rows
    assert "is not a folder of images as it comes" in refused(FOLDER, tmp_path / "train" / "cat" / "a.png")
