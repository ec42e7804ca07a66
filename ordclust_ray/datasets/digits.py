"""The handwritten digits that come with scikit-learn."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.datasets.chosen import DRAWN_SPLIT, choose, drawn_split
from ordclust_ray.datasets.layouts import refuse_lists
from ordclust_ray.datasets.listing import DataSet, Listing
from ordclust_ray.datasets.stored import ArrayImages, Piece, row_sources

NAME = "digits"
TASKS = 4  # that read them


def read_digits(source: Path, lists: Path | None = None) -> Listing:
    """Lists the 1,797 digits, of 8 x 8 pixels; a digit is its own rank and label.

    Args:
        source: passed over: they come with scikit-learn.
        lists: none are published.

    Raises:
        InputError: lists are given.
    """
    from sklearn.datasets import load_digits

    refuse_lists(lists, "the set of digits")
    digits = load_digits()
    pixels, target = (digits.images * (255 / 16)).round().astype(np.uint8), digits.target  # 17 greys, spread over 256
    sources = row_sources(NAME, len(target))
    rows = pd.DataFrame({"source": sources, "rank": target.astype(float), "label": target.astype(str)})
    rows["split"] = drawn_split(sources)
    piece = Piece(NAME, partial(_held, pixels=pixels), len(rows))
    return choose(rows, ArrayImages((piece,), images_a_task=len(rows) // TASKS), [], [DRAWN_SPLIT])


def _held(_: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels themselves, 0.1 MB: tasks that read them need no scikit-learn."""
    return pixels


def generate_digits(folder: Path) -> None:
    """Makes the folder and leaves it empty: the digits are everywhere where scikit-learn is."""
    folder.mkdir(parents=True, exist_ok=True)


DIGITS = DataSet(
    name=NAME,
    title="scikit-learn's handwritten digits",
    read=read_digits,
    layout="nothing: they come with scikit-learn, and any path does",
    published={"images": 1_797},
    rank_unit="digit",
    source="https://archive.ics.uci.edu/dataset/80, by sklearn.datasets.load_digits",
    licence="CC BY 4.0",
    generate=generate_digits,
)
