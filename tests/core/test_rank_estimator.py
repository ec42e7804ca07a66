"""The whole estimate against a loop over images, rank levels and references, with random weights."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.networks import Orid, to_unit_range
from ordclust_ray.core.order import Order, RankScale, similar_levels
from ordclust_ray.core.rank_estimator import Encoded, Estimates, RankEstimator, RankNetworks
from ordclust_ray.core.rank_posterior import level_likelihoods

K, P, A, D = 3, 4, 6, 10
RANKS = {"linear": [0.1, 0.2, 0.3, 0.5, 0.8, 0.9], "geometric": [16.0, 17.0, 20.0, 22.0, 40.0, 43.0]}
KINDS = ("ids", "compared", "identity")
TOLERANCE = {"linear": 0.1, "geometric": 0.1}


def build(scale: RankScale = "linear", seed: int = 0, references: int = 1) -> RankEstimator:
    """Random networks and references: clusters without some levels, and places that are empty."""
    torch.manual_seed(seed)
    orid = Orid(image_size=16, width=0.25, order_dim=A, identity_dim=D)
    for module in orid.modules():  # statistics as after training, or random features hardly differ
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.get_buffer("running_mean").normal_(0, 0.1)
            module.get_buffer("running_var").uniform_(0.05, 0.3)
    ranks = torch.tensor(RANKS[scale], dtype=torch.float64)
    M = len(ranks)
    edges = similar_levels(ranks.numpy(), TOLERANCE[scale], scale)
    ids = torch.randperm(K * M * P).view(K, M, P) + 100
    filled = torch.randint(1, P + 1, (K, M))  # places are filled from the front
    filled[0, 1] = filled[0, 4] = filled[1, 0] = filled[2, 5] = 0
    ids[torch.arange(P) >= filled[..., None]] = -1
    order, identity = torch.randn(K, M, P, A), F.normalize(torch.randn(K, M, P, D), dim=3)
    order[ids < 0] = identity[ids < 0] = 0.0
    return RankEstimator(
        RankNetworks(orid.train()),
        F.normalize(torch.randn(K, D, dtype=torch.float64), dim=1),
        ranks,
        level_likelihoods(*map(torch.from_numpy, edges)),
        ids,
        order,
        identity,
        references=references,
    )


def images_of(n: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def said_by(order: Order, i: int, r: int, ranks: list[float], scale: RankScale) -> float:
    """P(rank r | the order against a reference of rank i), eq. (31): uniform over the ranks in that order."""
    theta = torch.tensor(ranks, dtype=torch.float64)
    theta = theta.log() if scale == "geometric" else theta
    difference = theta - theta[i]
    inside = {
        Order.GREATER: difference > TOLERANCE[scale] + 1e-9,
        Order.SIMILAR: difference.abs() <= TOLERANCE[scale] + 1e-9,
        Order.LESS: difference < -TOLERANCE[scale] - 1e-9,
    }[order]
    return 1 / int(inside.sum()) if inside[r] else 0.0


@dataclass(frozen=True)
class ByLoops:
    """The fields of `Estimates`, for one image."""

    ranks: dict[str, float]
    cluster: int
    similarity: float
    posterior: list[float]
    references: list[list[int]]


@torch.no_grad()
def estimate_by_loops(estimator: RankEstimator, image: Tensor, scale: RankScale) -> ByLoops:
    """Eq. (9), (13), (31)-(33) and the other rules, one level, reference and rank at a time."""
    ranks, r = RANKS[scale], estimator.references
    orid = estimator.networks.orid
    order, identity = orid.features(to_unit_range(image[None]))
    similarities = [float(identity[0] @ centroid) for centroid in estimator.get_buffer("centroids")]
    cluster = similarities.index(max(similarities))
    ids, y_order, y_identity = (estimator.get_buffer(f"reference_{name}")[cluster] for name in KINDS)
    references: list[list[int]] = []
    posterior, votes, similar = ([0.0] * len(ranks) for _ in range(3))
    for i in range(len(ranks)):
        cosines = {p: float(identity[0] @ y_identity[i, p]) for p in range(P) if ids[i, p] >= 0}
        places = sorted(cosines, key=cosines.__getitem__, reverse=True)[:r]
        references.append([int(ids[i, place]) for place in places] + [-1] * (r - len(places)))
        for place in places:
            said = orid.comparator(order, y_order[i, place][None])[0].softmax(dim=0).tolist()
            similar[i] = max(similar[i], said[Order.SIMILAR])
            for rank in range(len(ranks)):
                posterior[rank] += sum(said[o] * said_by(o, i, rank, ranks, scale) for o in Order)
                votes[rank] += said_by(Order(said.index(max(said))), i, rank, ranks, scale) > 0
    present = sum(reference >= 0 for row in references for reference in row)
    found = {"map": posterior, "consistency": votes, "nearest": similar}
    estimates = {rule: ranks[values.index(max(values))] for rule, values in found.items()}
    estimates["mean"] = sum(p * rank for p, rank in zip(posterior, ranks, strict=True)) / sum(posterior)
    return ByLoops(estimates, cluster, max(similarities), [p / present for p in posterior], references)


@torch.no_grad()
def estimated(estimator: RankEstimator, images: Tensor) -> Estimates:
    return estimator.estimate(images)


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("scale", ["linear", "geometric"])
def test_estimate_by_loops(scale: RankScale, references: int) -> None:
    estimator, images = build(scale, references=references), images_of(24)
    found = estimated(estimator, images)
    expected = [estimate_by_loops(estimator, image, scale) for image in images]
    assert found.clusters.tolist() == [e.cluster for e in expected]
    assert found.references.tolist() == [e.references for e in expected]
    torch.testing.assert_close(found.similarities, torch.tensor([e.similarity for e in expected]))
    torch.testing.assert_close(found.posteriors, torch.tensor([e.posterior for e in expected]))
    assert found.ranks.tolist() == [e.ranks["map"] for e in expected]
    for rule, values in found.other_ranks.items():
        assert values.tolist() == pytest.approx([e.ranks[rule] for e in expected], rel=1e-4)
    # the comparison says something only if images differ in all of this
    assert set(found.clusters.tolist()) == {0, 1, 2}
    assert len(set(found.ranks.tolist())) > 1
    assert len({str(row) for row in found.references.tolist()}) > 10


@torch.no_grad()
def test_margin_is_to_the_best_other_centroid() -> None:
    estimator, images = build(), images_of(24)
    found = estimated(estimator, images)
    cosines = estimator.networks.orid.features(to_unit_range(images))[1] @ estimator.get_buffer("centroids").T
    first, second = cosines.sort(dim=1, descending=True).values[:, :2].T
    torch.testing.assert_close(found.margins, first - second)
    alone = build()
    alone.register_buffer("centroids", alone.get_buffer("centroids")[:1])
    for name in ("ids", "identity", "halves"):
        alone.register_buffer(f"reference_{name}", alone.get_buffer(f"reference_{name}")[:1])
    assert estimated(alone, images).margins.isnan().all()


@torch.no_grad()
def test_clusters_of_other_features_follow_these() -> None:
    """Clusters of order or whole features (B.8): the NN rule sees those, the references stay nearest in identity."""
    estimator, images = build(), images_of(24)
    order, identity = estimator.networks.orid.features(to_unit_range(images))
    for grouped, features in (("order", order), ("whole", torch.cat([order, identity], dim=1))):
        centroids = F.normalize(torch.randn(K, features.shape[1]), dim=1)
        estimator.register_buffer("centroids", centroids)
        estimator.grouped = grouped  # type: ignore[assignment]
        found = estimated(estimator, images)
        cosines = F.normalize(features, dim=1) @ centroids.T
        assert found.clusters.tolist() == cosines.argmax(dim=1).tolist()
        torch.testing.assert_close(found.similarities, cosines.amax(dim=1))
        ids, known = (estimator.get_buffer(f"reference_{name}") for name in ("ids", "identity"))
        for b, cluster in enumerate(found.clusters.tolist()):
            own = (known[cluster] @ identity[b]).masked_fill(ids[cluster] < 0, -2)
            assert found.references[b, 0, 0] == ids[cluster, 0, own[0].argmax()]


def test_interval_holds_the_mass_and_the_columns_hold_everything() -> None:
    found = estimated(build(), images_of(20))
    levels = torch.tensor(RANKS["linear"], dtype=torch.float64)
    inside = (levels >= found.intervals[:, :1]) & (levels <= found.intervals[:, 1:])
    assert ((found.posteriors * inside).sum(dim=1) >= 0.9 * found.posteriors.sum(dim=1) - 1e-5).all()
    columns = found.columns()
    assert {len(values) for values in columns.values()} == {20}
    assert columns["estimate"].tolist() == found.ranks.tolist()
    assert columns["interval_high"].tolist() == found.intervals[:, 1].tolist()
    assert columns["references"].tolist() == found.references[:, :, 0].tolist()


def test_a_stronger_comparator_compares_its_own_features() -> None:
    """Groups and references stay ORID's."""
    plain = build()
    torch.manual_seed(3)
    stronger = ImageComparator("resnet18", 16, 0.125)
    M, compared = len(RANKS["linear"]), torch.randn(K, len(RANKS["linear"]), P, 512)
    estimator = RankEstimator(
        RankNetworks(plain.networks.orid, stronger),
        plain.centroids,
        plain.rank_levels,
        plain.likelihoods,
        plain.reference_ids,
        compared,
        plain.reference_identity,
    )
    images = images_of(8)
    expected = estimated(plain, images)
    with torch.no_grad():
        found = estimator.estimate(images, images)
        x = stronger.eval().features(images)
        assert torch.equal(found.references, expected.references)
        for b, cluster in enumerate(found.clusters.tolist()):
            for level in range(M):
                place = (plain.get_buffer("reference_ids")[cluster, level] == found.references[b, level, 0]).nonzero()
                if found.references[b, level, 0] >= 0:
                    y = compared[cluster, level, int(place[0])]
                    assert stronger.comparator(x[b : b + 1], y[None]).argmax() == found.orders[b, level, 0]


