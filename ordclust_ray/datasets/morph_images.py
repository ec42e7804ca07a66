"""The images of MORPH II: what their file names, the set's CSV and published lists say of them."""

from pathlib import Path

import pandas as pd

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.candidates import Candidates, image_files
from ordclust_ray.datasets.listing import require_layout
from ordclust_ray.datasets.published import list_places, listed_files, missing_files, read_table

TITLE = "MORPH II"
LAYOUT = (
    "a folder with one CSV (id_num, race, gender, age, photo, ...) and images {person}_{number}{M|F}{age}.JPG below"
)
FILE_NAME = r"(?i)^(?P<person>\d+)_\d+(?P<gender>[MF])(?P<rank>\d+)\.(?:jpe?g|png)$"
COLUMNS = ("photo", "race", "gender", "age")
OTHER_LABELS = "Images listed with another age or gender than in their file names, which stand"
GENDERS = {"F": "female", "M": "male"}
RACES = {"A": "Asian", "B": "African", "H": "Hispanic", "O": "other", "W": "Caucasian"}


def all_images(source: Path) -> tuple[Candidates, list[str]]:
    """All images that the CSV lists.

    Returns:
        Images with `key`, `person`, `gender`, `rank` of their file names and `race` of the CSV; notes.

    Raises:
        InputError: no images, or not one CSV with the columns needed.
    """
    files, table = morph_files(source), _table(source)
    missing = missing_files(files, table.rows)
    return _with_races(files.also_without(table.left_out).also_without(missing), table.rows)


def images_of_list(source: Path, listed: pd.DataFrame) -> tuple[Candidates, list[str]]:
    """As `all_images`, but only those of a published list: `key`, `name`, `list` and further columns."""
    return _with_races(listed_files(morph_files(source), listed), _table(source).rows)


def images_of_list_with_races(source: Path, listed: pd.DataFrame) -> tuple[Candidates, list[str]]:
    """As `images_of_list`, with a list that gives `race`, `listed_age` and `listed_gender`: no CSV is needed."""
    images = _by_file_names(listed_files(morph_files(source), listed))
    return images, _other_labels(images.rows)


def _with_races(files: Candidates, table: pd.DataFrame) -> tuple[Candidates, list[str]]:
    images = _by_file_names(files)
    csv = table["list"].iloc[0] if len(table) else "the CSV"
    unlisted = ~images.rows["key"].isin(table["key"])
    known = images.without(unlisted, f"not listed in {csv}, which has to give its race")
    rows = known.rows.merge(table[["key", "race", "listed_age", "listed_gender"]], on="key", how="left")
    return Candidates(rows, known.left_out).named("race", RACES), _other_labels(rows)


def morph_files(source: Path) -> Candidates:
    """All images; `key` are names without regard to case.

    Raises:
        InputError: none is there.
    """
    files = image_files(source)
    require_layout(source, exists=bool(files["name"].str.match(FILE_NAME).any()), layout=LAYOUT, title=TITLE)
    return Candidates(files.assign(key=files["name"].str.lower())).once("key", files["source"])


def _by_file_names(files: Candidates) -> Candidates:
    """With `person`, `gender`, `rank`."""
    said = files.rows["name"].str.extract(FILE_NAME)
    said["gender"] = said["gender"].str.upper().map(GENDERS)
    images = files.having(**said)
    images = images.without(said["person"].isna(), "its name is not {person}_{number}{M|F}{age}.JPG")
    return images.having(rank=images.rows["rank"].astype(float))


def _other_labels(rows: pd.DataFrame) -> list[str]:
    """A note on images whose `listed_age` or `listed_gender` is not that of the file name, if there are any."""
    age = pd.to_numeric(rows["listed_age"], errors="coerce").fillna(rows["rank"])
    other = (age != rows["rank"]) | (rows["listed_gender"].fillna(rows["gender"]) != rows["gender"])
    return [f"{OTHER_LABELS}: {other.sum()}."] if other.any() else []


def _table(source: Path) -> Candidates:
    """`key`, `source` (file name), `list`, `race`, `listed_age`, `listed_gender` of the set's CSV."""
    found = sorted(source.glob("*.csv")) or sorted(source.glob("*/*.csv"))
    if len(found) > 1:  # coordinates of eyes lie beside it, for one
        found = [file for file in found if _names(file) >= set(COLUMNS)] or found
    if len(found) != 1:
        names = "".join(f", {file.name!r}" for file in found[:5])
        raise InputError(f"{str(source)!r} holds {len(found)} CSV files{names}; it needs one, which gives the race")
    table = read_table(found[0], ",", COLUMNS)
    name = table["photo"].str.replace("\\", "/", regex=False).str.rsplit("/", n=1).str[-1].str.strip()
    known = {
        "key": name.str.lower(),
        "source": name,
        "list": table["list"],
        "race": table["race"].str.strip().str.upper(),
        "listed_age": table["age"],
        "listed_gender": table["gender"].str.strip().str.upper().map(GENDERS),
    }
    return Candidates(pd.DataFrame(known)).once("key", list_places(table))


def _names(table: Path) -> set[str]:
    """Of the columns of a CSV."""
    with table.open(encoding="utf-8-sig", errors="replace") as opened:
        return {name.strip().strip('"').lower() for name in opened.readline().split(",")}
