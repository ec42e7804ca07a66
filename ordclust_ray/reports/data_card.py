"""The data card of a prepared data set: what it holds, where it comes from, and what a user has to know of it."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ordclust_ray.data.readers import CARD
from ordclust_ray.datasets.listing import FACES, FIRST, TEST, TRAIN, VALIDATION, DataSet, Listing
from ordclust_ray.preparation import IDENTICAL, LEFT_OUT, identical_images

MOST_VALUES = 200
"""Columns with more distinct values than that are only counted."""
FEW_REASONS = 5
"""So many that differ in numbers alone are named one by one."""
COUNTED, SPLITS = ("rank", "label"), [TRAIN, VALIDATION, TEST]


def data_card(dataset: DataSet, listing: Listing, found: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Counts per rank, class, group, split and fold; what was left out; source, licence and notes.

    Args:
        dataset: which.
        listing: its instances.
        found: `error` and `checksum` of each, by instance id.
        settings: of the preparation.
    """
    usable = listing.rows[found["error"] == ""]
    part = next((name for name in ("split", "fold") if name in usable), None)
    reasons = [*listing.left_out["reason"], *found["error"][found["error"] != ""]]
    return {
        "name": dataset.name,
        "title": dataset.title,
        "source": dataset.source,
        "licence": dataset.licence,
        "images": len(usable),
        "published": dataset.published,
        "left_out": counted_reasons(reasons),
        "rank_unit": dataset.rank_unit,
        "parts": counts(usable[part]) if part else {},
        "counts": {name: by_part(usable, name, part) for name in (*COUNTED, *dataset.groups) if name in usable},
        "identical": identical(usable, found["checksum"], part),
        "notes": [
            *differences(dataset, usable),
            *listing.notes,
            *persons_in_several(usable),
            *([FACES] if dataset.faces else []),
        ],
        "verified": listing.verified,
        "settings": dict(settings),
        "prepared": time.strftime("%Y-%m-%d"),
    }


def counted_reasons(reasons: Sequence[str]) -> dict[str, int]:
    """Images by reason, the most common first; many reasons that differ in numbers alone count as one.

    >>> counted_reasons(["truncated", *(f"person {i} is in two folds" for i in range(9))])
    {'person ... is in two folds': 9, 'truncated': 1}
    """
    plain = [reason.partition(FIRST)[0] for reason in reasons]
    alike = {reason: re.sub(r"\d+", "...", reason) for reason in set(plain)}
    variants = Counter(alike.values())
    return dict(Counter(alike[own] if variants[alike[own]] > FEW_REASONS else own for own in plain).most_common())


def counts(column: pd.Series) -> dict[str, int]:
    """Images by value, splits as they are used, others in the order of the values."""
    found = column.value_counts().sort_index()
    found = found.reindex([*(name for name in SPLITS if name in found.index), *found.index.difference(SPLITS)])
    return {_shown(value): int(count) for value, count in found.items()}


def by_part(rows: pd.DataFrame, name: str, part: str | None) -> dict[str, Any]:
    """Images by value of a column, and of each value by split or fold."""
    distinct = rows[name].nunique()
    if distinct > MOST_VALUES:
        return {"distinct": int(distinct)}
    if part is None:
        return {value: {"all": count} for value, count in counts(rows[name]).items()}
    return {_shown(value): {"all": len(group), **counts(group[part])} for value, group in rows.groupby(name)}


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def identical(rows: pd.DataFrame, checksums: pd.Series, part: str | None) -> dict[str, int]:
    """Images whose bytes are another one's too, and those of them that another split or fold holds as well."""
    known = checksums[rows.index]
    twice = known.duplicated(keep=False)
    across = rows[twice].groupby(known[twice])[part].transform("nunique") > 1 if part else pd.Series(dtype=bool)
    return {"images": int(twice.sum()), "across": int(across.sum())}


def differences(dataset: DataSet, usable: pd.DataFrame) -> list[str]:
    """Sentences on counts that are not the published ones."""
    splits = counts(usable["split"]) if "split" in usable else {}
    here = {name: len(usable) if name == "images" else int(splits.get(name, 0)) for name in dataset.published}
    return [
        f"{here[name]} usable {name} of {count} that are published."
        if name == "images"
        else f"{here[name]} usable images to {name} of {count} that are published."
        for name, count in dataset.published.items()
        if here[name] != count
    ]


def persons_in_several(rows: pd.DataFrame) -> list[str]:
    """A sentence on the persons who are in both train and test, or in several folds, if there are any."""
    part = "split" if "split" in rows else "fold"
    if not {"person", part} <= set(rows):
        return []
    where = "both train and test" if part == "split" else "more than one fold"
    counted = (rows["person"] != "") & (rows[part] != VALIDATION)
    persons = rows[counted].drop_duplicates(["person", part])["person"]
    several, unknown = persons[persons.duplicated()].nunique(), int((rows["person"] == "").sum())
    of_others = f"; the person of {unknown:,} images is not known" if unknown else ""
    return [f"{several:,} persons are in {where}{of_others}."] if several else []


def write_card(card: Mapping[str, Any], left_out: pd.DataFrame, folder: Path) -> None:
    """`data_card.md`, `left_out.csv`, `identical.csv`, and `data_card.json` last: it says that the folder is whole."""
    left_out.to_csv(folder / LEFT_OUT, index=False)
    identical_images(folder).to_csv(folder / IDENTICAL, index=False)
    (folder / "data_card.md").write_text(as_markdown(card))
    new = folder / f".{CARD}.new"
    new.write_text(json.dumps(card, indent=1, default=str))
    new.replace(folder / CARD)


def as_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    lines = [
        f"# {card['title']}",
        f"{card['images']:,} images. Source: {card['source']}. Licence: {card['licence']}.",
        *(f"- {note}" for note in card["notes"]),
    ]
    left_out = sum(card["left_out"].values())
    lines.append(f"Left out: {left_out}" + (f", listed in `{LEFT_OUT}`:" if left_out else "."))
    lines += [f"- {count} x {reason}" for reason, count in card["left_out"].items()]
    same = card["identical"]
    lines.append(
        f"{same['images']} images have the same bytes as another one; {same['across']} of them as one in another split "
        "or fold." + (f" All but the first of the same are listed in `{IDENTICAL}`." if same["images"] else "")
    )
    if card["verified"]:
        lines.append(f"Files with the published checksum: {', '.join(card['verified'])}.")
    if card["parts"]:
        lines += ["## Splits or folds", _table({name: {"all": count} for name, count in card["parts"].items()}, [])]
    for name, values in card["counts"].items():
        unit = f" ({card['rank_unit']})" if name == "rank" and card["rank_unit"] else ""
        lines.append(f"## By {name}{unit}")
        lines.append(
            f"{values['distinct']:,} distinct values." if "distinct" in values else _table(values, card["parts"])
        )
    return "\n\n".join(lines) + "\n"


def _table(values: Mapping[str, Mapping[str, int]], parts: Iterable[str]) -> str:
    """Counts as a table of Markdown: a row a value, a column all and each split or fold."""
    columns = ["all", *parts]
    rows = [["", *columns], ["---", *(["--:"] * len(columns))]]
    rows += [[value, *(str(row.get(name, 0)) for name in columns)] for value, row in values.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
