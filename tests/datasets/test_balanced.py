"""The balanced set: drawn from generated copies of its three sets, and by lists in their published form."""

import shutil
from collections import Counter
from functools import partial
from io import BytesIO
from pathlib import Path

import listings
import numpy as np
import pandas as pd
import pytest
from listings import reasons
from PIL import Image

from ordclust_ray.datasets import balanced
from ordclust_ray.datasets.balanced import BALANCED, water_level

HEAD = "age gender race filename id database"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    BALANCED.generate(tmp_path / "copy")  # type: ignore[misc]
    return tmp_path / "copy"


refused = partial(listings.refused, BALANCED)


def write(lists: Path, train: list[str], test: list[str]) -> None:
    lists.mkdir(parents=True, exist_ok=True)
    for split, lines in (("train", train), ("test", test)):
        text = "".join(f"{line}\r\n" for line in [HEAD, *lines])
        (lists / f"Balanced_{split}.txt").write_bytes(text.encode())


def test_all_that_is_of_the_three_groups_is_taken_where_there_is_little(copy: Path) -> None:
    """MORPH has 3 female and 9 male Africans, as many Caucasians, 1 and 1 Asians, with 4 images each; AFAD has 48 and
    48 images of Asians; UTKFace has 8 of each gender and race, three of which count.
    """
    found = BALANCED.read(copy, None)
    rows = found.rows
    assert list(rows.columns) == ["source", "rank", "gender", "race", "database", "person", "split"]
    assert rows.groupby(["gender", "race"]).size().to_dict() == {
        ("female", "African"): 12 + 8,
        ("female", "Asian"): 4 + 48 + 8,
        ("female", "European"): 12 + 8,
        ("male", "African"): 36 + 8,
        ("male", "Asian"): 4 + 48 + 8,
        ("male", "European"): 36 + 8,
    }
    assert rows["person"].iloc[[0, 96, 99]].tolist() == ["", "100001", "100001"]
    assert (rows["person"] == "").sum() == 96 + 48
    assert rows["database"].value_counts().to_dict() == {"morph": 104, "afad": 96, "utk": 48}
    assert rows["split"].value_counts().to_dict() == {"train": 198, "test": 50}  # of 248, 198.4 and 49.6 wanted
    assert rows.groupby(["split", "rank"]).size().min() >= 2
    assert rows.index.tolist() == list(range(248))
    assert rows["source"][0] == str(copy / "AFAD" / "AFAD-Full" / "20" / "111" / "100000-0.jpg")
    assert len(found.left_out) == 0
    assert "Reconstructed (seed 0)" in found.notes[0]


