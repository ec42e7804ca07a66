"""Tables of a Parquet file that holds images beside them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.stored import ParquetImages

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
