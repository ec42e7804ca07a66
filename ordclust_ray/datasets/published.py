"""Published lists of protocols: tables of text that name images."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.candidates import Candidates
from ordclust_ray.datasets.listing import SEED

NO_LISTS = f"80% train and 20% test were drawn (seed {SEED}): no lists were given."


def find_list(lists: Path, name: str) -> Path:
    """The file of that name in a folder or below it.

    Raises:
        InputError: there is none.
    """
    if not lists.is_dir():
        raise InputError(f"there is no folder {str(lists)!r}")
    found = sorted(lists.rglob(name))
    if not found:
        raise InputError(f"{str(lists)!r} does not hold the published list {name!r}, nor does a folder in it")
    return found[0]


def read_table(file: Path, separator: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table with a line of column names, all text ("" where nothing is given).

    Args:
        file: to read.
        separator: one character.
        columns: that it must have, in lower case.

    Returns:
        All its columns, in lower case, and `list`, the file's name.

    Raises:
        InputError: no such table, or without those columns.
    """
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(
                file, sep=separator, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig"
            )
    except (ValueError, OSError, pd.errors.ParserWarning) as error:  # empty, ragged, not in UTF-8
        raise InputError(f"{str(file)!r} is not a table: {' '.join(str(error).split())}") from None
    table.columns = table.columns.str.strip().str.lower()
    missing = [column for column in columns if column not in table.columns]
    if missing:
        has = ", ".join(map(repr, table.columns))
        raise InputError(f"{str(file)!r} has no column {missing[0]!r}; its columns are {has}")
    return table.fillna("").assign(list=file.name)


def listed_files(files: Candidates, listed: pd.DataFrame) -> Candidates:
    """Those files that are listed.

    Args:
        files: with a `key` of their own each.
        listed: `key`, `name`, `list` (the list's name), and further columns.

    Returns:
        In the files' order, with the further columns; listed and missing ones are left out, with their names.
    """
    images = Candidates(listed.rename(columns={"name": "source"})).once("key", list_places(listed))
    further = images.rows.drop(columns=["source", "list"])
    found = Candidates(files.rows.merge(further, on="key"), files.left_out)
    return found.also_without(images.left_out).also_without(missing_files(files, images.rows))


def list_places(listed: pd.DataFrame) -> pd.Series:
    """Where each row stands, of the rows of lists one below another, all of them: "row 2 of NAME", from 1 on."""
    rows = listed.groupby("list").cumcount() + 1
    return "row " + rows.astype(str) + " of " + listed["list"]


def missing_files(files: Candidates, listed: pd.DataFrame) -> pd.DataFrame:
    """`source`, `reason` of what is listed, but is not among the files.

    Args:
        files: with `key`.
        listed: `key`, `source` (the name in the list), `list`.
    """
    missing = listed[~listed["key"].isin(files.rows["key"])]
    return pd.DataFrame({"source": missing["source"], "reason": "listed in " + missing["list"] + ", but missing"})
