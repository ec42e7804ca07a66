"""What tests of the readers ask of a listing: images as a task reads them, and what was left out or refused."""

import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.listing import DataSet, Listing


def refused(data: DataSet, source: Path, lists: Path | None = None) -> str:
    """The line with which a reader refuses a source."""
    return refusal(lambda: data.read(source, lists))


def refusal(call: Callable[[], object]) -> str:
    """The line with which anything is refused."""
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def names(listing: Listing) -> list[str]:
    """Of the instances' files."""
    return [Path(source).name for source in listing.rows["source"]]


def reasons(listing: Listing) -> dict[str, str]:
    """By the name of what was left out."""
    return {Path(source).name: reason for source, reason in listing.left_out.to_numpy()}


def images(listing: Listing, ids: list[int]) -> list[Image.Image]:
    """As a task reads them, to which the store was sent."""
    store = pickle.loads(pickle.dumps(listing.images))
    encoded = store.read(np.array(ids), listing.rows["source"].iloc[ids].tolist())
    return [Image.open(BytesIO(image), formats=["PNG", "JPEG"]) for image in encoded]


def pixels(listing: Listing, ids: list[int]) -> list[np.ndarray]:
    """(H, W) or (H, W, 3) of each."""
    return [np.asarray(image) for image in images(listing, ids)]


def sizes(listing: Listing) -> list[tuple[int, int]]:
    """Width and height of the first and the last image."""
    return [image.size for image in images(listing, [0, len(listing.rows) - 1])]
