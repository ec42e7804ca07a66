"""A trained IDFD as files, and its clusters of new images over a Ray Dataset."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from ordclust_ray.actors import actors_for
from ordclust_ray.config import IdfdConfig, InputError
from ordclust_ray.core.feature_clusters import FeatureClusters
from ordclust_ray.core.feature_networks import FeatureNetwork
from ordclust_ray.data.images import decode_batch
from ordclust_ray.data.readers import Source

MODEL, WEIGHTS, DESCRIPTION = "model", "model.safetensors", "model.json"
SYSTEM = "idfd"
BATCH, COMPARED = 128, 1_000


def build_clusters(config: IdfdConfig, weights: dict[str, torch.Tensor], centroids: torch.Tensor) -> FeatureClusters:
    """Puts the results of training together.

    Args:
        config: the run's settings.
        weights: of `IdfdTrainer.modules`, of which the feature network is the first.
        centroids: (K, D).
    """
    model = config.model
    network = FeatureNetwork(model.network, config.data.image_size, model.feature_dim, model.width)
    network.load_state_dict({name[2:]: tensor for name, tensor in weights.items() if name.startswith("0.")})
    return FeatureClusters(network.cpu(), centroids.cpu())


def save_clusters(folder: Path, clusters: FeatureClusters, config: IdfdConfig) -> None:
    """Weights and centroids as safetensors, the network's name and sizes as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in clusters.state_dict().items()}, folder / WEIGHTS)
    description = {"system": SYSTEM, "image_size": config.data.image_size, **asdict(config.model)}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1))


def describe_model(folder: Path) -> dict[str, Any]:
    """What `save_clusters` wrote of the model.

    Raises:
        InputError: it is none of ours.
    """
    try:
        found = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        found = {}
    if found.pop("system", None) != SYSTEM:
        raise InputError(f"--model: {folder} holds no model of train_idfd.py; give the folder of a finished run")
    return found


def load_clusters(folder: Path) -> FeatureClusters:
    """The inverse of `save_clusters`; nothing is unpickled."""
    tensors = load_file(folder / WEIGHTS)
    clusters = FeatureClusters(FeatureNetwork(**describe_model(folder)), tensors["centroids"])
    clusters.load_state_dict(tensors)
    return clusters


@torch.inference_mode()
def agreement(clusters: FeatureClusters, images: NDArray[np.uint8], assigned: NDArray[np.int64]) -> float:
    """The share of training images that the model puts into the clusters that they have.

    Those come from features of random views, averaged while the network was still learning; the model sees the images
    as they are. After a short training the two may differ much.

    Args:
        clusters: the trained model.
        images: (n, S, S, 3); the first `COMPARED` count.
        assigned: (n,) their clusters.
    """
    parts = [clusters.assigned(batch).clusters for batch in torch.from_numpy(images[:COMPARED]).split(BATCH)]
    return float((torch.cat(parts).numpy() == assigned[:COMPARED]).mean())


class AssignBatch:
    """Ray Data's actor: `instance_id`, `image`, `error` -> the columns of `assign_images`."""

    def __init__(self, folder: str, sources: ray.ObjectRef) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._clusters = load_clusters(Path(folder)).to(self._device)
        self._sources: pa.Array = ray.get(sources)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One batch of images; broken ones have cluster -1, no distance, and the reason."""
        found = self._clusters.assigned(torch.from_numpy(np.array(batch["image"])).to(self._device))
        usable = batch["error"] == ""
        return {
            "instance_id": batch["instance_id"],
            "source": self._sources.take(pa.array(batch["instance_id"])).to_numpy(zero_copy_only=False),
            "cluster": np.where(usable, found.clusters.cpu().numpy(), -1),
            "distance": np.where(usable, found.distances.cpu().numpy(), np.nan).astype(np.float32),
            "margin": np.where(usable, found.margins.cpu().numpy(), np.nan).astype(np.float32),
            "error": batch["error"],
        }


def assign_images(source: Source, model: Path, output: Path, max_pixels: int) -> None:
    """Clusters of new images, streamed: none of them waits for all to be decoded, none is lost.

    Args:
        source: of the images.
        model: folder of `save_clusters`, readable from every machine.
        output: folder of Parquet files with a row an image: `instance_id`, `source`, `cluster` (-1 where the image is
            broken), `distance` to its centroid, `margin` to the second nearest one, `error`.
        max_pixels: larger images count as broken.
    """
    size = describe_model(model)["image_size"]
    decoded = source.encoded().map_batches(
        decode_batch, fn_kwargs={"size": size, "max_pixels": max_pixels}, batch_size=64
    )
    rows = decoded.map_batches(
        AssignBatch,
        fn_constructor_args=(str(model), ray.put(pa.array(source.manifest["source"], pa.large_string()))),
        batch_size=BATCH,
        num_cpus=0.5,  # on a machine of one, reading needs the other half
        **actors_for(len(source.manifest)),
        zero_copy_batch=True,
    )
    rows.write_parquet(str(output))
