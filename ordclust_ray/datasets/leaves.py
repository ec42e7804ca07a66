"""Coffee leaves by the severity of their stress (Esgario, Krohling, Ventura 2020)."""

import os
from pathlib import Path

import pandas as pd

from ordclust_ray.datasets.chosen import DRAWN_SPLIT, because, choose, drawn_split, grades, named
from ordclust_ray.datasets.generated_files import generate_coffee
from ordclust_ray.datasets.layouts import refuse_lists
from ordclust_ray.datasets.listing import DataSet, Listing, require_layout, twice
from ordclust_ray.datasets.parquet import read_columns
from ordclust_ray.datasets.published import list_places, read_table
from ordclust_ray.datasets.stored import FileImages, StoredImages

TITLE = "the set of coffee leaves"
LAYOUT = "coffee_leaf.parquet, or a folder, at most two above, with dataset.csv and images/ (leaf/ in the repository)"
TABLE, PARQUET = "dataset.csv", "coffee_leaf.parquet"
IMAGES = ("images", "leaf")
COLUMNS = ("id", "predominant_stress", "severity")
STRESSES = {0: "healthy", 1: "miner", 2: "rust", 3: "phoma", 4: "cercospora"}
HIGHEST_SEVERITY = 4


def read_coffee(source: Path, lists: Path | None = None) -> Listing:
    """Lists the leaves by severity, 0 to 4, with the stress that predominates as their group.

    Args:
        source: the Parquet file, or a folder that holds it, or the images with their table.
        lists: none are published.

    Raises:
        InputError: neither is there, or the table is another one; one line.
    """
    refuse_lists(lists, TITLE)
    source = source.absolute()
    parquet = source if source.suffix == ".parquet" else source / PARQUET
    if parquet.is_file():
        rows, images = read_columns(parquet, COLUMNS, TITLE)
        return _listing(rows, images, [twice(rows["id"].astype(str), rows["source"])])
    tables = _tables(source) if source.is_dir() else []
    require_layout(source, exists=bool(tables), layout=LAYOUT, title=TITLE)
    table = tables[0]
    folder = next(table.parent / name for name in IMAGES if (table.parent / name).is_dir())
    rows = read_table(table, ",", COLUMNS)
    rows["place"] = list_places(rows)
    rows = rows[[*COLUMNS, "place"]].sort_values("id", kind="stable", ignore_index=True)  # as the files' names
    rows["source"] = [f"{folder}{os.sep}{name}.jpg" for name in rows["id"]]
    there = {found.name for found in os.scandir(folder)}
    missing = because(~(rows["id"] + ".jpg").isin(there), f"listed in {TABLE}, but missing")
    return _listing(rows, FileImages((str(folder),)), [missing, twice(rows["id"], rows.pop("place"))])


def _listing(rows: pd.DataFrame, images: StoredImages, reasons: list[pd.Series]) -> Listing:
    ids = rows.pop("id").astype(str)
    rows["rank"], no_grade = grades(rows.pop("severity"), "severity", HIGHEST_SEVERITY)
    rows["stress"], no_stress = named(rows.pop("predominant_stress"), STRESSES, "predominant_stress")
    listing = choose(rows.assign(id=ids), images, [*reasons, no_grade, no_stress], [DRAWN_SPLIT])
    listing.rows["split"] = drawn_split(listing.rows.pop("id").tolist())
    return listing


def _tables(source: Path) -> list[Path]:
    """Tables beside a folder of images: the source's own, then those below it."""
    found = [table for above in ("", "*/", "*/*/") for table in sorted(source.glob(f"{above}{TABLE}"))]
    return [table for table in found if any((table.parent / name).is_dir() for name in IMAGES)]


COFFEE = DataSet(
    name="coffee",
    title="Coffee leaves by severity of stress",
    read=read_coffee,
    layout=LAYOUT,
    published={"images": 1_685},
    rank_unit="severity, 0 is healthy",
    groups=("stress",),
    source="https://github.com/esgario/lara2018",
    licence="MIT (the repository's)",
    generate=generate_coffee,
)