def test_features_and_images_give_the_same_estimates() -> None:
    estimator, images = build(), images_of(6)
    with torch.no_grad():
        found = estimator.estimate_encoded(Encoded(*estimator.networks.encode(images)))
    torch.testing.assert_close(found.posteriors, estimated(estimator, images).posteriors)


def test_levels_without_a_candidate_have_no_reference_and_do_not_count() -> None:
    estimator = build()
    found = estimated(estimator, images_of(24))
    missing = {0: {1, 4}, 1: {0}, 2: {5}}
    for cluster, references in zip(found.clusters.tolist(), found.references.tolist(), strict=True):
        assert {level for level, (i,) in enumerate(references) if i == -1} == missing[cluster]
    # what stands in an empty place changes nothing
    empty = estimator.get_buffer("reference_ids") < 0
    estimator.get_buffer("reference_halves")[empty] = 99.0
    estimator.get_buffer("reference_identity")[empty] = 1.0
    again = estimated(estimator, images_of(24))
    torch.testing.assert_close(again.posteriors, found.posteriors)
    assert torch.equal(again.references, found.references)


def test_reference_is_the_most_similar_candidate_even_if_it_is_opposite() -> None:
    """A level whose only candidate has a negative cosine: the empty places at cosine 0 are not nearer."""
    estimator = build()
    images = images_of(30)
    with torch.no_grad():
        _, identity = estimator.networks.orid.features(to_unit_range(images))
    found = estimated(estimator, images)
    filled = estimator.get_buffer("reference_ids") >= 0
    opposite = 0
    for b, cluster in enumerate(found.clusters.tolist()):
        for level in range(6):
            own = filled[cluster, level]
            if own.any() and not own.all():
                cosines = estimator.get_buffer("reference_identity")[cluster, level][own] @ identity[b]
                opposite += bool(cosines.max() < 0)
                best = estimator.get_buffer("reference_ids")[cluster, level][own][cosines.argmax()]
                assert int(found.references[b, level, 0]) == int(best)
    assert opposite > 0


