"""A data set as it was downloaded -> Parquet files of one schema; interrupted, it goes on where it stopped."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from ordclust_ray.config import InputError, PrepareConfig
from ordclust_ray.data.images import BrokenImageError, as_png, decode, require_whole
from ordclust_ray.data.readers import UNFINISHED
from ordclust_ray.datasets.listing import Listing
from ordclust_ray.datasets.stored import StoredImages
from ordclust_ray.files import read_table, write_whole

IMAGES_A_FILE = 2_000
MOST_FILES = 10_000
IMAGES_A_GROUP, BYTES_A_GROUP = 250, 32_000_000
"""A row group is written, and leaves the memory, as soon as it has either."""
LEFT_OUT, IDENTICAL = "left_out.csv", "identical.csv"
FIRST, LAST = ("rank", "rank_unit", "label"), ("split", "fold", "source")
"""Columns, where a set has them; its groups stand between."""


def prepare_files(listing: Listing, rank_unit: str, config: PrepareConfig) -> Iterator[int]:
    """Writes the instances of a data set as Parquet files; what an earlier attempt has written stays.

    Files hold a row an instance, in the order of the ids: `instance_id`, `image` (encoded; null where it is broken),
    `FIRST`, the set's groups, `LAST`, `error` (why an image is broken), `checksum` (of the image as it is written).

    Args:
        listing: of the data set.
        rank_unit: of its ranks.
        config: where to, and how.

    Yields:
        How many instances are written, each time there are more.

    Raises:
        InputError: the folder holds something else.
    """
    rows, output = in_order(listing.rows, rank_unit), config.output_path
    digest = hashlib.sha256(pd.util.hash_pandas_object(rows).to_numpy().tobytes()).hexdigest()
    _require_same_job(output, {"rows": digest, "image_size": config.image_size, "max_pixels": config.max_pixels})
    length = max(IMAGES_A_FILE, listing.images.images_a_task, -(-len(rows) // MOST_FILES))
    parts = [rows[first : first + length] for first in range(0, len(rows), length)]
    files = [output / f"part-{number:05d}.parquet" for number in range(len(parts))]
    waiting = [_as_table(part, file) for part, file in zip(parts, files, strict=True) if not file.exists()]
    done = len(rows) - sum(map(len, waiting))
    yield done
    if waiting:
        sizes = config.image_size, config.max_pixels
        written = ray.data.from_arrow(waiting).map_batches(
            _write_file, fn_args=(listing.images, *sizes), batch_size=None, batch_format="pyarrow"
        )
        for batch in written.iter_batches(batch_size=None, batch_format="numpy"):
            done += int(batch["images"].sum())
            yield done


def in_order(rows: pd.DataFrame, rank_unit: str) -> pd.DataFrame:
    """The columns of the files as far as the listing knows them, with `instance_id`."""
    known = rows.assign(rank_unit=rank_unit) if "rank" in rows else rows
    groups = [name for name in known if name not in FIRST + LAST]
    ordered = [name for name in FIRST if name in known] + groups + [name for name in LAST if name in known]
    return known[ordered].rename_axis("instance_id").reset_index()


def _require_same_job(output: Path, job: dict[str, object]) -> None:
    file = output / UNFINISHED
    if file.exists():
        if json.loads(file.read_text()) != job:
            raise InputError(
                f"--output {str(output)!r} holds another data set, or this one prepared in another way; name another "
                "folder"
            )
        return
    if any(not found.name.startswith((".", LEFT_OUT)) for found in output.iterdir()):
        raise InputError(f"--output {str(output)!r} holds files already; name another folder")
    write_whole(file, job)


def _as_table(part: pd.DataFrame, file: Path) -> pa.Table:
    """What a task is given: rows, and the file that it writes."""
    table = pa.Table.from_pandas(part, preserve_index=False)
    return table.append_column("file", pa.array([str(file)] * len(part)).dictionary_encode())


def _write_file(rows: pa.Table, images: StoredImages, image_size: int, max_pixels: int) -> pa.Table:
    """Ray Data's map: rows -> how many images are in the file, which is written whole or not at all."""
    file = Path(rows["file"][0].as_py())
    new, rows = file.with_name(f".{file.name}.new"), rows.drop_columns(["file"])
    schema = rows.schema.insert(1, pa.field("image", pa.binary()))
    schema = schema.append(pa.field("error", pa.string())).append(pa.field("checksum", pa.uint64()))
    others = {name: "zstd" if name != "image" else "none" for name in schema.names}  # images are compressed already
    encoded = images.read(rows["instance_id"].to_numpy(), rows["source"].to_pylist())
    with pq.ParquetWriter(new, schema, compression=others) as writer:
        first = 0
        for found, errors in _groups(_checked(image, image_size, max_pixels) for image in encoded):
            columns = list(rows.slice(first, len(found)).columns)
            checksums = pa.array([None if image is None else checksum(image) for image in found], pa.uint64())
            columns.insert(1, pa.array(found, pa.binary()))
            writer.write_table(pa.Table.from_arrays([*columns, pa.array(errors), checksums], schema=schema))
            first += len(found)
    new.replace(file)
    return pa.table({"images": [len(rows)]})


