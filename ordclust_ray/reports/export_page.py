"""The page of exported groups: each cluster's most typical and borderline images, and what is known of it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Self

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.readers import Source
from ordclust_ray.figures.drc import MAX_COLUMNS
from ordclust_ray.figures.style import colour, evenly_chosen
from ordclust_ray.figures.tiles import rank_text
from ordclust_ray.reports.export import GONE, score_of

TYPICAL, BORDERLINE, PER_RANK = 24, 12, 4
"""Images a cluster; most typical ones of each rank, where there are ranks."""
SIDE, QUALITY = 96, 90
"""Of an image on the page: pixels, and of JPEG."""
MAX_BARS = 20
TEMPLATE = Path(__file__).with_name("export.html.j2")


@dataclass(frozen=True)
class Picture:
    """An image as it stands on the page.

    Attributes:
        alt: what it is, in words.
        caption: lines below it.
        uri: the image itself; empty where there is none.
        reason: why there is none.
    """

    alt: str
    caption: Sequence[str]
    uri: str
    reason: str


@dataclass(frozen=True)
class Bar:
    """Of a histogram; `share` of the longest bar, in per cent."""

    name: str
    count: int
    share: float


@dataclass(frozen=True)
class Thumbnails:
    """The images that a page shows, by instance id of the run: as data URIs, or the reasons why not."""

    uris: Mapping[int, str]
    reasons: Mapping[int, str]

    @classmethod
    def decode(cls, ids: Mapping[int, int], source: Source, max_pixels: int) -> Self:
        """Decodes them, and no others.

        Args:
            ids: by instance id of the run, those in the source, from `find_again`.
            source: of the images.
            max_pixels: larger images count as broken.
        """
        back = {now: instance for instance, now in ids.items() if now != GONE}
        reasons = {instance: "gone: not among the images any more" for instance, now in ids.items() if now == GONE}
        uris = {}
        if back:
            chosen = np.isin(np.arange(len(source.manifest)), list(back))
            for row in decoded_stream(source, {"image": SIDE}, max_pixels, chosen).iter_rows():
                instance = back[row["instance_id"]]
                if row["error"]:
                    reasons[instance] = row["error"]
                else:
                    uris[instance] = _uri(row["image"])
        return cls(uris, reasons)

    def picture(self, instance: int, alt: str, caption: Sequence[str]) -> Picture:
        """Of an image of the run."""
        return Picture(alt, caption, self.uris.get(instance, ""), self.reasons.get(instance, ""))


def _uri(image: NDArray[np.uint8]) -> str:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Groups:
    """The clusters of a run, and which of their images are shown.

    Attributes:
        rows: from `typical_first`.
        num_clusters: k; an empty one is shown as such.
    """

    rows: pd.DataFrame
    num_clusters: int

    @property
    def score(self) -> str:
        """What tells how typical an image is."""
        return score_of(self.rows)

    @property
    def class_column(self) -> str:
        """Of names that are known beside the clusters; empty where none is."""
        return next((name for name in ("label", "group") if name in self.rows), "")

    @cached_property
    def rank_levels(self) -> NDArray[np.float64]:
        """The distinct ranks; none where there are no ranks."""
        return np.unique(self.rows["rank"]) if "rank" in self.rows else np.array([])

    @property
    def levels(self) -> NDArray[np.float64]:
        """Those that have a column in the montages."""
        return evenly_chosen(self.rank_levels, MAX_COLUMNS)

    @cached_property
    def typical(self) -> pd.DataFrame:
        """The most typical images of each cluster, or of each cluster and rank."""
        if len(self.levels):
            rows = self.rows[self.rows["rank"].isin(self.levels)]
            return rows.groupby(["cluster", "rank"]).head(PER_RANK)
        return self.rows.groupby("cluster").head(TYPICAL)

    @cached_property
    def borderline(self) -> pd.DataFrame:
        """The images of each cluster that are closest to another one; empty where that is not known."""
        if "margin" not in self.rows:
            return self.rows.iloc[:0]
        known = self.rows.dropna(subset=["margin"])
        return known.sort_values(["cluster", "margin", "instance_id"]).groupby("cluster").head(BORDERLINE)

    @property
    def shown(self) -> pd.DataFrame:
        """All images that are on the page, once."""
        return pd.concat([self.typical, self.borderline]).drop_duplicates("instance_id")

    @property
    def why_no_borderline(self) -> str:
        """Empty where borderline images are known."""
        if len(self.borderline):
            return ""
        if self.num_clusters == 1:
            return "There is no other cluster that an image could be close to."
        return "The run has not recorded how close its images are to other clusters."


def write_page(
    groups: Groups, thumbnails: Thumbnails, title: str, settings: Mapping[str, object], folder: Path
) -> None:
    """`index.html`: nothing outside of it is needed to see it.

    Args:
        groups: what it shows.
        thumbnails: of `groups.shown`.
        title: name of the run.
        settings: name and value of what a reader should know.
        folder: to write to.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        settings=settings,
        score=groups.score,
        class_column=groups.class_column,
        ranked=len(groups.levels) > 0,
        levels=[rank_text(level) for level in groups.levels],
        why_no_borderline=groups.why_no_borderline,
        clusters=[_cluster(groups, thumbnails, number) for number in range(groups.num_clusters)],
    )
    (folder / "index.html").write_text(page, encoding="utf-8")