def test_rank_is_the_most_probable_level() -> None:
    found = estimated(build(), images_of(20))
    levels = torch.tensor(RANKS["linear"], dtype=torch.float64)
    assert torch.equal(found.ranks, levels[found.posteriors.argmax(dim=1)])
    assert (found.posteriors.sum(dim=1) <= 1 + 1e-6).all()


def test_estimator_is_in_evaluation_mode_whatever_it_was_given() -> None:
    """Dropout or the statistics of a batch would make an estimate depend on chance and on the other images."""
    estimator, images = build(), images_of(8)
    assert not any(module.training for module in estimator.modules())
    together = estimated(estimator, images)
    torch.testing.assert_close(estimated(estimator, images).posteriors, together.posteriors)
    alone = torch.cat([estimated(estimator, image[None]).posteriors for image in images])
    torch.testing.assert_close(alone, together.posteriors)


def test_cluster_without_any_reference_is_passed_over() -> None:
    """Without repulsion and floor a cluster can be empty; a new image goes to the nearest of the others."""
    estimator, images = build(), images_of(24)
    before = estimated(estimator, images)
    estimator.get_buffer("reference_ids")[1] = -1
    found = estimated(estimator, images)
    with torch.no_grad():
        _, identity = estimator.networks.orid.features(to_unit_range(images))
    similarities = identity @ estimator.get_buffer("centroids").T
    others = before.clusters != 1
    assert 0 < int(others.sum()) < 24
    assert found.clusters.tolist() == [0 if s[0] >= s[2] else 2 for s in similarities.tolist()]
    torch.testing.assert_close(found.similarities, similarities[:, [0, 2]].amax(dim=1))
    torch.testing.assert_close(found.posteriors[others], before.posteriors[others])
    assert (found.posteriors.sum(dim=1) > 0.5).all()


def test_without_any_reference_nothing_is_estimated() -> None:
    known = build()
    tensors = (known.reference_compared, known.reference_identity)
    with pytest.raises(ValueError, match=r"\Athere is no reference in any cluster; at least one is needed\Z"):
        RankEstimator(
            known.networks,
            known.centroids.double(),
            known.rank_levels,
            known.likelihoods,
            torch.full_like(known.reference_ids, -1),
            *tensors,
        )
