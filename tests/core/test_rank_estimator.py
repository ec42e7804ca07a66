"""The whole estimate against a loop over images, rank levels and references, with random weights."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ordclust_ray.core.networks import Orid, to_unit_range
from ordclust_ray.core.order import Order, RankScale, similar_levels
from ordclust_ray.core.rank_estimator import Estimates, RankEstimator
from ordclust_ray.core.rank_posterior import level_likelihoods

K, P, A, D = 3, 4, 6, 10
RANKS = {"linear": [0.1, 0.2, 0.3, 0.5, 0.8, 0.9], "geometric": [16.0, 17.0, 20.0, 22.0, 40.0, 43.0]}
KINDS = ("ids", "order", "identity")
TOLERANCE = {"linear": 0.1, "geometric": 0.1}


def build(scale: RankScale = "linear", seed: int = 0) -> RankEstimator:
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
        orid.train(),
        F.normalize(torch.randn(K, D, dtype=torch.float64), dim=1),
        ranks,
        level_likelihoods(*map(torch.from_numpy, edges)),
        ids,
        order,
        identity,
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

    rank: float
    cluster: int
    similarity: float
    posterior: list[float]
    references: list[int]


@torch.no_grad()
def estimate_by_loops(estimator: RankEstimator, image: Tensor, scale: RankScale) -> ByLoops:
    """Eq. (9), (13), (31)-(33), one level and candidate at a time."""
    ranks = RANKS[scale]
    order, identity = estimator.orid.features(to_unit_range(image[None]))
    similarities = [float(identity[0] @ centroid) for centroid in estimator.get_buffer("centroids")]
    cluster = similarities.index(max(similarities))
    ids, y_order, y_identity = (estimator.get_buffer(f"reference_{name}")[cluster] for name in KINDS)
    references, posterior = [-1] * len(ranks), [0.0] * len(ranks)
    for i in range(len(ranks)):
        cosines = {p: float(identity[0] @ y_identity[i, p]) for p in range(P) if ids[i, p] >= 0}
        if not cosines:
            continue
        place = max(cosines, key=cosines.__getitem__)
        references[i] = int(ids[i, place])
        probabilities = estimator.orid.comparator(order, y_order[i, place][None])[0].softmax(dim=0).tolist()
        for r in range(len(ranks)):
            posterior[r] += sum(probabilities[o] * said_by(o, i, r, ranks, scale) for o in Order)
    present = sum(reference >= 0 for reference in references)
    posterior = [p / present for p in posterior]
    rank = ranks[posterior.index(max(posterior))]
    return ByLoops(rank, cluster, max(similarities), posterior, references)


@torch.no_grad()
def estimated(estimator: RankEstimator, images: Tensor) -> Estimates:
    return estimator.estimate(images)


@pytest.mark.parametrize("scale", ["linear", "geometric"])
def test_estimate_by_loops(scale: RankScale) -> None:
    estimator, images = build(scale), images_of(24)
    found = estimated(estimator, images)
    expected = [estimate_by_loops(estimator, image, scale) for image in images]
    assert found.clusters.tolist() == [e.cluster for e in expected]
    assert found.references.tolist() == [e.references for e in expected]
    torch.testing.assert_close(found.similarities, torch.tensor([e.similarity for e in expected]))
    torch.testing.assert_close(found.posteriors, torch.tensor([e.posterior for e in expected]))
    assert found.ranks.tolist() == [e.rank for e in expected]
    # the comparison says something only if images differ in all of this
    assert set(found.clusters.tolist()) == {0, 1, 2}
    assert len(set(found.ranks.tolist())) > 1
    assert len({tuple(row) for row in found.references.tolist()}) > 10


def test_levels_without_a_candidate_have_no_reference_and_do_not_count() -> None:
    estimator = build()
    found = estimated(estimator, images_of(24))
    missing = {0: {1, 4}, 1: {0}, 2: {5}}
    for cluster, references in zip(found.clusters.tolist(), found.references.tolist(), strict=True):
        assert {level for level, i in enumerate(references) if i == -1} == missing[cluster]
    # what stands in an empty place changes nothing
    empty = estimator.get_buffer("reference_ids") < 0
    estimator.get_buffer("reference_order")[empty] = 99.0
    estimator.get_buffer("reference_identity")[empty] = 1.0
    again = estimated(estimator, images_of(24))
    torch.testing.assert_close(again.posteriors, found.posteriors)
    assert torch.equal(again.references, found.references)


def test_reference_is_the_most_similar_candidate_even_if_it_is_opposite() -> None:
    """A level whose only candidate has a negative cosine: the empty places at cosine 0 are not nearer."""
    estimator = build()
    images = images_of(30)
    with torch.no_grad():
        _, identity = estimator.orid.features(to_unit_range(images))
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
                assert int(found.references[b, level]) == int(best)
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


@torch.no_grad()
def test_forward_returns_rank_and_cluster() -> None:
    estimator, images = build(), images_of(12)
    found = estimator.estimate(images)
    columns = estimator(images)
    assert torch.equal(columns[:, 0], found.ranks)
    assert columns[:, 1].tolist() == found.clusters.tolist()


def test_state_dict_holds_all_that_an_estimate_needs() -> None:
    trained, other = build(seed=0), build(seed=1)
    images = images_of(10)
    assert not torch.allclose(estimated(trained, images).posteriors, estimated(other, images).posteriors)
    other.load_state_dict(trained.state_dict())
    torch.testing.assert_close(estimated(other, images).posteriors, estimated(trained, images).posteriors)


def test_cluster_without_any_reference_is_passed_over() -> None:
    """Without repulsion and floor a cluster can be empty; a new image goes to the nearest of the others."""
    estimator, images = build(), images_of(24)
    before = estimated(estimator, images)
    estimator.get_buffer("reference_ids")[1] = -1
    found = estimated(estimator, images)
    with torch.no_grad():
        _, identity = estimator.orid.features(to_unit_range(images))
    similarities = identity @ estimator.get_buffer("centroids").T
    others = before.clusters != 1
    assert 0 < int(others.sum()) < 24
    assert found.clusters.tolist() == [0 if s[0] >= s[2] else 2 for s in similarities.tolist()]
    torch.testing.assert_close(found.similarities, similarities[:, [0, 2]].amax(dim=1))
    torch.testing.assert_close(found.posteriors[others], before.posteriors[others])
    assert (found.posteriors.sum(dim=1) > 0.5).all()


@torch.no_grad()
def test_exported_estimator_takes_another_batch_size() -> None:
    estimator = build()
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(estimator, (images_of(3),), dynamic_shapes=(batch,)).module()
    for n in (1, 8):
        torch.testing.assert_close(program(images_of(n, seed=n)), estimator(images_of(n, seed=n)))


def test_without_any_reference_nothing_is_estimated() -> None:
    known = build()
    tensors = (known.reference_order, known.reference_identity)
    with pytest.raises(ValueError, match=r"\Athere is no reference in any cluster; at least one is needed\Z"):
        RankEstimator(
            known.orid,
            known.centroids.double(),
            known.rank_levels,
            known.likelihoods,
            torch.full_like(known.reference_ids, -1),
            *tensors,
        )
