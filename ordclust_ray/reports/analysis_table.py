"""What the decomposition is good for: the paper's tables 8 to 12 (appendices B.6-B.9), a run's numbers beside them."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ordclust_ray.clustering.estimator import RepulsiveKMeans
from ordclust_ray.config import ClusteringConfig, DrcConfig
from ordclust_ray.core.metrics import contingency, normalized_mutual_information
from ordclust_ray.core.networks import Comparator, Orid
from ordclust_ray.core.random_keys import random_keys
from ordclust_ray.core.rank_estimator import Encoded, Grouped, RankNetworks
from ordclust_ray.figures.drc import feature_map, rank_histograms
from ordclust_ray.references import Comparison, build_estimator, choose_candidates
from ordclust_ray.reports.drc_figures import MAP_POINTS
from ordclust_ray.reports.results import rank_measures
from ordclust_ray.training.comparator_heads import Instances, order_accuracy, train_head

THIS, PLAIN = "this run", "alpha0"
KINDS: tuple[Grouped, ...] = ("order", "whole", "identity")
ACCURACY = "held-out accuracy"

UNKNOWN = (nan, nan)
MORPH_BY_REPULSION = {"without": (2.47, 90.7), "with": (2.26, 93.8)}
MORPH_BY_K = {2: (2.26, 93.8), 3: (2.32, 92.7), 4: (2.43, 91.4)}
AADB_BY_K = {4: 0.1073, 6: 0.1059, 8: 0.1056, 10: 0.1060}
MORPH_BY_FEATURE = {"order": (2.42, 91.5), "whole": (2.59, 90.7), "identity": (2.26, 93.8)}
MORPH_ACCURACY = {"order feature": (81.4, 75.4), "identity feature": (43.2, 40.8), "random guess": (33.3, 33.3)}
TITLES = {
    "table_8": "Table 8: without and with repulsion (paper: MORPH II, setting A, k = 2)",
    "table_9": "Tables 9 and 10: numbers of clusters (paper: MORPH II, setting A; AADB)",
    "table_11": "Table 11: clusters of other features (paper: MORPH II, setting A, k = 2)",
    "table_12": "Table 12: accuracy of comparators in per cent (paper: MORPH II, settings A and B)",
}
OTHER_COMPARATOR = (
    "Table 11: the paper trains its VGG16 comparator on each of the clusterings; here it is that of table 6, on the "
    "frozen order features."
)
UNEVEN_HALVES = "Whole features: order features, {:.2g} long in the mean, and identity features of length 1."
ONE_CLUSTER = "k = 1: the run has no clusters, so tables 8 and 11 have no column of ours."


@dataclass(frozen=True)
class Sample:
    """Images as the networks of a run see them.

    Attributes:
        instance_ids: (N,) ascending.
        encoded: their features.
        ranks: (N,) in the data set's unit.
        groups: (N,) int64 known group, -1 where there is none.
    """

    instance_ids: NDArray[np.int64]
    encoded: Encoded
    ranks: NDArray[np.float64]
    groups: NDArray[np.int64]


def sample(features: Mapping[str, NDArray], images: pd.DataFrame) -> Sample:
    """The usable ones of some images.

    Args:
        features: all columns of `estimation.encode`.
        images: `rank`, and `group` where groups are known, by instance_id, ascending.
    """
    rows = np.isin(features["instance_id"], images.index) & (features["error"] == "")
    ids = features["instance_id"][rows]
    known = images.loc[ids]
    names = known.get("group", pd.Series("", index=known.index)).replace("", None)
    encoded = Encoded(*(torch.from_numpy(features[name][rows]) for name in Encoded._fields))
    groups = pd.factorize(names, sort=True)[0].astype(np.int64)
    return Sample(ids, encoded, known["rank"].to_numpy(dtype=float), groups)


def variants(run: ClusteringConfig, wanted: Sequence[int], *, plain: bool = True) -> dict[str, ClusteringConfig]:
    """The clusterings that a run has to be trained with again, by name.

    Args:
        run: its own.
        wanted: numbers of clusters.
        plain: whether the run without repulsion is among them, where it has some.

    >>> list(variants(ClusteringConfig(num_clusters=2), [1, 2, 4]))
    ['alpha0', 'k1', 'k4']
    """
    repelled = plain and run.num_clusters > 1 and run.repulsion > 0
    found = {PLAIN: replace(run, repulsion=0.0)} if repelled else {}
    return found | {f"k{k}": replace(run, num_clusters=k) for k in sorted(set(wanted) - {run.num_clusters})}


def cluster_anew(train: Sample, by: Grouped, run: DrcConfig) -> RepulsiveKMeans:
    """Clusters of some features, made as the run makes those of identity features after its last epoch (B.8)."""
    settings = run.clustering
    return RepulsiveKMeans(
        settings.num_clusters,
        repulsion=settings.repulsion_after(run.training.epochs),
        min_cluster_fraction=settings.min_cluster_fraction,
        init="k-means",
        max_iter=settings.max_iterations,
        tol=settings.tolerance,
        random_state=run.run.seed,
    ).fit(train.encoded.grouped(by))


def regrouped_measures(
    train: Sample,
    test: Sample,
    clusters: RepulsiveKMeans,
    by: Grouped,
    orid: Orid,
    run: DrcConfig,
    **schedule: int,
) -> dict[str, float]:
    """How well ranks are estimated within other clusters, by a comparator of pairs within them (table 11).

    Args:
        train: what the clusters are of, the pairs and the references.
        test: held-out images.
        clusters: from `cluster_anew`.
        by: the features that they are made of.
        orid: the run's networks.
        run: its settings.
        schedule: `epochs` and `seed` of the comparator.

    Returns:
        `Results`' measures of ranks, and NMI of the clusters with ranks and with known groups (NaN without any).
    """
    labels = clusters.labels_.astype(np.int64)
    pairs = Instances(train.encoded.order, train.ranks, torch.from_numpy(labels))
    estimates = estimate_within(train, test, clusters, by, orid, train_head(pairs, run.rank, **schedule), run)
    levels = np.unique(train.ranks, return_inverse=True)[1]
    return {
        **rank_measures(estimates, test.ranks, run.rank.cumulative_score_at),
        "NMI with ranks": _nmi(labels, levels),
        "NMI with groups": _nmi(labels, train.groups),
    }


def estimate_within(
    train: Sample, test: Sample, clusters: RepulsiveKMeans, by: Grouped, orid: Orid, head: Comparator, run: DrcConfig
) -> NDArray[np.float64]:
    """MAP ranks of held-out images from references of these clusters; the arguments are `regrouped_measures`'."""
    networks = RankNetworks(deepcopy(orid))
    networks.orid.comparator = head
    similarities = clusters.transform(train.encoded.grouped(by))[np.arange(len(train.ranks)), clusters.labels_]
    members = pd.DataFrame(
        {"cluster": clusters.labels_, "similarity": similarities, "rank": train.ranks}, index=train.instance_ids
    )
    centroids, levels, rank = clusters.cluster_centers_, np.unique(train.ranks), run.rank
    candidates = choose_candidates(members, len(centroids), levels, rank.candidates)
    features = {name: getattr(train.encoded, name).numpy() for name in ("compared", "identity")}
    comparison = Comparison(levels, rank.tolerance, rank.scale, rank, by)
    known = {"instance_id": train.instance_ids, **features}
    estimator = build_estimator(networks, candidates, known, centroids, comparison)
    return estimator.map_ranks(test.encoded).numpy()


