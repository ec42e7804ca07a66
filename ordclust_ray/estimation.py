"""A trained model as files, and its estimates over a Ray Dataset."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from ordclust_ray.actors import actors_for
from ordclust_ray.config import DrcConfig
from ordclust_ray.core.networks import Orid
from ordclust_ray.core.order import similar_levels
from ordclust_ray.core.rank_estimator import RankEstimator
from ordclust_ray.core.rank_posterior import level_likelihoods

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
BATCH = 64


def build_estimator(
    config: DrcConfig,
    orid_state: dict[str, torch.Tensor],
    centroids: torch.Tensor,
    references: dict[str, torch.Tensor],
    rank_levels: NDArray[np.float64],
) -> RankEstimator:
    """Puts the results of training together.

    Args:
        config: the run's settings.
        orid_state: weights of the networks.
        centroids: (K, D).
        references: `instance_ids` (K, M, P), `order` and `identity` features, from `training.references`.
        rank_levels: (M,) distinct training ranks, ascending.
    """
    model = config.model
    orid = Orid(config.data.image_size, model.width, model.order_dim, model.identity_dim)
    orid.load_state_dict(orid_state)
    edges = similar_levels(rank_levels, config.rank.tolerance, config.rank.scale)
    likelihoods = level_likelihoods(*(torch.from_numpy(edge) for edge in edges))
    return RankEstimator(
        orid.cpu(),
        centroids.cpu(),
        torch.from_numpy(rank_levels),
        likelihoods,
        references["instance_ids"],
        references["order"],
        references["identity"],
    )


def save_estimator(folder: Path, estimator: RankEstimator, config: DrcConfig) -> None:
    """Weights and buffers as safetensors, the networks' sizes as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in estimator.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    size = {"image_size": config.data.image_size, **asdict(config.model)}
    (folder / DESCRIPTION).write_text(json.dumps(size, indent=1))


def load_estimator(folder: Path) -> RankEstimator:
    """The inverse of `save_estimator`; nothing is unpickled."""
    tensors = load_file(folder / WEIGHTS)
    orid = Orid(**json.loads((folder / DESCRIPTION).read_text()))
    names = ("centroids", "rank_levels", "likelihoods", "reference_ids", "reference_order", "reference_identity")
    estimator = RankEstimator(orid, *(tensors[name] for name in names))
    estimator.load_state_dict(tensors)
    return estimator


class EstimateBatch:
    """Ray Data's actor: `instance_id`, `image` -> the columns of `estimate_ranks`."""

    def __init__(self, folder: str) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._estimator = load_estimator(Path(folder)).to(self._device)

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """One batch of images."""
        found = self._estimator.estimate(torch.from_numpy(np.array(batch["image"])).to(self._device))
        levels = len(self._estimator.rank_levels)
        columns = {
            "instance_id": batch["instance_id"],
            "estimate": found.ranks.cpu().numpy(),
            "cluster": found.clusters.cpu().numpy(),
            "similarity": found.similarities.cpu().numpy(),
        }
        for name, values in (("posterior", found.posteriors), ("references", found.references)):
            columns[name] = pa.FixedSizeListArray.from_arrays(values.cpu().numpy().ravel(), levels)
        return pa.table(columns)


def estimate_ranks(images: ray.data.Dataset, model: Path, output: Path) -> pd.DataFrame:
    """Estimates over a data set of `instance_id`, `image`, by as many actors as there is work and room for.

    Args:
        images: decoded images of the model's size.
        model: folder of `save_estimator`, readable from every machine.
        output: folder of Parquet files with a row an image, written anew: `instance_id`, `estimate`, `cluster`,
            `similarity`, `posterior` (over the rank levels), `references` (an instance id a rank level, or -1).

    Returns:
        `estimate`, `cluster` and `similarity` by instance_id.
    """
    rows = images.map_batches(
        EstimateBatch,
        fn_constructor_args=(str(model),),
        batch_size=BATCH,
        **actors_for(images.count()),
        zero_copy_batch=True,
    )
    shutil.rmtree(output, ignore_errors=True)
    rows.write_parquet(str(output))
    table = pq.read_table(output, columns=["instance_id", "estimate", "cluster", "similarity"])
    return table.to_pandas().set_index("instance_id").sort_index()


def read_estimates(output: Path, instance_ids: NDArray[np.int64]) -> pd.DataFrame:
    """Whole rows of a few images, from the files of `estimate_ranks`, by instance_id."""
    table = pq.read_table(output, filters=[("instance_id", "in", instance_ids.tolist())])
    return table.to_pandas().set_index("instance_id").loc[instance_ids]
