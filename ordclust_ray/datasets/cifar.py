"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in their Python and their binary version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.checksums import compare, of_torchvision
from ordclust_ray.datasets.chosen import choose, named
from ordclust_ray.datasets.downloads import download
from ordclust_ray.datasets.generated_cifar import SUPERCLASSES, generate_cifar10, generate_cifar100
from ordclust_ray.datasets.layouts import holds_any, home_of, refuse_lists, require_files
from ordclust_ray.datasets.listing import TEST, TRAIN, DataSet, Listing, require_layout
from ordclust_ray.datasets.parquet import parquet_files, parquet_layout, read_labelled
from ordclust_ray.datasets.pickles import as_text, load_arrays
from ordclust_ray.datasets.stored import ArrayImages, Piece, row_sources

SIDE = 32
PIXELS = 3 * SIDE * SIDE
IMAGES_A_READ = 5_000  # a file's pixels are loaded as a whole for each


@dataclass(frozen=True)
class _Version:
    """One of the two ways in which a set is given away.

    Attributes:
        folder: its own.
        files: split by the name of a file, in the order of the instances.
        named_in: files of class names.
        names: class names of each kind of label, of a folder.
        labels: (n, kinds) numbers of classes, of a file.
        pixels: of a file; see `Piece`.
        checksums: name of torchvision's class that has them; "" where none are published.
    """

    folder: str
    files: dict[str, str]
    named_in: tuple[str, ...]
    names: Callable[[Path], list[list[str]]]
    labels: Callable[[Path], NDArray[np.int64]]
    pixels: Callable[[str], NDArray[np.uint8]]
    checksums: str = ""


def _read(
    source: Path, lists: Path | None, versions: Sequence[_Version], columns: Sequence[str], title: str, layout: str
) -> Listing:
    refuse_lists(lists, title)
    source = source.absolute()
    homes = [(home_of(source, holds_any(version.files), [version.folder]), version) for version in versions]
    found = [(folder, version) for folder, version in homes if folder]
    require_layout(source, exists=bool(found), layout=layout, title=title)
    folder, version = found[0]
    require_files(folder, [*version.files, *version.named_in], title)
    labels = {name: version.labels(folder / name) for name in version.files}
    rows = pd.concat([_rows(folder / name, len(labels[name]), split) for name, split in version.files.items()])
    pieces = [Piece(str(folder / name), version.pixels, len(labels[name])) for name in version.files]
    codes, names = np.concatenate(list(labels.values())), version.names(folder)
    rows, reasons = rows.reset_index(drop=True), []
    for kind, column in enumerate(columns):
        rows[column], unknown = named(pd.Series(codes[:, kind]), dict(enumerate(names[kind])), column)
        reasons.append(unknown)
    verified, notes = _compared(folder, version)
    return choose(rows, ArrayImages(tuple(pieces), IMAGES_A_READ), reasons, notes, verified)


def _rows(file: Path, images: int, split: str) -> pd.DataFrame:
    return pd.DataFrame({"source": row_sources(file, images), "split": split})


def _compared(folder: Path, version: _Version) -> tuple[list[str], list[str]]:
    if not version.checksums:
        return [], [f"no checksums are published of the files of {version.folder}"]
    return compare(folder, of_torchvision(version.checksums))


def _pickled(file: Path, keys: Sequence[str]) -> list[Any]:
    fields = load_arrays(file)
    missing = [key for key in keys if key not in fields]
    if missing:
        raise InputError(f"{str(file)!r} has no {missing[0]!r}; it holds {', '.join(map(repr, fields))}")
    return [fields[key] for key in keys]


def _pickled_labels(file: Path, keys: Sequence[str]) -> NDArray[np.int64]:
    pixels, *kinds = _pickled(file, ["data", *keys])
    try:
        labels = np.stack([np.asarray(kind, dtype=np.int64) for kind in kinds], axis=1)
    except (ValueError, TypeError):
        raise InputError(f"{str(file)!r} holds {' and '.join(keys)} that are not as many numbers each") from None
    if getattr(pixels, "dtype", None) != np.uint8 or pixels.shape != (len(labels), PIXELS):
        raise InputError(f"{str(file)!r} does not hold {len(labels)} x {PIXELS} bytes of 'data', a row for each label")
    return labels


def _pickled_pixels(file: str) -> NDArray[np.uint8]:
    return _channels_last(_pickled(Path(file), ["data"])[0])


def _pickled_names(folder: Path, file: str, keys: Sequence[str]) -> list[list[str]]:
    fields = _pickled(folder / file, keys)
    for key, names in zip(keys, fields, strict=True):
        if not isinstance(names, list):
            raise InputError(
                f"{key!r} of {str(folder / file)!r} is a {type(names).__name__}; it must be a list of names"
            )
    return [[as_text(name) for name in names] for names in fields]


