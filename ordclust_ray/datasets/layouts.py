"""Where a set lies below the folder that was given, and what of it is missing."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.listing import require_layout


def home_of(source: Path, holds: Callable[[Path], bool], tops: Sequence[str] | None = None) -> Path | None:
    """The folder of a set: the one given, or the set's own in it. None where neither holds the set.

    Args:
        source: the folder that was given.
        holds: whether a folder holds the set.
        tops: what the set's own folder may be called; None: anything.
    """
    inside = sorted(source.iterdir()) if tops is None and source.is_dir() else [source / top for top in tops or ()]
    return next((place for place in [source, *inside] if holds(place)), None)


def holds_any(files: Iterable[str]) -> Callable[[Path], bool]:
    """Whether a folder holds any of these files."""
    names = list(files)
    return lambda folder: any((folder / name).is_file() for name in names)


def require_home(source: Path, tops: Sequence[str], files: Iterable[str], layout: str, title: str) -> Path:
    """The folder that holds any of the files, or InputError that says what the set looks like (`layout`)."""
    found = home_of(source, holds_any(files), tops)
    require_layout(source, exists=found is not None, layout=layout, title=title)
    return found or source


def require_files(folder: Path, files: Iterable[str], title: str) -> None:
    """Raises InputError, which names what is missing, unless the folder holds all files of a set."""
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{str(folder)!r} lacks {', '.join(map(repr, missing))} of {title}")


def refuse_lists(lists: Path | None, title: str) -> None:
    """Raises InputError where published lists are given for a set that has none."""
    if lists is not None:
        raise InputError(
            f"the lists in {str(lists)!r} cannot be used: {title} has no published lists besides its files"
        )
