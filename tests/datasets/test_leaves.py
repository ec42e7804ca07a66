"""Coffee leaves as a folder and as Parquet, and scikit-learn's digits."""

from functools import partial
from pathlib import Path
from typing import Any

import listings
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listings import images, names
from sklearn.datasets import load_digits

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.digits import DIGITS, read_digits
from ordclust_ray.datasets.leaves import COFFEE, read_coffee
from ordclust_ray.datasets.listing import Listing

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
HEAD = "id,predominant_stress,miner,rust,phoma,cercospora,severity\n"


@pytest.fixture
def leaf(tmp_path: Path) -> Path:
    COFFEE.generate(tmp_path)  # type: ignore[misc]
    return tmp_path / "coffee-datasets" / "leaf"


refused = partial(listings.refused, COFFEE)


def out(listing: Listing) -> list[tuple[str, str]]:
    return [(Path(source).name, reason) for source, reason in listing.left_out.itertuples(index=False)]


def test_leaves_by_hand(leaf: Path) -> None:
    """Leaf n has severity (n - 1) mod 5; stresses 1, 2, 3, 4 go by fives: 2-5, 6-10 without 6, and so on."""
    listing = read_coffee(leaf)
    rows = listing.rows
    assert rows.index.tolist() == list(range(100))
    assert rows["rank"].value_counts().to_dict() == {float(severity): 20 for severity in range(5)}
    assert rows["stress"].value_counts().to_dict() == dict.fromkeys(
        ["healthy", "miner", "rust", "phoma", "cercospora"], 20
    )
    assert rows[rows["rank"] > 0].groupby(["rank", "stress"]).size().unique().tolist() == [5]
    known = dict(zip(names(listing), zip(rows["rank"], rows["stress"], strict=True), strict=True))
    assert known["1.jpg"] == known["96.jpg"] == (0.0, "healthy")
    assert known["2.jpg"] == known["22.jpg"] == (1.0, "miner")
    assert known["10.jpg"] == (4.0, "rust")
    assert known["13.jpg"] == (2.0, "phoma")
    assert known["100.jpg"] == (4.0, "cercospora")
    assert rows["source"].tolist() == sorted(rows["source"])
    assert rows["source"].iloc[:3].tolist() == [str(leaf / "images" / f"{i}.jpg") for i in (1, 10, 100)]
    assert [(image.size, image.format) for image in images(listing, [0, 99])] == [((32, 16), "JPEG")] * 2


def test_the_split_is_drawn_four_to_one(leaf: Path) -> None:
    listing = read_coffee(leaf)
    assert listing.rows["split"].value_counts().to_dict() == {"train": 80, "test": 20}
    assert listing.rows.groupby(["rank", "split"]).size().min() >= 2
    assert listing.notes == ["No split is published: 80% train and 20% test were drawn (seed 0)"]


def test_the_folder_may_be_given_from_above(leaf: Path) -> None:
    rows = read_coffee(leaf).rows
    assert read_coffee(leaf.parent).rows.equals(rows)
    assert read_coffee(leaf.parent.parent).rows.equals(rows)


def test_the_repository_has_its_images_in_leaf_and_other_tables(leaf: Path, tmp_path: Path) -> None:
    home = tmp_path / "lara2018" / "classification" / "dataset"
    home.mkdir(parents=True)
    (leaf / "images").rename(home / "leaf")
    (leaf / "dataset.csv").rename(home / "dataset.csv")
    other = tmp_path / "lara2018" / "segmentation" / "dataset"
    (other / "images" / "train").mkdir(parents=True)
    (other / "dataset.csv").write_text(HEAD)
    listing = read_coffee(tmp_path / "lara2018")
    assert len(listing.rows) == 100
    assert listing.rows["source"].iloc[0] == str(home / "leaf" / "1.jpg")
    assert images(listing, [0])[0].size == (32, 16)


def test_what_is_no_instance_is_named(leaf: Path) -> None:
    (leaf / "images" / "3.jpg").unlink()
    with (leaf / "dataset.csv").open("a") as table:
        table.write("101,2,0,1,0,0,1\n5,4,0,0,0,1,4\n")
    lines = (leaf / "dataset.csv").read_text().replace("\n7,2,0,1,0,0,1\n", "\n7,5,0,1,0,0,1\n")
    lines = (
        lines.replace("\n8,2,0,1,0,0,2\n", "\n8,2,0,1,0,0,5\n")
        .replace("\n9,2,", "\n9,leaf,")
        .replace("\n10,2,0,1,0,0,4\n", "\n10,2,0,1,0,0,\n")
    )
    (leaf / "dataset.csv").write_text(lines)
    listing = read_coffee(leaf)
    allowed = "it must be one of 0 (healthy), 1 (miner), 2 (rust), 3 (phoma), 4 (cercospora)"
    assert out(listing) == [
        ("10.jpg", "severity is empty; it must be a whole number from 0 to 4"),
        ("101.jpg", "listed in dataset.csv, but missing"),
        ("3.jpg", "listed in dataset.csv, but missing"),
        ("5.jpg", "listed twice, first as row 5 of dataset.csv"),
        ("7.jpg", f"predominant_stress is 5; {allowed}"),
        ("8.jpg", "severity is 5; it must be a whole number from 0 to 4"),
        ("9.jpg", f"predominant_stress is leaf; {allowed}"),
    ]
    assert len(listing.rows) == 95
    assert listing.rows["source"].is_unique
    (five,) = listing.rows[listing.rows["source"].str.endswith("/5.jpg")].itertuples()
    assert (five.rank, five.stress) == (4.0, "miner")


