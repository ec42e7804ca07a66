"""Files that others may read or write, or a killed process leave."""

import grp
import json
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ordclust_ray.config.common import InputError

PICKLED = "ray.data.arrow_pickled_object"
"""Ray's columns of pickled objects. Once Ray Data is imported, reading a value of one runs what it was made to run."""


def write_whole(file: Path, values: Mapping[str, Any]) -> None:
    """As JSON, whole or not at all."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(values, indent=1))
    new.replace(file)


def read_table(path: Path, **options: Any) -> pa.Table:
    """A Parquet file, or a folder of them, that holds no pickles.

    Args:
        path: of the file or folder.
        options: of `pyarrow.parquet.read_table`.

    Raises:
        InputError: a column of pickles.
    """
    table = pq.read_table(path, **options)
    refuse_pickles(table.schema, path)
    return table


def refuse_pickles(schema: pa.Schema, where: Path | str) -> None:
    """Raises InputError where a column of a Parquet file holds pickles, at any depth; none of them is loaded.

    Args:
        schema: of the file.
        where: its name.
    """
    for field in schema:
        if _pickled(field.type):
            raise InputError(f"column {field.name!r} of {where} holds pickled objects, which may run anything")


def _pickled(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name == PICKLED or _pickled(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _pickled(kind.value_type)
    return any(_pickled(kind.field(i).type) for i in range(kind.num_fields))


def require_own(folder: Path) -> None:
    """Nobody but this user and root can have written what is in a folder: for who loads pickles out of it.

    A group may write where it is the user's own one, of the same name, as on systems with the umask 002.

    Raises:
        InputError: the first that somebody else owns, or may write.
    """
    user = os.geteuid()
    for path in (folder, *_below(folder)):
        try:
            found = path.stat()
        except FileNotFoundError:  # a link that leads nowhere, or deleted meanwhile: nothing is loaded from it
            continue
        if found.st_uid not in (user, 0):
            raise InputError(f"{path} belongs to another user; what it holds could run anything here")
        if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _own_group(user, found.st_gid)):
            raise InputError(f"{path} can be written by other users; what it holds could run anything here: chmod go-w")


def _below(folder: Path) -> Iterator[Path]:
    for home, folders, files in os.walk(folder):
        yield from (Path(home, name) for name in (*folders, *files))


def _own_group(user: int, group: int) -> bool:
    """Whether it is root's, or the group that bears the user's name and is the first of theirs."""
    try:
        own = pwd.getpwuid(user)
        return group == 0 or (group == own.pw_gid and grp.getgrgid(group).gr_name == own.pw_name)
    except KeyError:  # no such user or group on this machine
        return False
