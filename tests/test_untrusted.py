"""Whatever is loaded from storage, a pickle in its place does not run, and the refusal names the file."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data.extensions  # noqa: F401  # makes Ray's columns of pickles known, as every job does
import torch
from safetensors import SafetensorError

from ordclust_ray.clustering.sources import file_parts
from ordclust_ray.config import DataConfig, DrcConfig, InputError
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.data.readers import open_source, prepared_of
from ordclust_ray.datasets.parquet import read_columns
from ordclust_ray.datasets.pickles import load_arrays
from ordclust_ray.datasets.registry import list_instances
from ordclust_ray.estimation import read_scalars
from ordclust_ray.files import PICKLED, read_table
from ordclust_ray.finished import FinishedRun
from ordclust_ray.models import NETWORKS, TABLES, describe_model, load_clusters, load_networks
from ordclust_ray.serving import ServedModel
from ordclust_ray.training.checkpoint import read_tensors, restore, restore_training
from ordclust_ray.training.comparator_weights import load_comparator, load_weights

MARK = "owned"
DESCRIPTION = '{"system": "drc-orid", "image_size": 16, "comparator": null, "orid": {}, "network": {}}'


class Malicious:
    """Makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.call = os.makedirs, (str(folder / MARK), 0o777, True)

    def __reduce__(self) -> tuple[Any, tuple[str, int, bool]]:
        return self.call


def as_pickle(folder: Path) -> bytes:
    return pickle.dumps(Malicious(folder), protocol=2)  # of others torch warns


def as_torch(folder: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"conv1.weight": Malicious(folder)}, buffer)
    return buffer.getvalue()


