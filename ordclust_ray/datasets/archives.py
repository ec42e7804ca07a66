"""Archives as they are downloaded."""

import contextlib
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.candidates import NO_CONTENT
from ordclust_ray.datasets.listing import Listing
from ordclust_ray.datasets.stored import WrappedImages

UNPACKED = ".unpacked"
ARCHIVES = tuple(suffix for _, suffixes, _ in shutil.get_unpack_formats() for suffix in suffixes)
"""Suffixes of archives: .zip, .tar, .tar.gz, .tgz and so on."""
BESIDE = (".txt", ".csv", ".tsv", ".md", ".html", ".json", ".pdf")
"""Suffixes of lists and notes that may lie beside archives."""
CHUNK = 2**20


def archives_of(source: Path) -> list[Path]:
    """The archives that a source is: a file, or all files of a folder, apart from lists and notes. None: it is no such.

    Hidden files play no part.
    """
    if not source.is_dir():
        return [source] if _is_archive(source) else []
    files = _files(source)
    archives = [file for file in files if _is_archive(file)]
    return archives if len(archives) + len(_beside(files)) == len(files) else []


def _files(folder: Path) -> list[Path]:
    return sorted(found for found in folder.iterdir() if not found.name.startswith(NO_CONTENT))


def _is_archive(file: Path) -> bool:
    return file.name.lower().endswith(ARCHIVES) and file.is_file()


def _beside(files: Sequence[Path]) -> list[Path]:
    return [file for file in files if file.name.lower().endswith(BESIDE) and file.is_file()]


@contextlib.contextmanager
def unpacked(source: Path, beside: Path) -> Iterator[Path]:
    """The folder that a source is, or, of archives, one in the other folder that holds what was in all of them.

    Unpacked files are kept where the block raises, for the next attempt with the same archives, and deleted when it is
    done. Lists and notes beside the archives are among them.

    Raises:
        InputError: a damaged archive.
    """
    folder, known = beside / UNPACKED, beside / f"{UNPACKED}.of"
    if archives := archives_of(source):
        files = [*archives, *(_beside(_files(source)) if source.is_dir() else [])]
        now = "\n".join(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
        if not folder.exists() or not known.exists() or known.read_text() != now:
            known.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            _unpack(files, folder)
            known.write_text(now)
    yield folder if archives else source
    if not source.is_relative_to(folder):
        shutil.rmtree(folder, ignore_errors=True)
        known.unlink(missing_ok=True)


def _unpack(files: Sequence[Path], folder: Path) -> None:
    """Unpacks archives, and copies other files, into a new folder, whole or not at all.

    Of files that have the same path in several archives, the last one is kept.
    """
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        for file in files:
            _unpack_one(file, new)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _unpack_one(file: Path, folder: Path) -> None:
    try:
        if not _is_archive(file):
            shutil.copy2(file, folder)
        elif file.suffix.lower() == ".zip":
            shutil.unpack_archive(file, folder, "zip")
        else:
            _unpack_tar(file, folder)
    except Exception as error:  # a damaged archive raises anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{str(file)!r} cannot be unpacked: {said}") from None


def _unpack_tar(file: Path, folder: Path) -> None:
    """Reads on to the end of the file: tarfile takes a damaged header for the end, and checksums stand behind it."""
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")  # no links or paths that lead out of the folder
        stream, zeros = archive.fileobj, 0
        assert stream is not None
        stream.seek(archive.offset)
        while chunk := stream.read(CHUNK):
            if any(chunk):
                raise tarfile.ReadError(f"it is damaged at byte {archive.offset} of what was packed")
            zeros += len(chunk)
    if zeros < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it breaks off at byte {archive.offset} of what was packed")


@dataclass(frozen=True)
class UnpackedImages(WrappedImages):
    """Images in an unpacked folder, by sources that outlast it.

    Attributes:
        images: by sources in the folder.
        folder: path of the folder, with the separator at its end.
        name: stands in the sources instead of the folder.
    """

    folder: str
    name: str

    def read(self, instance_ids: NDArray[np.int64], sources: Sequence[str]) -> Iterator[bytes]:
        """See `StoredImages`."""
        inside = [self.folder + source.removeprefix(self.name) for source in sources]
        yield from self.images.read(instance_ids, inside)


def from_archive(listing: Listing, folder: Path, source: Path) -> Listing:
    """The same instances by sources that do not name the folder in which they were unpacked, as it is deleted.

    Args:
        listing: of what was unpacked.
        folder: that `unpacked` gave; where it is the source itself, the listing is as it was.
        source: that `unpacked` was given. Sources begin with its name: `UTKFace.tar.gz/UTKFace/1_0_0_2017.jpg`.
    """
    if folder == source:
        return listing
    before, name = f"{folder.absolute()}/", f"{source.name}/"

    def renamed(texts: pd.Series) -> pd.Series:
        return texts.str.replace(before, name, regex=False)

    out = listing.left_out.assign(
        source=renamed(listing.left_out["source"]), reason=renamed(listing.left_out["reason"])
    )
    rows = listing.rows.assign(source=renamed(listing.rows["source"]))
    return replace(listing, rows=rows, images=UnpackedImages(listing.images, before, name), left_out=out)
