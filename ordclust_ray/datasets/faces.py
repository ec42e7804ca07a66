"""AFAD (Niu et al., 2016) and UTKFace (Zhang et al., 2017): ages of faces."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.candidates import PHOTOGRAPHS, Candidates, image_files, unknown
from ordclust_ray.datasets.chosen import DRAWN_SPLIT, drawn_split
from ordclust_ray.datasets.generated_faces import generate_afad, generate_utkface
from ordclust_ray.datasets.layouts import home_of, refuse_lists
from ordclust_ray.datasets.listing import TEST, TRAIN, VALIDATION, DataSet, Listing, require_layout
from ordclust_ray.datasets.published import NO_LISTS, listed_files, missing_files, read_table

AFAD_LAYOUT = "AFAD-Full/{age}/{111|112}/*.jpg; 111 is male, 112 female"
AFAD_LISTS = ("AFAD-Full.txt", "AFAD-Lite.txt")
AFAD_GENDERS = {"111": "male", "112": "female"}
AFAD_AGES = (15, 75)
UTKFACE_HOME = r"(?i)^((?:[^/]+/)*?utkface)/"
"""The first folder of a path that has the set's own name: archives hold it again, and part of it, in other folders."""
UTKFACE_LAYOUT = "UTKFace/ (or part1/, part2/, part3/) with [age]_[gender]_[race]_[date&time].jpg.chip.jpg"
UTKFACE_SUFFIX = r"\s*\.?(?:jpe?g|png)(?:\.chip\.(?:jpe?g|png))?$"
UTKFACE_NAME = r"^(?P<rank>\d+)_(?P<gender>\d*)_(?P<race>\d*)_[^_]*$"
UTKFACE_COLUMNS = ("rank", "gender", "race", "split")
UTKFACE_GENDERS = {"0": "male", "1": "female"}
UTKFACE_RACES = {"0": "White", "1": "Black", "2": "Asian", "3": "Indian", "4": "other"}
UTKFACE_AGES, MIDDLE_AGES = (0, 116), (21, 60)
LIST_WORDS = {TRAIN: "train", VALIDATION: "valid", TEST: "test"}
LIST_COLUMNS = ("file", "filename", "path")


def read_afad(source: Path, lists: Path | None) -> Listing:
    """All images of AFAD, 80% for training."""
    refuse_lists(lists, "AFAD")
    home = afad_home(source)
    images = afad_images(home)
    files = Candidates(image_files(home).rename(columns={"path": "key"}))
    for own_list in [home / name for name in AFAD_LISTS if (home / name).is_file()]:
        images = images.also_without(missing_files(files, _afad_list(own_list)))
    images = images.having(split=drawn_split(images.rows["path"].tolist()))
    notes = [f"{DRAWN_SPLIT}; the paper has AFAD in its balanced set only."]
    return images.listing(["rank", "gender", "split"], [source, home], notes)


def afad_home(source: Path) -> Path:
    """The folder itself, or the one in it, that holds folders of ages.

    Raises:
        InputError: not AFAD.
    """
    home = home_of(source, lambda folder: any(folder.glob("[0-9]*/11[12]")))
    require_layout(source, exists=home is not None, layout=AFAD_LAYOUT, title="AFAD")
    return home or source


def afad_images(home: Path) -> Candidates:
    """Images of folders of ages with `path`, `name`, `rank` and `gender`, in the order of their paths."""
    files = image_files(home)
    parts = files["path"].str.extract(r"^(?P<rank>\d+)/(?P<gender>[^/]+)/[^/]+$")
    images = Candidates(files.assign(**parts)).without(parts["rank"].isna(), "not in a folder {age}/{111|112}")
    return _of_ages(images.named("gender", AFAD_GENDERS), AFAD_AGES)


def _afad_list(file: Path) -> pd.DataFrame:
    """`key`, `source`, `list` of the images that the set's own list names, a path a line, from its folder on."""
    lines = pd.Series(file.read_text(encoding="utf-8", errors="replace").splitlines(), dtype=str).str.strip()
    names = lines[lines.str.lower().str.endswith(PHOTOGRAPHS)].str.removeprefix("./")
    return pd.DataFrame({"key": names, "source": names, "list": file.name})


def _of_ages(images: Candidates, ages: tuple[int, int]) -> Candidates:
    """`rank` as numbers; what lies outside of the set's ages is left out."""
    rank = images.rows["rank"].astype(float)
    reasons = unknown("age", images.rows["rank"], f"from {ages[0]} to {ages[1]}")
    return images.having(rank=rank).without(~rank.between(*ages), reasons)


def read_utkface(source: Path, lists: Path | None) -> Listing:
    """All images of UTKFace, 80% for training."""
    refuse_lists(lists, "UTKFace")
    files, notes = utkface_files(source)
    return _utkface_listing(source, utkface_images(files), [f"{DRAWN_SPLIT}.", *notes])


