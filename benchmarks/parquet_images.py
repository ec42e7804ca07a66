"""Images and labels of Parquet files, read without Ray."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


def read(files: Iterable[Path], limit: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Columns `image` (encoded) and `label` (integers) of all files; only the first rows where there is a limit."""
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for file in files:
        table = pq.read_table(file, columns=["image", "label"]).slice(0, limit - len(images) if limit else None)
        for encoded in table["image"].to_pylist():
            raw = encoded["bytes"] if isinstance(encoded, dict) else encoded
            images.append(np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")))
        labels += table["label"].to_pylist()
    return np.stack(images), np.array(labels, dtype=np.int64)
