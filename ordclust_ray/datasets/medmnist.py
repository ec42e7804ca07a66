"""Graded sets of MedMNIST (Yang et al. 2023): any .npz of theirs, and RetinaMNIST also as Parquet."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.checksums import RETINA as RETINA_CHECKSUMS
from ordclust_ray.datasets.checksums import compare_one
from ordclust_ray.datasets.chosen import choose, grades, named
from ordclust_ray.datasets.generated_arrays import generate_retina
from ordclust_ray.datasets.layouts import refuse_lists
from ordclust_ray.datasets.listing import TEST, TRAIN, VALIDATION, DataSet, Listing, require_layout
from ordclust_ray.datasets.parquet import read_columns
from ordclust_ray.datasets.stored import ArrayImages, Piece, row_sources

SPLITS = {"train": TRAIN, "val": VALIDATION, "test": TEST}
HIGHEST_GRADE = 4
IMAGES_A_READ = 5_000  # a split's pixels are unpacked as a whole for each
TITLE, RETINA_TITLE = "MedMNIST", "RetinaMNIST"
LAYOUT = "one .npz of MedMNIST, or a folder that holds one; train_images, train_labels, val_*, test_* in it"
RETINA_LAYOUT = "retinamnist.npz (or _64, _128, _224) or retinamnist.parquet, or a folder that holds one"


def read_medmnist(source: Path, lists: Path | None = None) -> Listing:
    """Lists the images of a set, whose labels are taken as grades.

    Args:
        source: the .npz, or a folder that holds exactly one.
        lists: none are published.

    Raises:
        InputError: no such file, several, or one that is not graded; one line.
    """
    refuse_lists(lists, TITLE)
    file = _only(source.absolute(), "*.npz", LAYOUT, TITLE)
    return _read_arrays(file, None, [], ["no checksums of this set's file are known here"])


def read_retina(source: Path, lists: Path | None = None) -> Listing:
    """Lists RetinaMNIST's images by their grade of retinopathy, 0 to 4.

    Args:
        source: the .npz or the Parquet file, or a folder that holds one; the Parquet file where it holds both.
        lists: none are published.

    Raises:
        InputError: no such file, or another one; one line.
    """
    refuse_lists(lists, RETINA_TITLE)
    source = source.absolute()
    parquet = source if source.suffix == ".parquet" else source / "retinamnist.parquet"
    if parquet.is_file():
        return _read_parquet(parquet)
    file = _only(source, "retinamnist*.npz", RETINA_LAYOUT, RETINA_TITLE)
    verified, notes = compare_one(file, RETINA_CHECKSUMS)
    return _read_arrays(file, HIGHEST_GRADE, verified, notes)


def _only(source: Path, pattern: str, layout: str, title: str) -> Path:
    """The file, or the only one of that pattern in the folder."""
    found = [source] if source.is_file() else sorted(source.glob(pattern))
    require_layout(source, exists=bool(found) and found[0].suffix == ".npz", layout=layout, title=title)
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:5])
        raise InputError(f"{str(source)!r} holds {len(found)} files of {title} ({names}); name the file itself")
    return found[0]


def _read_parquet(file: Path) -> Listing:
    rows, images = read_columns(file, ["label", "split"], RETINA_TITLE)
    rows["rank"], unknown = grades(rows["label"], "label", HIGHEST_GRADE)
    rows["split"], elsewhere = named(rows["split"], SPLITS, "split")
    rows["label"] = _as_text(rows["rank"])
    note = "read from a Parquet file; the published checksums are of the .npz files"
    return choose(rows, images, [unknown, elsewhere], [note])


def _read_arrays(file: Path, most: int | None, verified: list[str], notes: list[str]) -> Listing:
    parts = [_part(file, prefix, split) for prefix, split in SPLITS.items()]
    rows = pd.concat([part for part, _ in parts], ignore_index=True)
    rows["rank"], unknown = grades(rows["label"], "label", most)
    rows["label"] = _as_text(rows["rank"])
    return choose(rows, ArrayImages(tuple(piece for _, piece in parts), IMAGES_A_READ), [unknown], notes, verified)


def _as_text(ranks: pd.Series) -> pd.Series:
    return ranks.map(lambda rank: f"{rank:.0f}")


def _part(file: Path, prefix: str, split: str) -> tuple[pd.DataFrame, Piece]:
    labels, count = _labels(file, f"{prefix}_labels"), _count(file, f"{prefix}_images")
    if count != len(labels):
        raise InputError(f"{str(file)!r} holds {count} of {prefix}_images and {len(labels)} of {prefix}_labels")
    sources = row_sources(f"{file}/{prefix}_images", count)
    piece = Piece(str(file), partial(_array, key=f"{prefix}_images"), count)
    return pd.DataFrame({"source": sources, "label": labels, "split": split}), piece


def _labels(file: Path, key: str) -> NDArray[np.int64]:
    labels = _array(str(file), key)
    if labels.ndim > 1 and labels.shape[1] > 1:
        raise InputError(f"{str(file)!r} has {labels.shape[1]} labels an image ({key}), which are no ordinal grade")
    if labels.dtype.kind not in "iu" or labels.ndim == 0 or labels.size != len(labels):
        raise InputError(f"{key} of {str(file)!r} is {labels.dtype} {labels.shape}; whole numbers (n, 1) are expected")
    return labels.reshape(-1).astype(np.int64)


def _count(file: Path, key: str) -> int:
    """How many images there are, by the array's header alone."""
    with _opened(str(file), key) as array:
        read = npy.read_array_header_1_0 if npy.read_magic(array) == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(array)
    if kind != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
        raise InputError(f"{key} of {str(file)!r} is {kind} {shape}; bytes (n, H, W) or (n, H, W, 3) are expected")
    return shape[0]


def _array(file: str, key: str) -> NDArray[Any]:
    with _opened(file, key) as array:
        return npy.read_array(array, allow_pickle=False)


@contextmanager
def _opened(file: str, key: str) -> Iterator[IO[bytes]]:
    """One array of an .npz; what goes wrong while it is read becomes one line.

    Not `np.load`, which leaves files open where they are damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive, archive.open(f"{key}.npy") as array:
            yield array
    except KeyError as error:
        raise InputError(f"{file!r} is not of {TITLE}: {error.args[0]}") from None
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{file!r} is not an .npz of arrays: {' '.join(str(error).split())}") from None


MEDMNIST = DataSet(
    name="medmnist",
    title="a graded set of MedMNIST",
    read=read_medmnist,
    layout=LAYOUT,
    published={},
    rank_unit="grade",
    source="https://medmnist.com, https://doi.org/10.5281/zenodo.10519652",
    licence="CC BY 4.0 (DermaMNIST: CC BY-NC 4.0); not intended for clinical use",
    generate=generate_retina,
)
RETINA = DataSet(
    name="retina",
    title="RetinaMNIST, grades of diabetic retinopathy",
    read=read_retina,
    layout=RETINA_LAYOUT,
    published={TRAIN: 1_080, VALIDATION: 120, TEST: 400},
    rank_unit="grade",
    source="https://medmnist.com, https://doi.org/10.5281/zenodo.10519652",
    licence="CC BY 4.0; not intended for clinical use",
    generate=generate_retina,
)
