"""Decoded images as a Ray Dataset: every image once, the broken ones known, small columns joined."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import ray
import ray.data
from numpy.typing import NDArray
from ray.data.context import ShuffleStrategy
from ray.data.expressions import col

from ordclust_ray.config import ImagesConfig, InputError
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.data.images import decode_batch
from ordclust_ray.data.readers import Source

DECODED_AT_ONCE = 64
FEW_BLOCKS = 200
"""Up to here a sort that the driver plans takes 0.1 s, where Ray's default starts processes for 6 s and more. The plan
has the square of the blocks as parts, too many for more of them."""


class TooManyBrokenError(InputError):
    """More broken images than the settings allow. `broken` lists them: instance_id, source, reason."""

    def __init__(self, message: str, broken: pd.DataFrame) -> None:
        super().__init__(message)
        self.broken = broken


def decoded_images(
    source: Source, config: ImagesConfig, chosen: NDArray[np.bool_] | None = None
) -> tuple[ray.data.Dataset, pd.DataFrame, NDArray[np.uint32]]:
    """Decodes every image once.

    Args:
        source: of the images.
        config: their size and limits.
        chosen: by instance id; the others are neither decoded nor returned. None: all.

    Returns:
        Materialized `instance_id`, `image`, `error`, `crc`; source and reason of each broken image, by instance_id; the
        checksum of each image's file, by instance id.

    Raises:
        TooManyBrokenError: more than `max_broken_fraction`.
    """
    decoded = decoded_stream(source, {"image": config.image_size}, config.max_pixels, chosen).materialize()
    if decoded.num_blocks() <= FEW_BLOCKS:
        decoded.context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    broken = _broken(decoded, source.manifest)
    require_few_broken(broken, len(source.manifest) if chosen is None else int(chosen.sum()), config)
    return decoded, broken, _checksums(decoded, len(source.manifest))


def require_few_broken(broken: pd.DataFrame, num_images: int, config: ImagesConfig) -> None:
    """Raises TooManyBrokenError where more than `max_broken_fraction` of the images are broken.

    Args:
        broken: `source` and `reason` of each, by instance_id.
        num_images: broken and whole.
        config: the limit.
    """
    if len(broken) > config.max_broken_fraction * num_images:
        raise TooManyBrokenError(
            f"{len(broken)} of {num_images} images are broken, over --data.max-broken-fraction "
            f"{config.max_broken_fraction:g}; the first: {broken.iloc[0]['source']} ({broken.iloc[0]['reason']})",
            broken,
        )


def decoded_stream(
    source: Source, sizes: Mapping[str, int], max_pixels: int, chosen: NDArray[np.bool_] | None = None
) -> ray.data.Dataset:
    """Images as they come, decoded where they are read: `instance_id`, a column of each size, `error`, `crc`.

    Args:
        source: of the images.
        sizes: side of the images by the name of their column.
        max_pixels: larger images count as broken.
        chosen: by instance id; the others are neither decoded nor returned. None: all.
    """
    encoded = source.encoded(chosen)
    if chosen is not None:
        encoded = only(encoded, chosen)
    return encoded.map_batches(
        decode_batch, fn_kwargs={"sizes": dict(sizes), "max_pixels": max_pixels}, batch_size=DECODED_AT_ONCE
    )


def _checksums(decoded: ray.data.Dataset, num_instances: int) -> NDArray[np.uint32]:
    found = np.zeros(num_instances, dtype=np.uint32)
    for batch in decoded.select_columns(["instance_id", "crc"]).iter_batches(batch_size=None, batch_format="numpy"):
        found[batch["instance_id"]] = batch["crc"]
    return found


def fingerprint(manifest: pd.DataFrame, columns: list[str], checksums: NDArray[np.uint32]) -> str:
    """SHA-256 of who the instances are, of some columns about them, and of their images; paths play no part.

    Args:
        manifest: by instance_id.
        columns: of it.
        checksums: by instance id, of all instances.
    """
    rows = manifest[columns].assign(crc=checksums[manifest.index.to_numpy(dtype=np.int64)])
    return hashlib.sha256(pd.util.hash_pandas_object(rows).to_numpy().tobytes()).hexdigest()


def only(rows: ray.data.Dataset, chosen: NDArray[np.bool_]) -> ray.data.Dataset:
    """The rows whose instance ids are chosen.

    Args:
        rows: with `instance_id`.
        chosen: by instance id.
    """
    return rows.map_batches(_choose, fn_args=(ray.put(chosen),), batch_size=None)


def _choose(batch: dict[str, np.ndarray], chosen: ray.ObjectRef) -> dict[str, np.ndarray]:
    kept = ray.get(chosen)[batch["instance_id"]]
    return {name: values[kept] for name, values in batch.items()}


def _broken(decoded: ray.data.Dataset, manifest: pd.DataFrame) -> pd.DataFrame:
    rows = decoded.select_columns(["instance_id", "error"]).filter(expr=col("error") != "").take_all()
    return broken_images(pd.DataFrame(rows, columns=["instance_id", "error"]), manifest)


def broken_images(errors: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """`source` and `reason` of broken images, by instance_id, from their `instance_id` and `error`."""
    found = errors.set_index("instance_id").sort_index()
    return pd.DataFrame({"source": manifest.loc[found.index, "source"], "reason": found["error"]})


def joined(decoded: ray.data.Dataset, columns: Mapping[str, NDArray]) -> ray.data.Dataset:
    """With small columns, arrays over all instance ids, joined to the rows wherever those are."""
    return decoded.map_batches(_join, fn_args=(ray.put(dict(columns)),), batch_size=256)


def _join(batch: dict[str, np.ndarray], columns: ray.ObjectRef) -> dict[str, np.ndarray]:
    ids = batch["instance_id"]
    joined = {name: values[ids] for name, values in ray.get(columns).items()}
    return {"instance_id": ids, "image": batch["image"], **joined}


def sort_keys(num_instances: int, seed: int) -> NDArray[np.int64]:
    """A random number for each instance id, by which rows are sorted into a random order."""
    return (random_keys(np.arange(num_instances), seed) >> np.uint64(1)).astype(np.int64)


def as_text(column: pd.Series) -> pd.Series:
    """As text; empty where there is nothing. Integers that are floats to pandas, for there are gaps, stay integers."""
    return column.map(_text).astype(object)


def _text(value: Any) -> str:
    if pd.isna(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def images_by_id(rows: ray.data.Dataset, instance_ids: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """A few images of a set of `instance_id`, `image`, found where they are."""
    found = rows.filter(expr=col("instance_id").is_in(instance_ids.tolist())).take_all()
    return {row["instance_id"]: row["image"] for row in found}


def collected(rows: ray.data.Dataset) -> dict[str, NDArray[Any]]:
    """All columns of all rows, in their order, on the machine that asks."""
    batches = list(rows.iter_batches(batch_size=None, batch_format="numpy"))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
