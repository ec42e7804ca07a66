"""Clusters of images by a trained IDFD, over a Ray Dataset."""

from pathlib import Path

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray

from ordclust_ray.actors import actors_for
from ordclust_ray.config import IdfdConfig
from ordclust_ray.core.feature_clusters import FeatureClusters
from ordclust_ray.core.feature_networks import FeatureNetwork
from ordclust_ray.models import load_clusters

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
    """Ray Data's actor: `instance_id`, `image`, `error` -> the columns of `assigned`."""

    def __init__(self, clusters: ray.ObjectRef) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._clusters = ray.get(clusters).to(self._device)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One batch of images; broken ones have cluster -1, no distance, and the reason."""
        found = self._clusters.assigned(torch.from_numpy(np.array(batch["image"])).to(self._device))
        usable = batch["error"] == ""
        return {
            "instance_id": batch["instance_id"],
            "cluster": np.where(usable, found.clusters.cpu().numpy(), -1),
            "distance": np.where(usable, found.distances.cpu().numpy(), np.nan).astype(np.float32),
            "margin": np.where(usable, found.margins.cpu().numpy(), np.nan).astype(np.float32),
            "error": batch["error"],
        }


def assigned(images: ray.data.Dataset, model: Path, num_images: int) -> ray.data.Dataset:
    """Clusters of images, by actors.

    Args:
        images: decoded, of the model's size; `error` says why one could not be.
        model: folder of `models.save_clusters`.
        num_images: how many there are, about.

    Returns:
        `instance_id`, `cluster` (-1 where the image is broken), `distance` to its centroid, `margin` to the second
        nearest one, `error`.
    """
    return images.map_batches(
        AssignBatch,
        fn_constructor_args=(ray.put(load_clusters(model)),),
        batch_size=BATCH,
        num_cpus=0.5,  # on a machine of one, reading needs the other half
        **actors_for(num_images),
        zero_copy_batch=True,
    )
