"""Tables of a Parquet file that holds images beside them."""

import re
from collections.abc import Mapping, Sequence
from glob import has_magic
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ordclust_ray.config.common import InputError
from ordclust_ray.data.images import BrokenImageError, format_and_size
from ordclust_ray.datasets.chosen import choose, named
from ordclust_ray.datasets.listing import TEST, TRAIN, Listing
from ordclust_ray.datasets.stored import JoinedImages, ParquetImages, row_sources
from ordclust_ray.files import refuse_pickles

IMAGES = ("image", "img")
"""Names of the column of encoded images: the second is that of a hub's CIFAR-10."""
OWN, HUB = r"{}_(?:train|test)(?:_\d+)?\.parquet", r"(?:train|test)(?:-\d+-of-\d+)?\.parquet"
"""Names of the Parquet files of a set, with its name before them or as hubs give them."""


def read_columns(file: Path, columns: Sequence[str], title: str) -> tuple[pd.DataFrame, ParquetImages]:
    """The columns, with `source`, and the images in a column of `IMAGES`; those are not read.

    Raises:
        InputError: not a Parquet file, or without such columns; one line.
    """
    try:
        parquet = pq.ParquetFile(file)
        refuse_pickles(parquet.schema_arrow, file)
        image = _image_column(parquet.schema_arrow)
        _require_columns(parquet.schema_arrow, image, columns, file, title)
        rows = parquet.read(columns=list(columns)).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{str(file)!r} is not a Parquet file: {' '.join(str(error).split())}") from None
    rows["source"] = row_sources(file, len(rows))
    return rows, ParquetImages(str(file), image)


def parquet_files(source: Path, name: str) -> list[Path]:
    """What a source is, where it is Parquet: a file, a pattern of files, or a folder with files of the set.

    Args:
        source: a file or a pattern may have any name; of a folder, files count whose names are `OWN`, or else `HUB`.
        name: of the set in the names of its files.
    """
    if has_magic(source.name):
        return sorted(file for file in source.parent.glob(source.name) if file.suffix == ".parquet")
    if source.suffix == ".parquet" and source.is_file():
        return [source]
    inside = sorted(source.glob("*.parquet"))
    own, hub = ([file for file in inside if re.fullmatch(names.format(name), file.name)] for names in (OWN, HUB))
    return own or hub


def parquet_layout(name: str) -> str:
    """What `parquet_files` looks for, for people."""
    return f"or {name}_train*.parquet and {name}_test*.parquet, or a hub's train-*.parquet and test-*.parquet"


def read_labelled(
    files: Sequence[Path], classes: Mapping[str, tuple[str, Sequence[str]]], title: str, side: int
) -> Listing:
    """Lists Parquet files of images and the numbers of their classes, as hubs give sets away.

    Args:
        files: those with "test" in their names are held out.
        classes: by our column, theirs of numbers, and the names by number.
        title: of the set.
        side: of its images in pixels, by which it is known from others.

    Raises:
        InputError: not a Parquet file, without columns of images and those of classes, or of another set; one line.
    """
    columns = [theirs for theirs, _ in classes.values()]
    parts = [(read_columns(file, columns, title), TEST if TEST in file.name else TRAIN) for file in files]
    for (_, images), _ in parts:
        _require_side(images, side, title)
    rows = pd.concat([part.assign(split=split) for (part, _), split in parts], ignore_index=True)
    codes, reasons = rows[columns], []
    rows = rows[["source", "split"]]
    for ours, (theirs, names) in classes.items():
        known, unknown = named(codes[theirs], dict(enumerate(names)), theirs)
        rows = rows.assign(**{ours: known})
        reasons.append(unknown)
    joined = JoinedImages(tuple((images, len(part)) for (part, images), _ in parts))
    return choose(rows, joined, reasons, ["read from Parquet files, of which no checksums are published"])


def _require_side(images: ParquetImages, side: int, title: str) -> None:
    """Raises InputError where the first image of a file has other sides; whether it is broken is not asked here."""
    size = _first_size(images)
    if size not in (None, (side, side)):
        raise InputError(
            f"{images.file!r} is not {title}: its first image has {size[0]} x {size[1]} pixels; {side} x {side} are "
            "expected"
        )


def _first_size(images: ParquetImages) -> tuple[int, int] | None:
    """Width and height of the first image; None where there is none, or it is broken."""
    if not pq.ParquetFile(images.file).metadata.num_rows:
        return None
    (first,) = images.read(np.array([0]), [""])
    try:
        return format_and_size(first)[1]
    except BrokenImageError:
        return None


def _image_column(schema: pa.Schema) -> str:
    return next((name for name in IMAGES if name in schema.names), IMAGES[0])


def _require_columns(schema: pa.Schema, image: str, columns: Sequence[str], file: Path, title: str) -> None:
    missing = [name for name in (image, *columns) if name not in schema.names]
    if missing:
        has = ", ".join(map(repr, schema.names))
        raise InputError(f"{str(file)!r} is not {title}: it has no column {missing[0]!r}; its columns are {has}")
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"column {image!r} of {str(file)!r} holds {kind}; it must hold encoded images, as bytes")