def feature_measures(train: Sample, test: Sample, run: DrcConfig, **schedule: int) -> dict[str, dict[str, float]]:
    """What comparators can tell from order features, and from identity features (table 12).

    Args:
        train: the pairs that they learn from, of all images.
        test: the pairs that are judged.
        run: the run's settings.
        schedule: `epochs` and `seed` of the comparators.
    """
    found = {}
    for kind in ("order", "identity"):
        learnt, judged = (
            Instances(getattr(part.encoded, kind), part.ranks, torch.zeros(len(part.ranks), dtype=torch.int64))
            for part in (train, test)
        )
        head = train_head(learnt, run.rank, **schedule)
        found[f"{kind} feature"] = {ACCURACY: order_accuracy(head, judged, run.rank, schedule["seed"])}
    return found


def figures(train: Sample, clusters: Mapping[Grouped, RepulsiveKMeans], seed: int) -> Iterator[tuple[str, Figure]]:
    """Name and figure: the ranks of each clustering (figure 14), and a map of identity features (figure 15).

    Args:
        train: the images.
        clusters: by the features that they are made of; none where the run has one cluster.
        seed: of the images in the map, and of t-SNE.
    """
    for by, found in clusters.items():
        histograms = rank_histograms(train.ranks, found.labels_, num_clusters=len(found.cluster_centers_))
        yield f"rank_histograms_{by}", histograms
    labels = clusters["identity"].labels_ if clusters else np.zeros(len(train.ranks), dtype=np.int64)
    shown = np.argsort(random_keys(train.instance_ids, seed))[:MAP_POINTS]
    identity, title = train.encoded.identity[shown].numpy(), "t-SNE of the identity features"
    yield "tsne_identity", feature_map(identity, train.ranks[shown], labels[shown], title=title, seed=seed)