def read_utkface_21_to_60(source: Path, lists: Path | None) -> Listing:
    """UTKFace of the ages 21 to 60, 80% for training, or as lists have it."""
    files, notes = utkface_files(source)
    if lists is not None:
        listed = _listed_utkface(lists)
        images = utkface_images(listed_files(files, listed), MIDDLE_AGES)
        said = f"Read from {', '.join(listed['list'].unique())}; ages are those of the file names."
        return images.listing(UTKFACE_COLUMNS, [source], [said, *notes])
    images = utkface_images(files)
    inside = images.rows["rank"].between(*MIDDLE_AGES)
    said = f"{(~inside).sum():,} images of other ages are not of it."
    return _utkface_listing(source, images.only(inside), [said, NO_LISTS, *notes])


def _utkface_listing(source: Path, images: Candidates, notes: list[str]) -> Listing:
    drawn = images.having(split=drawn_split(images.rows["key"].tolist()))
    return drawn.listing(UTKFACE_COLUMNS, [source], notes)


def utkface_files(source: Path) -> tuple[Candidates, list[str]]:
    """The set's images in the order of their paths.

    Returns:
        `key` as `utkface_keys` has it; those beside a folder UTKFace are copies, and passed over. A note on them.

    Raises:
        InputError: none with a name like those of UTKFace.
    """
    files = image_files(source)
    files = files.assign(key=utkface_keys(files["name"]))
    like = files["key"].str.match(r"^\d+_\d+_")
    require_layout(source, exists=bool(like.any()), layout=UTKFACE_LAYOUT, title="UTKFace")
    found = Candidates(files)
    homes = set(files["path"][like].str.extract(UTKFACE_HOME)[0].dropna())
    if homes:
        home = min(homes, key=lambda path: (path.count("/"), path))
        found = found.only(files["path"].str.startswith(f"{home}/"))
    beside = len(files) - len(found.rows)
    notes = [f"{beside:,} images beside the folder {home!r} were passed over."] if beside else []
    return found.once("key", found.rows["source"]), notes


def utkface_keys(names: pd.Series) -> pd.Series:
    """File names without their suffixes: .jpg.chip.jpg where images are cropped, otherwise .jpg."""
    return names.str.replace(UTKFACE_SUFFIX, "", regex=True, case=False)


def utkface_images(files: Candidates, ages: tuple[int, int] = UTKFACE_AGES) -> Candidates:
    """With `rank`, `gender`, `race` of the file names, some of which lack one of them; other ages are left out."""
    parts = files.rows["key"].str.extract(UTKFACE_NAME)
    images = files.having(**parts).without(
        parts["rank"].isna(), "its name lacks the age, the gender or the race: [age]_[gender]_[race]_[date&time]"
    )
    return _of_ages(images.named("gender", UTKFACE_GENDERS).named("race", UTKFACE_RACES), ages)


def _listed_utkface(lists: Path) -> pd.DataFrame:
    """`key`, `name`, `list`, `split` of the train list, the test list and, where there is one, the validation list."""
    files = sorted(lists.rglob("*.csv"))
    files = [file for file in files if "utk" in file.name.lower()] or files  # beside those of other sets
    parts = []
    for split, word in LIST_WORDS.items():
        found = [file for file in files if word in file.name.lower()]
        if len(found) > 1 or (not found and split != VALIDATION):
            raise InputError(f"{str(lists)!r} holds {len(found)} lists '*{word}*.csv' of UTKFace; it must hold one")
        parts += [_one_list(file).assign(split=split) for file in found]
    return pd.concat(parts, ignore_index=True)


def _one_list(file: Path) -> pd.DataFrame:
    table = read_table(file, ",", [])
    column = next((name for name in LIST_COLUMNS if name in table.columns), None)
    if column is None:
        has = ", ".join(map(repr, table.columns[:-1]))
        raise InputError(f"{str(file)!r} has no column {' or '.join(map(repr, LIST_COLUMNS))}; its columns are {has}")
    names = table[column].str.rsplit("/", n=1).str[-1]
    return pd.DataFrame({"key": utkface_keys(names), "name": table[column], "list": table["list"]})


AFAD = DataSet(
    name="afad",
    title="AFAD",
    read=read_afad,
    layout=AFAD_LAYOUT,
    published={"images": 164_432},
    source="https://github.com/afad-dataset/tarball",
    licence="academic research only; no redistribution",
    rank_unit="years",
    groups=("gender",),
    faces=True,
    generate=generate_afad,
)
UTKFACE = DataSet(
    name="utkface",
    title="UTKFace",
    read=read_utkface,
    layout=UTKFACE_LAYOUT,
    published={"images": 23_708},
    source="https://susanqq.github.io/UTKFace/",
    licence="non-commercial research only; the copyright of the images is their owners'",
    rank_unit="years",
    groups=("gender", "race"),
    faces=True,
    home="utkface",
    generate=generate_utkface,
)
UTKFACE_21_TO_60 = replace(
    UTKFACE,
    name="utkface-21-60",
    title="UTKFace, ages 21 to 60",
    read=read_utkface_21_to_60,
    published={"train": 13_147, "test": 3_287},
)
SETS: tuple[DataSet, ...] = (AFAD, UTKFACE, UTKFACE_21_TO_60)
