"""Files that others may write: who loads pickles out of a folder asks first whose it is."""

import os
from pathlib import Path

import pytest

from ordclust_ray.config import InputError
from ordclust_ray.files import require_own

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
STRANGER = 54_321


def sweep(folder: Path) -> Path:
    """A folder as a sweep leaves it, closed to others; the file that would be unpickled."""
    trial = folder / "trials" / "0"
    trial.mkdir(parents=True)
    file = trial / "params.pkl"
    file.touch()
    for path in (folder, folder / "trials", trial, file):
        path.chmod(0o700)
    return file


def test_what_is_ours_alone_may_be_loaded(tmp_path: Path) -> None:
    file = sweep(tmp_path / "sweep")
    require_own(tmp_path / "sweep")
    file.chmod(0o644)
    file.parent.chmod(0o755)
    require_own(tmp_path / "sweep")
    (file.parent / "dangling").symlink_to(tmp_path / "gone")
    require_own(tmp_path / "sweep")


def test_a_group_of_our_own_may_write(tmp_path: Path) -> None:
    """As with the umask 002 of many systems: the group has the user's name, and nobody else in it."""
    file = sweep(tmp_path / "sweep")
    file.chmod(0o664)
    if os.geteuid() != 0 and file.group() != file.owner():
        with pytest.raises(InputError, match="can be written by other users"):
            require_own(tmp_path / "sweep")
    else:
        require_own(tmp_path / "sweep")


@pytest.mark.parametrize("kind", ["file", "its folder", "the whole"])
def test_what_everybody_may_write_is_refused_and_named(kind: str, tmp_path: Path) -> None:
    file = sweep(tmp_path / "sweep")
    open_to_all = {"file": file, "its folder": file.parent, "the whole": tmp_path / "sweep"}[kind]
    open_to_all.chmod(0o777)
    with pytest.raises(InputError) as caught:
        require_own(tmp_path / "sweep")
    expected = f"{open_to_all} can be written by other users; what it holds could run anything here: chmod go-w"
    assert str(caught.value) == expected


@AS_ROOT
def test_what_a_stranger_owns_or_a_shared_group_may_write_is_refused(tmp_path: Path) -> None:
    file = sweep(tmp_path / "sweep")
    os.chown(file, 0, STRANGER)
    require_own(tmp_path / "sweep")
    file.chmod(0o660)
    with pytest.raises(InputError, match=f"^{file} can be written by other users"):
        require_own(tmp_path / "sweep")
    os.chown(file, STRANGER, 0)
    with pytest.raises(InputError, match=f"^{file} belongs to another user; what it holds could run anything here$"):
        require_own(tmp_path / "sweep")


@AS_ROOT
def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    file, theirs = sweep(tmp_path / "sweep"), tmp_path / "theirs.pkl"
    theirs.touch()
    os.chown(theirs, STRANGER, STRANGER)
    (file.parent / "searcher.pkl").symlink_to(theirs)
    with pytest.raises(InputError, match=f"^{file.parent / 'searcher.pkl'} belongs to another user"):
        require_own(tmp_path / "sweep")
