"""Readers: wherever the images lie, the same two things come out, keyed by a stable `instance_id`.

A `Source` has a *manifest*, the small columns of all images, on the driver; and *encoded* images as a Ray Dataset
with columns `instance_id` and `encoded`, read where the tasks run. An instance's id is its place in the source:
row of the sorted Parquet files, line of the CSV, place among the sorted files of a folder.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from numpy.typing import NDArray

from ordclust_ray.config import DIGITS, DataConfig, ImagesConfig, InputError
from ordclust_ray.datasets.archives import archives_of
from ordclust_ray.datasets.listing import Listing
from ordclust_ray.datasets.registry import list_instances
from ordclust_ray.datasets.stored import SUFFIXES, FileImages, StoredImages
from ordclust_ray.files import refuse_pickles

ROWS_A_READ = 512
MAX_BLOCKS = 10_000
FOLDER = "folder"
CARD, UNFINISHED = "data_card.json", "_job.json"
"""Lie in a folder that is prepared of a data set: the first when it is whole, the second from the beginning on."""


@dataclass(frozen=True)
class Source:
    """Images as they lie on disk.

    Attributes:
        manifest: `instance_id` (its index, 0..n-1), `source` (path, or file and row), and as they were read the columns
            that the settings ask for: `rank`, `group`, `split`, `label`.
        encoded: makes the Ray Dataset of encoded images; nothing is read before. Given which images are wanted, by
            instance id, it leaves out what can be left out unread: others may be among them.
    """

    manifest: pd.DataFrame
    encoded: Callable[[NDArray[np.bool_] | None], ray.data.Dataset]


def open_source(config: ImagesConfig) -> Source:
    """Opens what `config.path` names.

    Raises:
        InputError: nothing there that can be read, or a column that is not there; one line.
    """
    if config.path == DIGITS:
        _require_defaults(config, "image_column", "table")
        return read_digits(config)
    path = Path(config.path).expanduser().absolute()
    prepared = prepared_of(path)
    if config.dataset and prepared not in ("", config.dataset):
        raise InputError(
            f"--data.path is {config.path!r}, prepared of {prepared}; --data.dataset is {config.dataset!r}"
        )
    if config.dataset and not prepared:
        _require_defaults(config, "image_column", "table")
        return read_dataset(path, config)
    _require_defaults(config, "lists")
    files = sorted(path.parent.glob(path.name)) if has_magic(path.name) else []
    if not files and not path.exists():
        raise InputError(f"--data.path is {config.path!r}; there is no such file or folder")
    if path.suffix.lower() == ".csv":
        raise InputError(f"--data.path is {config.path!r}; it must be the CSV's folder, and --data.table its name")
    files = files or (_parquet_files(path) if path.is_dir() else [path])
    if files:
        _require_defaults(config, "table")
        if prepared and pq.ParquetFile(files[0]).schema_arrow.get_field_index("fold") >= 0:
            _require_folds(config, ["fold"])
        return read_parquet(files, config)
    if config.table or any(path.glob("*.csv")) or set(config.columns.values()) - {FOLDER}:
        return read_folder(path, config)
    _require_defaults(config, "image_column")
    return read_tree(path, config)


def prepared_of(folder: Path) -> str:
    """The data set that `jobs/prepare_data.py` made this folder of; empty: it did not."""
    card = folder / CARD
    if not card.exists() and (folder / UNFINISHED).exists() and any(folder.glob("part-*.parquet")):
        raise InputError(f"{str(folder)!r} was not prepared to its end; run the same prepare_data.py again")
    return str(json.loads(card.read_text())["name"]) if card.is_file() else ""


def read_dataset(path: Path, config: ImagesConfig) -> Source:
    """A data set as it was downloaded, and unpacked."""
    if archives_of(path):
        raise InputError(
            f"--data.path is {config.path!r}, which holds archives: prepare_data.py reads archives; unpack it first"
        )
    listing = list_instances(config.dataset, path, Path(config.lists).expanduser() if config.lists else None)
    _require_columns(list(config.columns.values()), list(listing.rows.columns), f"data set {config.dataset}")
    return _listed(listing, config)


def refuse_among_images(output: Path, images: str) -> None:
    """Raises InputError where a later job on the same folder would take what is written there for more images."""
    folder = Path(images).expanduser().absolute()
    if images != DIGITS and output.is_relative_to(folder):
        raise InputError(f"--output {str(output)!r} lies among the images in {folder}; name another folder")


def _parquet_files(folder: Path) -> list[Path]:
    """Those in the folder and below it; none where the folder itself has a CSV and no Parquet."""
    images = any(folder.glob("*.csv")) and not any(folder.glob("*.parquet"))
    return [] if images else sorted(folder.glob("**/*.parquet"))


def _require_defaults(config: ImagesConfig, *names: str) -> None:
    """Settings that this kind of source cannot honour must be as they are."""
    for name in names:
        value, default = getattr(config, name), getattr(ImagesConfig, name)
        if value != default:
            raise InputError(
                f"--data.{name.replace('_', '-')} is {value!r}, which means nothing for --data.path {config.path}"
            )


def read_digits(config: ImagesConfig) -> Source:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels; the digit is both `rank` and `label`."""
    listing = list_instances(DIGITS, Path(DIGITS), None)
    _require_columns(list(config.columns.values()), ["rank", "label"], DIGITS)
    return _listed(listing, config)


