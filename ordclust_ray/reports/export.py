"""The groups of a run for other programs and people: tables, and a folder of images a cluster, most typical first."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ordclust_ray.config import InputError
from ordclust_ray.data.decoded import only
from ordclust_ray.data.images import BrokenImageError, format_and_size
from ordclust_ray.data.readers import Source

KNOWN = ["rank", "label", "group", "split", "estimate"]
"""Columns that a run may have beside those of its clusters."""
GONE = -1
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
"""Where it is not the format's name."""


def score_of(assignments: pd.DataFrame) -> str:
    """What tells how typical an image is: "similarity" to the centroid, the most is best, or "distance", the least."""
    return "similarity" if "similarity" in assignments else "distance"


def typical_first(assignments: pd.DataFrame) -> pd.DataFrame:
    """The rows of the export: by cluster, the most typical image first; one of unknown typicality comes last.

    Args:
        assignments: of a run, by instance_id.

    Returns:
        `instance_id`, `source`, `cluster`, `place` (0: the most typical of its cluster), `similarity` or `distance`;
        `second`, `margin` and those of `KNOWN` where the run has them.
    """
    score = score_of(assignments)
    rows = assignments.rename_axis("instance_id").reset_index()
    rows = rows.sort_values(
        ["cluster", score, "instance_id"], ascending=[True, score == "distance", True], ignore_index=True
    )
    rows["place"] = rows.groupby("cluster").cumcount()
    columns = ["instance_id", "source", "cluster", "place", score, "second", "margin", *KNOWN]
    return rows[[name for name in columns if name in rows]]


def find_again(sources: pd.Series, then: str, source: Source, now: str) -> NDArray[np.int64]:
    """Where images of a run are in today's source, which may lie elsewhere, and lack some.

    Args:
        sources: of the images, as the run knew them.
        then: path of all of them then.
        source: as it is today.
        now: its path.

    Returns:
        Their ids in today's source, -1 where they are gone.

    Raises:
        InputError: not one of them is there.
    """
    known = pd.Series(np.arange(len(source.manifest)), index=_below(source.manifest["source"], now))
    known = known[~known.index.duplicated()]
    ids = known.reindex(_below(sources, then), fill_value=GONE).to_numpy(dtype=np.int64)
    if (ids == GONE).all():
        raise InputError(f"none of the run's images are in {now}; --path must say where they are now")
    return ids


def _below(sources: pd.Series, path: str) -> pd.Index:
    """Sources without what they share."""
    base = str(Path(path).parent) if has_magic(Path(path).name) else path
    return pd.Index(sources.str.removeprefix(base))


