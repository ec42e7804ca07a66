"""DRC-ORID, the comparator that follows it and their measures, in this process, without Ray."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ordclust_ray.config import ComparatorConfig, DrcConfig, RankConfig
from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.rank_estimator import Encoded, RankNetworks
from ordclust_ray.data.prepare import TEST, TRAIN, Divided
from ordclust_ray.references import Comparison, build_estimator, choose_candidates
from ordclust_ray.reports import analysis_table as analysis
from ordclust_ray.reports.results import rank_measures
from ordclust_ray.reproduction.measures import cluster_measures, feature_measures, of_ranks
from ordclust_ray.training.comparator import ComparatorRun, ComparatorTrainer
from ordclust_ray.training.comparator_weights import load_weights
from ordclust_ray.training.drc_orid import DrcOrid, InMemoryData, Problem
from ordclust_ray.training.epochs import Pool
from ordclust_ray.training.orid import OridTrainer

ENCODED_AT_ONCE = 256
Images = Callable[[NDArray[np.int64]], Tensor]
"""(N,) instance ids -> (N, S, S, 3) uint8."""


@dataclass
class ClusteredImages:
    """`comparator.ClusteredData` of a single process: everything in one pool."""

    images: Tensor
    levels: Tensor
    clusters: Tensor
    num_pools: int = 1

    @property
    def bases_a_pool(self) -> int:
        """Every image is the x of a pair once."""
        return len(self.images)

    def pools(self) -> Iterator[Pool]:
        """One pool."""
        yield Pool(self.images, torch.arange(len(self.images), device=self.images.device))


@dataclass(frozen=True)
class Compared:
    """Who compares images, and how.

    Attributes:
        networks: ORID, and the stronger comparator where there is one.
        images: of each network's size.
        rank: which ranks are similar.
    """

    networks: RankNetworks
    images: list[Images]
    rank: RankConfig

    @torch.inference_mode()
    def encode(self, instance_ids: NDArray[np.int64], device: torch.device) -> Encoded:
        """What the networks make of images, on the CPU."""
        chunks = np.array_split(instance_ids, max(1, -(-len(instance_ids) // ENCODED_AT_ONCE)))
        parts = [self.networks.encode(*(of(chunk).to(device) for of in self.images)) for chunk in chunks]
        return Encoded(*(torch.cat(part).cpu() for part in zip(*parts, strict=True)))


class LocalDrc:
    """A run: trained when it is made.

    Args:
        config: its settings.
        divided: training and held-out images.
        images: of ORID's size.
        device: that trains.

    Attributes:
        model: networks, clusters and history.
        compared: by ORID itself.
    """

    def __init__(self, config: DrcConfig, divided: Divided, images: Images, device: torch.device) -> None:
        self.config, self._divided, self._device = config, divided, device
        ids = np.flatnonzero(divided.columns[TRAIN])
        self._ids = ids[np.argsort(divided.columns["key"][ids])]  # in the order that Ray's rows have
        torch.manual_seed(config.run.seed)
        data = InMemoryData(
            images(self._ids).to(device),
            torch.from_numpy(self._ids).to(device),
            self._column("level"),
            self._column("group"),
        )
        problem = self._problem(config.rank, len(divided.groups))
        self.model = DrcOrid(config, problem, data, OridTrainer(config, device))
        for _ in range(config.training.epochs):
            self.model.run_epoch()
        self._similarities = self.model.conclude()["similarities"].cpu().numpy()
        self.compared = Compared(RankNetworks(self.model.trainer.orid), [images], config.rank)

    def _column(self, name: str) -> Tensor:
        return torch.from_numpy(self._divided.columns[name][self._ids]).to(self._device)

    def _problem(self, rank: RankConfig, num_groups: int) -> Problem:
        return Problem.of(len(self._ids), self._divided.rank_levels, rank, num_groups)

    def trained_comparator(self, config: ComparatorConfig, images: Images) -> Compared:
        """The stronger comparator, trained on pairs within the clusters.

        Args:
            config: its settings.
            images: of its size.
        """
        rank, settings = config.rank.resolved(self.config.rank), config.comparator
        torch.manual_seed(config.run.seed)
        trainer = ComparatorTrainer(config, self._device)
        network = ImageComparator(settings.network, settings.image_size, settings.width)
        load_weights(network, settings.weights)
        trainer.network.load_state_dict(network.state_dict())
        data = ClusteredImages(images(self._ids).to(self._device), self._column("level"), self.model.assignments)
        run = ComparatorRun(config, self._problem(rank, 0), data, trainer)
        for _ in range(config.training.epochs):
            run.run_epoch()
        networks = RankNetworks(self.model.trainer.orid, trainer.network)
        return Compared(networks, [*self.compared.images, images], rank)

    def _samples(self, compared: Compared) -> list[analysis.Sample]:
        """Training and held-out images as the networks see them."""
        ranks, groups = self._divided.manifest["rank"], self._divided.columns["group"]
        return [
            analysis.Sample(ids, compared.encode(ids, self._device), ranks[ids].to_numpy(), groups[ids])
            for ids in (np.sort(self._ids), np.flatnonzero(self._divided.columns[TEST]))
        ]

    def measures(self, compared: Compared) -> dict[str, float]:
        """Of ranks, as somebody compares them, and of clusters."""
        train, test = self._samples(compared)
        assert self.model.centroids is not None
        centroids, levels, rank = self.model.centroids.cpu().numpy(), self._divided.rank_levels, compared.rank
        clusters = pd.Series(self.model.assignments.cpu().numpy(), index=self._ids, name="cluster")
        members = pd.DataFrame({"cluster": clusters, "similarity": self._similarities})
        features = {name: getattr(train.encoded, name).numpy() for name in ("compared", "identity")}
        estimator = build_estimator(
            deepcopy(compared.networks).cpu(),
            choose_candidates(members.join(self._divided.manifest["rank"]), len(centroids), levels, rank.candidates),
            {"instance_id": train.instance_ids, **features},
            centroids,
            Comparison(levels, rank.tolerance, rank.scale, rank),
        )
        found = rank_measures(estimator.map_ranks(test.encoded).numpy(), test.ranks, rank.cumulative_score_at)
        return of_ranks(found, rank.cumulative_score_at) | cluster_measures(clusters, self._divided.manifest, centroids)

    def feature_measures(self, epochs: int) -> dict[str, float]:
        """Of clusters of other features, and of what comparators can tell from them (tables 11 and 12)."""
        train, test = self._samples(self.compared)
        return feature_measures(train, test, deepcopy(self.model.trainer.orid).cpu(), self.config, epochs)
