"""Archives as they are downloaded."""

import contextlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ordclust_ray.config.common import InputError

UNPACKED = ".unpacked"


@contextlib.contextmanager
def unpacked(source: Path, beside: Path) -> Iterator[Path]:
    """The folder that a source is, or, of an archive, one in the other folder that holds what was in it.

    Unpacked files are kept when the block is interrupted, and deleted when it is done.

    Raises:
        InputError: a damaged archive.
    """
    kinds = [suffix for _, suffixes, _ in shutil.get_unpack_formats() for suffix in suffixes]
    if not source.is_file() or not source.name.lower().endswith(tuple(kinds)):
        yield source
        return
    folder, new = beside / UNPACKED, beside / f"{UNPACKED}.new"
    known, now = beside / f"{UNPACKED}.of", f"{source} {source.stat().st_size} {source.stat().st_mtime_ns}"
    if not folder.exists() or not known.exists() or known.read_text() != now:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)
        try:
            if source.suffix.lower() == ".zip":
                shutil.unpack_archive(source, new)
            else:
                shutil.unpack_archive(source, new, filter="data")  # no links or paths that lead out of the folder
        except (shutil.ReadError, tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise InputError(f"{str(source)!r} cannot be unpacked: {error}") from None
        known.write_text(now)
        new.rename(folder)
    yield folder
    shutil.rmtree(folder)
    known.unlink()
