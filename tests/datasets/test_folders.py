"""Any folder of images: its suffixes, classes and splits."""

from pathlib import Path

from listings import images, names, refused, sizes
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


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (3, 2)).save(file)
    return file


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """A link to a class elsewhere, in which another one leads further, and one to all classes of a split."""
    picture(tmp_path / "home" / "train" / "cat" / "a.png")
    picture(tmp_path / "elsewhere" / "b.png")
    picture(tmp_path / "further" / "c.png")
    picture(tmp_path / "other" / "dog" / "d.png")
    (tmp_path / "elsewhere" / "more").symlink_to(tmp_path / "further")
    (tmp_path / "home" / "train" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "home" / "test").symlink_to(tmp_path / "other")
    found = FOLDER.read(tmp_path / "home", None)
    home = tmp_path / "home"
    assert found.rows["source"].tolist() == [
        f"{home}/{path}" for path in ("test/dog/d.png", "train/cat/a.png", "train/dog/b.png", "train/dog/more/c.png")
    ]
    assert found.rows["label"].tolist() == ["dog", "cat", "dog", "more"]
    assert found.rows["split"].tolist() == ["test", "train", "train", "train"]
    assert [image.size for image in images(found, [0, 1, 2, 3])] == [(3, 2)] * 4


def test_a_folder_is_looked_into_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    """To itself, to the folder above, to a folder beside it, which keeps its own path, and twice to one elsewhere."""
    picture(tmp_path / "home" / "b" / "a.png")
    picture(tmp_path / "outside.png")
    picture(tmp_path / "elsewhere" / "c.png")
    links = {"a": "home/b", "b/self": "home/b", "up": "", "x": "elsewhere", "y": "elsewhere", "gone": "nowhere"}
    for name, target in links.items():
        (tmp_path / "home" / name).symlink_to(tmp_path / target)
    found = FOLDER.read(tmp_path / "home", None)
    assert found.rows["source"].tolist() == [str(tmp_path / "home" / path) for path in ("b/a.png", "x/c.png")]
    assert sizes(found) == [(3, 2)] * 2
