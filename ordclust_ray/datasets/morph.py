"""MORPH II (Ricanek & Tesafaye, 2006) in the four settings of the paper's appendix C.2."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ordclust_ray.datasets.candidates import Candidates, places_in_draw
from ordclust_ray.datasets.chosen import drawn_split
from ordclust_ray.datasets.generated_faces import generate_morph
from ordclust_ray.datasets.listing import SEED, TEST, TRAIN, DataSet, Listing, shares
from ordclust_ray.datasets.morph_images import LAYOUT, TITLE, all_images, images_of_list, images_of_list_with_races
from ordclust_ray.datasets.published import NO_LISTS, find_list, read_table

GROUPS = ("gender", "race", "person")
IMAGES_OF_A = 5_492
IMAGES_OF_B = {"female": 2_625, "male": 7_875}
"""Of each of the two races: together 21,000, with three males to a female."""
FOLDS = 5
LISTED_RACES = {"0": "Caucasian", "1": "African"}
GENDERS_OF_LIST_A = {"0": "female", "1": "male"}
GENDERS_OF_LIST_B = {"0": "male", "1": "female"}
"""The lists of settings A and B number the genders the other way round."""


def read_setting_a(source: Path, lists: Path | None) -> Listing:
    """5,492 Caucasians, 80% of the images for training."""
    if lists is None:
        images, notes = all_images(source)
        images, said = _some_caucasians(images)
        images = images.having(split=drawn_split(images.rows["name"].tolist()))
        notes += [said, NO_LISTS]
    else:
        listed = pd.concat(
            _listed(lists, f"SettingA_fold0_{split}.txt", ",", GENDERS_OF_LIST_A).assign(split=split)
            for split in (TRAIN, TEST)
        )
        images, notes = _of_list_with_races(source, listed)
    return _listing(source, images, "split", notes)


def _some_caucasians(images: Candidates) -> tuple[Candidates, str]:
    caucasians = images.only(images.rows["race"] == "Caucasian")
    there = len(caucasians.rows)
    drawn = caucasians.only(places_in_draw(caucasians.rows["name"].tolist()) < IMAGES_OF_A)
    if there < IMAGES_OF_A:
        return drawn, f"There are {there:,} images of Caucasians, all of which are taken; published: {IMAGES_OF_A:,}."
    return drawn, f"{IMAGES_OF_A:,} of {there:,} images of Caucasians were drawn (seed {SEED}): no lists were given."


def read_setting_b(source: Path, lists: Path | None) -> Listing:
    """Africans and Caucasians, one to one, females and males, one to three, in three subsets (`fold` 1 to 3)."""
    if lists is None:
        images, notes = all_images(source)
        images, said = _three_subsets(images)
        notes.append(said)
    else:
        listed = pd.concat(
            _listed(lists, f"SettingB_fold{fold}.txt", " ", GENDERS_OF_LIST_B).assign(fold=fold + 1)
            for fold in range(3)
        )
        images, notes = _of_list_with_races(source, listed)
    return _listing(source, images, "fold", notes)


def _three_subsets(images: Candidates) -> tuple[Candidates, str]:
    """A draw from each race and gender, dealt to the subsets in equal shares."""
    rows = images.rows
    fold, counts = np.zeros(len(rows), dtype=np.int64), []
    for race in ("African", "Caucasian"):
        for gender, most in IMAGES_OF_B.items():
            cell = np.flatnonzero((rows["race"] == race) & (rows["gender"] == gender))
            names = rows["name"].to_numpy()[cell]
            drawn = places_in_draw(names.tolist()) < most
            fold[cell[drawn]] = 1 + shares(names[drawn].tolist(), (1 / 3,) * 3)
            counts.append(f"{drawn.sum():,} {race} {gender} (of {len(cell):,}; wanted: {most:,})")
    said = f"Drawn (seed {SEED}), as no lists were given: {', '.join(counts)}; each a third to each subset."
    return images.having(fold=fold).only(fold > 0), said


def read_setting_c(source: Path, lists: Path | None) -> Listing:
    """All images in five parts (`fold` 1 to 5), all images of a person in the same one."""
    if lists is None:
        images, notes = all_images(source)
        images = images.having(fold=1 + shares(images.rows["person"].tolist(), (1 / FOLDS,) * FOLDS))
        notes.append(f"Persons were dealt to {FOLDS} folds at random (seed {SEED}): no lists were given.")
    else:
        images, notes = _in_listed_folds(source, lists, "SettingC.txt")
        images, said = _persons_apart(images)
        notes += said
    return _listing(source, images, "fold", notes)


def _persons_apart(images: Candidates) -> tuple[Candidates, list[str]]:
    """Leaves each person in one fold: that with most of the person's images, the first of several.

    The published list of setting C breaks its own rule for 180 of 13,617 persons.
    """
    rows = images.rows
    counts = rows.groupby(["person", "fold"]).size().rename("images").reset_index()
    counts = counts.sort_values(["person", "images", "fold"], ascending=[True, False, True])
    own = rows["person"].map(counts.drop_duplicates("person").set_index("person")["fold"])
    strays = rows["fold"] != own
    if not strays.any():
        return images, []
    reasons = "person " + rows["person"] + " is in fold " + own.astype(str) + ", and may be in one only"
    persons = rows["person"][strays].nunique()
    said = (
        f"The list has {persons} persons in several folds; {strays.sum()} of their images are left out, so that each "
    )
    return images.without(strays, reasons), [said + "is in one."]


def read_setting_d(source: Path, lists: Path | None) -> Listing:
    """All images, 80% of them for training, whoever they show."""
    if lists is None:
        images, notes = all_images(source)
        images = images.having(split=drawn_split(images.rows["name"].tolist()))
        notes.append(NO_LISTS)
    else:
        images, notes = _in_listed_folds(source, lists, "SettingD.txt")
        images = images.having(split=np.where(images.rows["fold"] == 1, TEST, TRAIN))
        notes.append("The first of the published folds is for testing.")
    return _listing(source, images, "split", notes)


def _listed(lists: Path, name: str, separator: str, genders: dict[str, str]) -> pd.DataFrame:
    """A list of setting A or B; its `race` is a number still."""
    table = read_table(find_list(lists, name), separator, ["filename", "race", "gender", "age"])
    columns = {"race": table["race"], "listed_age": table["age"], "listed_gender": table["gender"].map(genders)}
    return _names(table).assign(**columns)


def _of_list_with_races(source: Path, listed: pd.DataFrame) -> tuple[Candidates, list[str]]:
    images, notes = images_of_list_with_races(source, listed)
    return images.named("race", LISTED_RACES), [_read_from(listed), *notes]


def _in_listed_folds(source: Path, lists: Path, name: str) -> tuple[Candidates, list[str]]:
    """The images of the list of setting C or D; `fold` from 1."""
    table = read_table(find_list(lists, name), "\t", ["filename", "fold"])
    listed = _names(table).assign(fold=table["fold"])
    images, notes = images_of_list(source, listed)
    return images.named("fold", {str(fold): fold + 1 for fold in range(FOLDS)}), [_read_from(listed), *notes]


def _names(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"key": table["filename"].str.lower(), "name": table["filename"], "list": table["list"]})


def _read_from(listed: pd.DataFrame) -> str:
    return f"Read from the published lists of Lim et al. (2020): {', '.join(listed['list'].unique())}."


def _listing(source: Path, images: Candidates, part: str, notes: Sequence[str]) -> Listing:
    """In the order of file names: the folders that they lie in play no part."""
    rows = images.rows.sort_values("name", ignore_index=True)
    return Candidates(rows, images.left_out).listing(["rank", *GROUPS, part], [source], notes)


def _setting(letter: str, read: Callable[[Path, Path | None], Listing], published: dict[str, int]) -> DataSet:
    return DataSet(
        name=f"morph-{letter.lower()}",
        title=f"{TITLE}, setting {letter}",
        read=read,
        layout=LAYOUT,
        published=published,
        source="https://uncw.edu/oic/tech/morph.html (MORPH album 2, non-commercial)",
        licence="academic licence from UNCW, for non-commercial research; no redistribution",
        rank_unit="years",
        groups=GROUPS,
        faces=True,
        home="morph2",
        generate=generate_morph,
    )


SETS: tuple[DataSet, ...] = (
    _setting("A", read_setting_a, {"train": 4_394, "test": 1_098}),
    _setting("B", read_setting_b, {"images": 21_000}),
    _setting("C", read_setting_c, {"images": 55_134}),
    _setting("D", read_setting_d, {"images": 55_134}),
)
