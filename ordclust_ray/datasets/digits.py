"""The handwritten digits that come with scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.datasets.chosen import DRAWN_SPLIT, choose, drawn_split
from ordclust_ray.datasets.layouts import refuse_lists
from ordclust_ray.datasets.listing import DataSet, Listing
from ordclust_ray.datasets.stored import ArrayImages, Piece

NAME = "digits"


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
    target = load_digits().target
    sources = [f"{NAME}#{row}" for row in range(len(target))]
    rows = pd.DataFrame({"source": sources, "rank": target.astype(float), "label": target.astype(str)})
    rows["split"] = drawn_split(sources)
    return choose(rows, ArrayImages((Piece(NAME, _pixels, len(rows)),)), [], [DRAWN_SPLIT])


def _pixels(_: str) -> NDArray[np.uint8]:
    """Of 17 greys, spread over 256."""
    from sklearn.datasets import load_digits

    return (load_digits().images * (255 / 16)).round().astype(np.uint8)


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
