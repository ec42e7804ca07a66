"""From files to what IDFD trains on: each usable image once with its row of the bank, labels only to report on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ordclust_ray.config import BankConfig, DrcConfig, IdfdConfig, InputError, KMeansConfig, UnlabelledConfig
from ordclust_ray.data.decoded import TooManyBrokenError
from ordclust_ray.data.unlabelled import Unlabelled, open_unlabelled, prepare_unlabelled
from ordclust_ray.datasets.registry import DATASETS


def config(path: str, k: int = 0, **data: Any) -> IdfdConfig:
    settings = {"image_size": 16, "max_broken_fraction": 0.05, **data}
    return IdfdConfig(data=UnlabelledConfig(path=path, **settings), clustering=KMeansConfig(num_clusters=k))


def prepared(settings: IdfdConfig) -> Unlabelled:
    return prepare_unlabelled(open_unlabelled(settings), settings)


def rows_of(data: Unlabelled) -> dict[str, np.ndarray]:
    return data.train.take_batch(data.train.count(), batch_format="numpy")


def colours(images: np.ndarray) -> list[int]:
    """The number that each image shows (see `png`)."""
    return (images[:, 5, 5, 0].astype(int) + 256 * images[:, 5, 5, 1].astype(int)).tolist()


def test_every_usable_image_has_a_row_of_the_bank(local_ray: None, small_config: DrcConfig) -> None:
    """103 images, of which 3 and 34 are broken; the number of an image is its colour."""
    data = prepared(config(small_config.data.path, label_column="kind"))
    rows = rows_of(data)
    usable = [i for i in range(103) if i not in (3, 34)]
    assert sorted(rows["instance_id"]) == usable
    assert colours(rows["image"]) == rows["instance_id"].tolist()
    assert [usable[row] for row in rows["bank_row"]] == rows["instance_id"].tolist()
    np.testing.assert_array_equal(data.rows_of(rows["instance_id"]), rows["bank_row"])
    assert rows["instance_id"].tolist() != usable  # shuffled
    assert data.manifest.index.tolist() == usable
    assert data.broken.index.tolist() == [3, 34]
    assert data.classes == ["broad", "odd", "tall"]
    assert data.num_clusters == 3
    assert [data.classes[label] for label in data.labels] == data.manifest["label"].tolist()


def test_without_labels_nothing_is_known(local_ray: None, small_config: DrcConfig) -> None:
    data = prepared(config(small_config.data.path, k=4))
    assert (data.classes, data.num_clusters) == ([], 4)
    assert set(data.labels.tolist()) == {-1}
    assert list(data.manifest) == ["source"]


def test_a_subset_is_the_same_whatever_the_seed(local_ray: None, small_config: DrcConfig) -> None:
    settings = config(small_config.data.path, k=4, max_images=40)
    first = prepared(settings)
    second = prepared(replace(settings, run=replace(settings.run, seed=7)))
    assert 38 <= len(first.manifest) <= 40  # the broken ones may be among them
    assert first.fingerprint() == second.fingerprint()
    assert first.manifest.index.tolist() != list(range(len(first.manifest)))
    assert rows_of(first)["instance_id"].tolist() != rows_of(second)["instance_id"].tolist()
    assert sorted(rows_of(first)["bank_row"]) == list(range(len(first.manifest)))
    whole = prepared(replace(settings, data=replace(settings.data, max_images=0)))
    assert whole.fingerprint() != first.fingerprint()


def test_the_same_number_of_other_images_is_not_the_same_data(local_ray: None, tmp_path: Path) -> None:
    prints = []
    for name, shade in (("a", 10), ("b", 90), ("c", 10)):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.new("RGB", (16, 16), (shade, i, 7)).save(tmp_path / name / f"{i:02d}.png")
        prints.append(prepared(config(str(tmp_path / name), k=2)).fingerprint())
    assert prints[0] != prints[1]
    assert prints[0] == prints[2]  # a copy elsewhere is the same data


def test_too_few_images_are_left_when_the_broken_ones_are_gone(local_ray: None, tree: Path) -> None:
    for file in sorted(tree.glob("**/*.png"))[:6]:
        file.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"there are 8 images; 2 clusters and 1 workers need 10"):
        prepared(config(str(tree), k=2, max_broken_fraction=0.9))


def test_more_negatives_than_images_are_refused() -> None:
    settings = replace(config("digits", k=3), bank=BankConfig(negatives=1797))
    with pytest.raises(InputError, match=r"--bank.negatives is 1797; it must be 0, .* or below the 1797 images"):
        open_unlabelled(settings)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder a class, one of them nested; a file that is no image; a broken one."""
    for i, name in enumerate(
        ["cats/1.png", "cats/2.jpg", "dogs/big/3.PNG", "dogs/4.png", *(f"x/{i}.png" for i in range(9))]
    ):
        file = tmp_path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (i, 0, 7)).save(file)
    (tmp_path / "tree" / "notes.txt").write_text("no image")
    (tmp_path / "tree" / "dogs" / "5.png").write_bytes(b"broken")
    return tmp_path / "tree"


