"""Archives: one or several, damaged ones, and what is said of the images in them after they are gone."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from listings import refusal, sizes

from ordclust_ray.config import InputError, UnlabelledConfig
from ordclust_ray.data.readers import open_source
from ordclust_ray.datasets.archives import UNPACKED, archives_of, from_archive, unpacked
from ordclust_ray.datasets.faces import UTKFACE
from ordclust_ray.datasets.listing import left_out
from ordclust_ray.datasets.rated import AADB

NAMES = [f"{number}.bin" for number in range(4)]
TARS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Four files of 1,000 bytes that cannot be compressed: each lies in two blocks of an archive, behind its header."""
    (tmp_path / "files").mkdir()
    for number, name in enumerate(NAMES):
        (tmp_path / "files" / name).write_bytes(np.random.default_rng(number).bytes(1_000))
    return tmp_path / "files"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def tar(files: Path) -> bytes:
    with tarfile.open(files.parent / "plain.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in NAMES:
            archive.add(files / name, name)
    return (files.parent / "plain.tar").read_bytes()


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 0xFF
    return bytes(changed)


def unpacking(archive: Path, output: Path) -> str:
    """The line with which an archive is refused, which leaves nothing behind."""

    def unpack() -> None:
        with unpacked(archive, output):
            pytest.fail("it was unpacked")

    said = refusal(unpack)
    assert list(output.iterdir()) == []
    return said


@pytest.mark.parametrize("suffix", TARS)
def test_a_whole_archive_is_unpacked_and_leaves_nothing(suffix: str, files: Path, output: Path) -> None:
    archive = written(files.parent / f"set{suffix}", TARS[suffix](tar(files)))
    with unpacked(archive, output) as folder:
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
            file.name: file.read_bytes() for file in files.iterdir()
        }
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("suffix", TARS)
def test_a_damaged_header_is_not_the_end(suffix: str, files: Path, output: Path) -> None:
    """The third of the headers, each with two blocks of content behind it."""
    damaged = flipped(tar(files), 2 * 3 * tarfile.BLOCKSIZE)
    archive = written(files.parent / f"set{suffix}", TARS[suffix](damaged))
    assert unpacking(archive, output) == (
        f"'{archive}' cannot be unpacked: it is damaged at byte 3072 of what was packed"
    )


@pytest.mark.parametrize("length", [2 * 3 * tarfile.BLOCKSIZE, 2 * 3 * tarfile.BLOCKSIZE + 100])
def test_an_archive_that_breaks_off_between_files_is_not_whole(length: int, files: Path, output: Path) -> None:
    archive = written(files.parent / "set.tar", tar(files)[:length])
    assert "cannot be unpacked: it " in unpacking(archive, output)


@pytest.mark.parametrize("place", [-8, -6, 2_500], ids=["checksum", "last of the checksum", "content"])
def test_the_checksum_of_gzip_is_compared(place: int, files: Path, output: Path) -> None:
    """Content that cannot be compressed is stored as it is: only the checksum tells that a byte was flipped."""
    archive = written(files.parent / "set.tar.gz", flipped(gzip.compress(tar(files), 0), place))
    assert "CRC check failed" in unpacking(archive, output)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.98])
def test_flipped_and_missing_bytes_are_refused(suffix: str, part: float, files: Path, output: Path) -> None:
    whole = TARS[suffix](tar(files))
    for content in (flipped(whole, int(part * len(whole))), whole[: int(part * len(whole))]):
        archive = written(files.parent / f"set{suffix}", content)
        assert unpacking(archive, output).startswith(f"'{archive}' cannot be unpacked: ")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_refused(method: int, files: Path, output: Path) -> None:
    archive = files.parent / "set.ZIP"
    with zipfile.ZipFile(archive, "w", method) as packed:
        for name in NAMES:
            packed.write(files / name, name)
    whole = archive.read_bytes()
    with unpacked(archive, output) as folder:
        assert sorted(file.name for file in folder.iterdir()) == NAMES
    for place in (35, 1_600):  # of what is packed: the name of a file, its content
        written(archive, whole[:place] + bytes(byte ^ 0xFF for byte in whole[place : place + 60]) + whole[place + 60 :])
        assert unpacking(archive, output).startswith(f"'{archive}' cannot be unpacked: ")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [(8, 1, "is encrypted, password required"), (10, 99, "compression method is not supported")],
    ids=["encrypted", "of an unknown method"],
)
def test_a_zip_that_cannot_be_read_is_refused(field: int, value: int, said: str, files: Path, output: Path) -> None:
    """Flags and method stand in the directory at the end, and two bytes less from the beginning of the file's entry."""
    archive = files.parent / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(files / NAMES[0], NAMES[0])
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + field] = content[field - 2] = value
    assert said in unpacking(written(archive, bytes(content)), output)