def _listed(listing: Listing, config: ImagesConfig) -> Source:
    """The instances of a data set, with the columns that the settings ask for."""
    _require_folds(config, listing.rows.columns)
    manifest = _renamed(listing.rows, config.columns).assign(source=listing.rows["source"])
    return _stored(manifest, listing.images)


def _require_folds(config: ImagesConfig, columns: Collection[str]) -> None:
    """Raises InputError where a set has folds, which a split that is drawn would mix."""
    if "fold" in columns and isinstance(config, DataConfig) and not (config.fold_column or config.split_column):
        raise InputError(
            f"{config.path!r} has folds: give --data.fold-column fold, with --data.test-fold or --data.train-fold"
        )


def _only(table: pa.Table, chosen: NDArray[np.bool_] | None) -> pa.Table:
    return table if chosen is None else table.filter(pa.array(chosen))


def read_parquet(files: list[Path], config: ImagesConfig) -> Source:
    """Parquet files with a column of encoded images (bytes, or a struct with `bytes`)."""
    columns = config.columns
    frames, tasks, total = [], [], 0
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file} is not a Parquet file: {error}") from None
        refuse_pickles(parquet.schema_arrow, file)
        _require_columns([config.image_column, *columns.values()], parquet.schema_arrow.names, file)
        _require_encoded(parquet.schema_arrow.field(config.image_column), file)
        frame = _renamed(parquet.read(columns=list(set(columns.values()))).to_pandas(), columns)
        frame["source"] = [f"{file}#{row}" for row in range(len(frame))]
        frames.append(frame)
        for group in range(parquet.num_row_groups):
            tasks.append({"file": str(file), "group": group, "first_id": total, "column": config.image_column})
            total += parquet.metadata.row_group(group).num_rows

    def encoded(chosen: NDArray[np.bool_] | None) -> ray.data.Dataset:
        ends = [*(task["first_id"] for task in tasks[1:]), total]
        wanted = [
            task
            for task, end in zip(tasks, ends, strict=True)
            if chosen is None or chosen[task["first_id"] : end].any()
        ]
        groups = ray.data.from_items(wanted, override_num_blocks=max(1, min(len(wanted), MAX_BLOCKS)))
        return groups.map_batches(_read_row_group, batch_size=1, zero_copy_batch=True)

    return Source(pd.concat(frames, ignore_index=True), encoded)


