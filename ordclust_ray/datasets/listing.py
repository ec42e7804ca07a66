"""What a data set's reader gives: its instances, in an order that does not depend on the machine."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.datasets.stored import StoredImages

SEED = 0
"""Of splits that no published list gives: all runs have the same ones."""
TRAIN, VALIDATION, TEST = "train", "validation", "test"
FACES = (
    "Images of people. The paper (section 5): sets of faces are out of balance, and what is learned from them has "
    "gender and racial bias; groups that follow gender or race must never be read as a reason to discriminate; "
    "identity features can be misused to recognise people. Use estimates of age for research only."
)
"""What the data card of a set of faces says."""
FIRST = ", first as "
"""Stands in a reason before the place where an image stood first; data cards count reasons without it."""


@dataclass(frozen=True)
class Listing:
    """The instances of a data set, before any image was decoded.

    Attributes:
        rows: by `instance_id` (0..n-1): `source` (path, or file and row), and what the set knows of `rank` (float),
            `label` (class name), its group columns (text), `split` ("train", "validation", "test"), `fold` (from 1).
        images: where they lie.
        left_out: `source` and `reason` of what is no instance: listed and missing, of an unknown label, there twice.
        notes: sentences for the data card: what was reconstructed, what was read from published lists.
        verified: files whose published checksum is theirs.
    """

    rows: pd.DataFrame
    images: StoredImages
    left_out: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DataSet:
    """A data set, or one setting of its protocol.

    Attributes:
        name: on the command line.
        title: for people.
        read: lists what is in a folder (or file), with the published lists of the protocol where a second one is given.
        layout: what the folder or file looks like, in a line.
        published: counts that the authors give: "images", or by split.
        rank_unit: of the ranks; empty where there are none.
        groups: names of the group columns.
        source: where the set comes from.
        licence: its terms, in a line.
        faces: whether it shows people.
        image_size: images are prepared with this side in pixels; 0 is as they are.
        home: name of the folder of a download that several sets share; empty: none do.
        download: into a folder, where the set may be fetched freely; otherwise None.
        generate: writes a small copy into an empty folder, in the set's real layout and file names.
    """

    name: str
    title: str
    read: Callable[[Path, Path | None], Listing]
    layout: str
    published: dict[str, int]
    source: str
    licence: str
    rank_unit: str = ""
    groups: tuple[str, ...] = ()
    faces: bool = False
    image_size: int = 0
    home: str = ""
    download: Callable[[Path], None] | None = None
    generate: Callable[[Path], None] | None = None


def left_out(rows: Iterable[tuple[str, str]] = ()) -> pd.DataFrame:
    """`source`, `reason` of what is no instance."""
    return pd.DataFrame(list(rows), columns=["source", "reason"])


def twice(keys: pd.Series, places: pd.Series) -> pd.Series:
    """Reasons by row against all but the first of those with the same key, "" for the others.

    Args:
        keys: (N,) text.
        places: (N,) text, where each row stands: a file, or a row of a list.
    """
    first = places.groupby(keys).transform("first")
    return (f"listed twice{FIRST}" + first).where(keys.duplicated(), "")


def require_layout(source: Path, *, exists: bool, layout: str, title: str) -> None:
    """Raises InputError, which says what was expected and what is there, unless it exists."""
    if exists:
        return
    if not source.exists():
        raise InputError(f"there is no {str(source)!r}")
    inside = sorted(found.name for found in source.iterdir())[:5] if source.is_dir() else []
    holds = f"it holds {', '.join(map(repr, inside)) or 'nothing'}" if source.is_dir() else "it is a file"
    raise InputError(f"{str(source)!r} is not {title} as it comes ({layout}); {holds}")


def shares(keys: Sequence[str], parts: Collection[float], seed: int = SEED) -> NDArray[np.int64]:
    """Which part each key falls into, at random, all instances of a key into the same one.

    Keys are dealt out whole, the largest first, each to the part that lacks most: parts come as near to their shares of
    the instances as whole keys allow. The order in which the keys are given plays no part.

    Args:
        keys: of each instance: its name, or its person's.
        parts: shares, which add up to 1.
        seed: of the order among keys of one size.

    Returns:
        (N,) 0..P-1.
    """
    names, of, sizes = np.unique(np.asarray(keys, dtype=object).astype(str), return_inverse=True, return_counts=True)
    wanted = np.array(list(parts)) * len(of)
    given = np.zeros(len(wanted))
    part = np.empty(len(names), dtype=np.int64)
    for name in np.lexsort((random_keys(np.arange(len(names)), seed), -sizes)):
        part[name] = np.argmax(wanted - given)
        given[part[name]] += sizes[name]
    return part[of]
