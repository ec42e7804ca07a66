"""AADB (Kong et al., 2016), scores of photographs; Historical Color Images (Palermo et al., 2012), their decades."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ordclust_ray.config.common import InputError
from ordclust_ray.datasets.candidates import Candidates, image_files, places_in_draw, unknown
from ordclust_ray.datasets.generated_rated import generate_aadb, generate_hci
from ordclust_ray.datasets.layouts import holds_any, home_of, refuse_lists, require_files
from ordclust_ray.datasets.listing import SEED, TEST, TRAIN, VALIDATION, DataSet, Listing, require_layout
from ordclust_ray.datasets.published import listed_files

AADB_FOLDERS = ("datasetImages_originalSize", "datasetImages_warp256", "AADB_newtest_originalSize", "AADB_newtest")
"""A listed name is looked for in all of them, in this order."""
AADB_LISTS = {
    TRAIN: "imgListFiles_label/imgListTrainRegression_score.txt",
    VALIDATION: "imgListFiles_label/imgListValidationRegression_score.txt",
    TEST: "imgListFiles_label/imgListTestNewRegression_score.txt",
}
AADB_LAYOUT = f"{AADB_FOLDERS[0]}/ or {AADB_FOLDERS[1]}/, {AADB_FOLDERS[2]}/, and imgListFiles_label/ with three lists"
STEPS = 100
"""Of scores between 0 and 1."""
DECADES = {"1930s": 1, "1940s": 2, "1950s": 3, "1960s": 4, "1970s": 5}
HCI_LAYOUT = f"decade_database/ with {', '.join(DECADES)}, here or below"
OF_A_DECADE = 265
VALIDATION_OF_A_DECADE, TEST_OF_A_DECADE = 5, 50
HCI_SPLIT = (
    f"No split is published: {VALIDATION_OF_A_DECADE} images for validation and {TEST_OF_A_DECADE} for testing were "
    f"drawn of each decade (seed {SEED}), in proportion where it has not {OF_A_DECADE}."
)
FEWEST = 3
"""Images of a decade: one for each part."""


def read_aadb(source: Path, lists: Path | None) -> Listing:
    """AADB in the parts that its own lists give; ranks are scores in steps of 0.01."""
    refuse_lists(lists, "AADB")
    home = home_of(source, holds_any(AADB_LISTS.values())) or source
    folders = [home / name for name in AADB_FOLDERS if (home / name).is_dir()]
    require_layout(source, exists=bool(folders), layout=AADB_LAYOUT, title="AADB")
    require_files(home, AADB_LISTS.values(), "AADB")
    listed = pd.concat([_scores(home / name, split) for split, name in AADB_LISTS.items()], ignore_index=True)
    images = listed_files(_aadb_files(folders), listed)
    score = pd.to_numeric(images.rows["score"], errors="coerce")
    reasons = unknown("score", images.rows["score"], "a number from 0 to 1")
    images = images.having(rank=(score * STEPS).round() / STEPS).without(~score.between(0, 1), reasons)
    return images.listing(["rank", "split"], [home, *folders])


def _aadb_files(folders: list[Path]) -> Candidates:
    """Images by name, each in the first folder that has it."""
    files = [image_files(folder).assign(folder=folder.name) for folder in folders]
    first = pd.concat(files, ignore_index=True).drop_duplicates("name")
    by_path = first.sort_values(["folder", "path"], ignore_index=True)
    return Candidates(by_path[["source", "name"]].assign(key=by_path["name"]))


def _scores(file: Path, split: str) -> pd.DataFrame:
    """`key`, `name`, `list`, `score`, `split` of a list, a name and a score a line."""
    try:
        lines = pd.Series(file.read_text(encoding="utf-8").splitlines(), dtype=str)
    except UnicodeDecodeError as error:
        raise InputError(f"{str(file)!r} is not a list of images and scores: {error}") from None
    parts = lines[lines.str.strip() != ""].str.extract(r"^\s*(?P<name>.*?)(?:\s+(?P<score>\S+))?\s*$").fillna("")
    if not pd.to_numeric(parts["score"], errors="coerce").notna().any():
        raise InputError(f"{str(file)!r} is not a list of images and scores ('name.jpg 0.55', a line each)")
    return parts.assign(key=parts["name"], list=file.name, split=split)


def read_hci(source: Path, lists: Path | None) -> Listing:
    """Photographs by decade; of each, 210 for training, 5 for validation, 50 for testing, drawn at random."""
    refuse_lists(lists, "HCI")
    files = image_files(source)
    parts = ("/" + files["path"]).str.extract(r"^(?P<home>.*)/(?P<label>[^/]+)/[^/]+$")
    home = _home_of_decades(parts)
    require_layout(source, exists=home is not None, layout=HCI_LAYOUT, title="HCI")
    images = Candidates(files.assign(**parts)).only(parts["home"] == home)
    images = images.having(decade=images.rows["label"]).named("decade", DECADES)
    images = images.having(rank=images.rows["decade"].astype(float), split=_hci_parts(source, images.rows))
    return images.listing(["rank", "label", "split"], [source], [HCI_SPLIT])


def _home_of_decades(parts: pd.DataFrame) -> str | None:
    """The folder that has most of the five, the first of several; None where none has any."""
    known = parts[parts["label"].isin(list(DECADES))].groupby("home")["label"].nunique()
    return str(known.idxmax()) if len(known) else None


def _hci_parts(source: Path, rows: pd.DataFrame) -> NDArray[np.str_]:
    """`split` of each row, by the names of the files alone."""
    split = np.full(len(rows), TRAIN, dtype="U10")
    for label in DECADES:
        decade = rows[rows["label"] == label]
        if len(decade) < FEWEST:
            raise InputError(f"{str(source)!r} has {len(decade)} images of the {label}; at least {FEWEST} are needed")
        share = len(decade) / OF_A_DECADE
        validation, test = max(1, round(share * VALIDATION_OF_A_DECADE)), max(1, round(share * TEST_OF_A_DECADE))
        places = places_in_draw(decade["name"].tolist())
        split[decade.index[places < validation]] = VALIDATION
        split[decade.index[(places >= validation) & (places < validation + test)]] = TEST
    return split


AADB = DataSet(
    name="aadb",
    title="AADB",
    read=read_aadb,
    layout=AADB_LAYOUT,
    published={"train": 8_458, "validation": 500, "test": 1_000},
    source="https://github.com/aimerykong/deepImageAestheticsAnalysis",
    licence="none stated; photographs of Flickr users, for research use",
    rank_unit="score",
    generate=generate_aadb,
)
HCI = DataSet(
    name="hci",
    title="Historical Color Images",
    read=read_hci,
    layout=HCI_LAYOUT,
    published={"train": 1_050, "validation": 25, "test": 250},
    source="http://graphics.cs.cmu.edu/projects/historicalColor/",
    licence="none stated; research use",
    rank_unit="decade, 1 is the 1930s",
    generate=partial(generate_hci, decades=tuple(DECADES)),
)
SETS: tuple[DataSet, ...] = (AADB, HCI)