def as_npy(folder: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[Malicious(folder)]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def as_npz(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in ("train", "val", "test"):
            archive.writestr(f"{part}_images.npy", as_npy(folder))
            archive.writestr(f"{part}_labels.npy", as_npy(folder))
    return buffer.getvalue()


def as_parquet(folder: Path) -> bytes:
    """Every column that somebody reads, as Ray writes objects; images are images."""
    pickled = pa.array([pickle.dumps(Malicious(folder))], pa.large_binary())  # Ray reads no lines, as protocol 2 has
    names = ("rank", "features", "centroid", "label", "instance_id", "cluster")
    field = {b"ARROW:extension:name": PICKLED.encode(), b"ARROW:extension:metadata": b""}
    fields = [pa.field(name, pickled.type, metadata=field) for name in names]
    images = pa.array([b"image"], pa.binary())
    schema = pa.schema([pa.field("image", images.type), *fields])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([images, *[pickled] * len(names)], schema=schema), buffer)
    return buffer.getvalue()


def model_folder(folder: Path) -> Path:
    """Of a model whose description is in order."""
    (folder / "model.json").write_text(DESCRIPTION)
    return folder


Load = Callable[[Path], object]
WAYS: dict[str, tuple[str, Callable[[Path], bytes], Load]] = {
    "images in Parquet": ("a.parquet", as_parquet, lambda file: open_source(DataConfig(path=str(file)))),
    "a data set in Parquet": ("a.parquet", as_parquet, lambda file: read_columns(file, ["label"], "a set")),
    "features in Parquet": ("a.parquet", as_parquet, lambda file: file_parts(str(file), "features", 1)),
    "results in Parquet": ("a.parquet", as_parquet, lambda file: read_table(file, columns=["centroid"]).to_pandas()),
    "assignments of a run": (
        "results/assignments.parquet",
        as_parquet,
        lambda file: FinishedRun(file.parent.parent, DrcConfig()).assignments(),
    ),
    "estimates of a run": ("a.parquet", as_parquet, lambda file: read_scalars(file.parent)),
    "features in npy": ("a.npy", as_npy, lambda file: file_parts(str(file), "features", 1)),
    "a bare pickle as npy": ("a.npy", as_pickle, lambda file: file_parts(str(file), "features", 1)),
    "arrays of MedMNIST": ("a.npz", as_npz, lambda file: list_instances("medmnist", file, None)),
    "a pickle of CIFAR": ("data_batch_1", as_pickle, load_arrays),
    "weights of torch": ("a.pth", as_torch, lambda file: load_weights(ImageComparator("resnet18", 16), str(file))),
    "weights that are a bare pickle": (
        "a.pth",
        as_pickle,
        lambda file: load_weights(ImageComparator("resnet18", 16), str(file)),
    ),
    "weights of safetensors": (
        "a.safetensors",
        as_torch,
        lambda file: load_weights(ImageComparator("resnet18", 16), str(file)),
    ),
    "networks of a model": (NETWORKS, as_torch, lambda file: load_networks(model_folder(file.parent))),
    "tables of a model": (TABLES, as_pickle, read_tensors),
    "the description of a model": ("model.json", as_pickle, lambda file: describe_model(file.parent)),
}

OF_FOLDERS = {"estimates of a run", "the description of a model"}
"""Are known by their folder, and so named."""


@pytest.mark.parametrize("way", WAYS)
def test_a_pickle_is_refused_and_the_file_is_named(way: str, tmp_path: Path) -> None:
    name, make, load = WAYS[way]
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(make(tmp_path))
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load(file)
    assert str(tmp_path if way in OF_FOLDERS else file) in str(caught.value)
    assert not (tmp_path / MARK).exists()


OTHERS: dict[str, tuple[str, Callable[[Path], bytes], Load]] = {
    "state of a training": ("training.pt", as_torch, lambda file: restore_training(file.parent, "cpu")),
    "state of a training, a bare pickle": ("training.pt", as_pickle, lambda file: restore_training(file.parent, "cpu")),
    "a worker's part of a checkpoint": ("shard-00000.safetensors", as_torch, lambda file: restore(file.parent)),
    "a comparator": ("comparator.json", as_pickle, lambda file: load_comparator(file.parent)),
    "a data card": ("data_card.json", as_pickle, lambda file: prepared_of(file.parent)),
    "a model that MLflow serves": ("model.json", as_pickle, lambda file: ServedModel(file.parent)),
    "clusters of a model": (NETWORKS, as_torch, lambda file: load_clusters(model_folder(file.parent))),
}


@pytest.mark.parametrize("way", OTHERS)
def test_a_pickle_does_not_run(way: str, tmp_path: Path) -> None:
    """What these say is their own affair."""
    name, make, load = OTHERS[way]
    (tmp_path / name).write_bytes(make(tmp_path))
    with pytest.raises((pickle.UnpicklingError, SafetensorError, ValueError)):
        load(tmp_path / name)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("make", [as_pickle, as_torch, as_npy], ids=["pickle", "torch", "npy"])
def test_the_files_of_these_tests_would_run(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    """Or nothing would be shown by them: loaded by who trusts them, they do what they were made to do."""
    content = io.BytesIO(make(tmp_path))
    if make is as_pickle:
        pickle.load(content)
    elif make is as_torch:
        torch.load(content, weights_only=False)
    else:
        np.load(content, allow_pickle=True)
    assert (tmp_path / MARK).is_dir()


def test_the_parquet_file_of_these_tests_would_run(tmp_path: Path) -> None:
    """Ray Data is imported, and that is enough."""
    file = tmp_path / "a.parquet"
    file.write_bytes(as_parquet(tmp_path))
    pq.read_table(file).to_pandas()
    assert (tmp_path / MARK).is_dir()


def test_pickles_are_found_at_any_depth(tmp_path: Path) -> None:
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    from ordclust_ray.files import refuse_pickles

    pickled = ArrowPythonObjectType()
    for kind in (pickled, pa.list_(pickled), pa.struct([("a", pa.int64()), ("b", pa.list_(pickled))])):
        with pytest.raises(InputError, match=re.escape("column 'x' of somewhere holds pickled objects")):
            refuse_pickles(pa.schema([("x", kind)]), "somewhere")
    refuse_pickles(pa.schema([("x", pa.list_(pa.float32())), ("y", pa.dictionary(pa.int8(), pa.string()))]), "nowhere")
