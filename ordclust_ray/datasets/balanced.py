"""The balanced set (Lim et al., 2020) of MORPH II, AFAD and UTKFace: as many images of each gender and ethnic group."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.datasets.candidates import Candidates, places_in_draw, unknown
from ordclust_ray.datasets.chosen import drawn_split
from ordclust_ray.datasets.faces import afad_home, afad_images, utkface_files, utkface_images, utkface_keys
from ordclust_ray.datasets.generated_faces import generate_balanced
from ordclust_ray.datasets.listing import SEED, TEST, TRAIN, DataSet, Listing, require_layout
from ordclust_ray.datasets.morph_images import FILE_NAME, all_images, morph_files
from ordclust_ray.datasets.published import find_list, listed_files, read_table

LAYOUT = "a folder with MORPH/, AFAD/ and UTKFace/, or links of these names, each as it comes"
FOLDERS = {"morph": "morph", "afad": "afad", "utk": "utkface"}
"""Names of the folders, without regard to case, by the names that the lists have for the sets."""
GENDERS = {"0": "male", "1": "female"}
RACES = {"0": "European", "1": "African", "2": "Asian"}
GROUP_OF = {
    "morph/African": "African",
    "morph/Asian": "Asian",
    "morph/Caucasian": "European",
    "afad/Asian": "Asian",
    "utk/Asian": "Asian",
    "utk/Black": "African",
    "utk/White": "European",
}
"""The ethnic group by set and race; images of other races are not of the balanced set."""
AGES = (15, 80)
IMAGES_OF_A_CELL = 6_000
COLUMNS = ["rank", "gender", "race", "database", "person", "split"]


def read_balanced(source: Path, lists: Path | None) -> Listing:
    """Images of three sets, by published lists, or drawn so that ages are as uniform as they can be."""
    homes = _homes(source)
    if lists is None:
        images, notes = _drawn(homes)
    else:
        images, notes = _listed(homes, lists)
    rows = images.rows.sort_values("path", ignore_index=True)
    persons = rows["name"].str.extract(FILE_NAME)["person"].where(rows["database"] == "morph").fillna("")
    rows = rows.assign(person=persons)  # the other sets name none
    return Candidates(rows, images.left_out).listing(COLUMNS, [source, *homes.values()], notes)


def _homes(source: Path) -> dict[str, Path]:
    """The folders of the sets, by the names that the lists have for them."""
    inside = {found.name.lower(): found for found in sorted(source.iterdir())} if source.is_dir() else {}
    there = set(FOLDERS.values()) <= set(inside)
    require_layout(source, exists=there, layout=LAYOUT, title="the balanced set")
    homes = {database: inside[folder] for database, folder in FOLDERS.items()}
    return {**homes, "afad": afad_home(homes["afad"])}


def _together(homes: dict[str, Path], read: dict[str, Callable[[Path], Candidates]]) -> Candidates:
    """The images of all sets; `path` from the common folder on, `database`, and `key` with the set's name before it."""
    sets = {database: read[database](home) for database, home in homes.items()}
    rows = [
        images.rows.assign(
            database=database,
            key=f"{database}/" + images.rows["key"],
            path=f"{homes[database].name}/" + images.rows["path"],
        )
        for database, images in sets.items()
    ]
    out = pd.concat([images.left_out for images in sets.values()], ignore_index=True)
    return Candidates(pd.concat(rows, ignore_index=True), out)


def _drawn(homes: dict[str, Path]) -> tuple[Candidates, list[str]]:
    """A reconstruction: as many images of an age as keep each gender and ethnic group within 6,000."""
    notes: list[str] = []

    def morph(home: Path) -> Candidates:
        images, said = all_images(home)
        notes.extend(f"MORPH: {note}" for note in said)
        return images

    images = _together(homes, {"morph": morph, "afad": _afad, "utk": lambda home: utkface_images(_utkface(home))})
    group = (images.rows["database"] + "/" + images.rows["race"]).map(GROUP_OF)
    images = images.having(race=group).only(group.notna() & images.rows["rank"].between(*AGES))
    images = images.only(_even(images.rows))
    images = images.having(split=drawn_split(images.rows["key"].tolist()))
    counts = images.rows.value_counts(["gender", "race"]).sort_index().reset_index()
    said_of = ", ".join(f"{count:,} {race} {gender}" for gender, race, count in counts.to_numpy())
    return images, [f"Reconstructed (seed {SEED}), as no lists were given: {said_of}; 80% train, 20% test.", *notes]