def _of(cluster: int, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one cluster; they are sorted by it."""
    first, end = np.searchsorted(rows["cluster"].to_numpy(), [cluster, cluster + 1])
    return rows.iloc[first:end]


def _cluster(groups: Groups, thumbnails: Thumbnails, number: int) -> dict[str, object]:
    """What the template says of one cluster."""
    own, typical, borderline = (_of(number, rows) for rows in (groups.rows, groups.typical, groups.borderline))
    classes = (
        own[groups.class_column].replace("", np.nan).value_counts() if groups.class_column else pd.Series(dtype=int)
    )
    return {
        "number": number,
        "colour": colour(number),
        "size": len(own),
        "share": len(own) / len(groups.rows),
        "score": own[groups.score].mean(),
        "mean_rank": own["rank"].mean() if len(groups.levels) else None,
        "majority": f"{classes.iloc[0] / classes.sum():.0%} {classes.index[0]}" if len(classes) else "",
        "typical": [_picture(row, groups.score, thumbnails) for _, row in typical.iterrows()],
        "by_rank": [
            [_picture(row, groups.score, thumbnails) for _, row in typical[typical["rank"] == level].iterrows()]
            for level in groups.levels
        ],
        "ranks": _rank_bars(groups.rank_levels, own["rank"]) if len(groups.levels) else [],
        "classes": _class_bars(classes),
        "borderline": [_picture(row, "margin", thumbnails) for _, row in borderline.iterrows()],
    }


def _picture(row: pd.Series, measure: str, thumbnails: Thumbnails) -> Picture:
    """With what is known of the image."""
    known = [f"rank {rank_text(row['rank'])}"] if "rank" in row else []
    known += [str(row[name]) for name in ("label", "group") if name in row and row[name] != ""]
    near = f"cluster {row['cluster']}" + (f", then {row['second']}" if "second" in row else "")
    lines = [f"image {row['instance_id']}", *known, near, f"{measure} {row[measure]:.3f}"]
    return thumbnails.picture(int(row["instance_id"]), ", ".join([*lines[:2], near]), lines)


def _rank_bars(levels: NDArray[np.float64], own: pd.Series) -> list[Bar]:
    """A bar a rank; where there are more than `MAX_BARS`, as many bins of equal width, named by their lower ends."""
    if len(levels) > MAX_BARS:
        levels = np.linspace(levels[0], levels[-1], MAX_BARS, endpoint=False)
    places = np.searchsorted(levels, own, side="right") - 1
    return _bars([rank_text(level) for level in levels], np.bincount(places, minlength=len(levels)).tolist())


def _class_bars(counts: pd.Series) -> list[Bar]:
    """A bar a name, the most frequent first; the rest in one."""
    names, numbers = [str(name) for name in counts.index[:MAX_BARS]], counts.tolist()[:MAX_BARS]
    if len(counts) > MAX_BARS:
        names.append(f"{len(counts) - MAX_BARS} others")
        numbers.append(int(counts.iloc[MAX_BARS:].sum()))
    return _bars(names, numbers)


def _bars(names: Sequence[str], counts: Sequence[int]) -> list[Bar]:
    longest = max([*counts, 1])
    return [Bar(name, count, 100 * count / longest) for name, count in zip(names, counts, strict=True)]