@contextlib.contextmanager
def written_whole(output: Path) -> Iterator[Path]:
    """A folder beside `output` that takes its name once the block has ended well, and else is removed.

    Raises:
        InputError: there is something already.
    """
    if output.is_file() or (output.exists() and any(output.iterdir())):
        raise InputError(f"--output {str(output)!r} holds files already; name another folder")
    folder = output.resolve()
    new = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        new.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"--output {str(output)!r} cannot be made: {error.strerror}") from None
    try:
        yield new
        new.replace(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def write_tables(rows: pd.DataFrame, folder: Path) -> None:
    """`assignments.parquet` and `assignments.csv`, from `typical_first`."""
    rows.to_parquet(folder / "assignments.parquet", index=False)
    rows.to_csv(folder / "assignments.csv", index=False)


def require_files(rows: pd.DataFrame) -> None:
    """Raises InputError where there are no files that links could lead to."""
    if not any(Path(source).is_file() for source in rows["source"]):
        raise InputError(
            "--images is 'links', but the images of the run are not in files of their own; it must be copies or none"
        )


def link_images(rows: pd.DataFrame, home: Path, folder: Path) -> pd.DataFrame:
    """Symbolic links to the images, a folder a cluster.

    Args:
        rows: from `typical_first`, those to link.
        home: folder of the images; as for training, a path that leads out of it is none of them.
        folder: of the clusters' folders.

    Returns:
        `instance_id` and `reason` of each that could not be linked.
    """
    _make_folders(rows, folder)
    width, inside, failed = _width(rows), home.resolve(), []
    columns = (rows[name].tolist() for name in ("instance_id", "source", "cluster", "place"))
    for instance, path, cluster, place in zip(*columns, strict=True):
        file = Path(path)
        try:
            if not file.resolve(strict=True).is_relative_to(inside) or not file.is_file():
                raise OSError("not a file in the folder of the images")
            name = f"cluster_{cluster}/{place:0{width}}_{instance}{file.suffix.lower()}"
            (folder / name).symlink_to(file)
        except (OSError, RuntimeError, ValueError) as error:  # links to themselves, NUL in a name
            failed.append((instance, str(error)))
    return pd.DataFrame(failed, columns=["instance_id", "reason"])


def copy_images(rows: pd.DataFrame, ids: NDArray[np.int64], source: Source, folder: Path) -> pd.DataFrame:
    """The images' bytes as they are, a folder a cluster, written where they are read.

    Args:
        rows: from `typical_first`, those to copy.
        ids: theirs in the source, from `find_again`.
        source: of the images.
        folder: of the clusters' folders, on storage that all machines share.

    Returns:
        `instance_id` and `reason` of each that could not be copied.
    """
    _make_folders(rows, folder)
    there = rows[ids != GONE]
    plan = {name: np.full(len(source.manifest), GONE) for name in ("instance_id", "cluster", "place")}
    for name, values in plan.items():
        values[ids[ids != GONE]] = there[name]
    copied = only(source.encoded(plan["cluster"] != GONE), plan["cluster"] != GONE).map_batches(
        _copy_batch, fn_args=(ray.put(plan), str(folder), _width(rows)), batch_size=16, batch_format="numpy"
    )
    results = [batch.to_pandas() for batch in copied.iter_batches(batch_size=None, batch_format="pyarrow")]
    reasons = pd.concat(results).set_index("instance_id")["reason"]
    found = reasons.reindex(rows["instance_id"], fill_value="gone")
    return found[found != ""].reset_index()


def _copy_batch(batch: dict[str, np.ndarray], plan: ray.ObjectRef, folder: str, width: int) -> pa.Table:
    """Ray Data's map: writes a batch of images; `instance_id`, `reason` ("" where all is well).

    A task that Ray repeats writes the same files again.
    """
    planned: dict[str, NDArray[Any]] = ray.get(plan)
    columns = (planned[name][batch["instance_id"]].tolist() for name in ("instance_id", "cluster", "place"))
    done: dict[int, str] = {}
    for encoded, instance, cluster, place in zip(batch["encoded"], *columns, strict=True):
        try:
            file = f"cluster_{cluster}/{place:0{width}}_{instance}{_suffix(encoded)}"
            (Path(folder) / file).write_bytes(encoded)
            done[instance] = ""
        except (OSError, ValueError) as error:
            done[instance] = str(error)
    return pa.table({"instance_id": pa.array(done, pa.int64()), "reason": pa.array(done.values(), pa.string())})


def _suffix(encoded: bytes) -> str:
    """By the format that the bytes begin like."""
    if not encoded:
        raise ValueError("empty, not found, or outside of the folder")
    try:
        form, _ = format_and_size(encoded)
    except BrokenImageError:
        raise ValueError("not an image of a known format") from None
    return SUFFIXES.get(form, f".{form.lower()}")


def _make_folders(rows: pd.DataFrame, folder: Path) -> None:
    for cluster in rows["cluster"].unique():
        (folder / f"cluster_{cluster}").mkdir()


def _width(rows: pd.DataFrame) -> int:
    """Of the places in file names, so that names sort as numbers do."""
    return max(6, len(str(rows["place"].max())))
