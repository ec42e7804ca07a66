"""The rows of arrays and tables that are instances, and the reasons why others are not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.datasets.listing import SEED, TEST, TRAIN, Listing, left_out, shares
from ordclust_ray.datasets.stored import FileImages, StoredImages, WrappedImages

FEW = 5  # codes, that a reason lists one by one
TRAIN_SHARE = 0.8
DRAWN_SPLIT = f"No split is published: {TRAIN_SHARE:.0%} train and {1 - TRAIN_SHARE:.0%} test were drawn (seed {SEED})"


@dataclass(frozen=True)
class ChosenImages(WrappedImages):
    """Some of the images of another store.

    Attributes:
        images: the store.
        places: (N,) ascending, instance ids in the store of ours.
    """

    places: NDArray[np.int64]

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """See `StoredImages`."""
        yield from self.images.read(self.places[instance_ids], sources)


def choose(
    rows: pd.DataFrame,
    images: StoredImages,
    reasons: Sequence[pd.Series],
    notes: Sequence[str] = (),
    verified: Sequence[str] = (),
) -> Listing:
    """Leaves out those rows for which there is a reason.

    Args:
        rows: of a store, in its order, with `source`.
        images: the store.
        reasons: each by row, text; "" where there is none. The first one that is given counts.
        notes: of the listing.
        verified: of the listing.

    Returns:
        Instances numbered anew, in the same order.
    """
    reason = pd.Series("", index=rows.index, dtype=object)
    for further in reasons:
        reason = reason.where(reason != "", further)
    keep = (reason == "").to_numpy()
    out = left_out(zip(rows["source"][~keep], reason[~keep], strict=True))
    as_it_is = keep.all() or isinstance(images, FileImages)  # files are read by their names
    chosen = images if as_it_is else ChosenImages(images, np.flatnonzero(keep))
    kept = rows[keep].reset_index(drop=True).rename_axis("instance_id")
    return Listing(kept, chosen, out, list(notes), list(verified))


def because(wrong: pd.Series, reason: str | Sequence[str]) -> pd.Series:
    """Reasons by row: one for all that are wrong, or of each of those; "" for the others."""
    text = np.full(len(wrong), "", dtype=object)
    text[wrong.to_numpy()] = reason
    return pd.Series(text, index=wrong.index)


def named(codes: pd.Series, names: Mapping[Any, str], column: str) -> tuple[pd.Series, pd.Series]:
    """Names of the codes, and reasons against those that have none.

    Args:
        codes: as they were read.
        names: by code, text or number.
        column: what the codes are called in the reasons.
    """
    numbers = all(isinstance(code, int) for code in names)
    known = (pd.to_numeric(codes, errors="coerce") if numbers else codes).map(dict(names))
    allowed = [f"{code} ({name})" for code, name in names.items()]
    said = f"one of {', '.join(allowed)}" if len(allowed) <= FEW else f"from {allowed[0]} to {allowed[-1]}"
    return known, _unknown(known.isna(), codes, column, said)


def grades(codes: pd.Series, column: str, most: int | None = None) -> tuple[pd.Series, pd.Series]:
    """Ranks (float) of grades 0, 1, 2, ..., and reasons against those that are none.

    Args:
        codes: as they were read.
        column: what they are called in the reasons.
        most: the highest grade, where that is known.
    """
    ranks = pd.to_numeric(codes, errors="coerce").astype(float)
    known = (ranks >= 0) & (ranks <= (np.inf if most is None else most)) & (ranks == ranks.round())
    allowed = "a whole number, at least 0" if most is None else f"a whole number from 0 to {most}"
    return ranks, _unknown(~known, codes, column, allowed)


def _unknown(wrong: pd.Series, codes: pd.Series, column: str, allowed: str) -> pd.Series:
    shown = codes[wrong].replace("", "empty")
    return because(wrong, [f"{column} is {code}; it must be {allowed}" for code in shown])


def drawn_split(names: Sequence[str]) -> NDArray[np.str_]:
    """`TRAIN` or `TEST` of each instance, by its name alone."""
    return np.array([TRAIN, TEST])[shares(names, (TRAIN_SHARE, 1 - TRAIN_SHARE))]
