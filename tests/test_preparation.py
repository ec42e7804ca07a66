"""Parquet files of a data set: what they hold, what happens to broken images, and that nothing is written twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ordclust_ray import preparation
from ordclust_ray.config import InputError, PrepareConfig
from ordclust_ray.data.images import decode
from ordclust_ray.datasets.listing import Listing, left_out
from ordclust_ray.datasets.registry import DATASETS
from ordclust_ray.datasets.stored import FileImages
from ordclust_ray.preparation import checksum, identical_images, prepare_files, read_back
from ordclust_ray.reports.data_card import data_card, write_card

Png = Callable[[int], bytes]
IMAGES = 23
BROKEN = {4: b"no image", 17: b""}


@pytest.fixture
def listing(tmp_path: Path, png: Png) -> Listing:
    """Images 0 to 22, of which 4 is broken and 17 empty; 5 is the same as 3."""
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(IMAGES):
        (folder / f"{i:02}.png").write_bytes(BROKEN.get(i, png(3 if i == 5 else i)))
    rows = {
        "source": [str(folder / f"{i:02}.png") for i in range(IMAGES)],
        "rank": np.arange(IMAGES) / 2,
        "gender": ["female", "male"] * 11 + ["male"],
        "split": ["train"] * 20 + ["test"] * 3,
    }
    return Listing(
        pd.DataFrame(rows).rename_axis("instance_id"), FileImages((str(folder),), images_a_task=5), left_out()
    )


def written(listing: Listing, output: Path, image_size: int = 0) -> list[int]:
    config = PrepareConfig(source="s", output=str(output), image_size=image_size)
    output.mkdir(exist_ok=True)
    return list(prepare_files(listing, "years", config))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images a file."""
    monkeypatch.setattr(preparation, "IMAGES_A_FILE", 5)


def table(output: Path) -> pd.DataFrame:
    return pd.concat([pq.read_table(file).to_pandas() for file in sorted(output.glob("part-*.parquet"))])


def test_rows_in_the_order_of_the_ids(local_ray: None, listing: Listing, tmp_path: Path, png: Png) -> None:
    assert written(listing, tmp_path / "out")[-1] == IMAGES
    rows = table(tmp_path / "out")
    columns = ["instance_id", "image", "rank", "rank_unit", "gender", "split", "source", "error", "checksum"]
    assert rows.columns.tolist() == columns
    assert rows["instance_id"].tolist() == list(range(IMAGES))
    assert rows["rank"].tolist() == [i / 2 for i in range(IMAGES)]
    assert set(rows["rank_unit"]) == {"years"}
    assert rows["gender"].tolist() == ["female", "male"] * 11 + ["male"]
    assert rows["image"].iloc[7] == png(7)
    assert rows["checksum"].iloc[7] == checksum(png(7))
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 5


def test_broken_images_have_a_row_and_a_reason(local_ray: None, listing: Listing, tmp_path: Path) -> None:
    written(listing, tmp_path / "out")
    found = read_back(tmp_path / "out", IMAGES)
    assert found.index[found["error"] != ""].tolist() == [4, 17]
    assert found["error"][17] == "empty, not found, or outside of the folder"
    assert table(tmp_path / "out")["image"].isna().to_numpy().nonzero()[0].tolist() == [4, 17]
    assert found["checksum"][3] == found["checksum"][5] != found["checksum"][6]


def test_images_are_resized(local_ray: None, listing: Listing, tmp_path: Path, png: Png) -> None:
    written(listing, tmp_path / "out", image_size=4)
    found = table(tmp_path / "out")["image"].iloc[7]
    assert decode(found, 4, 100).tolist() == decode(png(7), 4, 1000).tolist()


def test_only_missing_files_are_written(local_ray: None, listing: Listing, tmp_path: Path) -> None:
    written(listing, tmp_path / "out")
    files = sorted((tmp_path / "out").glob("part-*.parquet"))
    before = {file: file.stat().st_mtime_ns for file in files}
    whole = table(tmp_path / "out")
    files[2].unlink()
    (tmp_path / "out" / ".part-00002.parquet.new").write_bytes(b"half of a file")
    assert written(listing, tmp_path / "out") == [18, IMAGES]
    changed = [file for file in files if file.stat().st_mtime_ns != before[file]]
    assert changed == [files[2]]
    pd.testing.assert_frame_equal(table(tmp_path / "out"), whole)


def test_checksums_are_exact_beside_missing_ones(local_ray: None, listing: Listing, tmp_path: Path, png: Png) -> None:
    written(listing, tmp_path / "out")
    found = read_back(tmp_path / "out", IMAGES)["checksum"]
    assert [int(found[i]) for i in (3, 7, 22)] == [checksum(png(i)) for i in (3, 7, 22)]  # all bits, which floats lack
    assert found.index[found.isna()].tolist() == [4, 17]


def test_identical_images_are_listed_also_after_a_kill(
    local_ray: None, listing: Listing, tmp_path: Path, png: Png
) -> None:
    """Image 5 is as 3, and 10, 20 and 21, in other files, as 1; broken images are as no other."""
    for i in (10, 20, 21):
        Path(listing.rows["source"][i]).write_bytes(png(1))
    output = tmp_path / "out"
    assert written(listing, output)[-1] == IMAGES
    whole = identical_images(output)
    sources = listing.rows["source"]
    assert whole.to_numpy().tolist() == [
        [later, sources[later], first, sources[first]] for later, first in ((5, 3), (10, 1), (20, 1), (21, 1))
    ]
    (output / "part-00002.parquet").unlink()
    (output / "part-00004.parquet").unlink()
    assert written(listing, output)[0] == 15
    pd.testing.assert_frame_equal(identical_images(output), whole)


def test_the_card_counts_and_lists_identical_images(local_ray: None, listing: Listing, tmp_path: Path) -> None:
    written(listing, tmp_path / "out")
    found = read_back(tmp_path / "out", IMAGES)
    card = data_card(DATASETS["folder"], listing, found, {})
    write_card(card, listing.left_out, tmp_path / "out")
    assert card["identical"] == {"images": 2, "across": 0}
    listed = pd.read_csv(tmp_path / "out" / "identical.csv")
    assert listed.columns.tolist() == ["instance_id", "source", "first_id", "first_source"]
    assert listed[["instance_id", "first_id"]].to_numpy().tolist() == [[5, 3]]
    said = (tmp_path / "out" / "data_card.md").read_text()
    assert "2 images have the same bytes as another one" in said
    assert "All but the first of the same are listed in `identical.csv`." in said


def test_another_job_is_refused(local_ray: None, listing: Listing, tmp_path: Path) -> None:
    written(listing, tmp_path / "out")
    with pytest.raises(InputError, match="holds another data set, or this one prepared in another way"):
        written(listing, tmp_path / "out", image_size=8)
    other = replace(listing, rows=listing.rows.assign(rank=0.0))
    with pytest.raises(InputError, match="holds another data set, or this one prepared in another way"):
        written(other, tmp_path / "out")


def test_a_folder_with_other_files_is_refused(local_ray: None, listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds files already; name another folder"):
        written(listing, tmp_path / "out")


def test_missing_rows_are_counted(local_ray: None, listing: Listing, tmp_path: Path) -> None:
    written(listing, tmp_path / "out")
    with pytest.raises(InputError, match=f"holds {IMAGES} of 24 images; all machines have to share that folder"):
        read_back(tmp_path / "out", 24)
