"""References of a run: which training images they are, and what the networks make of them (section 3.4, eq. 13)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import ray.data
import torch
from numpy.typing import NDArray

from ordclust_ray.config import DrcConfig, InputError, ReferencesConfig
from ordclust_ray.core.order import RankScale, similar_levels
from ordclust_ray.core.rank_estimator import Grouped, RankEstimator, RankNetworks
from ordclust_ray.core.rank_posterior import level_likelihoods
from ordclust_ray.core.references import most_typical
from ordclust_ray.data.decoded import only
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.estimation import encode
from ordclust_ray.models import build_orid, load_networks, save_estimator, save_networks
from ordclust_ray.training.checkpoint import Restored


def choose_candidates(
    members: pd.DataFrame, num_clusters: int, rank_levels: NDArray[np.float64], limit: int
) -> NDArray[np.int64]:
    """The training images that are references of each cluster and rank, the most typical ones.

    Args:
        members: `cluster`, `similarity` to its centroid and `rank`, by instance_id of the training images.
        num_clusters: K.
        rank_levels: (M,) the distinct ranks, ascending.
        limit: P, at most so many of each.

    Returns:
        (K, M, P) instance ids, the most typical first; -1 where there are no more. P is no larger than needed.
    """
    ids = members.index.to_numpy(dtype=np.int64)
    levels = np.searchsorted(rank_levels, members["rank"].to_numpy())
    columns = (members["similarity"].to_numpy(), members["cluster"].to_numpy(np.int64), levels, ids)
    similarity, cluster, level, instance_id = (torch.from_numpy(np.array(column)) for column in columns)
    rows, places = most_typical(similarity.float(), cluster, level, instance_id, len(rank_levels), limit)
    chosen = torch.full((num_clusters, len(rank_levels), int(places.max()) + 1), -1)
    chosen[cluster[rows], level[rows], places] = instance_id[rows]
    return chosen.numpy()


@dataclass(frozen=True)
class Comparison:
    """How ranks are compared, as the comparator was trained, and how they are estimated.

    Attributes:
        rank_levels: (M,) the distinct ranks, ascending.
        tolerance: tau, in the unit of the ranks or of their logarithm.
        scale: of the ranks.
        rules: how many references there are, and what is said of a rank.
        grouped: the features that the clusters are of.
    """

    rank_levels: NDArray[np.float64]
    tolerance: float
    scale: RankScale
    rules: ReferencesConfig
    grouped: Grouped = "identity"


def build_estimator(
    networks: RankNetworks,
    candidates: NDArray[np.int64],
    features: Mapping[str, NDArray],
    centroids: NDArray[np.float64],
    comparison: Comparison,
) -> RankEstimator:
    """Puts networks, clusters and references together.

    Args:
        networks: that encode and compare.
        candidates: (K, M, P) from `choose_candidates`.
        features: `instance_id`, ascending, and `compared` and `identity` of training images, the candidates among them.
        centroids: (K, G) of the clusters.
        comparison: how ranks are compared.
    """
    ids, known = torch.tensor(candidates), features["instance_id"]
    place = np.searchsorted(known, candidates.clip(min=known[0]))
    tables = (torch.from_numpy(features[name][place]) * (ids >= 0)[..., None] for name in ("compared", "identity"))
    edges = similar_levels(comparison.rank_levels, comparison.tolerance, comparison.scale)
    return RankEstimator(
        networks,
        torch.tensor(centroids),
        torch.tensor(comparison.rank_levels),
        level_likelihoods(*(torch.from_numpy(edge) for edge in edges)),
        ids,
        *tables,
        references=comparison.rules.references,
        credible_mass=comparison.rules.credible_mass,
        grouped=comparison.grouped,
    )


def add_references(
    images: ray.data.Dataset,
    model: Path,
    candidates: NDArray[np.int64],
    centroids: NDArray[np.float64],
    comparison: Comparison,
) -> RankEstimator:
    """Makes saved networks an estimator: encodes the candidates, and writes what is known of them into the folder.

    Args:
        images: the candidates' images, decoded in the sizes of `models.sizes_of`.
        model: folder of `models.save_networks`.
        candidates: (K, M, P) from `choose_candidates`.
        centroids: (K, G) of the clusters.
        comparison: how ranks are compared.

    Raises:
        InputError: an image that cannot be read now.
    """
    wanted = np.unique(candidates[candidates >= 0])
    features = encode(images, model, len(wanted))
    broken = features["error"] != ""
    if broken.any():
        row = int(broken.argmax())
        raise InputError(f"image {features['instance_id'][row]}, a reference, is broken: {features['error'][row]}")
    missing = np.setdiff1d(wanted, features["instance_id"])
    if len(missing):
        raise InputError(f"image {missing[0]}, a reference, is not among the images")
    estimator = build_estimator(load_networks(model), candidates, features, centroids, comparison)
    save_estimator(model, estimator, tolerance=comparison.tolerance, scale=comparison.scale)
    return estimator


def assigned(trained: Restored) -> pd.DataFrame:
    """`cluster`, `similarity` and `margin` of a run's training images, by instance_id, from its last checkpoint."""
    names = {"cluster": "assignments", "similarity": "similarities", "margin": "margins"}
    return pd.DataFrame(
        {name: trained.shards[column].numpy() for name, column in names.items()},
        index=pd.Index(trained.shards["instance_ids"].numpy(), name="instance_id"),
    )


def save_trained(model: Path, config: DrcConfig, trained: Restored, prepared: Prepared) -> RankEstimator:
    """A run's model, which compares by ORID itself.

    Args:
        model: folder, made here.
        config: of the run.
        trained: its last checkpoint.
        prepared: what it was trained on.
    """
    assert trained.centroids is not None, "the last checkpoint has centroids, at k = 1 the mean"
    save_networks(model, RankNetworks(build_orid(config, trained.state["orid"])), config, comparator=None)
    centroids, levels, rank = trained.centroids.numpy(), prepared.rank_levels, config.rank
    members = assigned(trained).join(prepared.manifest["rank"])
    candidates = choose_candidates(members, len(centroids), levels, rank.candidates)
    images = only(prepared.train, np.isin(np.arange(len(prepared.checksums)), candidates))
    return add_references(images, model, candidates, centroids, Comparison(levels, rank.tolerance, rank.scale, rank))


def list_candidates(
    candidates: NDArray[np.int64], members: pd.DataFrame, rank_levels: NDArray[np.float64]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The candidates as a table, and the ranks that a cluster lacks.

    Args:
        candidates: (K, M, P) from `choose_candidates`.
        members: what they were chosen from.
        rank_levels: (M,).

    Returns:
        `cluster`, `rank`, `place` (0 is the most typical), `instance_id`, `similarity`; and `cluster`, `rank`.
    """
    cluster, level, place = np.nonzero(candidates >= 0)
    ids = candidates[cluster, level, place]
    chosen = {"cluster": cluster, "rank": rank_levels[level], "place": place, "instance_id": ids}
    absent_cluster, absent_level = np.nonzero((candidates < 0).all(axis=2))
    return (
        pd.DataFrame({**chosen, "similarity": members.loc[ids, "similarity"].to_numpy()}),
        pd.DataFrame({"cluster": absent_cluster, "rank": rank_levels[absent_level]}),
    )