def _read_row_group(task: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Encoded images of one row group, a few at a time."""
    parquet, next_id = pq.ParquetFile(str(task["file"][0])), int(task["first_id"][0])
    column = str(task["column"][0])
    for batch in parquet.iter_batches(ROWS_A_READ, row_groups=[int(task["group"][0])], columns=[column]):
        images = batch.column(0)
        if pa.types.is_struct(images.type):
            images = images.field("bytes")
        ids = np.arange(next_id, next_id + len(images))
        yield {"instance_id": ids, "encoded": np.array([_raw(image) for image in images.to_pylist()], dtype=object)}
        next_id += len(images)


def _raw(image: object) -> bytes:
    return image if isinstance(image, bytes) else b""


def read_folder(folder: Path, config: ImagesConfig) -> Source:
    """A folder of images with a CSV that names them and their ranks."""
    table = _find_table(folder, config.table)
    columns = config.columns
    try:
        frame = pd.read_csv(table, dtype={config.image_column: str})
    except (ValueError, OSError) as error:  # of pandas: empty, ragged, not in UTF-8
        raise InputError(f"{table} is not a CSV file: {' '.join(str(error).split())}") from None
    _require_columns([config.image_column, *columns.values()], list(frame.columns), table)
    paths = frame[config.image_column].fillna("")
    twice = paths[paths.duplicated() & (paths != "")]
    if len(twice):  # it could be in both splits
        raise InputError(f"{table} lists {len(twice)} images more than once; the first is {twice.iloc[0]!r}")
    manifest = _renamed(frame, columns)
    manifest["source"] = [str(folder / path) for path in paths]
    return _files_of(folder, manifest)


def read_tree(folder: Path, config: ImagesConfig) -> Source:
    """All images in a folder and below it, known by their suffixes; the label is the name of an image's folder."""
    files = sorted(file for file in folder.glob("**/*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}), Parquet files or CSV files")
    columns = {ours: [file.parent.name for file in files] for ours in config.columns}
    return _files_of(folder, pd.DataFrame({**columns, "source": [str(file) for file in files]}))


def _files_of(folder: Path, manifest: pd.DataFrame) -> Source:
    """Image files by the paths in `source`."""
    return _stored(manifest, FileImages((str(folder),)))


def _stored(manifest: pd.DataFrame, images: StoredImages) -> Source:
    """Images that can be read by their `source` or by their place."""
    rows = pa.table({"instance_id": np.arange(len(manifest)), "source": manifest["source"].to_numpy(dtype=str)})

    def encoded(chosen: NDArray[np.bool_] | None) -> ray.data.Dataset:
        wanted = _only(rows, chosen)
        blocks = min(max(1, len(wanted) // images.images_a_task), MAX_BLOCKS)
        tasks = ray.data.from_arrow(wanted).repartition(blocks)
        return tasks.map_batches(_read_stored, fn_args=(images,), batch_size=images.images_a_read)

    return Source(manifest, encoded)


def _find_table(folder: Path, name: str) -> Path:
    if name:
        table = folder / name
        if not table.is_file():
            raise InputError(f"--data.table is {name!r}; there is no such file in {folder}")
        return table
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        raise InputError(
            f"{folder} holds no Parquet files and {len(found)} CSV files; it needs one CSV, or --data.table names it"
        )
    return found[0]


def _read_stored(batch: dict[str, np.ndarray], images: StoredImages) -> dict[str, Any]:
    """What cannot be read is empty and so counts as broken."""
    encoded = list(images.read(batch["instance_id"], batch["source"].tolist()))
    return {"instance_id": batch["instance_id"], "encoded": np.array(encoded, dtype=object)}


def _renamed(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Our columns; two of ours may be the same one of theirs."""
    return pd.DataFrame({ours: frame[theirs] for ours, theirs in columns.items()}, index=frame.index)


def _require_encoded(field: pa.Field, where: Path) -> None:
    kind = field.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(f"column {field.name!r} of {where} holds {field.type}; it must hold encoded images, as bytes")


def _require_columns(wanted: list[str], present: list[str], where: Path | str) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise InputError(f"{where} has no column {missing[0]!r}; its columns are {', '.join(map(repr, present))}")
