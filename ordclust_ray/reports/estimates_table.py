"""How good estimates are: of every rule, beside what anybody gets for nothing, and by rank, cluster and group."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from numpy.typing import NDArray

from ordclust_ray.config import EstimateConfig
from ordclust_ray.core import baselines
from ordclust_ray.core.order import ROUNDING, Order, RankScale
from ordclust_ray.reports.results import Results, rank_measures

METHODS = {
    "MAP": "estimate",
    "max. consistency": "consistency",
    "posterior mean": "mean",
    "nearest reference": "nearest",
}


def evaluate(
    config: EstimateConfig,
    folder: Path,
    estimates: pd.DataFrame,
    train_ranks: pd.Series,
    features: Mapping[str, NDArray],
    comparison: Mapping[str, Any],
) -> Results:
    """Compares the rules of estimation with each other and with the median and nearest neighbours.

    Args:
        config: the job's settings.
        folder: of the estimates, whole rows.
        estimates: `estimation.read_scalars` of it.
        train_ranks: by instance_id of the training images.
        features: `instance_id`, `identity`, `order` of held-out images and of the neighbours.
        comparison: `tolerance` and `scale`, as the comparator was trained.
    """
    usable = estimates[estimates["error"] == ""]
    truth, limit = usable["rank"].to_numpy(), config.cumulative_score_at
    levels = np.unique(train_ranks)
    measures = {name: rank_measures(usable[column].to_numpy(), truth, limit) for name, column in METHODS.items()}
    del measures["posterior mean"]["accuracy"]  # it need not be a level
    inside = (usable["interval_low"] <= usable["rank"]) & (usable["rank"] <= usable["interval_high"])
    measures["MAP"] |= {
        "in the interval": float(inside.mean()),
        "interval length": float((usable["interval_high"] - usable["interval_low"]).mean()),
        "entropy": float(usable["entropy"].mean()),
        "comparisons right": comparison_accuracy(folder, levels, comparison),
    }
    median = np.full(len(truth), baselines.median_rank(train_ranks.to_numpy(), levels))
    measures["median"] = rank_measures(median, truth, limit)
    asked = usable.index.intersection(pd.Index(features["instance_id"]))
    for name, ranks in neighbours(features, asked, train_ranks, levels, config.neighbours).items():
        measures[f"k-NN on {name}"] = rank_measures(ranks, usable.loc[asked, "rank"].to_numpy(), limit)
    sizes = np.bincount(usable["cluster"].astype(int)).tolist()
    note = f"held-out: {len(usable)} images"
    note += f", and {len(estimates) - len(usable)} broken" if len(usable) < len(estimates) else ""
    note += f"; neighbours of {len(asked)} of them" if len(asked) < len(usable) else ""
    return Results(measures, sizes, note)


def neighbours(
    features: Mapping[str, NDArray], held_out: pd.Index, train_ranks: pd.Series, levels: NDArray[np.float64], k: int
) -> dict[str, NDArray[np.float64]]:
    """The rank level nearest to the mean rank of the k nearest training images, by the features that are looked at."""
    ids = pd.Index(features["instance_id"][features["error"] == ""])
    known = ids.intersection(train_ranks.index)
    rows, own = ids.get_indexer(known), ids.get_indexer(held_out)
    kinds = {name: features[name][features["error"] == ""] for name in ("identity", "order")}
    kinds["whole"] = np.concatenate([kinds["order"], kinds["identity"]], axis=1)
    return {
        name: baselines.neighbour_ranks(values[rows], train_ranks[known].to_numpy(), values[own], levels, k)
        for name, values in kinds.items()
    }


def parts(estimates: pd.DataFrame, limit: float) -> dict[str, pd.DataFrame]:
    """Measures of the MAP estimates by rank, by cluster, and by group where groups are known."""
    usable = estimates[estimates["error"] == ""]
    wanted = [name for name in ("rank", "cluster", "group") if name in usable]
    return {name: pd.DataFrame(_rows(usable, name, limit)).set_index(name) for name in wanted}


def _rows(estimates: pd.DataFrame, name: str, limit: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for value, rows in estimates.groupby(name, observed=True):
        errors = (rows["estimate"] - rows["rank"]).to_numpy()
        measures = rank_measures(rows["estimate"].to_numpy(), rows["rank"].to_numpy(), limit)
        found.append({name: value, "images": len(rows), **measures, "bias": float(errors.mean())})
    return found


def comparison_accuracy(folder: Path, levels: NDArray[np.float64], comparison: Mapping[str, Any]) -> float:
    """How often a comparison with a reference is right, the mean over the three orders; chance is 1/3.

    Args:
        folder: of the estimates; the truth stands beside them.
        levels: (M,) rank levels.
        comparison: `tolerance` and `scale`, as the comparator was trained.
    """
    right, total = np.zeros(len(Order)), np.zeros(len(Order))
    rows = ds.dataset(folder, format="parquet")
    for batch in rows.to_batches(columns=["rank", "orders", "references"], filter=ds.field("error") == ""):
        if len(batch):
            said, references = (np.array(batch[name].to_pylist()) for name in ("orders", "references"))
            true = true_orders(batch["rank"].to_numpy(), levels, **comparison)
            true = true.repeat(said.shape[1] // len(levels), axis=1)
            for order in Order:
                counted = (references >= 0) & (true == order)
                right[order] += (said == true)[counted].sum()
                total[order] += counted.sum()
    return float((right / total)[total > 0].mean())


def true_orders(
    ranks: NDArray[np.float64], levels: NDArray[np.float64], tolerance: float, scale: RankScale
) -> NDArray[np.int64]:
    """(n, M) the order of each rank, which need not be a level, against each level (4)."""
    theta, thetas = (np.log(ranks), np.log(levels)) if scale == "geometric" else (ranks, levels)
    reach = tolerance + ROUNDING * (thetas[-1] - thetas[0])
    difference = theta[:, None] - thetas
    return np.where(difference > reach, Order.GREATER, np.where(difference < -reach, Order.LESS, Order.SIMILAR))
