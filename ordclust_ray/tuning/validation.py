"""What trials are judged by, asked after some epochs in every process of a training: no image of the final test."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from numpy.typing import NDArray
from torch import Tensor

from ordclust_ray.clustering.kmeans import kmeans
from ordclust_ray.clustering.measures import plain_measures
from ordclust_ray.config import RankConfig
from ordclust_ray.core.metrics import adjusted_rand_index, contingency
from ordclust_ray.core.networks import Orid
from ordclust_ray.core.random_keys import another_seed
from ordclust_ray.core.rank_estimator import Encoded, RankEstimator, RankNetworks
from ordclust_ray.core.references import own_and_margin
from ordclust_ray.core.shares import share_edges
from ordclust_ray.processes import all_gather, all_reduce_sum, process_rank, world_size
from ordclust_ray.references import Comparison, build_estimator, choose_candidates
from ordclust_ray.training.comparator import ComparatorRun
from ordclust_ray.training.drc_orid import DrcOrid
from ordclust_ray.training.idfd_run import Idfd
from ordclust_ray.training.orid import extract_features
from ordclust_ray.tuning.space import CLUSTERS

STABILITY = "stability"
AT_ONCE = 256
"""Images that are encoded at a time."""
ANOTHER = 1
"""Tells the seed of the clustering that stability compares with from that of the run."""


def own_part(length: int) -> slice:
    """Of so many rows, those that this process deals with."""
    edges = share_edges(length, world_size())
    return slice(edges[process_rank()], edges[process_rank() + 1])


@dataclass(frozen=True)
class HeldOut:
    """Images of the validation part.

    Attributes:
        images: reference to (V, S, S, 3) uint8.
        ranks: (V,) their true ranks.
    """

    images: ray.ObjectRef
    ranks: NDArray[np.float64]

    def own_images(self, device: torch.device) -> Tensor:
        """Those that this process deals with, on its device."""
        return torch.from_numpy(np.array(ray.get(self.images)[own_part(len(self.ranks))])).to(device)

    def measures(self, estimator: RankEstimator, encoded: Encoded, limit: float) -> dict[str, float]:
        """MAE, CS up to a limit and accuracy over all processes.

        Args:
            estimator: on the device of the features.
            encoded: of this process's images.
            limit: in the unit of the ranks.
        """
        estimates = estimator.map_ranks(encoded)
        errors = (estimates - torch.tensor(self.ranks[own_part(len(self.ranks))]).to(estimates.device)).abs()
        sums = torch.stack([errors.sum(), (errors <= limit).double().sum(), (errors == 0).double().sum()])
        means = all_reduce_sum(sums) / len(self.ranks)
        return dict(zip(("MAE", "CS", "accuracy"), means.tolist(), strict=True))


@dataclass(frozen=True)
class OridValidation:
    """`measure` of `orid_worker.TrainJob`: the error of held-out ranks, and criteria of the clusters, round by round.

    Attributes:
        held_out: images and ranks.
        rank_levels: (M,) the distinct ranks of the training images.
        metric: of the sweep. Stability, which costs a clustering, is known at the end alone unless it is the metric.
        sample: training images that silhouette and nearest neighbours are computed for.
    """

    held_out: HeldOut
    rank_levels: NDArray[np.float64]
    metric: str
    sample: int = 2_000

    def __call__(self, model: DrcOrid) -> dict[str, float]:
        """MAE, CS, accuracy, and with clusters silhouette, nearest_same_cluster, stability; nothing within a round."""
        if not model.config.training.ends_round(len(model.history)):
            return {}
        order, identity = model.features()
        centroids = model.centroids_of(identity)
        images = self.held_out.own_images(model.trainer.device)
        own_order, own_identity = extract_features(model.trainer.orid, images)
        estimator = self._estimator(model, order, identity, centroids).to(model.trainer.device)
        limit = model.config.rank.cumulative_score_at
        found = self.held_out.measures(estimator, Encoded(own_order, own_identity, own_order), limit)
        return found | self._of_clusters(model, identity)

    def _estimator(self, model: DrcOrid, order: Tensor, identity: Tensor, centroids: Tensor) -> RankEstimator:
        """With references from all processes: of each its most typical ones, and of those the most typical."""
        rank, data = model.config.rank, model.data

        def typical(of: pd.DataFrame) -> NDArray[np.int64]:
            return choose_candidates(of, len(centroids), self.rank_levels, rank.candidates)

        members = pd.DataFrame(
            {
                "cluster": model.assignments.cpu().numpy(),
                "similarity": own_and_margin(identity, centroids.float(), model.assignments)[0].cpu().numpy(),
                "rank": self.rank_levels[data.levels.cpu().numpy()],
            },
            index=pd.Index(data.instance_ids.cpu().numpy(), name="instance_id"),
        )
        rows = np.flatnonzero(members.index.isin(typical(members).ravel()))
        own = [features[torch.from_numpy(rows).to(features.device)].cpu().numpy() for features in (order, identity)]
        parts = all_gather((members.iloc[rows], *own))
        everyone = pd.concat([part[0] for part in parts])
        by_id = np.argsort(everyone.index)
        compared, identities = (np.concatenate([part[i] for part in parts])[by_id] for i in (1, 2))
        return build_estimator(
            RankNetworks(deepcopy(model.trainer.orid).cpu()),
            typical(everyone),
            {"instance_id": everyone.index.to_numpy()[by_id], "compared": compared, "identity": identities},
            centroids.cpu().numpy(),
            Comparison(self.rank_levels, rank.tolerance, rank.scale, rank),
        )

    def _of_clusters(self, model: DrcOrid, identity: Tensor) -> dict[str, float]:
        k, seed = model.config.clustering.num_clusters, model.config.run.seed
        if k == 1:
            return dict.fromkeys([*CLUSTERS, *(["nmi"] if model.problem.num_groups else [])], float("nan"))
        edges = share_edges(model.problem.num_train, world_size())
        clusters, first = model.assignments.cpu().numpy(), edges[process_rank()]
        plain = plain_measures(identity, first, model.problem.num_train, clusters, k, sample=self.sample, seed=seed)
        if self.metric != STABILITY and len(model.history) < model.config.training.epochs:
            return numbers(plain)
        return numbers(plain) | {STABILITY: model.stability(identity, another_seed(seed, ANOTHER))}


@dataclass(frozen=True)
class ComparatorValidation:
    """`measure` of `comparator_worker.ComparatorJob`: the error of held-out ranks after each epoch.

    Attributes:
        held_out: images in the comparator's size, and ranks.
        encoded: of the held-out images, by ORID: identity and order features.
        candidates: (K, M, P) instance ids.
        instance_ids: (C,) of the candidates, ascending.
        images: reference to their images (C, T, T, 3) uint8.
        identity: (C, D) their identity features.
        centroids: (K, D) of the clusters.
        rank_levels: (M,).
        rank: which ranks are similar, and how many references there are.
        orid: reference to ORID.
    """

    held_out: HeldOut
    encoded: tuple[NDArray[np.float32], NDArray[np.float32]]
    candidates: NDArray[np.int64]
    instance_ids: NDArray[np.int64]
    images: ray.ObjectRef
    identity: NDArray[np.float32]
    centroids: NDArray[np.float64]
    rank_levels: NDArray[np.float64]
    rank: RankConfig
    orid: ray.ObjectRef

    def __call__(self, model: ComparatorRun) -> dict[str, float]:
        """MAE, CS and accuracy."""
        network, device = deepcopy(model.trainer.network).eval(), model.trainer.device
        orid: Orid = deepcopy(ray.get(self.orid))
        candidates = torch.from_numpy(np.array(ray.get(self.images)[own_part(len(self.instance_ids))])).to(device)
        own = own_part(len(self.held_out.ranks))
        with torch.inference_mode():
            parts = [network.features(batch).cpu() for batch in candidates.split(AT_ONCE)]
            batches = self.held_out.own_images(device).split(AT_ONCE)
            compared = torch.cat([network.features(batch) for batch in batches])
        features = {"compared": torch.cat(all_gather(torch.cat(parts))).numpy(), "identity": self.identity}
        estimator = build_estimator(
            RankNetworks(orid, network.cpu()),
            self.candidates,
            {"instance_id": self.instance_ids, **features},
            self.centroids,
            Comparison(self.rank_levels, self.rank.tolerance, self.rank.scale, self.rank),
        ).to(device)
        identity, order = (torch.tensor(part[own]).to(device) for part in self.encoded)
        return self.held_out.measures(estimator, Encoded(compared, identity, order), self.rank.cumulative_score_at)


@dataclass(frozen=True)
class BankCriteria:
    """`measure` of `idfd_worker.IdfdJob`: criteria of the clusters, as numbers, where there was a clustering.

    Attributes:
        metric: of the sweep. Stability, which costs a clustering, is known at the end alone unless it is the metric.
    """

    metric: str

    def __call__(self, model: Idfd) -> dict[str, float]:
        """`silhouette`, `nearest_same_cluster`, and `stability`, how well clusters from other starts agree."""
        record, bank, settings = model.history[-1], model.trainer.bank, model.config.clustering
        if "silhouette" not in record or model.clusters is None:
            return {}
        if self.metric != STABILITY and len(model.history) < model.config.training.epochs:
            return numbers(record)
        other = kmeans(
            bank.rows,
            bank.first,
            model.num_clusters,
            starts=settings.starts,
            seed=another_seed(another_seed(model.config.run.seed, len(model.history)), ANOTHER),
            sklearn_rows=settings.sklearn_images,
        )
        table = contingency(model.clusters.assignments, other.assignments, model.num_clusters, model.num_clusters)
        return numbers(record) | {STABILITY: adjusted_rand_index(np.sum(all_gather(table), axis=0))}


def numbers(measures: dict[str, Any]) -> dict[str, float]:
    """Silhouette and nearest neighbours, NaN where they say nothing."""
    silhouette = measures["silhouette"]
    return {
        "silhouette": float("nan") if silhouette is None else silhouette,
        "nearest_same_cluster": measures["nearest_same_cluster"],
    }
