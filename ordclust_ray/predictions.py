"""What a trained model says of new images, as Parquet files; interrupted, it goes on where it stopped."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ordclust_ray.assignment import assigned
from ordclust_ray.config import ImagesConfig, InputError
from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import ROWS_A_FILE, beside, estimated
from ordclust_ray.files import read_table, write_whole
from ordclust_ray.models import RANKS, describe_model, sizes_of

JOB = "_job.json"
MOST_FILES = 2_000


def predict(source: Source, model: Path, output: Path, images: ImagesConfig) -> int:
    """Predictions for all images of a source, streamed: none waits for all to be decoded, none is lost.

    What an earlier attempt has written stays.

    Args:
        source: of the images.
        model: folder of a model.
        output: folder that all machines share, of Parquet files with a row an image: `instance_id`, `source`,
            `cluster` (-1 where the image is broken), `error` (why it is), and of DRC-ORID `rank` and the other columns
            of an estimate, of IDFD those of `assignment.assigned`.
        images: how the source was opened.

    Returns:
        How many of the images are broken.

    Raises:
        InputError: the folder holds something else, another process writes it, or rows are missing in the end.
    """
    job = {"model": _digest_of_model(model), "images": _digest_of_images(source, images)}
    with _held(output):
        done = resume(output, job, len(source.manifest))
        if not done.all():
            _write(source, model, output, done, images.max_pixels)
        return check_whole(output, len(source.manifest))


def _write(source: Source, model: Path, output: Path, done: NDArray[np.bool_], max_pixels: int) -> None:
    images = decoded_stream(source, sizes_of(model), max_pixels, ~done if done.any() else None)
    waiting, rows_a_file = int((~done).sum()), max(ROWS_A_FILE, len(done) // MOST_FILES)
    if describe_model(model)["system"] == RANKS:
        rows = estimated(images, model, waiting).drop_columns(["orders"]).rename_columns({"estimate": "rank"})
    else:
        rows = assigned(images, model, waiting)
    beside(rows, source.manifest[["source"]]).write_parquet(str(output), min_rows_per_file=rows_a_file)


@contextlib.contextmanager
def _held(output: Path) -> Iterator[None]:
    """Nobody else writes there meanwhile; the system lets go of it when the process ends, however it does."""
    if output.is_file():
        raise InputError(f"--output {str(output)!r} is a file; name a folder")
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".lock").acquire(timeout=0):
            yield
    except Timeout:
        raise InputError(f"--output {str(output)!r} is written by another process just now") from None


def _digest_of_model(model: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(model.iterdir()):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _digest_of_images(source: Source, images: ImagesConfig) -> str:
    """Of where they lie and how they are read; of Parquet files also when they were written."""
    names = source.manifest["source"]
    digest = hashlib.sha256(pd.util.hash_pandas_object(names).to_numpy().tobytes())
    rows = names[names.str.contains("#", regex=False)]
    for file in map(Path, rows.str.rsplit("#", n=1).str[0].unique()):
        written = file.stat() if file.exists() else None
        digest.update(f"{written.st_size} {written.st_mtime_ns}".encode() if written else b"")
    digest.update(f"{images.image_column} {images.max_pixels}".encode())
    return digest.hexdigest()


def resume(output: Path, job: dict[str, str], num_images: int) -> NDArray[np.bool_]:
    """Which images an earlier attempt at the same job has done, by instance id.

    Files that its end left incomplete are deleted.

    Args:
        output: the folder.
        job: digests of what the predictions are of, by name.
        num_images: of the source.

    Raises:
        InputError: the folder holds something else.
    """
    file = output / JOB
    if not file.exists():
        if any(not found.name.startswith((".", JOB)) for found in output.iterdir()):
            raise InputError(f"--output {str(output)!r} holds files already; name another folder")
        write_whole(file, job)
    earlier = json.loads(file.read_text())
    changed = [name for name, digest in job.items() if earlier.get(name) != digest]
    if changed:
        others = " and ".join(changed)
        raise InputError(f"--output {str(output)!r} holds predictions of other {others}; name another folder")
    done = np.zeros(num_images, dtype=bool)
    for part in output.glob("*.parquet"):
        try:
            done[read_table(part, columns=["instance_id"])["instance_id"].to_numpy()] = True
        except pa.ArrowInvalid:
            part.unlink()
    return done


def check_whole(output: Path, num_images: int) -> int:
    """Every image has one row; how many of them are broken.

    Raises:
        InputError: images that are missing, or there twice.
    """
    times, broken = np.zeros(num_images, dtype=np.int64), 0
    for part in output.glob("*.parquet"):
        rows = read_table(part, columns=["instance_id", "cluster"])
        times += np.bincount(rows["instance_id"].to_numpy(), minlength=num_images)
        broken += int((rows["cluster"].to_numpy() < 0).sum())
    missing, double = int((times == 0).sum()), int((times > 1).sum())
    if missing:
        raise InputError(f"--output {str(output)!r} lacks {missing} images; all machines have to share that folder")
    if double:
        raise InputError(f"--output {str(output)!r} holds {double} images more than once; name another folder")
    return broken
