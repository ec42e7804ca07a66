"""Runs in object storage: the bucket has all of a run; this machine has a copy of everything but the checkpoints.

Jobs read and write the copy. It is brought up to date when a run is opened, and the bucket when the run has begun and
when it ends. Checkpoints go from the workers straight into the bucket. Where runs are in a folder, nothing is copied.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs

from ordclust_ray.config import InputError, RunConfig

CHECKPOINTS = "checkpoint_"
"""Begins the names of Ray Train's own files in a run."""
COPY_BYTES = 8 * 2**20


def place_of(run: RunConfig, file: Path) -> str:
    """Where all machines find a run's file: its absolute path, or its address in object storage."""
    return f"{run.storage}/{file.relative_to(run.storage_path)}" if run.in_bucket else str(file)


def pull(run: RunConfig, name: str) -> Path:
    """The folder of a run on this machine, with what the bucket has of it; files that are newer here stay.

    Raises:
        InputError: the bucket cannot be used.
    """
    folder = run.storage_path / name
    if run.in_bucket:
        with _reached(run):
            bucket, home = fs.FileSystem.from_uri(f"{run.storage}/{name}")
            for path, there in _files(bucket, home).items():
                here = folder / path
                if not here.exists() or here.stat().st_mtime < there.mtime.timestamp():
                    here.parent.mkdir(parents=True, exist_ok=True)
                    new = here.with_name(f".{here.name}.new")
                    fs.copy_files(there.path, str(new), bucket, fs.LocalFileSystem(), chunk_size=COPY_BYTES)
                    _date(new, there)
                    new.replace(here)
    return folder


def push(run: RunConfig, name: str) -> None:
    """Makes the bucket have what a run's folder here has, and nothing else beside checkpoints.

    Raises:
        InputError: the bucket cannot be used.
    """
    if not run.in_bucket:
        return
    folder = run.storage_path / name
    with _reached(run):
        bucket, home = fs.FileSystem.from_uri(f"{run.storage}/{name}")
        there = _files(bucket, home)
        here = {path: folder / path for path in _below(folder)}
        changed = [path for path, file in here.items() if path not in there or not _same(file, there[path])]
        for path in changed:
            fs.copy_files(str(here[path]), f"{home}/{path}", fs.LocalFileSystem(), bucket, chunk_size=COPY_BYTES)
        for path in there.keys() - here.keys():
            bucket.delete_file(there[path].path)
        for path, info in _files(bucket, home).items():
            if path in changed:
                _date(here[path], info)


def _files(bucket: fs.FileSystem, home: str) -> dict[str, fs.FileInfo]:
    """What a copy has, by path below the run's."""
    found: dict[str, fs.FileInfo] = {}
    waiting = [home]  # not all at once: an old checkpoint may have a file a worker
    while waiting:
        folder = waiting.pop()
        for info in bucket.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            path = info.path.removeprefix(f"{home}/")
            if info.path != folder and _copied(path):  # of "a//b" pyarrow lists a below a
                if info.type == fs.FileType.Directory:
                    waiting.append(info.path)
                else:
                    found[path] = info
    return found


def _below(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*"):
        path = file.relative_to(folder).as_posix()
        if file.is_file() and _copied(path):
            yield path


def _copied(path: str) -> bool:
    """All but checkpoints, locks, files that are being written, and names that lead out of the folder."""
    return not path.startswith(CHECKPOINTS) and not any(part[:1] in ("", ".") for part in path.split("/"))


def _same(here: Path, there: fs.FileInfo) -> bool:
    found = here.stat()
    return found.st_size == there.size and found.st_mtime == there.mtime.timestamp()


def _date(here: Path, there: fs.FileInfo) -> None:
    """A copy is as old as what it is a copy of, by which a later change of either is seen."""
    os.utime(here, (there.mtime.timestamp(),) * 2)


def make_bucket_usable(run: RunConfig) -> None:
    """Raises InputError unless this machine can write and delete in the bucket."""
    with seen_by_all(run) as place:
        touch(place, "driver")


@contextlib.contextmanager
def seen_by_all(run: RunConfig) -> Iterator[str]:
    """A new place in the bucket, by its address, gone afterwards with all that was written there.

    Raises:
        InputError: the bucket cannot be used.
    """
    place = f"{run.storage}/.seen-by-{secrets.token_hex(4)}"
    with _reached(run):
        try:
            yield place
        finally:
            if names_in(place):
                bucket, path = fs.FileSystem.from_uri(place)
                bucket.delete_dir(path)


def touch(place: str, name: str) -> None:
    """Writes an empty object.

    Raises:
        OSError: it cannot.
    """
    bucket, path = fs.FileSystem.from_uri(f"{place}/{name}")
    with bucket.open_output_stream(path) as file:
        file.write(b"")


def names_in(place: str) -> set[str]:
    """Names of the objects there."""
    bucket, path = fs.FileSystem.from_uri(place)
    return {info.base_name for info in bucket.get_file_info(fs.FileSelector(path, allow_not_found=True))}


@contextlib.contextmanager
def _reached(run: RunConfig) -> Iterator[None]:
    """Where the bucket cannot be used, its address and why, in one line."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--run.storage {run.storage} cannot be used: {said(error)}") from None


def said(error: OSError) -> str:
    """A message in one line, without the number of the request."""
    return error.strerror or " ".join(str(error).split()).partition(" (Request ID")[0]
