"""Readers: every layout gives the same manifest and the same bytes, keyed by an id that stays."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ordclust_ray.config import DataConfig
from ordclust_ray.data.images import decode
from ordclust_ray.data.readers import Source, open_source
from ordclust_ray.datasets import stored

HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Png = Callable[[int], bytes]


def write_parquet(file: Path, columns: dict[str, Any], row_group_size: int | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, row_group_size=row_group_size)
    return file


def write_folder(folder: Path, table: str, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    folder.mkdir(exist_ok=True)
    (folder / "table.csv").write_text(table)
    return folder


def opened(path: Path, **settings: Any) -> Source:
    return open_source(DataConfig(path=str(path), **settings))


def encoded(source: Source) -> list[bytes]:
    """The bytes of all images, checked to have the ids 0..n-1, in the order of the ids."""
    rows = source.encoded(None).take_all()
    assert sorted(row["instance_id"] for row in rows) == list(range(len(source.manifest)))
    return [row["encoded"] for row in sorted(rows, key=lambda row: row["instance_id"])]


def error_of(path: Path, **settings: Any) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        opened(path, **settings)
    return str(caught.value)


# --- Parquet ---------------------------------------------------------------------------------------------------------


def test_parquet_of_bytes(local_ray: None, tmp_path: Path, png: Png) -> None:
    images = [png(i) for i in range(7)]
    ranks = [3.5, 1, 2, 2, 9, 4, 5]
    source = opened(write_parquet(tmp_path / "a.parquet", {"rank": ranks, "image": images}, row_group_size=3))
    assert encoded(source) == images
    assert source.manifest.index.tolist() == list(range(7))
    assert source.manifest["rank"].tolist() == ranks
    assert source.manifest["source"].tolist() == [f"{tmp_path}/a.parquet#{i}" for i in range(7)]
    assert set(source.manifest) == {"rank", "source"}


@pytest.mark.parametrize("kind", [HUGGING_FACE, pa.struct([("path", pa.string()), ("bytes", pa.large_binary())])])
def test_parquet_as_hugging_face_writes_it(local_ray: None, tmp_path: Path, png: Png, kind: pa.DataType) -> None:
    images = [{"bytes": png(0), "path": "0.png"}, {"bytes": None, "path": "1.png"}, None, {"bytes": png(3)}]
    file = write_parquet(tmp_path / "a.parquet", {"image": pa.array(images, kind), "rank": [1, 2, 3, 4]})
    assert encoded(opened(file)) == [png(0), b"", b"", png(3)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_nulls_are_empty_and_bytes_are_not_touched(local_ray: None, tmp_path: Path, kind: pa.DataType) -> None:
    images = [b"ends in zeros\0\0", None, b"\0", b"", b"\xff\xd8"]
    file = write_parquet(tmp_path / "a.parquet", {"image": pa.array(images, kind), "rank": range(5)}, row_group_size=2)
    assert encoded(opened(file)) == [image or b"" for image in images]


def test_only_nulls(local_ray: None, tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": pa.array([None, None], pa.binary()), "rank": [1, 2]})
    assert encoded(opened(file)) == [b"", b""]


def test_row_group_longer_than_a_read(local_ray: None, tmp_path: Path) -> None:
    images = [str(i).encode() for i in range(1300)]
    file = write_parquet(tmp_path / "a.parquet", {"image": images, "rank": range(1300)}, row_group_size=1250)
    assert encoded(opened(file)) == images


def test_several_files_in_the_order_of_their_names(local_ray: None, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    parts = {"b.parquet": (5, 12), "a.parquet": (0, 5), "nested/c.parquet": (12, 20), "z-empty.parquet": (20, 20)}
    for name, (first, end) in parts.items():
        image = pa.array([str(i).encode() for i in range(first, end)], pa.binary())
        rank = pa.array(range(first, end), pa.int64())
        write_parquet(folder / name, {"image": image, "rank": rank}, row_group_size=3)
    source = opened(folder)
    assert encoded(source) == [str(i).encode() for i in range(20)]
    assert source.manifest["rank"].tolist() == list(range(20))
    assert source.manifest["source"][13] == f"{folder}/nested/c.parquet#1"


def test_ids_are_stable(local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b", "part-10", "a", "part-9"]
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, order in ((first, names), (second, names[::-1])):
        for name in order:
            images = [f"{name} {row}".encode() for row in range(4)]
            write_parquet(folder / f"{name}.parquet", {"image": images, "rank": range(4)}, row_group_size=3)
    once = encoded(opened(first))
    assert encoded(opened(first)) == once
    assert encoded(opened(second)) == once
    listed = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: sorted(listed(self, pattern), reverse=True))
    assert encoded(opened(first)) == once


def test_columns_by_other_names(local_ray: None, tmp_path: Path) -> None:
    columns = {"picture": [b"x", b"y"], "age": [30, 41], "who": ["ann", "bob"], "fold": ["train", "test"]}
    file = write_parquet(tmp_path / "a.parquet", columns)
    source = opened(file, image_column="picture", rank_column="age", group_column="who", split_column="fold")
    assert encoded(source) == [b"x", b"y"]
    assert set(source.manifest) == {"rank", "group", "split", "source"}
    assert source.manifest["rank"].tolist() == [30, 41]
    assert source.manifest["group"].tolist() == ["ann", "bob"]
    assert source.manifest["split"].tolist() == ["train", "test"]


def test_one_column_may_be_two_of_ours(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": [b"x", b"y"], "digit": [4, 7]})
    manifest = opened(file, rank_column="digit", group_column="digit").manifest
    assert manifest["rank"].tolist() == manifest["group"].tolist() == [4, 7]


def test_a_column_of_the_data_may_be_called_source(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": [b"x", b"y"], "rank": [4, 7], "source": ["web", "book"]})
    manifest = opened(file, group_column="source").manifest
    assert manifest["group"].tolist() == ["web", "book"]
    assert manifest["source"].tolist() == [f"{file}#0", f"{file}#1"]


def test_not_a_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("image,rank\n" * 20)
    assert error_of(tmp_path).startswith(f"{tmp_path}/a.parquet is not a Parquet file: ")
    assert error_of(tmp_path / "a.parquet").startswith(f"{tmp_path}/a.parquet is not a Parquet file: ")


def test_truncated_parquet_file(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": [b"x" * 1000], "rank": [1]})
    file.write_bytes(file.read_bytes()[:-50])
    assert error_of(file).startswith(f"{file} is not a Parquet file: ")


def test_missing_path(tmp_path: Path) -> None:
    where = tmp_path / "nowhere"
    assert error_of(where) == f"--data.path is '{where}'; there is no such file or folder"


def test_missing_column_of_one_of_the_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"image": [b"x"], "rank": [1], "kind": ["k"]})
    file = write_parquet(tmp_path / "b.parquet", {"image": [b"x"], "rank": [1]})
    assert error_of(tmp_path, group_column="kind") == f"{file} has no column 'kind'; its columns are 'image', 'rank'"


@pytest.mark.parametrize("setting", ["image_column", "rank_column", "group_column", "split_column"])
def test_missing_column(tmp_path: Path, setting: str) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": [b"x"], "rank": [1], "more": [2]})
    assert error_of(file, **{setting: "age"}) == f"{file} has no column 'age'; its columns are 'image', 'rank', 'more'"


@pytest.mark.parametrize(
    "images",
    [pa.array(["a.png", "b.png"]), pa.array([{"path": "a.png"}, {"path": "b.png"}]), pa.array([[0, 255], [3, 4]])],
    ids=["paths", "structs without bytes", "lists"],
)
def test_image_column_that_holds_no_encoded_images(tmp_path: Path, images: pa.Array) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": images, "rank": [1, 2]})
    assert re.search(r"column 'image'.* bytes", error_of(file))


# --- a folder and its CSV --------------------------------------------------------------------------------------------


def test_folder(local_ray: None, tmp_path: Path, png: Png) -> None:
    files = {"b.png": png(0), "deep/er/a.png": png(1), "not in the table.png": png(9), "with space.png": png(2)}
    table = "rank,image,kind\n5,b.png,x\n3,deep/er/a.png,y\n4,with space.png,x\n5,missing.png,y\n"
    source = opened(write_folder(tmp_path, table, files), group_column="kind")
    assert encoded(source) == [png(0), png(1), png(2), b""]
    assert source.manifest["rank"].tolist() == [5, 3, 4, 5]
    assert source.manifest["group"].tolist() == ["x", "y", "x", "y"]
    assert source.manifest["source"].tolist()[1:] == [
        f"{tmp_path}/{name}" for name in ("deep/er/a.png", "with space.png", "missing.png")
    ]
    assert encoded(opened(tmp_path)) == encoded(source), "ids are the lines of the table"


def test_files_outside_the_folder_are_not_read(local_ray: None, tmp_path: Path, png: Png) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    (tmp_path / "set-2").mkdir()
    (tmp_path / "set-2" / "a.png").write_bytes(png(1))
    files = {"a.png": png(0), "sub/b.png": png(2)}
    rows = [
        "a.png",
        "../secret.png",
        f"{tmp_path}/secret.png",
        "../set-2/a.png",
        "link.png",
        "sub/../a.png",
        "sub",
        ".",
    ]
    table = "image,rank\n" + "".join(f"{name},1\n" for name in rows)
    folder = write_folder(tmp_path / "set", table, files)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert encoded(opened(folder)) == [png(0), b"", b"", b"", b"", png(0), b"", b""]


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "loop.png"], ids=["name too long", "link to itself"])
def test_file_that_cannot_be_opened_is_broken(local_ray: None, tmp_path: Path, png: Png, name: str) -> None:
    folder = write_folder(tmp_path, f"image,rank\na.png,1\n{name},2\n", {"a.png": png(0)})
    (folder / "loop.png").symlink_to(folder / "loop.png")
    assert encoded(opened(folder)) == [png(0), b""]


def test_file_names_are_text(local_ray: None, tmp_path: Path, png: Png) -> None:
    folder = write_folder(tmp_path, "image,rank\n007,1\n010,2\n", {"007": png(7), "010": png(10)})
    assert encoded(opened(folder)) == [png(7), png(10)]


def test_missing_file_name_is_a_broken_image(local_ray: None, tmp_path: Path, png: Png) -> None:
    folder = write_folder(tmp_path, "image,rank\na.png,1\n,2\n", {"a.png": png(0)})
    assert encoded(opened(folder)) == [png(0), b""]


def test_more_files_than_a_task_reads(local_ray: None, tmp_path: Path) -> None:
    files = {f"{i}.png": str(i).encode() for i in range(1100)}
    table = "image,rank\n" + "".join(f"{name},1\n" for name in files)
    assert encoded(opened(write_folder(tmp_path, table, files))) == list(files.values())


def test_two_tables(local_ray: None, tmp_path: Path, png: Png) -> None:
    folder = write_folder(
        tmp_path, "image,rank\na.png,1\n", {"a.png": png(0), "lists/more.csv": b"image,rank\na.png,8\n"}
    )
    assert opened(folder).manifest["rank"].tolist() == [1], "only the tables at the top of the folder are candidates"
    (folder / "other.csv").write_text("image,rank\na.png,2\nb.png,3\n")
    message = f"{folder} holds no Parquet files and 2 CSV files; it needs one CSV, or --data.table names it"
    assert error_of(folder) == message
    assert opened(folder, table="other.csv").manifest["rank"].tolist() == [2, 3]
    assert opened(folder, table="lists/more.csv").manifest["rank"].tolist() == [8]
    assert encoded(opened(folder, table="lists/more.csv")) == [png(0)], "paths are relative to the folder"
    assert error_of(folder, table="none.csv") == f"--data.table is 'none.csv'; there is no such file in {folder}"


def test_no_table(tmp_path: Path) -> None:
    assert "holds no Parquet files and 0 CSV files" in error_of(tmp_path)


def test_table_without_the_column(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "file,age\na.png,1\n", {})
    assert error_of(folder) == f"{folder}/table.csv has no column 'image'; its columns are 'file', 'age'"
    assert error_of(folder, image_column="file").startswith(f"{folder}/table.csv has no column 'rank'")


def test_an_image_listed_twice_could_be_in_both_splits(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "image,rank\na.png,1\nb.png,2\na.png,3\n,4\n,5\n", {})
    assert error_of(folder) == f"{folder}/table.csv lists 1 images more than once; the first is 'a.png'"


def test_a_table_for_a_path(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "image,rank\na.png,1\n", {})
    expected = f"--data.path is '{folder}/table.csv'; it must be the CSV's folder, and --data.table its name"
    assert error_of(folder / "table.csv") == expected


def test_parquet_files_below_a_table_are_no_images(local_ray: None, tmp_path: Path, png: Png) -> None:
    folder = write_folder(tmp_path, "image,rank\na.png,1\n", {"a.png": png(0), "old/x.parquet": b"no Parquet"})
    assert encoded(opened(folder)) == [png(0)]


def test_no_more_of_a_file_is_read_than_an_image_may_have(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.png").write_bytes(png(0))
    images = stored.FileImages((str(tmp_path),))
    assert list(images.read(np.array([0]), [str(tmp_path / "a.png")])) == [png(0)[:10]]


@pytest.mark.parametrize(
    "table",
    [b"", b"image,rank\na.png,1\nb.png,2,3\n", b"image,rank\n\xe9t\xe9.png,1\n"],
    ids=["empty", "ragged", "latin-1"],
)
def test_table_that_is_no_csv(tmp_path: Path, table: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(table)
    assert str(tmp_path / "table.csv") in error_of(tmp_path)


# --- digits ----------------------------------------------------------------------------------------------------------


def test_digits(local_ray: None) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    source = open_source(DataConfig())
    images = encoded(source)
    assert len(images) == 1797
    assert source.manifest["rank"].tolist() == digits.target.tolist()
    assert source.manifest["source"][1796] == "digits#1796"
    for i in range(0, 1797, 50):
        pixels = decode(images[i], 8, max_pixels=64)[..., 0]
        np.testing.assert_allclose(pixels / 255 * 16, digits.images[i], atol=0.04)


def test_a_folder_called_digits_does_not_hide_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(open_source(DataConfig(path="digits")).manifest) == 1797
