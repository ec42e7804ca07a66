"""How many actors go over a set of images with a trained model."""

from typing import Any

import ray
import ray.data

IMAGES_AN_ACTOR = 2_000
"""An actor takes seconds to start: fewer images do not deserve one more."""


def actors_for(num_images: int) -> dict[str, Any]:
    """Arguments of Ray Data's `map_batches`: as many actors as there is work and room for, on GPUs if any."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    work, room = num_images // IMAGES_AN_ACTOR, gpus or int(resources["CPU"]) - 1
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(work, room)))
    return {"compute": pool, "num_gpus": 1 if gpus else 0}
