"""The figures of a run: which images and numbers go into which of the paper's figures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ordclust_ray.core.networks import to_uint8
from ordclust_ray.core.rank_estimator import RankEstimator
from ordclust_ray.data.decoded import images_by_id
from ordclust_ray.data.prepare import Prepared
from ordclust_ray.estimation import read_estimates
from ordclust_ray.figures import drc
from ordclust_ray.training.orid import encode

MAP_POINTS = 600
SHOWN = 8


def run_figures(
    prepared: Prepared,
    estimator: RankEstimator,
    assignments: pd.DataFrame,
    estimates: Path,
    history: list[dict[str, Any]],
    images: Mapping[str, NDArray[Any]],
    seed: int,
) -> Iterator[tuple[str, Figure]]:
    """Name and figure, one after another.

    Args:
        prepared: the data.
        estimator: the trained model.
        assignments: `cluster` and `similarity` by instance_id of the training images.
        estimates: folder of `estimation.estimate_ranks`.
        history: a record an epoch.
        images: from `evaluation.sample_images`.
        seed: of t-SNE.
    """
    ids, pictures = images["train_ids"], images["train"]
    k = len(estimator.centroids)
    ranks = prepared.manifest.loc[ids, "rank"].to_numpy()
    clusters = assignments.loc[ids, "cluster"].to_numpy()
    similarities = assignments.loc[ids, "similarity"].to_numpy()
    all_ranks = prepared.manifest.loc[assignments.index, "rank"].to_numpy()
    yield "montage", drc.cluster_montage(pictures, ranks, clusters, similarities, num_clusters=k)
    yield "rank_histograms", drc.rank_histograms(all_ranks, assignments["cluster"].to_numpy(), num_clusters=k)
    yield "clustering", drc.clustering_curves([record for record in history if "centroid_affinity" in record])
    with torch.no_grad():
        h = encode(estimator.networks.orid, torch.from_numpy(pictures[:MAP_POINTS]))
        order, identity = (part.numpy() for part in estimator.networks.orid.split(h))
        for name, features in (("order", order), ("identity", identity)):
            title = f"t-SNE of the {name} features"
            shown = len(features)
            yield f"tsne_{name}", drc.feature_map(features, ranks[:shown], clusters[:shown], title=title, seed=seed)
        yield "reconstructions", _reconstructions(estimator, pictures[: 2 * SHOWN], h[: 2 * SHOWN])
        yield "order_transfer", _order_transfer(estimator, pictures, ranks, h)
    yield "references", _reference_panel(prepared, estimates, images)


def _reconstructions(estimator: RankEstimator, pictures: NDArray[np.uint8], h: torch.Tensor) -> Figure:
    """Decoded from the whole features, from the identity's half alone, and from the order's."""
    of_order = torch.arange(h.shape[1]) < estimator.networks.orid.order_dim
    decoded = (to_uint8(estimator.networks.orid.decoder(part)).numpy() for part in (h, h * ~of_order, h * of_order))
    return drc.reconstructions(pictures, *decoded)


def _order_transfer(
    estimator: RankEstimator, pictures: NDArray[np.uint8], ranks: NDArray[np.float64], h: torch.Tensor
) -> Figure:
    """Identity of a few images with the order feature of images over the whole range of ranks."""
    by_rank = np.argsort(ranks[: len(h)], kind="stable")
    givers = by_rank[np.linspace(0, len(by_rank) - 1, SHOWN).round().astype(int)]
    keepers = np.setdiff1d(np.arange(len(h)), givers)[: SHOWN // 2]
    keepers = keepers if len(keepers) else givers[:1]  # fewer images than there are givers
    dim = estimator.networks.orid.order_dim
    mixed = torch.cat(
        [h[givers, :dim].repeat(len(keepers), 1), h[keepers, dim:].repeat_interleave(len(givers), 0)], dim=1
    )
    decoded = to_uint8(estimator.networks.orid.decoder(mixed)).numpy()
    grid = decoded.reshape(len(keepers), len(givers), *decoded.shape[1:])
    return drc.order_transfer(pictures[keepers], pictures[givers], grid)


def _reference_panel(prepared: Prepared, estimates: Path, images: Mapping[str, NDArray[Any]]) -> Figure:
    """A few held-out images over the range of ranks, each with its reference of every rank."""
    test_place = pd.Series(np.arange(len(images["test_ids"])), index=images["test_ids"])
    ranks = prepared.manifest.loc[test_place.index, "rank"].sort_values(kind="stable")
    shown = ranks.iloc[np.linspace(0, len(ranks) - 1, min(SHOWN - 2, len(ranks))).round().astype(int)].index
    rows = read_estimates(estimates, shown.to_numpy())
    references = [_spread(ids[ids >= 0]) for ids in rows["references"]]
    pictures = images_by_id(prepared.train, np.unique(np.concatenate(references)))
    return drc.reference_panel(
        images["test"][test_place[shown].to_numpy()],
        ranks[shown].to_numpy(),
        rows["estimate"].to_numpy(dtype=float),
        [np.stack([pictures[i] for i in ids.tolist()]) for ids in references],
        [prepared.manifest.loc[ids, "rank"].to_numpy() for ids in references],
        np.stack(rows["posterior"].to_list()),
        prepared.rank_levels,
    )


def _spread(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many as the figure shows, evenly over the ranks."""
    most = min(len(ids), drc.MAX_REFERENCES)
    return ids[np.linspace(0, len(ids) - 1, most).round().astype(int)]