def _checked(encoded: bytes, image_size: int, max_pixels: int) -> tuple[bytes | None, str]:
    """The bytes to write and no error, or none and why."""
    try:
        if image_size:
            return as_png(decode(encoded, image_size, max_pixels)), ""
        require_whole(encoded, max_pixels)
    except BrokenImageError as error:
        return None, str(error)
    return encoded, ""


def _groups(images: Iterator[tuple[bytes | None, str]]) -> Iterator[tuple[list[bytes | None], list[str]]]:
    """Images and errors, as many at a time as a row group holds."""
    found: list[bytes | None] = []
    errors: list[str] = []
    size = 0
    for image, error in images:
        found.append(image)
        errors.append(error)
        size += len(image or b"")
        if len(found) == IMAGES_A_GROUP or size >= BYTES_A_GROUP:
            yield found, errors
            found, errors, size = [], [], 0
    if found:
        yield found, errors


def checksum(image: bytes) -> int:
    """64 bits of an image's bytes."""
    return int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "little")


def read_back(output: Path, num_images: int) -> pd.DataFrame:
    """`error` and `checksum` of every instance, by id, from the files.

    Raises:
        InputError: instances that are missing: the machines do not share the folder.
    """
    rows = _written(output, ["error", "checksum"])
    if len(rows) != num_images or not rows.index.equals(pd.RangeIndex(num_images)):
        raise InputError(
            f"--output {str(output)!r} holds {len(rows)} of {num_images} images; all machines have to share that folder"
        )
    return rows


def forget_broken(output: Path) -> None:
    """Deletes the files that hold broken images, so that the next attempt reads their images anew."""
    for file in output.glob("part-*.parquet"):
        if pc.any(pc.not_equal(read_table(file, columns=["error"])["error"], "")).as_py():
            file.unlink()


def identical_images(output: Path) -> pd.DataFrame:
    """`instance_id`, `source`, `first_id`, `first_source`: images that the files hold before, in the same bytes.

    Args:
        output: the folder of the files.

    Returns:
        A row for each image but the first of those that are the same, in the order of the ids.
    """
    rows = _written(output, ["source", "checksum"]).dropna(subset="checksum").reset_index()
    first = rows.drop_duplicates("checksum").rename(columns={"instance_id": "first_id", "source": "first_source"})
    later = rows[rows["checksum"].duplicated()].merge(first, on="checksum")
    return later[["instance_id", "source", "first_id", "first_source"]].sort_values("instance_id", ignore_index=True)


def _written(output: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of every instance by id, from the files; checksums that are missing leave the others whole numbers."""
    tables = [read_table(file, columns=["instance_id", *columns]) for file in sorted(output.glob("part-*.parquet"))]
    whole = {pa.uint64(): pd.UInt64Dtype()}
    return pa.concat_tables(tables).to_pandas(types_mapper=whole.get).set_index("instance_id")