def _even(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Which images are drawn: of each gender and ethnic group, at most the same number of each age."""
    chosen = np.zeros(len(rows), dtype=bool)
    for _, cell in rows.groupby(["gender", "race"]):
        most = water_level(cell.groupby("rank").size().to_numpy(), IMAGES_OF_A_CELL)
        for _, of_age in cell.groupby("rank"):
            chosen[of_age.index] = places_in_draw(of_age["key"].tolist()) < most
    return chosen


def water_level(counts: NDArray[np.integer[Any]], total: int) -> int:
    """The largest level for which the counts, cut off there, add up to no more than the total.

    >>> water_level(np.array([1, 5, 9]), 8)
    3
    """
    levels = np.arange(counts.max() + 1)
    return int(levels[np.minimum.outer(levels, counts).sum(axis=1) <= total].max())


def _afad(home: Path) -> Candidates:
    """All of AFAD; `key` as the lists name its images: {age}_{gender}_{race}_{file name}."""
    images = afad_images(home)
    rows = images.rows
    genders = rows["gender"].map({name: code for code, name in GENDERS.items()})
    return images.having(key=_age(rows) + "_" + genders + "_2_" + rows["name"], race="Asian")


def _utkface(home: Path) -> Candidates:
    return utkface_files(home)[0]


def _age(rows: pd.DataFrame) -> pd.Series:
    return rows["rank"].astype(int).astype(str)


def _listed(homes: dict[str, Path], lists: Path) -> tuple[Candidates, list[str]]:
    files = _together(homes, {"morph": morph_files, "afad": _afad, "utk": _utkface})
    files = Candidates(files.rows[["source", "path", "name", "key"]], files.left_out)
    tables = [
        read_table(
            find_list(lists, f"Balanced_{split}.txt"), " ", ["age", "gender", "race", "filename", "database"]
        ).assign(split=split)
        for split in (TRAIN, TEST)
    ]
    listed = pd.concat(tables, ignore_index=True)
    codes = {column: listed[column].str.removesuffix(".0") for column in ("gender", "race")}
    columns = ["key", "name", "list", "age", "gender", "race", "database", "split"]
    listed = listed.assign(name=listed["filename"], key=_listed_keys(listed, files.rows), **codes)[columns]
    images = listed_files(files, listed).named("gender", GENDERS).named("race", RACES)
    ages = pd.to_numeric(images.rows["age"], errors="coerce")
    reasons = unknown("age", images.rows["age"], f"from {AGES[0]} to {AGES[1]}")
    images = images.having(rank=ages).without(~ages.between(*AGES), reasons)
    return images, ["Read from the published lists of Lim et al. (2020), labels as well."]


def _listed_keys(listed: pd.DataFrame, files: pd.DataFrame) -> pd.Series:
    """Keys as the files have them, of names as the lists have them."""
    names, database = listed["filename"], listed["database"]
    afad = files[files["key"].str.startswith("afad/")]
    by_name = afad.drop_duplicates("name", keep=False).set_index("name")["key"].str.removeprefix("afad/")
    keys = names.where(database != "morph", names.str.lower()).where(database != "utk", utkface_keys(names))
    keys = keys.where(database != "afad", names.map(by_name).fillna(names))  # by the file's own name as well
    return database + "/" + keys


BALANCED = DataSet(
    name="balanced",
    title="Balanced set of MORPH II, AFAD and UTKFace",
    read=read_balanced,
    layout=LAYOUT,
    published={"train": 29_720, "test": 7_429},
    source="https://github.com/changsukim-ku/order-learning (lists); the images come with the three sets",
    licence="that of each of the three sets: research only",
    rank_unit="years",
    groups=("gender", "race", "database"),
    faces=True,
    generate=generate_balanced,
)
SETS: tuple[DataSet, ...] = (BALANCED,)
