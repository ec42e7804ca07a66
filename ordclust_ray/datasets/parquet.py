"""Tables of a Parquet file that holds images beside them."""

from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.chosen import choose, named
from ordclust_ray.datasets.listing import TEST, TRAIN, Listing
from ordclust_ray.datasets.stored import JoinedImages, ParquetImages

IMAGE = "image"


def read_columns(file: Path, columns: Sequence[str], title: str) -> tuple[pd.DataFrame, ParquetImages]:
    """The columns, with `source`, and the images in the column `image`; those are not read.

    Raises:
        InputError: not a Parquet file, or without such columns; one line.
    """
    try:
        parquet = pq.ParquetFile(file)
        _require_columns(parquet.schema_arrow, [IMAGE, *columns], file, title)
        rows = parquet.read(columns=list(columns)).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{str(file)!r} is not a Parquet file: {' '.join(str(error).split())}") from None
    rows["source"] = [f"{file}#{row}" for row in range(len(rows))]
    return rows, ParquetImages(str(file), IMAGE)


def parquet_files(source: Path) -> list[Path]:
    """What a source is, where it is Parquet: a file, a pattern of files, or a folder of them."""
    if has_magic(source.name):
        return sorted(file for file in source.parent.glob(source.name) if file.suffix == ".parquet")
    return [source] if source.suffix == ".parquet" and source.is_file() else sorted(source.glob("*.parquet"))


def read_labelled(files: Sequence[Path], classes: Sequence[str], title: str) -> Listing:
    """Lists Parquet files of images and the numbers of their classes, as hubs give sets away.

    Args:
        files: those with "test" in their names are held out.
        classes: names by number.
        title: of the set.

    Raises:
        InputError: not a Parquet file, or without the columns `image` and `label`; one line.
    """
    parts = [(read_columns(file, ["label"], title), TEST if TEST in file.name else TRAIN) for file in files]
    rows = pd.concat([part.assign(split=split) for (part, _), split in parts], ignore_index=True)
    rows["label"], unknown = named(rows["label"], dict(enumerate(classes)), "label")
    images = JoinedImages(tuple((images, len(part)) for (part, images), _ in parts))
    return choose(rows, images, [unknown], ["read from Parquet files, of which no checksums are published"])


def _require_columns(schema: pa.Schema, columns: Sequence[str], file: Path, title: str) -> None:
    missing = [name for name in columns if name not in schema.names]
    if missing:
        has = ", ".join(map(repr, schema.names))
        raise InputError(f"{str(file)!r} is not {title}: it has no column {missing[0]!r}; its columns are {has}")
    kind = schema.field(IMAGE).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"column {IMAGE!r} of {str(file)!r} holds {kind}; it must hold encoded images, as bytes")