def test_a_folder_of_images_without_a_csv(local_ray: None, tree: Path) -> None:
    data = prepared(config(str(tree), max_broken_fraction=0.2, label_column="folder"))
    assert data.classes == ["big", "cats", "dogs", "x"]
    sources = data.manifest["source"].tolist()
    assert sources == sorted(sources)
    assert len(sources) == 13
    assert data.broken["source"].tolist() == [str(tree / "dogs" / "5.png")]
    labels = data.manifest["label"]
    assert all(Path(source).parent.name == label for source, label in zip(sources, labels, strict=True))


def test_too_many_broken_images_stop(local_ray: None, tree: Path) -> None:
    with pytest.raises(TooManyBrokenError, match=r"1 of 14 images are broken, over --data.max-broken-fraction 0\.05"):
        prepared(config(str(tree), k=2))


def test_classes_that_are_numbers_are_in_the_order_of_the_numbers() -> None:
    settings = config("digits", label_column="label")
    source = open_unlabelled(settings)
    assert source.manifest["label"][:3].tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            config("digits"),
            r"--clustering.num-clusters is 0, as many as there are known classes, and none .*",
        ),
        (config("digits", label_column="kind"), r"digits has no column 'kind'; its columns are 'rank', 'label'"),
        (config("digits", k=1000), r"there are 1797 images; 1000 clusters and 1 workers need 2000"),
        (config("digits", k=10, max_images=15), r"there are 15 images; 10 clusters and 1 workers need 20"),
        (config("nowhere", k=3), r"--data.path is 'nowhere'; there is no such file or folder"),
        (config("nowhere/*.parquet", k=3), r"--data.path is 'nowhere/\*.parquet'; there is no such file or folder"),
    ],
)
def test_what_cannot_be_used_is_one_line(settings: IdfdConfig, expected: str) -> None:
    with pytest.raises(InputError, match=rf"\A{expected}\Z"):
        open_unlabelled(settings)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no images \(.*.png.*\), Parquet files or CSV files"):
        open_unlabelled(config(str(tmp_path), k=2))


def test_a_pattern_chooses_files(local_ray: None, small_config: DrcConfig) -> None:
    data = prepared(config(f"{small_config.data.path}/[bc].parquet", k=4))
    assert len(data.manifest) == 72  # 30 to 102, without 34
    assert data.broken.index.tolist() == [4]


def test_only_the_images_of_a_split(local_ray: None, tmp_path: Path) -> None:
    generate = DATASETS["fashion-mnist"].generate
    assert generate is not None
    generate(tmp_path)
    settings = config(str(tmp_path), dataset="fashion-mnist", label_column="label", split="test", max_images=15)
    data = prepared(replace(settings, clustering=KMeansConfig(num_clusters=3)))
    assert len(data.manifest) == 15
    assert data.manifest["source"].str.contains("t10k-images").all()
    assert sorted(rows_of(data)["instance_id"]) == data.manifest.index.tolist()
    wrong = replace(settings, data=replace(settings.data, split="tset"))
    with pytest.raises(InputError, match=r"--data\.split is 'tset'; column 'split' holds 'test', 'train'"):
        open_unlabelled(wrong)