def test_what_was_unpacked_is_kept_for_the_next_attempt(files: Path, output: Path) -> None:
    archive = written(files.parent / "set.tar", tar(files))

    def attempt() -> None:
        with unpacked(archive, output) as folder:
            (folder / "mark").touch()
            raise InputError("it fails")

    refusal(attempt)
    with unpacked(archive, output) as folder:
        assert (folder / "mark").exists()
    assert list(output.iterdir()) == []
    refusal(attempt)
    with unpacked(files, output) as folder:  # the archive is given no more
        assert folder == files
    assert list(output.iterdir()) == []
    assert len(list(files.iterdir())) == len(NAMES)


def test_archives_of_a_folder_are_unpacked_into_one(tmp_path: Path, output: Path) -> None:
    """AADB: an archive for each of its folders, one of them a link, and a note and hidden files beside them."""
    AADB.generate(tmp_path / "set")  # type: ignore[misc]
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, folder in enumerate(sorted((tmp_path / "set").iterdir())):
        kind, where = ("zip", parts) if number else ("gztar", tmp_path)
        shutil.make_archive(str(where / folder.name), kind, tmp_path / "set", folder.name)
    (moved,) = tmp_path.glob("*.tar.gz")
    (parts / moved.name).symlink_to(moved)
    for name in ("readme.TXT", ".DS_Store"):
        (parts / name).write_text("a note")
    assert [len(archives_of(place)) for place in (parts, moved, tmp_path, tmp_path / "set", output)] == [3, 1, 0, 0, 0]
    with unpacked(parts, output) as source:
        assert {file.name for file in source.iterdir()} == {
            *(f.name for f in (tmp_path / "set").iterdir()),
            "readme.TXT",
        }
        rows = AADB.read(source, None).rows
    whole = AADB.read(tmp_path / "set", None).rows
    pd.testing.assert_frame_equal(rows.drop(columns="source"), whole.drop(columns="source"))
    assert len(list(parts.iterdir())) == 5


@pytest.mark.parametrize("name", ["picture.jpg", "data.bin", "folder"])
def test_a_folder_that_holds_more_than_archives_is_read_as_it_is(name: str, files: Path, output: Path) -> None:
    written(files / "set.tar", tar(files))
    for file in NAMES:
        (files / file).unlink()
    assert archives_of(files) == [files / "set.tar"]
    (files / name).mkdir() if name == "folder" else (files / name).touch()
    with unpacked(files, output) as folder:
        assert folder == files


def test_of_several_archives_the_damaged_one_is_named(files: Path, output: Path) -> None:
    (files.parent / "parts").mkdir()
    for name in ("1.tar", "3.tar"):
        written(files.parent / "parts" / name, tar(files))
    damaged = written(files.parent / "parts" / "2.zip", b"no archive")
    assert unpacking(files.parent / "parts", output).startswith(f"'{damaged}' cannot be unpacked: ")


def test_archives_are_not_trained_on(files: Path) -> None:
    (files.parent / "parts").mkdir()
    archive = written(files.parent / "parts" / "UTKFace.tar", tar(files))
    for path in (archive, archive.parent):
        said = refusal(partial(open_source, UnlabelledConfig(path=str(path), dataset="utkface")))
        assert said == (
            f"--data.path is '{path}', which holds archives: prepare_data.py reads archives; unpack it first"
        )


def test_sources_outlast_what_was_unpacked(tmp_path: Path, output: Path) -> None:
    """Sources, and places in reasons, begin with the archive; a task reads the images all the same."""
    UTKFACE.generate(tmp_path / "set")  # type: ignore[misc]
    image = min((tmp_path / "set" / "UTKFace").iterdir())
    for name in ("part1/" + image.name, "39_1_2017.jpg"):
        (image.parent / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, image.parent / name)
    archive = Path(shutil.make_archive(str(tmp_path / "UTKFace"), "gztar", tmp_path / "set"))
    with unpacked(archive, output) as folder:
        found = UTKFACE.read(folder, None)
        named = from_archive(found, folder, archive)
        assert sizes(named) == [(24, 24)] * 2
    home = f"{archive.name}/UTKFace"
    assert named.rows["source"][0] == f"{home}/{image.name}"
    assert dict(named.left_out.to_numpy()) == {
        f"{home}/39_1_2017.jpg": "its name lacks the age, the gender or the race: [age]_[gender]_[race]_[date&time]",
        f"{home}/part1/{image.name}": f"listed twice, first as {home}/{image.name}",
    }
    assert not any(named.rows["source"].str.contains(UNPACKED))
    columns = [*found.rows.columns.drop("source")]
    pd.testing.assert_frame_equal(named.rows[columns], found.rows[columns])


def test_a_listing_of_a_folder_keeps_its_sources(tmp_path: Path) -> None:
    UTKFACE.generate(tmp_path)  # type: ignore[misc]
    found = UTKFACE.read(tmp_path, None)
    assert from_archive(found, tmp_path, tmp_path) is found
    assert from_archive(found, tmp_path, tmp_path / "a.zip").left_out.equals(left_out())
