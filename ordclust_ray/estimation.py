"""Ranks over a Ray Dataset: features of images, references, estimates."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch
from numpy.typing import NDArray

from ordclust_ray.actors import IMAGES_AN_ACTOR, actors_for
from ordclust_ray.files import read_table
from ordclust_ray.models import load_estimator, load_networks

BATCH, ROWS_A_FILE = 64, 1_000
ROWS_WRITTEN = 50_000
"""Of held-out images in a file, which the driver writes: other machines may not see its folder."""
FEATURES = ("compared", "identity", "order")


class EncodeBatch:
    """Ray Data's actor: `instance_id`, `image`, `compared` where it is wanted -> `instance_id` and `FEATURES`."""

    def __init__(self, networks: ray.ObjectRef) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._networks = ray.get(networks).to(self._device)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Features of one batch of images."""
        found = self._networks.encode(*_images(batch, self._device))
        features = {name: getattr(found, name).cpu().numpy() for name in FEATURES}
        return {"instance_id": batch["instance_id"], **features, "error": _errors(batch)}


class EstimateBatch:
    """Ray Data's actor: `instance_id`, `image`, `compared` where it is wanted, `error` -> columns of an estimate."""

    def __init__(self, estimator: ray.ObjectRef) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._estimator = ray.get(estimator).to(self._device)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """One batch of images; of broken ones only the reason is known."""
        columns = self._estimator.estimate(*_images(batch, self._device)).columns()
        errors = _errors(batch)
        broken = np.array([bool(error) for error in errors])
        found = {name: _column(values, broken) for name, values in columns.items()}
        found["cluster"] = pa.array(np.where(broken, -1, columns["cluster"]))
        return pa.table({"instance_id": batch["instance_id"], **found, "error": pa.array(errors, pa.string())})


def _images(batch: Mapping[str, np.ndarray], device: torch.device) -> list[torch.Tensor]:
    names = ("image", "compared") if "compared" in batch else ("image",)
    return [torch.from_numpy(np.array(batch[name])).to(device) for name in names]


def _errors(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    return batch.get("error", np.full(len(batch["instance_id"]), "", dtype=object))


def _column(values: NDArray[Any], missing: NDArray[np.bool_]) -> pa.Array:
    """Numbers, or lists; null where they are missing. Parquet gives no lists of fixed size back where some are null."""
    if values.ndim == 1:
        return pa.array(values, mask=missing)
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    return pa.ListArray.from_arrays(offsets, values.ravel(), mask=pa.array(missing))


def encode(images: ray.data.Dataset, model: Path, num_images: int) -> dict[str, NDArray[Any]]:
    """Features of images, on the driver: `instance_id`, ascending, `FEATURES`, `error`.

    Args:
        images: decoded, in the sizes of `models.sizes_of`.
        model: folder of `models.save_networks`.
        num_images: how many there are, about.
    """
    actors, networks = actors_for(num_images), ray.put(load_networks(model))
    if num_images < IMAGES_AN_ACTOR and not actors["num_gpus"]:  # they are done before an actor has started
        here = EncodeBatch(networks)
        batches = [here(batch) for batch in images.iter_batches(batch_size=BATCH, batch_format="numpy")]
    else:
        rows = images.map_batches(
            EncodeBatch,
            fn_constructor_args=(networks,),
            batch_size=BATCH,
            num_cpus=0.5,  # on a machine of one, reading needs the other half
            **actors,
            zero_copy_batch=True,
        )
        batches = list(rows.iter_batches(batch_size=None, batch_format="numpy"))
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.argsort(columns["instance_id"])
    return {name: column[order] for name, column in columns.items()}


def estimated(images: ray.data.Dataset, model: Path, num_images: int) -> ray.data.Dataset:
    """Estimates of images, by actors: `instance_id`, `Estimates.columns`, `error`.

    Args:
        images: decoded, in the sizes of `models.sizes_of`; `error` says why one could not be.
        model: folder of `models.save_estimator`.
        num_images: how many there are, about.
    """
    return images.map_batches(
        EstimateBatch,
        fn_constructor_args=(ray.put(load_estimator(model)),),
        batch_size=BATCH,
        num_cpus=0.5,
        **actors_for(num_images),
        zero_copy_batch=True,
    )


def estimate_ranks(
    images: ray.data.Dataset, model: Path, output: Path, known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Estimates of all images of a data set, as a folder of Parquet files, written anew.

    Args:
        images: see `estimated`.
        model: see `estimated`.
        output: the folder.
        known: columns to be written beside the estimates, by instance id, all of them from 0 on.

    Returns:
        `Estimates.columns`, those that are numbers, and `error`, by instance_id.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    rows = estimated(images, model, images.count() if known is None else len(known))
    whole = rows if known is None else beside(rows, known)
    for number, table in enumerate(whole.iter_batches(batch_size=ROWS_WRITTEN, batch_format="pyarrow")):
        pq.write_table(table, output / f"{number:06d}.parquet")
    return read_scalars(output)


def beside(rows: ray.data.Dataset, known: pd.DataFrame) -> ray.data.Dataset:
    """With small columns, by instance id from 0 on, joined to the rows wherever those are."""
    columns = ray.put(pa.Table.from_pandas(known, preserve_index=False))
    return rows.map_batches(_beside, fn_args=(columns,), batch_format="pyarrow", batch_size=None)


def _beside(rows: pa.Table, columns: ray.ObjectRef) -> pa.Table:
    known = ray.get(columns).take(rows["instance_id"])
    for i, name in enumerate(known.column_names, start=1):
        rows = rows.add_column(i, name, known[name])
    return rows


def read_scalars(output: Path) -> pd.DataFrame:
    """The columns of `estimate_ranks` that are no lists, by instance_id."""
    names = [
        field.name for field in pq.read_schema(next(output.glob("*.parquet"))) if not pa.types.is_nested(field.type)
    ]
    return read_table(output, columns=names).to_pandas().set_index("instance_id").sort_index()


def read_estimates(output: Path, instance_ids: NDArray[np.int64]) -> pd.DataFrame:
    """Whole rows of a few images, from the files of `estimate_ranks`, by instance_id."""
    table = read_table(output, filters=[("instance_id", "in", instance_ids.tolist())])
    return table.to_pandas().set_index("instance_id").loc[instance_ids]