def _records(file: Path, kinds: int) -> NDArray[np.uint8]:
    """(n, kinds + pixels) of a binary file, mapped: they are read where they are looked at."""
    length = kinds + PIXELS
    size = file.stat().st_size
    if size == 0 or size % length:
        raise InputError(f"{str(file)!r} has {size} bytes; records of {length} are expected")
    return np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, length)


def _binary_labels(file: Path, kinds: int) -> NDArray[np.int64]:
    return _records(file, kinds)[:, :kinds].astype(np.int64)


def _binary_pixels(file: str, kinds: int) -> NDArray[np.uint8]:
    return _channels_last(_records(Path(file), kinds)[:, kinds:])


def _listed_names(folder: Path, files: Sequence[str]) -> list[list[str]]:
    return [
        [line for line in (folder / file).read_text(errors="replace").splitlines() if line.strip()] for file in files
    ]


def _channels_last(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _python(folder: str, files: dict[str, str], meta: str, labels: Sequence[str], names: Sequence[str]) -> _Version:
    return _Version(
        folder,
        files,
        (meta,),
        partial(_pickled_names, file=meta, keys=names),
        partial(_pickled_labels, keys=labels),
        _pickled_pixels,
        {"batches.meta": "CIFAR10", "meta": "CIFAR100"}[meta],
    )


def _binary(folder: str, files: dict[str, str], named_in: tuple[str, ...]) -> _Version:
    kinds = len(named_in)
    return _Version(
        folder,
        {f"{name}.bin": split for name, split in files.items()},
        named_in,
        partial(_listed_names, files=named_in),
        partial(_binary_labels, kinds=kinds),
        partial(_binary_pixels, kinds=kinds),
    )


def _read_10(source: Path, lists: Path | None) -> Listing:
    """CIFAR-10 in one of its versions, or in Parquet files."""
    if parquet := parquet_files(source.absolute(), PARQUET_10):
        refuse_lists(lists, "CIFAR-10")
        return read_labelled(parquet, {"label": ("label", CLASSES_10)}, "CIFAR-10", SIDE)
    return _read(source, lists, VERSIONS_10, ("label",), "CIFAR-10", LAYOUT_10)


def _read_100(source: Path, lists: Path | None) -> Listing:
    """CIFAR-100 in one of its versions, or in Parquet files."""
    if parquet := parquet_files(source.absolute(), PARQUET_100):
        refuse_lists(lists, "CIFAR-100")
        classes = {"label": ("coarse_label", SUPERCLASSES), "fine_label": ("fine_label", NAMES_100.split())}
        return read_labelled(parquet, classes, "CIFAR-100", SIDE)
    return _read(source, lists, VERSIONS_100, ("label", "fine_label"), "CIFAR-100", LAYOUT_100)


CLASSES_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAMES_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
FILES_10 = {**{f"data_batch_{i}": TRAIN for i in range(1, 6)}, "test_batch": TEST}
FILES_100 = {"train": TRAIN, "test": TEST}
PARQUET_10, PARQUET_100 = "cifar10", "cifar100"
LAYOUT_10 = (
    "a folder cifar-10-batches-py (or -bin) with data_batch_1 to 5, test_batch and batches.meta; "
    f"{parquet_layout(PARQUET_10)}"
)
LAYOUT_100 = (
    "a folder cifar-100-python (or -binary) with train, test and meta (or the files of class names); "
    f"{parquet_layout(PARQUET_100)}"
)
VERSIONS_10 = (
    _python("cifar-10-batches-py", FILES_10, "batches.meta", ["labels"], ["label_names"]),
    _binary("cifar-10-batches-bin", FILES_10, ("batches.meta.txt",)),
)
VERSIONS_100 = (
    _python(
        "cifar-100-python",
        FILES_100,
        "meta",
        ["coarse_labels", "fine_labels"],
        ["coarse_label_names", "fine_label_names"],
    ),
    _binary("cifar-100-binary", FILES_100, ("coarse_label_names.txt", "fine_label_names.txt")),
)
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
LICENCE = "none stated; for research, by its authors' page to be cited (Krizhevsky 2009)"

CIFAR10 = DataSet(
    name="cifar10",
    title="CIFAR-10",
    read=_read_10,
    layout=LAYOUT_10,
    published={TRAIN: 50_000, TEST: 10_000},
    source=SOURCE,
    licence=LICENCE,
    download=partial(download, "CIFAR10"),
    generate=partial(generate_cifar10, classes=CLASSES_10),
)
CIFAR100 = DataSet(
    name="cifar100",
    title="CIFAR-100, its 20 superclasses",
    read=_read_100,
    layout=LAYOUT_100,
    published={TRAIN: 50_000, TEST: 10_000},
    groups=("fine_label",),
    source=SOURCE,
    licence=LICENCE,
    download=partial(download, "CIFAR100"),
    generate=generate_cifar100,
)
