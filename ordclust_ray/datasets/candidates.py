"""Image files that may become instances, and the reasons why some of them do not."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.core.random_keys import another_seed, random_keys
from ordclust_ray.datasets.listing import SEED, Listing, left_out, twice
from ordclust_ray.datasets.stored import FileImages

PHOTOGRAPHS = (".jpg", ".jpeg", ".png")
"""Suffixes of the images of published sets."""
NO_CONTENT = (".", "__MACOSX")
"""How the names of hidden files begin, and of those that macOS puts into archives beside the real ones."""


@dataclass(frozen=True)
class Candidates:
    """Images that may become instances.

    Attributes:
        rows: 0..n-1, `source` and what else the reader knows of each.
        left_out: `source`, `reason` of those that were left out before.
    """

    rows: pd.DataFrame
    left_out: pd.DataFrame = field(default_factory=left_out)

    def only(self, which: ArrayLike) -> "Candidates":
        """Those for which it is true; the others are not of the set, which needs no reason."""
        kept = self.rows[np.asarray(which, dtype=bool)].reset_index(drop=True)
        return Candidates(kept, self.left_out)

    def without(self, which: ArrayLike, reason: str | pd.Series) -> "Candidates":
        """Those for which it is false; the others are left out.

        Args:
            which: (N,) bool.
            reason: of all of them, or of each row.
        """
        out = np.asarray(which, dtype=bool)
        reasons = reason if isinstance(reason, str) else reason[out].to_numpy()
        return self.only(~out).also_without(pd.DataFrame({"source": self.rows["source"][out], "reason": reasons}))

    def also_without(self, out: pd.DataFrame) -> "Candidates":
        """The same ones, with more that was left out."""
        return Candidates(self.rows, pd.concat([self.left_out, out], ignore_index=True) if len(out) else self.left_out)

    def once(self, key: str, places: pd.Series) -> "Candidates":
        """Of those with the same value in a column, the first; `places` tell where each of all of them stands."""
        reasons = twice(self.rows[key], places)
        return self.without(reasons != "", reasons)

    def named(self, column: str, names: Mapping[str, Any]) -> "Candidates":
        """Codes in a column replaced by what they mean; unknown ones are left out."""
        codes = self.rows[column].fillna("").astype(str)
        reasons = unknown(column, codes, f"one of {', '.join(names)}")
        known = self.without(~codes.isin(list(names)), reasons)
        return known.having(**{column: known.rows[column].map(names)})

    def having(self, **columns: Any) -> "Candidates":
        """With more columns, or other values in them."""
        return Candidates(self.rows.assign(**columns), self.left_out)

    def listing(self, columns: Sequence[str], homes: Sequence[Path], notes: Sequence[str] = ()) -> Listing:
        """The instances, in the order of the rows.

        Args:
            columns: of the rows, besides `source`.
            homes: folders that they lie in.
            notes: of the listing.

        Raises:
            InputError: there are none.
        """
        if self.rows.empty:
            why = [f"; {source!r} was left out: {reason}" for source, reason in self.left_out.to_numpy()[:1]]
            raise InputError(f"{str(homes[0])!r} holds no image that can be used{''.join(why)}")
        rows = self.rows[["source", *columns]].rename_axis("instance_id")
        images = FileImages(tuple(_with_linked([str(home.absolute()) for home in homes], rows["source"])))
        return Listing(rows, images, self.left_out, list(notes))


def _with_linked(homes: list[str], sources: pd.Series) -> list[str]:
    """The folders, and those outside of them that sources lie in: links lead there, which `image_files` followed."""
    real = [os.path.realpath(home) for home in homes]
    folders = (Path(os.path.realpath(folder)) for folder in sources.str.rpartition("/")[0].unique())
    return homes + [str(folder) for folder in folders if not any(folder.is_relative_to(home) for home in real)]


def unknown(what: str, values: pd.Series, allowed: str) -> pd.Series:
    """A reason by row: the value, and what is allowed."""
    return f"unknown {what} " + values.map(repr).astype(str) + f"; it must be {allowed}"


def image_files(folder: Path, suffixes: tuple[str, ...] = PHOTOGRAPHS) -> pd.DataFrame:
    """Image files in a folder and below it, in the order of their paths; hidden ones are none.

    Links to folders are followed, and each folder is looked into once, under its own path where it has one here.

    Args:
        folder: to look in.
        suffixes: of images, in lower case; files may have them in capitals.

    Returns:
        `source` (absolute path), `path` (from the folder on), `name`; no rows where there is no such folder.
    """
    home = str(folder.absolute())
    paths = sorted(_image_paths(home, suffixes))
    columns = {
        "source": [f"{home}/{path}" for path in paths],
        "path": paths,
        "name": [path.rpartition("/")[2] for path in paths],
    }
    return pd.DataFrame(columns, dtype=str)


def _image_paths(home: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for folder, names in _folders(home):
        inside = folder[len(home) :].lstrip("/")
        before = f"{inside}/" if inside else ""
        images = (name for name in names if name.lower().endswith(suffixes) and not name.startswith(NO_CONTENT))
        yield from (before + name for name in images)


def _folders(home: str) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, with the names of their files; those that links lead to come last."""
    links, seen = [home], {str(above) for above in Path(os.path.realpath(home)).parents}
    for link in links:  # which grow meanwhile
        for folder, below, names in os.walk(link):
            real = os.path.realpath(folder)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            below[:] = sorted(name for name in below if not name.startswith(NO_CONTENT))
            links += [f"{folder}/{name}" for name in below if Path(folder, name).is_symlink()]
            yield folder, names


def places_in_draw(names: Sequence[str]) -> NDArray[np.int64]:
    """Places (0..n-1) of names in a seeded shuffle: the first ones are a draw at random, without replacement.

    The order in which the names are given plays no part.
    """
    by_name = np.argsort(np.asarray(names, dtype=str), kind="stable")
    keys = random_keys(np.arange(len(by_name)), another_seed(SEED, 1))  # not the keys of `shares`: that splits the draw
    places = np.empty(len(by_name), dtype=np.int64)
    places[by_name[np.argsort(keys)]] = np.arange(len(by_name))
    return places
