"""Where encoded images lie: files, rows of arrays or of Parquet files; objects that are sent to the tasks that read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ordclust_ray.data.images import as_png

MAX_FILE_BYTES = 2**30
"""No more of an image file is read: what is larger is no image, or broken."""


SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
"""Of the image files that can be decoded."""


def row_sources(file: object, rows: int) -> list[str]:
    """The source of each row of a file, or of an array in it: `file#row`."""
    return [f"{file}#{row}" for row in range(rows)]


class StoredImages(Protocol):
    """Encoded images of a data set."""

    @property
    def images_a_read(self) -> int:
        """As many are asked for at once."""
        ...

    @property
    def images_a_task(self) -> int:
        """And as many by one task, at least."""
        ...

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """Encoded images, in the order asked for; nothing (b"") where one cannot be read.

        Args:
            instance_ids: (N,) ascending.
            sources: of each.
        """
        ...


@dataclass(frozen=True)
class WrappedImages:
    """What is asked for at once by stores that read from another one.

    Attributes:
        images: the other store.
    """

    images: StoredImages

    @property
    def images_a_read(self) -> int:
        """See `StoredImages`."""
        return self.images.images_a_read

    @property
    def images_a_task(self) -> int:
        """See `StoredImages`."""
        return self.images.images_a_task


@dataclass(frozen=True)
class FileImages:
    """Image files, named by their sources.

    Attributes:
        homes: folders that they have to lie in, after links were followed.
    """

    homes: tuple[str, ...]
    images_a_read: int = 16
    images_a_task: int = 64

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """See `StoredImages`."""
        homes = [Path(home).resolve() for home in self.homes]
        for source in sources:
            try:
                file = Path(source).resolve(strict=True)
                inside = any(file.is_relative_to(home) for home in homes) and file.is_file()
                yield _beginning(file) if inside else b""
            except (OSError, RuntimeError, ValueError):  # links that lead to themselves, and NUL in a name
                yield b""


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_FILE_BYTES)


@dataclass(frozen=True)
class Piece:
    """Rows of an array in a file.

    Attributes:
        file: that holds them.
        load: (n, H, W) or (n, H, W, 3) uint8 of a file; a function that can be sent to another process.
        images: how many, all of the array.
    """

    file: str
    load: Callable[[str], NDArray[np.uint8]]
    images: int


@dataclass(frozen=True)
class ArrayImages:
    """Pixels in arrays, one array after another by instance id. They are read as PNG."""

    pieces: tuple[Piece, ...]
    images_a_read: int = 1_000
    images_a_task: int = 5_000

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """See `StoredImages`."""
        first = 0
        for piece in self.pieces:
            wanted = instance_ids[(instance_ids >= first) & (instance_ids < first + piece.images)] - first
            if len(wanted):
                pixels = piece.load(piece.file)
                yield from (as_png(pixels[row]) for row in wanted)
            first += piece.images


@dataclass(frozen=True)
class ParquetImages:
    """Rows of a Parquet file, by instance id.

    Attributes:
        file: that holds them.
        column: of encoded images (bytes, or a struct with `bytes`).
    """

    file: str
    column: str
    images_a_read: int = 500
    images_a_task: int = 500

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """See `StoredImages`."""
        parquet = pq.ParquetFile(self.file)
        ends = self._ends
        for group in np.unique(np.searchsorted(ends, instance_ids, side="right")):
            first = ends[group - 1] if group else 0
            column = parquet.read_row_group(int(group), columns=[self.column]).column(0).combine_chunks()
            images = column.field("bytes") if pa.types.is_struct(column.type) else column
            wanted = instance_ids[(instance_ids >= first) & (instance_ids < ends[group])] - first
            yield from (image.as_py() or b"" for image in images.take(pa.array(wanted)))

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """One past the last row of each row group."""
        metadata = pq.ParquetFile(self.file).metadata
        return np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])


@dataclass(frozen=True)
class JoinedImages:
    """Images of several stores, one store after another by instance id.

    Attributes:
        parts: each, with the number of its images.
    """

    parts: tuple[tuple[StoredImages, int], ...]

    @property
    def images_a_read(self) -> int:
        """See `StoredImages`."""
        return self.parts[0][0].images_a_read

    @property
    def images_a_task(self) -> int:
        """See `StoredImages`."""
        return self.parts[0][0].images_a_task

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """See `StoredImages`."""
        first = 0
        for part, images in self.parts:
            rows = np.flatnonzero((instance_ids >= first) & (instance_ids < first + images))
            if len(rows):
                yield from part.read(instance_ids[rows] - first, [sources[int(row)] for row in rows])
            first += images
