"""Features in files: columns of every kind, and what is said of those that cannot be used."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from ordclust_ray.clustering import sources
from ordclust_ray.clustering.sources import file_parts, npy_parts, parquet_parts, rows_of

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda values: pa.list_(values, 3)])
def test_lists_become_rows(dtype: type, kind: object) -> None:
    column = pa.array(list(ROWS.astype(dtype)), type=kind(pa.from_numpy_dtype(dtype)))  # type: ignore[operator]
    found = rows_of(column[1:], "features")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ROWS[1:])


def test_fixed_size_lists_are_not_copied() -> None:
    values = pa.array(ROWS.ravel())
    found = rows_of(pa.FixedSizeListArray.from_arrays(values, 3), "features")
    assert np.shares_memory(found, values.to_numpy())


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, 2.0]), r"column 'f' is double; it must be lists of numbers, one a row"),
        (pa.array([[1.0], None]), r"column 'f' has 1 rows without features"),
        (pa.array([[1.0], [1.0, 2.0, 3.0]]), r"column 'f' has rows of 1 to 3 numbers, not of one length"),
    ],
)
def test_other_columns_are_errors(column: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows_of(column, "f")


def write(folder: Path, rows: int, row_group_size: int, name: str = "a") -> None:
    features = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) + 1
    table = pa.table({"id": [f"{name}{i}" for i in range(rows)], "features": list(features)})
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=row_group_size)


@pytest.mark.parametrize("num_parts", [1, 3, 50])
def test_parts_hold_every_row_once_and_in_order(tmp_path: Path, num_parts: int) -> None:
    write(tmp_path, 20, 6)
    write(tmp_path, 9, 4, "b")
    parts = parquet_parts(str(tmp_path), "features", num_parts)
    assert len(parts) == min(num_parts, 7)
    np.testing.assert_array_equal(np.concatenate([part.open()[1] for part in parts]), np.arange(29))
    seen = pa.Table.from_batches([batch for part in parts for batch, _ in part.rows(["id"])])
    assert seen["id"].to_pylist() == [f"a{i}" for i in range(20)] + [f"b{i}" for i in range(9)]
    assert seen[sources.ROW].to_pylist() == list(range(29))


def test_parts_are_of_about_the_same_size(tmp_path: Path) -> None:
    write(tmp_path, 1000, 10)
    sizes = [len(part.open()[1]) for part in parquet_parts(str(tmp_path), "features", 4)]
    assert sizes == [250] * 4


def test_rows_come_in_batches_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1000, 1000)
    monkeypatch.setattr(sources, "BATCH_BYTES", 2000)
    (part,) = parquet_parts(str(tmp_path), "features", 1)
    batches = list(part)
    assert max(batch.nbytes for batch in batches) <= 2000
    np.testing.assert_array_equal(np.concatenate(batches)[:, 0], np.arange(1000) * 3 + 1)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32", "float64"])
@pytest.mark.parametrize("fixed", [True, False])
def test_rows_that_the_file_holds_in_little_space_come_in_bounded_batches_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, fixed: bool
) -> None:
    values = pa.array((np.arange(2000 * 16) % 2).astype(dtype))
    column = pa.FixedSizeListArray.from_arrays(values, 16)
    pq.write_table(
        pa.table({"features": column if fixed else column.cast(pa.list_(values.type))}), tmp_path / "a.parquet"
    )
    monkeypatch.setattr(sources, "BATCH_BYTES", 10_000)
    (part,) = parquet_parts(str(tmp_path), "features", 1)
    batches = list(part)
    assert max(batch.nbytes for batch in batches) <= 10_000
    np.testing.assert_array_equal(np.concatenate(batches).ravel(), values.to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("order", ["int8", "fortran", "big-endian"])
def test_npy_that_cannot_be_read_where_it_is_comes_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    rows = np.random.default_rng(0).integers(1, 100, (300, 4))
    saved: dict[str, NDArray[Any]] = {
        "int8": rows.astype(np.int8),
        "fortran": np.asfortranarray(rows, np.float32),
        "big-endian": rows.astype(">f4"),
    }
    np.save(tmp_path / "x.npy", saved[order])
    monkeypatch.setattr(sources, "BATCH_BYTES", 800)
    for part in npy_parts(str(tmp_path / "x.npy"), 2):
        features, ids = part.open()
        batches = list(features)
        assert max(len(batch) for batch in batches) == 25
        np.testing.assert_array_equal(np.concatenate(batches), rows[ids])


def test_what_a_file_has_no_column_for_is_said_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(ValueError, match=r"x.npy has no column 'label': a .npy file has only features"):
        file_parts(str(tmp_path / "x.npy"), "features", 1, ["label"])
    table = {"features": [[1.0, 2.0]], "label": [[1]]}
    pq.write_table(pa.table(table), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"column 'label' of .*b.parquet is list<.*>; it must be one value a row"):
        file_parts(str(tmp_path / "b.parquet"), "features", 1, ["label"])


def test_npy_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    parts = npy_parts(str(tmp_path / "x.npy"), 3)
    np.testing.assert_array_equal(np.concatenate([features for part in parts for _, features in part.rows([])]), ROWS)
    assert [batch[sources.ROW].to_pylist() for part in parts for batch, _ in part.rows([])] == [[0], [1], [2, 3]]
    assert isinstance(parts[0].open()[0], np.memmap)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no Parquet file, nor a folder of them"):
        file_parts(str(tmp_path), "features", 2)
    write(tmp_path, 3, 3)
    with pytest.raises(ValueError, match=r"a\.parquet has no column 'vector'; it has id, features"):
        file_parts(str(tmp_path), "vector", 2)
    with pytest.raises(ValueError, match=r"has no column 'label'"):
        file_parts(str(tmp_path), "features", 2, ["label"])
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(ValueError, match=r"flat\.npy holds float64 of shape \(5,\); it must be rows of numbers"):
        file_parts(str(tmp_path / "flat.npy"), "features", 2)
    with pytest.raises(ValueError, match=r"gone\.npy cannot be read as \.npy"):
        file_parts(str(tmp_path / "gone.npy"), "features", 2)