def test_an_id_that_leads_elsewhere_is_missing(leaf: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jpg").write_bytes((leaf / "images" / "1.jpg").read_bytes())
    with (leaf / "dataset.csv").open("a") as table:
        table.write("../../../other,0,0,0,0,0,0\n")
    assert out(read_coffee(leaf)) == [("other.jpg", "listed in dataset.csv, but missing")]


def test_a_wrong_folder_or_table_is_named(leaf: Path, tmp_path: Path) -> None:
    assert "the set of coffee leaves has no published lists" in refused(leaf, tmp_path)
    (leaf / "dataset.csv").write_text("id,severity\n1,0\n")
    assert refused(leaf) == (
        f"'{leaf / 'dataset.csv'}' has no column 'predominant_stress'; its columns are 'id', 'severity'"
    )
    (leaf / "dataset.csv").write_text("")
    assert f"'{leaf / 'dataset.csv'}' is not a table" in refused(leaf)
    (leaf / "dataset.csv").unlink()
    assert "is not the set of coffee leaves as it comes (coffee_leaf.parquet, or" in refused(leaf)
    assert refused(leaf).endswith("it holds 'images'")
    assert refused(tmp_path / "none") == f"there is no '{tmp_path / 'none'}'"


@pytest.mark.parametrize("source", [SHARED, SHARED / "coffee_leaf.parquet"], ids=["folder", "file"])
def test_the_real_leaves(source: Path) -> None:
    """Counts of the repository's own table."""
    listing = read_coffee(source)
    rows = listing.rows
    assert rows.index.tolist() == list(range(1_685))
    assert {"images": len(rows)} == COFFEE.published
    assert rows["rank"].value_counts().sort_index().to_dict() == {0.0: 272, 1.0: 924, 2.0: 332, 3.0: 101, 4.0: 56}
    assert rows["stress"].value_counts().to_dict() == (
        {"rust": 531, "miner": 387, "phoma": 348, "healthy": 272, "cercospora": 147}
    )
    assert ((rows["rank"] == 0) == (rows["stress"] == "healthy")).all()
    assert rows["split"].value_counts().to_dict() == {"train": 1_348, "test": 337}
    assert rows["source"].iloc[7] == f"{SHARED / 'coffee_leaf.parquet'}#7"
    assert [image.size for image in images(listing, [0, 1_684])] == [(512, 256)] * 2
    assert listing.left_out.empty


def test_parquet_and_folder_have_the_same_split(leaf: Path, tmp_path: Path) -> None:
    """The split goes by a leaf's number, wherever it lies."""
    columns: dict[str, Any] = {"id": range(1, 101), "predominant_stress": [0] * 100, "severity": [0] * 100}
    pq.write_table(pa.table({**columns, "image": [b"image"] * 100}), tmp_path / "coffee_leaf.parquet")
    rows = read_coffee(tmp_path).rows
    ours = {f"{number}.jpg": split for number, split in zip(range(1, 101), rows["split"], strict=True)}
    folder = read_coffee(leaf)
    assert dict(zip(names(folder), folder.rows["split"], strict=True)) == ours


def test_parquet_rows_that_are_no_instances(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "id": [4, 4, 6, 7, 8],
        "predominant_stress": [1, 2, 5, None, 0],
        "severity": [4, 1, 1, 1, 0],
        "image": [b"0", b"1", b"2", b"3", b"4"],
    }
    pq.write_table(pa.table(columns), tmp_path / "coffee_leaf.parquet", row_group_size=2)
    listing = read_coffee(tmp_path)
    assert listing.rows[["rank", "stress"]].to_dict("list") == {"rank": [4.0, 0.0], "stress": ["miner", "healthy"]}
    assert list(listing.images.read(np.array([0, 1]), ["", ""])) == [b"0", b"4"]
    first = f"listed twice, first as {tmp_path / 'coffee_leaf.parquet'}#0"
    assert [reason.split(";")[0] for reason in listing.left_out["reason"]] == (
        [first, "predominant_stress is 5.0", "predominant_stress is nan"]
    )
    pq.write_table(pa.table({"id": [1], "image": [b""]}), tmp_path / "coffee_leaf.parquet")
    assert "has no column 'predominant_stress'; its columns are 'id', 'image'" in refused(tmp_path)


def test_digits_by_hand() -> None:
    listing = read_digits(Path("digits"))
    rows, digits = listing.rows, load_digits()
    assert rows.index.tolist() == list(range(1_797))
    assert rows["rank"].tolist() == digits.target.tolist()
    assert rows["label"].tolist() == [str(digit) for digit in digits.target]
    assert rows["source"].iloc[[0, 1_796]].tolist() == ["digits#0", "digits#1796"]
    assert rows["split"].value_counts().to_dict() == {"train": 1_438, "test": 359}
    assert listing.notes == ["No split is published: 80% train and 20% test were drawn (seed 0)"]
    first, last = (np.asarray(image) for image in images(listing, [0, 1_796]))
    np.testing.assert_array_equal(first, (digits.images[0] * 255 / 16).round())
    np.testing.assert_array_equal(last, (digits.images[-1] * 255 / 16).round())
    with pytest.raises(InputError, match="no published lists"):
        read_digits(Path("digits"), Path("lists"))


def test_generated_digits_are_the_digits(tmp_path: Path) -> None:
    DIGITS.generate(tmp_path / "digits")  # type: ignore[misc]
    assert len(DIGITS.read(tmp_path / "digits", None).rows) == 1_797
