"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), in the IDX files of MNIST."""

import gzip
import math
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.checksums import compare, of_torchvision
from ordclust_ray.datasets.chosen import choose, named
from ordclust_ray.datasets.downloads import download
from ordclust_ray.datasets.generated_arrays import generate_fashion
from ordclust_ray.datasets.layouts import refuse_lists, require_home
from ordclust_ray.datasets.listing import TEST, TRAIN, DataSet, Listing
from ordclust_ray.datasets.parquet import parquet_files, parquet_layout, read_labelled
from ordclust_ray.datasets.stored import ArrayImages, Piece, row_sources

TITLE = "Fashion-MNIST"
PARQUET = "fashion_mnist"
LAYOUT = (
    f"a folder, or FashionMNIST/raw in it, with train-images-idx3-ubyte.gz and three more; {parquet_layout(PARQUET)}"
)
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SIDE = 28
PREFIXES = {TRAIN: "train", TEST: "t10k"}
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
UNSIGNED_BYTES = 8  # IDX's code of the type, before the number of dimensions
IMAGES_A_READ = 10_000  # a file is unpacked as a whole for each


def read_fashion(source: Path, lists: Path | None = None) -> Listing:
    """Lists the images, those for training first.

    Args:
        source: the folder of the four files, packed or not, or torchvision's folder that holds them; or Parquet files.
        lists: none are published.

    Raises:
        InputError: a file is missing, damaged, or holds not as many as the other; one line.
    """
    refuse_lists(lists, TITLE)
    source = source.absolute()
    if parquet := parquet_files(source, PARQUET):
        return read_labelled(parquet, {"label": ("label", CLASSES)}, TITLE, SIDE)
    names = [f"{prefix}-{kind}" for prefix in PREFIXES.values() for kind in (IMAGES, LABELS)]
    either = [f"{name}{packed}" for name in names for packed in (".gz", "")]
    folder = require_home(source, ["FashionMNIST/raw", "raw"], either, LAYOUT, TITLE)
    files = {name: _file(folder, name) for name in names}
    parts = [_part(files[f"{p}-{IMAGES}"], files[f"{p}-{LABELS}"], split) for split, p in PREFIXES.items()]
    rows = pd.concat([part for part, _ in parts], ignore_index=True)
    rows["label"], unknown = named(rows.pop("code"), dict(enumerate(CLASSES)), "label")
    verified, notes = compare(folder, of_torchvision("FashionMNIST"))
    if len(verified) + len(notes) < len(files):
        notes.append("checksums are published of the packed files only, and not all are packed")
    return choose(rows, ArrayImages(tuple(piece for _, piece in parts), IMAGES_A_READ), [unknown], notes, verified)


def _file(folder: Path, name: str) -> Path:
    """The packed one where both are there: its checksum is published."""
    found = [folder / f"{name}{packed}" for packed in (".gz", "") if (folder / f"{name}{packed}").is_file()]
    if not found:
        raise InputError(f"{str(folder)!r} lacks {name!r} of {TITLE}, packed (.gz) or not")
    return found[0]


def _part(images: Path, labels: Path, split: str) -> tuple[pd.DataFrame, Piece]:
    codes, count = read_idx(str(labels), dimensions=1).astype(np.int64), len(read_idx(str(images)))
    if count != len(codes):
        raise InputError(f"{str(images)!r} holds {count} images and {labels.name} {len(codes)} labels")
    rows = pd.DataFrame({"source": row_sources(images, count), "code": codes, "split": split})
    return rows, Piece(str(images), read_idx, count)


def read_idx(file: str, dimensions: int = 3) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, packed or not.

    Raises:
        InputError: another magic number, or not as many bytes as it says; one line.
    """
    try:
        content = gzip.decompress(Path(file).read_bytes()) if file.endswith(".gz") else Path(file).read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file!r} cannot be unpacked: {error}") from None
    magic, wanted = content[:4].hex(), bytes([0, 0, UNSIGNED_BYTES, dimensions]).hex()
    if magic != wanted:
        raise InputError(f"{file!r} begins with {magic or 'nothing'}; an IDX file of this kind begins with {wanted}")
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start].ljust(start - 4, b"\0"), dtype=">u4").tolist()
    if len(content) - start != math.prod(shape):
        raise InputError(f"{file!r} says it holds {shape} bytes and has {max(len(content) - start, 0)}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


FASHION_MNIST = DataSet(
    name="fashion-mnist",
    title=TITLE,
    read=read_fashion,
    layout=LAYOUT,
    published={TRAIN: 60_000, TEST: 10_000},
    source="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT, Copyright (c) 2017 Zalando SE",
    download=partial(download, "FashionMNIST"),
    generate=generate_fashion,
)
