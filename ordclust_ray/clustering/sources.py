"""Where features are: arrays in the object store, blocks of a Ray Dataset, Parquet files, .npy files.

A part is what one shard reads. It is small and travels to the shard's actor, which opens it there. Parts of files are
read again in every pass, a batch at a time, so that features may be larger than the memory of all machines.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from ordclust_ray.files import refuse_pickles

BATCH_BYTES = 32 * 1024**2
"""Rows of a file that are in memory at a time, in bytes of their features."""
ROW = "__row__"
"""The column of the rows' numbers, beside those of the file."""


class Part(Protocol):
    """The features of one shard."""

    def open(self) -> tuple[Any, NDArray[np.int64]]:
        """Features for `core.shard.Shard`, and the id of each row."""
        ...


class FilePart(Part, Protocol):
    """Rows of files, with what else the files say of them."""

    def rows(self, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, NDArray]]:
        """The rows in order, some at a time: these columns and `ROW`, their number; and the features."""
        ...


@dataclass(frozen=True)
class ArrayPart:
    """Arrays in the object store, which actors of the same machine read without a copy.

    Attributes:
        features: reference to (n, d).
        instance_ids: reference to (n,).
    """

    features: ray.ObjectRef
    instance_ids: ray.ObjectRef

    def open(self) -> tuple[Any, NDArray[np.int64]]:
        """See `Part`."""
        features, ids = ray.get([self.features, self.instance_ids])
        return features, ids


