"""Images out of files, arrays and Parquet files, in the order asked for."""

import pickle
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from ordclust_ray.datasets.chosen import ChosenImages
from ordclust_ray.datasets.stored import ArrayImages, FileImages, ParquetImages, Piece, StoredImages


def read(images: StoredImages, ids: list[int], sources: list[str] | None = None) -> list[bytes]:
    """As a task reads, to which the store was sent."""
    sent: StoredImages = pickle.loads(pickle.dumps(images))
    return list(sent.read(np.array(ids, dtype=np.int64), sources or [str(i) for i in ids]))


def files(home: Path, *names: str) -> list[str]:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(name.encode())
    return [str(home / name) for name in names]


def test_files_come_in_the_order_of_their_sources(tmp_path: Path) -> None:
    b, a = files(tmp_path, "b.jpg", "below/a.jpg")
    assert read(FileImages((str(tmp_path),)), [0, 1, 2], [b, a, b]) == [b"b.jpg", b"below/a.jpg", b"b.jpg"]


def test_what_is_no_file_is_nothing(tmp_path: Path) -> None:
    (there,) = files(tmp_path, "there")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    wrong = [str(tmp_path / name) for name in ("missing", "folder", "loop", "dangling")] + [f"{there}/below", ""]
    assert read(FileImages((str(tmp_path),)), list(range(7)), [*wrong, there]) == [b""] * 6 + [b"there"]


def test_names_of_another_kind_are_nothing_and_stop_nobody(tmp_path: Path) -> None:
    (inside,) = files(tmp_path, "home/a.png")
    (outside,) = files(tmp_path, "b.png")
    home = str(tmp_path / "home")
    names = ["a.png\0", "\0", f"file://{inside}", "http://127.0.0.1:9/a.png", "..\\b.png", "C:\\b.png", "~/b.png"]
    wrong = [f"{home}/{name}" for name in names] + [f"file://{outside}", "/proc/self/environ", "/dev/zero"]
    assert read(FileImages((home,)), list(range(len(wrong) + 1)), [*wrong, inside]) == [b""] * len(wrong) + [
        b"home/a.png"
    ]


def test_links_may_lead_about_a_home_and_into_another_but_not_out(tmp_path: Path) -> None:
    inside, other, outside = files(tmp_path, "home/real", "other/real", "outside/secret")
    for name, target in {"inside": inside, "other": other, "out": outside, "folder": str(tmp_path / "outside")}.items():
        (tmp_path / "home" / name).symlink_to(target)
    homes = (str(tmp_path / "home"), str(tmp_path / "other"))
    sources = [f"{homes[0]}/{name}" for name in ("inside", "other", "out", "folder/secret", "../outside/secret")]
    assert read(FileImages(homes), list(range(5)), sources) == [b"home/real", b"other/real", b"", b"", b""]
    assert read(FileImages(homes[:1]), [0, 1], sources[:2]) == [b"home/real", b""]


def test_a_home_may_itself_be_a_link_and_its_namesake_is_none(tmp_path: Path) -> None:
    (real,) = files(tmp_path, "real/a")
    (beside,) = files(tmp_path, "real-too/a")
    (tmp_path / "home").symlink_to(tmp_path / "real")
    assert read(FileImages((str(tmp_path / "home"),)), [0, 1], [real, beside]) == [b"real/a", b""]


def constant(file: str, images: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Image i of "10" is 10 + i throughout."""
    return np.stack([np.full(shape, int(file) + i, dtype=np.uint8) for i in range(images)])


def arrays() -> ArrayImages:
    """Ids 0-2 are 10, 11, 12; there are none of the second; 3 and 4 are 30 and 31, grey."""
    pieces = [("10", 3, (4, 5, 3)), ("20", 0, (4, 5, 3)), ("30", 2, (6, 6))]
    return ArrayImages(tuple(Piece(f, partial(constant, images=max(n, 1), shape=shape), n) for f, n, shape in pieces))


def decoded(images: list[bytes]) -> list[tuple[int, tuple[int, ...]]]:
    pixels = [np.asarray(Image.open(BytesIO(image), formats=["PNG"])) for image in images]
    return [(int(image.flat[0]), image.shape) for image in pixels]


def test_rows_of_arrays_are_counted_through() -> None:
    assert decoded(read(arrays(), [0, 1, 2, 3, 4])) == [
        *((10, (4, 5, 3)), (11, (4, 5, 3)), (12, (4, 5, 3))),
        *((30, (6, 6)), (31, (6, 6))),
    ]
    assert decoded(read(arrays(), [2, 4])) == [(12, (4, 5, 3)), (31, (6, 6))]
    assert read(arrays(), []) == []


def test_an_array_is_loaded_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(file: str) -> NDArray[np.uint8]:
        loaded.append(file)
        return constant(file, 2, (1, 1))

    images = ArrayImages(tuple(Piece(str(file), load, 2) for file in (10, 20, 30)))
    assert decoded(list(images.read(np.array([2, 3]), ["", ""]))) == [(20, (1, 1)), (21, (1, 1))]
    assert loaded == ["20"]


def parquet(file: Path, images: list[Any], kind: pa.DataType, rows_a_group: int) -> ParquetImages:
    table = pa.table({"other": list(range(len(images))), "image": pa.array(images, kind)})
    pq.write_table(table, file, row_group_size=rows_a_group)
    return ParquetImages(str(file), "image")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("rows_a_group", [1, 3, 4, 100])
def test_rows_of_parquet_over_row_groups(tmp_path: Path, kind: pa.DataType, rows_a_group: int) -> None:
    images = parquet(tmp_path / "a.parquet", [b"0", None, b"2", b"3", None, b"5", b"6"], kind, rows_a_group)
    assert read(images, list(range(7))) == [b"0", b"", b"2", b"3", b"", b"5", b"6"]
    assert read(images, [1, 2, 6]) == [b"", b"2", b"6"]
    assert read(images, [5]) == [b"5"]
    assert read(images, []) == []


def test_structs_with_bytes_in_parquet(tmp_path: Path) -> None:
    kind = pa.struct([("path", pa.string()), ("bytes", pa.binary())])
    rows = [{"path": "a", "bytes": b"0"}, None, {"path": "c", "bytes": None}, {"path": None, "bytes": b"3"}]
    images = parquet(tmp_path / "a.parquet", rows, kind, 3)
    assert read(images, [0, 1, 2, 3]) == [b"0", b"", b"", b"3"]


def test_row_groups_without_rows_are_no_hindrance(tmp_path: Path) -> None:
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for rows in ([], [b"0", b"1"], [], [b"2"], []):
            writer.write_table(pa.table({"image": pa.array(rows, pa.binary())}, schema=schema))
    assert read(ParquetImages(str(tmp_path / "a.parquet"), "image"), [0, 1, 2]) == [b"0", b"1", b"2"]


def test_chosen_images_are_counted_without_the_others(tmp_path: Path) -> None:
    store = parquet(tmp_path / "a.parquet", [b"0", b"1", b"2", b"3", b"4"], pa.binary(), 2)
    chosen = ChosenImages(store, np.array([0, 3, 4]))
    assert read(chosen, [0, 1, 2]) == [b"0", b"3", b"4"]
    assert read(chosen, [1]) == [b"3"]
    assert (chosen.images_a_read, chosen.images_a_task) == (store.images_a_read, store.images_a_task)
