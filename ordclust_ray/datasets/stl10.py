"""STL-10 (Coates, Ng, Lee 2011): the labelled images of its binary version."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.checksums import compare, of_torchvision
from ordclust_ray.datasets.chosen import choose, named
from ordclust_ray.datasets.downloads import download
from ordclust_ray.datasets.generated_arrays import generate_stl10
from ordclust_ray.datasets.layouts import refuse_lists, require_files, require_home
from ordclust_ray.datasets.listing import TEST, TRAIN, DataSet, Listing
from ordclust_ray.datasets.stored import ArrayImages, Piece, row_sources

TITLE = "STL-10"
LAYOUT = "a folder stl10_binary with train_X.bin, train_y.bin, test_X.bin, test_y.bin and class_names.txt"
SIDE = 96
BYTES = 3 * SIDE * SIDE
NAMES, UNLABELLED = "class_names.txt", "unlabeled_X.bin"


def read_stl10(source: Path, lists: Path | None = None) -> Listing:
    """Lists the labelled images, those for training first.

    Args:
        source: `stl10_binary`, or the folder that holds it.
        lists: none are published.

    Raises:
        InputError: a file is missing, or is not as long as the others say; one line.
    """
    refuse_lists(lists, TITLE)
    source = source.absolute()
    pairs = {split: (f"{split}_X.bin", f"{split}_y.bin") for split in (TRAIN, TEST)}
    files = [name for pair in pairs.values() for name in pair]
    folder = require_home(source, ["stl10_binary"], files, LAYOUT, TITLE)
    require_files(folder, [*files, NAMES], TITLE)
    parts = [_part(folder / images, folder / labels, split) for split, (images, labels) in pairs.items()]
    rows = pd.concat([part for part, _ in parts], ignore_index=True)
    rows["label"], unknown = named(rows.pop("code"), _class_names(folder / NAMES), "label")
    published = {name: known for name, known in of_torchvision("STL10").items() if name != UNLABELLED}
    verified, notes = compare(folder, published)
    if (folder / UNLABELLED).exists():
        notes.append(f"{UNLABELLED} was passed over: its images have no class")
    return choose(rows, ArrayImages(tuple(piece for _, piece in parts)), [unknown], notes, verified)


def _part(images: Path, labels: Path, split: str) -> tuple[pd.DataFrame, Piece]:
    codes = np.fromfile(labels, dtype=np.uint8).astype(np.int64)
    size = images.stat().st_size
    if not len(codes) or size != len(codes) * BYTES:
        raise InputError(
            f"{str(images)!r} has {size} bytes; {labels.name} has {len(codes)} labels, for images of {BYTES} bytes each"
        )
    rows = pd.DataFrame({"source": row_sources(images, len(codes)), "code": codes, "split": split})
    return rows, Piece(str(images), _pixels, len(codes))


def _pixels(file: str) -> NDArray[np.uint8]:
    """Mapped, not read; the file holds columns before rows."""
    return np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)


def _class_names(file: Path) -> dict[int, str]:
    return dict(enumerate(file.read_text(errors="replace").split(), start=1))


STL10 = DataSet(
    name="stl10",
    title=TITLE,
    read=read_stl10,
    layout=LAYOUT,
    published={TRAIN: 5_000, TEST: 8_000},
    source="https://cs.stanford.edu/~acoates/stl10/",
    licence="none stated; its images are from ImageNet, whose terms allow research that is not commercial",
    download=partial(download, "STL10"),
    generate=generate_stl10,
)