@dataclass(frozen=True)
class TablePart:
    """Blocks of a Ray Dataset, where they are.

    Attributes:
        tables: references to Arrow tables.
        features: name of the column of features.
        ids: name of the column of integer ids.
    """

    tables: tuple[ray.ObjectRef, ...]
    features: str
    ids: str

    def open(self) -> tuple[Any, NDArray[np.int64]]:
        """See `Part`."""
        tables = cast(list[pa.Table], ray.get(list(self.tables)))
        blocks = [rows_of(table[self.features].combine_chunks(), self.features) for table in tables if len(table)]
        ids = [table[self.ids].to_numpy().astype(np.int64) for table in tables]
        return blocks, np.concatenate([*ids, np.empty(0, np.int64)])


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file.

    Attributes:
        path: of the file, as its file system knows it.
        group: which.
        rows: of it.
        first_row: counted over all files.
    """

    path: str
    group: int
    rows: int
    first_row: int


@dataclass(frozen=True)
class ParquetPart:
    """Row groups of Parquet files; the id of a row is its number, counted over all files.

    Attributes:
        pieces: in the order of the rows.
        features: name of the column of features.
        filesystem: where the files are.
    """

    pieces: tuple[RowGroup, ...]
    features: str
    filesystem: pyarrow.fs.FileSystem

    def open(self) -> tuple[Any, NDArray[np.int64]]:
        """See `Part`."""
        return self, np.concatenate([np.arange(p.first_row, p.first_row + p.rows) for p in self.pieces])

    def __iter__(self) -> Iterator[NDArray]:
        for _, features in self.rows([]):
            yield features

    def rows(self, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, NDArray]]:
        """See `FilePart`."""
        for piece in self.pieces:
            row = piece.first_row
            with _opened(self.filesystem, piece.path) as file:
                group = file.metadata.row_group(piece.group)
                batch_size = max(1, min(BATCH_BYTES // _row_bytes(group, self.features), 2**20))
                wanted = dict.fromkeys([*columns, self.features])
                for batch in file.iter_batches(batch_size, row_groups=[piece.group], columns=list(wanted)):
                    numbers = pa.array(np.arange(row, row + len(batch)))
                    row += len(batch)
                    yield (
                        batch.select(columns).append_column(ROW, numbers),
                        rows_of(batch[self.features], self.features),
                    )


@dataclass(frozen=True)
class NpyPart:
    """Rows of a .npy file, mapped to memory; the id of a row is its number.

    Attributes:
        path: of the file, on every machine.
        start: first row.
        stop: one past the last.
    """

    path: str
    start: int
    stop: int

    def open(self) -> tuple[Any, NDArray[np.int64]]:
        """See `Part`; what cannot be read where it is becomes floats a batch at a time."""
        mapped = self._mapped()
        in_place = mapped.flags.c_contiguous and mapped.dtype in (np.float16, np.float32, np.float64)
        return mapped if in_place else self, np.arange(self.start, self.stop)

    def _mapped(self) -> NDArray:
        return np.load(self.path, mmap_mode="r")[self.start : self.stop]

    def __iter__(self) -> Iterator[NDArray]:
        for _, features in self.rows([]):
            yield features

    def rows(self, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, NDArray]]:
        """See `FilePart`; there are no columns."""
        features = self._mapped()
        step = max(1, BATCH_BYTES // (8 * features.shape[1]))
        for start in range(0, len(features), step):
            part = features[start : start + step]
            yield pa.record_batch({ROW: np.arange(self.start + start, self.start + start + len(part))}), part


def _row_bytes(group: pq.RowGroupMetaData, features: str) -> int:
    """Of a row's features in memory, which may be far more than in the file."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    sizes = {"INT32": 4, "FLOAT": 4}
    own = [c.num_values * sizes.get(c.physical_type, 8) for c in chunks if c.path_in_schema.split(".")[0] == features]
    return max(1, sum(own) // group.num_rows)


def rows_of(column: pa.Array, name: str) -> NDArray:
    """A column of lists or tensors of numbers, all of one length, as (n, d) without a copy.

    Raises:
        ValueError: it is another column, a row is missing, or rows differ in length.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ExtensionArray):  # Ray's tensors
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(len(column), -1)
    kind = column.type
    if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise ValueError(f"column {name!r} is {kind}; it must be lists of numbers, one a row")
    if column.null_count:
        raise ValueError(f"column {name!r} has {column.null_count} rows without features")
    values = column.flatten().to_numpy(zero_copy_only=False)
    width = len(values) // max(1, len(column))
    if not pa.types.is_fixed_size_list(kind):
        lengths = np.diff(column.offsets.to_numpy())
        if len(lengths) and (lengths != width).any():
            raise ValueError(
                f"column {name!r} has rows of {lengths.min()} to {lengths.max()} numbers, not of one length"
            )
    return values.reshape(len(column), width)


def file_parts(path: str, features: str, num_parts: int, columns: Sequence[str] = ()) -> Sequence[FilePart]:
    """Parts of Parquet files or of a .npy file; see the two functions below."""
    if not path.endswith(".npy"):
        return parquet_parts(path, features, num_parts, columns)
    if columns:
        raise ValueError(f"{path} has no column {columns[0]!r}: a .npy file has only features")
    return npy_parts(path, num_parts)


def parquet_parts(path: str, features: str, num_parts: int, columns: Sequence[str] = ()) -> list[ParquetPart]:
    """The row groups of a Parquet file, or of all files of a folder, dealt out in order.

    Args:
        path: a local path, or the URI of a file or folder in object storage.
        features: name of the column.
        num_parts: at most; there are no more than row groups.
        columns: others that have to be there.

    Raises:
        ValueError: there are no such files, or no such column, or another column holds lists.
    """
    filesystem, root = pyarrow.fs.FileSystem.from_uri(path) if "://" in path else (pyarrow.fs.LocalFileSystem(), path)
    info = filesystem.get_file_info(root)
    if info.type == pyarrow.fs.FileType.Directory:
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
        files = sorted(entry.path for entry in found if entry.path.endswith(".parquet"))
    else:
        files = [root] if info.type == pyarrow.fs.FileType.File else []
    if not files:
        raise ValueError(f"{path} is no Parquet file, nor a folder of them")
    groups: list[RowGroup] = []
    for file in files:
        with _opened(filesystem, file) as opened:
            refuse_pickles(opened.schema_arrow, file)
            for name in (features, *columns):
                if name not in opened.schema_arrow.names:
                    raise ValueError(f"{file} has no column {name!r}; it has {', '.join(opened.schema_arrow.names)}")
                kind = opened.schema_arrow.field(name).type
                if name != features and pa.types.is_nested(kind):
                    raise ValueError(f"column {name!r} of {file} is {kind}; it must be one value a row")
            for i in range(opened.num_row_groups):
                first = groups[-1].first_row + groups[-1].rows if groups else 0
                rows = opened.metadata.row_group(i).num_rows
                groups.append(RowGroup(file, i, rows, first))
    groups = [group for group in groups if group.rows]
    if not groups:
        raise ValueError(f"{path} has no rows")
    return [ParquetPart(tuple(dealt), features, filesystem) for dealt in _dealt(groups, num_parts)]


@contextlib.contextmanager
def _opened(filesystem: pyarrow.fs.FileSystem, path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file that is read a piece at a time."""
    with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream, buffer_size=2**23) as file:
        yield file


def _dealt(groups: list[RowGroup], num_parts: int) -> list[list[RowGroup]]:
    """Runs of row groups with about as many rows each."""
    total = groups[-1].first_row + groups[-1].rows
    middles = np.array([group.first_row + group.rows / 2 for group in groups])
    owner = np.minimum(middles * num_parts // total, num_parts - 1)
    return [[groups[i] for i in np.flatnonzero(owner == part)] for part in np.unique(owner)]


def npy_parts(path: str, num_parts: int) -> list[NpyPart]:
    """Ranges of rows of a .npy file.

    Raises:
        ValueError: it is no file of rows of numbers.
    """
    try:
        rows = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as .npy: {error}") from None
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not len(rows):
        raise ValueError(f"{path} holds {rows.dtype} of shape {rows.shape}; it must be rows of numbers")
    edges = np.linspace(0, len(rows), min(num_parts, len(rows)) + 1).astype(int).tolist()
    return [NpyPart(path, a, b) for a, b in pairwise(edges)]
