"""A trained model as MLflow loads and serves it: encoded images in, ranks or clusters out. Without Ray."""

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ordclust_ray.data.images import as_png, decode_batch
from ordclust_ray.models import CLUSTERS, RANKS, describe_model, load_clusters, load_estimator, sizes_of

INPUT = "image"
OUTPUTS: dict[str, dict[str, str | list[str]]] = {
    RANKS: {
        "rank": "double",
        "cluster": "long",
        "similarity": "float",
        "rank_levels": ["double"],
        "posterior": ["float"],
        "interval_low": "double",
        "interval_high": "double",
        "entropy": "float",
        "error": "string",
    },
    CLUSTERS: {"cluster": "long", "distance": "float", "margin": "float", "error": "string"},
}
"""Columns of a prediction and their types in MLflow, by system; a list holds the type of its members."""
BATCH = 64


def input_example(folder: Path) -> bytes:
    """A grey image: a model's record shows what goes in, and nobody's image."""
    size = describe_model(folder)["image_size"]
    return as_png(np.full((size, size, 3), 127, dtype=np.uint8))


class ServedModel:
    """Predicts from encoded images.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.description, self._sizes = describe_model(folder), sizes_of(folder)
        self._ranks = load_estimator(folder) if self.description["system"] == RANKS else None
        self._clusters = None if self._ranks else load_clusters(folder)
        self._outputs = list(OUTPUTS[self.description["system"]])

    @torch.inference_mode()
    def predict(self, images: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """What the model says of images.

        Args:
            images: a column `image` of encoded bytes (JPEG, PNG, ...), or of base64 as over HTTP.
            params: none are known; MLflow passes them.

        Returns:
            A row an image, the columns of `OUTPUTS`. Of a broken image only `error` says something: the cluster is -1,
            and all else None, for JSON has no NaN.
        """
        encoded = [_bytes_of(image) for image in images[INPUT]]
        parts = [self._batch(encoded[start : start + BATCH]) for start in range(0, len(encoded), BATCH)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(self._outputs))

    def _batch(self, encoded: list[bytes]) -> pd.DataFrame:
        batch = {"instance_id": np.arange(len(encoded)), "encoded": np.array(encoded, dtype=object)}
        decoded = decode_batch(batch, self._sizes, self.description["max_pixels"])
        pixels = [torch.from_numpy(decoded[name]) for name in self._sizes]
        broken = decoded["error"] != ""
        columns = self._estimates(pixels) if self._ranks else self._assignments(pixels)
        frame = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
        if broken.any():
            frame = frame.astype(object)
            frame[broken] = None
            frame["cluster"] = np.where(broken, -1, columns["cluster"])
        return frame.assign(error=decoded["error"])[self._outputs]

    def _estimates(self, pixels: list[torch.Tensor]) -> dict[str, np.ndarray]:
        assert self._ranks is not None
        columns = self._ranks.estimate(*pixels).columns()
        levels = np.tile(self._ranks.rank_levels.numpy(), (len(pixels[0]), 1))
        columns |= {"rank": columns["estimate"], "rank_levels": levels}
        return {name: columns[name] for name in self._outputs if name in columns}

    def _assignments(self, pixels: list[torch.Tensor]) -> dict[str, np.ndarray]:
        assert self._clusters is not None
        found = self._clusters.assigned(*pixels)
        columns = {"cluster": found.clusters, "distance": found.distances, "margin": found.margins}
        return {name: column.numpy() for name, column in columns.items()}


def _bytes_of(image: object) -> bytes:
    """What was sent of an image; nothing where it is neither bytes nor base64."""
    try:
        return base64.b64decode(image, validate=True) if isinstance(image, str) else bytes(image)  # type: ignore[call-overload]
    except (binascii.Error, TypeError, ValueError):
        return b""


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry: loads the model's folder."""
    return ServedModel(Path(path))