def test_images_of_all_three_sets_are_read_through_links(copy: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("MORPH", "AFAD", "UTKFace"):
        (linked / name.upper()).symlink_to(copy / name)
    found = BALANCED.read(linked, None)
    own = BALANCED.read(copy, None)
    assert Counter(found.rows["database"]) == Counter(own.rows["database"])
    ids = np.flatnonzero(~found.rows["database"].duplicated())
    assert len(ids) == 3
    encoded = found.images.read(ids, found.rows["source"].iloc[ids].tolist())
    assert [Image.open(BytesIO(image), formats=["JPEG"]).size for image in encoded] == [(24, 24)] * 3
    pd.testing.assert_frame_equal(own.rows.drop(columns="source"), found.rows.drop(columns="source"))


def test_ages_are_as_even_as_they_can_be(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asian males: 1 + 12 + 2 of each of the four ages; without the 12 of age 20 from AFAD, 3, 15, 15, 15."""
    monkeypatch.setattr(balanced, "IMAGES_OF_A_CELL", 29)
    shutil.rmtree(copy / "AFAD" / "AFAD-Full" / "20" / "111")
    rows = BALANCED.read(copy, None).rows
    cell = rows[(rows["gender"] == "male") & (rows["race"] == "Asian")]
    assert cell.groupby("rank").size().to_dict() == {20.0: 3, 30.0: 8, 40.0: 8, 50.0: 8}  # with 9 there would be 30
    assert (rows.groupby(["gender", "race"]).size() <= 29).all()


def test_ages_outside_of_15_to_80_are_not_of_it(copy: Path) -> None:
    for age in (14, 81):
        (copy / "UTKFace" / "UTKFace" / f"{age}_0_0_20170101000000500.jpg.chip.jpg").touch()
    assert len(BALANCED.read(copy, None).rows) == 248


@pytest.mark.parametrize(
    ("counts", "total", "level"),
    [([1, 5, 9], 8, 3), ([1, 5, 9], 9, 4), ([1, 5, 9], 15, 9), ([1, 5, 9], 99, 9), ([4, 4], 7, 3), ([4, 4], 1, 0)],
)
def test_water_level_by_hand(counts: list[int], total: int, level: int) -> None:
    assert water_level(np.array(counts), total) == level


def test_published_lists(copy: Path, tmp_path: Path) -> None:
    """UTKFace's names lack the end .chip.jpg, AFAD's have age, gender and race before them, as published."""
    (copy / "MORPH" / "morph_2008_nonCommercial.csv").unlink()  # the lists give the race
    train = [
        "20.0 0.0 0.0 20_0_0_20170101000000000.jpg  utk",
        "20.0 1.0 1.0 100013_00F20.JPG 100013 morph",
        "20.0 0.0 2.0 20_0_2_100000-0.jpg  afad",
        "20.0 1.0 2.0 20_0_2_100012-0.jpg  afad",  # of a woman, so it lies elsewhere
        "20.0 0.0 2.0 100001-1.jpg  afad",
        "16.0 0.0 0.0 349536_01M16.JPG 349536 morph",
        "20.0 0.0 5.0 20_0_1_20170101000000002.jpg  utk",
        "old 0.0 0.0 20_0_0_20170101000000001.jpg  utk",
    ]
    write(tmp_path / "index" / "Balanced", train, ["30.0 0.0 0.0 100002_01M30.JPG 100002 morph", train[1]])
    found = BALANCED.read(copy, tmp_path / "index")
    columns = ["rank", "gender", "race", "database", "split"]
    assert [Path(source).name for source in found.rows["source"]] == [
        "100000-0.jpg",
        "100001-1.jpg",
        "100002_01M30.JPG",
        "100013_00F20.JPG",
        "20_0_0_20170101000000000.jpg.chip.jpg",
    ]
    assert found.rows[columns].to_numpy().tolist() == [
        [20.0, "male", "Asian", "afad", "train"],
        [20.0, "male", "Asian", "afad", "train"],
        [30.0, "male", "European", "morph", "test"],
        [20.0, "female", "African", "morph", "train"],
        [20.0, "male", "European", "utk", "train"],
    ]
    assert reasons(found) == {
        "100013_00F20.JPG": "listed twice, first as row 2 of Balanced_train.txt",
        "20_0_2_100012-0.jpg": "listed in Balanced_train.txt, but missing",
        "349536_01M16.JPG": "listed in Balanced_train.txt, but missing",
        "20_0_1_20170101000000002.jpg.chip.jpg": "unknown race '5'; it must be one of 0, 1, 2",
        "20_0_0_20170101000000001.jpg.chip.jpg": "unknown age 'old'; it must be from 15 to 80",
    }


def test_a_wrong_folder_or_list_is_refused(copy: Path, tmp_path: Path) -> None:
    assert "does not hold the published list 'Balanced_train.txt'" in refused(copy, copy)
    write(tmp_path / "lists", [], [])
    assert "holds no image that can be used" in refused(copy, tmp_path / "lists")
    (copy / "MORPH" / "morph_2008_nonCommercial.csv").unlink()
    assert "it needs one, which gives the race" in refused(copy)
    shutil.rmtree(copy / "AFAD" / "AFAD-Full")
    assert "is not AFAD as it comes" in refused(copy)
    shutil.rmtree(copy / "AFAD")
    told = refused(copy)
    assert "is not the balanced set as it comes" in told
    assert "it holds 'MORPH', 'UTKFace'" in told
    assert "there is no" in refused(tmp_path / "nowhere")