def tables(measures: Mapping[str, Mapping[str, float]], run: DrcConfig) -> dict[str, pd.DataFrame]:
    """The paper's tables with our columns, under the names of `TITLES`; NaN where a number is not known.

    Args:
        measures: by `THIS`, the names of `variants`, "clusters of KIND" and "KIND feature".
        run: settings of the run that is analysed.
    """
    settings, cs = run.clustering, f"CS at {run.rank.cumulative_score_at:g}"
    clustered = settings.num_clusters > 1
    repelled = {"without": measures.get(PLAIN, {}), "with": measures[THIS]}
    if settings.repulsion == 0:
        repelled = {"without": measures[THIS]}
    by_k = {int(name[1:]): found for name, found in measures.items() if name[0] == "k"}
    by_k[settings.num_clusters] = measures[THIS]
    by_feature = {kind: measures.get(f"clusters of {kind}", {}) for kind in KINDS}
    accuracies = {**measures, "random guess": {ACCURACY: 1 / 3}}
    numbers = _beside({k: MORPH_BY_K.get(k, UNKNOWN) for k in sorted({*MORPH_BY_K, *AADB_BY_K, *by_k})}, by_k, cs)
    numbers.insert(2, "paper AADB MAE", pd.Series(AADB_BY_K))
    return {
        "table_8": _beside(MORPH_BY_REPULSION, repelled if clustered else {}, cs, ["CA"]),
        "table_9": numbers,
        "table_11": _beside(MORPH_BY_FEATURE, by_feature, cs, ["NMI with ranks", "NMI with groups"]),
        "table_12": pd.DataFrame(
            {
                kind: {"paper, A": a, "paper, B": b, "ours": 100 * accuracies[kind][ACCURACY]}
                for kind, (a, b) in MORPH_ACCURACY.items()
            }
        ).T,
    }


def note(train: Sample, test: Sample, run: DrcConfig) -> str:
    """What a reader of the tables has to know."""
    ours = f"ours: {len(train.ranks)} training and {len(test.ranks)} held-out images of {run.data.path}"
    if run.clustering.num_clusters == 1:
        return f"{ours}\n{ONE_CLUSTER}"
    length = float(train.encoded.order.norm(dim=1).mean())
    return f"{ours}\n{OTHER_COMPARATOR}\n{UNEVEN_HALVES.format(length)}"


def as_text(table: pd.DataFrame) -> str:
    """Four digits, for a terminal; a dash for what is not known."""
    return table.map(lambda value: "-" if np.isnan(value) else f"{value:.4g}").to_string()


def _beside(
    paper: Mapping[Any, tuple[float, float]],
    ours: Mapping[Any, Mapping[str, float]],
    cs: str,
    more: Sequence[str] = (),
) -> pd.DataFrame:
    """Rows of the paper's table, our columns beside its; CS in per cent."""
    rows = {}
    for label, (mae, score) in paper.items():
        own = ours.get(label, {})
        rows[label] = {"paper MAE": mae, "paper CS at 5, %": score, "our MAE": own.get("MAE", nan)}
        rows[label] |= {f"our {cs}, %": 100 * own.get(cs, nan), **{f"our {name}": own.get(name, nan) for name in more}}
    return pd.DataFrame(rows).T


def _nmi(clusters: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    known = groups >= 0
    if not known.any():
        return nan
    table = contingency(clusters[known], groups[known], int(clusters.max()) + 1, int(groups.max()) + 1)
    return normalized_mutual_information(table)
