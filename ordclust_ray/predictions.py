"""What a trained model says of new images, as Parquet files; interrupted, it goes on where it stopped."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ordclust_ray.assignment import assigned
from ordclust_ray.config import InputError
from ordclust_ray.data.decoded import decoded_stream
from ordclust_ray.data.readers import Source
from ordclust_ray.estimation import beside, estimated
from ordclust_ray.models import RANKS, describe_model, sizes_of

JOB = "_job.json"
ROWS_A_FILE = 1_000
"""So many images at least are written at a time, and lost at most where a task is."""


def predict(source: Source, model: Path, output: Path, max_pixels: int) -> None:
    """Predictions for all images of a source, streamed: none waits for all to be decoded, none is lost.

    What an earlier attempt has written stays; images in it are not read again.

    Args:
        source: of the images.
        model: folder of a model, readable from every machine.
        output: folder of Parquet files with a row an image: `instance_id`, `source`, `cluster` (-1 where the image is
            broken), `error` (why it is), and of DRC-ORID `rank` and the other columns of an estimate, of IDFD those of
            `assignment.assigned`.
        max_pixels: larger images count as broken.

    Raises:
        InputError: the folder holds something else.
    """
    done = resume(output, {"model": _digest(model), "images": _names_digest(source)}, len(source.manifest))
    if done.all():
        return
    images = decoded_stream(source, sizes_of(model), max_pixels, ~done if done.any() else None)
    waiting = int((~done).sum())
    if describe_model(model)["system"] == RANKS:
        rows = estimated(images, model, waiting).drop_columns(["orders"]).rename_columns({"estimate": "rank"})
    else:
        rows = assigned(images, model, waiting)
    beside(rows, source.manifest[["source"]]).write_parquet(str(output), min_rows_per_file=ROWS_A_FILE)


def _digest(model: Path) -> str:
    """Of a model's files."""
    digest = hashlib.sha256()
    for file in sorted(model.iterdir()):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _names_digest(source: Source) -> str:
    """Of where a source's images lie."""
    return hashlib.sha256(pd.util.hash_pandas_object(source.manifest["source"]).to_numpy().tobytes()).hexdigest()


def resume(output: Path, job: dict[str, str], num_images: int) -> NDArray[np.bool_]:
    """Which images an earlier attempt at the same job has done, by instance id.

    Files that its end left incomplete are deleted.

    Args:
        output: the folder; made where it is not there.
        job: digests of what the predictions are of, by name.
        num_images: of the source.

    Raises:
        InputError: the folder holds something else.
    """
    if output.is_file():
        raise InputError(f"--output {str(output)!r} is a file; name a folder")
    output.mkdir(parents=True, exist_ok=True)
    if not (output / JOB).exists():
        if any(output.iterdir()):
            raise InputError(f"--output {str(output)!r} holds files already; name another folder")
        (output / JOB).write_text(json.dumps(job))
    earlier = json.loads((output / JOB).read_text())
    changed = [name for name, digest in job.items() if earlier.get(name) != digest]
    if changed:
        raise InputError(
            f"--output {str(output)!r} holds predictions of other {' and '.join(changed)}; name another folder"
        )
    done = np.zeros(num_images, dtype=bool)
    for file in output.glob("*.parquet"):
        try:
            done[pq.read_table(file, columns=["instance_id"])["instance_id"].to_numpy()] = True
        except (pa.ArrowInvalid, OSError):
            file.unlink()
    return done
