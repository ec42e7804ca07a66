"""Pairs against eq. (4) on the ranks themselves, and the distribution that section 3.2 asks for."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ordclust_ray.core.order import Order, RankScale, similar_levels
from ordclust_ray.core.pairs import PairSampler

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
CHI_SQUARE = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 9: 27.88}
"""Exceeded by one sample in a thousand, by degrees of freedom."""


@dataclass(frozen=True)
class Instances:
    """A pool: ranks and clusters of its instances, and how ranks compare."""

    ranks: list[float]
    clusters: list[int]
    tolerance: float
    scale: RankScale = "linear"

    def order(self, x: int, y: int) -> Order:
        """Eq. (4), with room for rounding as in `core.order`."""
        theta = [math.log(r) if self.scale == "geometric" else r for r in (self.ranks[x], self.ranks[y])]
        if theta[0] - theta[1] > self.tolerance + 1e-9:
            return Order.GREATER
        return Order.LESS if theta[0] - theta[1] < -self.tolerance - 1e-9 else Order.SIMILAR

    def choices(self, x: int) -> dict[Order, set[int]]:
        """The instances of x's cluster, without x, by relation."""
        others = [y for y in range(len(self.ranks)) if y != x and self.clusters[y] == self.clusters[x]]
        found = {relation: {y for y in others if self.order(x, y) == relation} for relation in Order}
        return {relation: members for relation, members in found.items() if members}

    def draw(self, bases: list[int], seed: int) -> tuple[list[int], list[int]]:
        """References and relations of `PairSampler`."""
        levels, level_of = np.unique(self.ranks, return_inverse=True)
        edges = similar_levels(levels, self.tolerance, self.scale)
        columns = (torch.from_numpy(level_of), torch.tensor(self.clusters), *map(torch.from_numpy, edges))
        references, relations = PairSampler(*columns).draw(torch.tensor(bases), torch.Generator().manual_seed(seed))
        return references.tolist(), relations.tolist()


def chi_square(observed: list[int], shares: list[float]) -> float:
    total = sum(observed)
    return sum((o - total * p) ** 2 / (total * p) for o, p in zip(observed, shares, strict=True))


@st.composite
def pools(draw: st.DrawFn) -> Instances:
    n = draw(st.integers(1, 12))
    scale: RankScale = draw(st.sampled_from(["linear", "geometric"]))
    ranks = draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))
    clusters = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    tolerance = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, math.log(2), 20.0]))
    return Instances([float(r) for r in ranks], clusters, tolerance, scale)


@PROPERTY
@given(pool=pools(), seed=st.integers(0, 1000))
def test_every_pair_is_one_that_equation_4_allows(pool: Instances, seed: int) -> None:
    bases = [x for x in range(len(pool.ranks)) for _ in range(20)]
    for x, y, relation in zip(bases, *pool.draw(bases, seed), strict=True):
        choices = pool.choices(x)
        if choices:
            assert y in choices[Order(relation)]
        else:  # alone in its cluster
            assert (y, relation) == (x, Order.SIMILAR)


@settings(PROPERTY, max_examples=15)
@given(pool=pools(), seed=st.integers(0, 1000))
def test_every_reference_is_drawn_sooner_or_later(pool: Instances, seed: int) -> None:
    """The rarest reference has a probability of at least 1/3 in 10: 400 draws miss it with e^-13."""
    for x in range(len(pool.ranks)):
        expected = {(y, relation) for relation, members in pool.choices(x).items() for y in members}
        drawn = set(zip(*pool.draw([x] * 400, seed), strict=True))
        assert drawn == (expected or {(x, Order.SIMILAR)})


@pytest.mark.parametrize("scale", ["linear", "geometric"])
def test_relations_are_uniform_where_all_exist(scale: RankScale) -> None:
    """However many instances stand in each relation: here 1 below, 2 similar and itself, 12 above."""
    pool = Instances([1.0, 5.0, 5.0, 5.0, *[float(r) for r in range(20, 32)]], [0] * 16, 0.2, scale)
    assert {relation: len(members) for relation, members in pool.choices(1).items()} == {0: 1, 1: 2, 2: 12}
    counts = Counter(pool.draw([1] * 30_000, seed=0)[1])
    assert chi_square([counts[r] for r in Order], [1 / 3] * 3) < CHI_SQUARE[2]


@pytest.mark.parametrize("relation", list(Order))
def test_reference_is_uniform_within_its_relation(relation: Order) -> None:
    """Instances of one level or of several, and the base between its equals: each has the same chance."""
    ranks = [1.0, 2.0, 2.0, 3.0, 7.0, 7.0, 7.0, 7.0, 8.0, 20.0, 21.0, 21.0, 22.0, 23.0]
    pool = Instances(ranks, [0] * 14, 1.0)
    x = 5
    references, relations = pool.draw([x] * 40_000, seed=1)
    counts = Counter(y for y, r in zip(references, relations, strict=True) if r == relation)
    members = sorted(pool.choices(x)[relation])
    assert len(members) == {Order.GREATER: 4, Order.SIMILAR: 4, Order.LESS: 5}[relation]
    assert chi_square([counts[y] for y in members], [1 / len(members)] * len(members)) < CHI_SQUARE[len(members) - 1]


@pytest.mark.parametrize("x", range(5))
def test_similar_reference_is_uniform_wherever_the_base_stands_among_its_equals(x: int) -> None:
    references, _ = Instances([4.0] * 5, [0] * 5, 0.0).draw([x] * 8000, seed=2)
    others = [y for y in range(5) if y != x]
    counts = Counter(references)
    assert set(counts) == set(others)
    assert chi_square([counts[y] for y in others], [1 / 4] * 4) < CHI_SQUARE[3]


@pytest.mark.parametrize(
    ("ranks", "tolerance", "expected"),
    [
        ([5.0, 5.0, 9.0], 1.0, {Order.SIMILAR: 2 / 3, Order.LESS: 1 / 3}),  # none below: similar instead
        ([5.0, 1.0, 9.0], 1.0, {Order.LESS: 2 / 3, Order.GREATER: 1 / 3}),  # no equal: one above instead
        ([5.0, 5.0, 1.0], 1.0, {Order.GREATER: 2 / 3, Order.SIMILAR: 1 / 3}),  # none above: one below instead
        ([5.0, 1.0], 1.0, {Order.GREATER: 1.0}),
        ([5.0, 5.0], 1.0, {Order.SIMILAR: 1.0}),
        ([5.0, 9.0], 1.0, {Order.LESS: 1.0}),
    ],
)
def test_next_relation_takes_the_place_of_a_missing_one(
    ranks: list[float], tolerance: float, expected: dict[Order, float]
) -> None:
    counts = Counter(Instances(ranks, [0] * len(ranks), tolerance).draw([0] * 15_000, seed=3)[1])
    assert set(counts) == set(expected)
    if len(expected) > 1:
        assert chi_square([counts[r] for r in expected], list(expected.values())) < CHI_SQUARE[len(expected) - 1]


def test_relation_and_reference_are_independent() -> None:
    """Two equal halves in each relation, drawn as often as each other, given the relation."""
    pool = Instances([1.0, 2.0, 5.0, 5.0, 5.0, 8.0, 9.0], [0] * 7, 0.5)
    counts = Counter(zip(*pool.draw([3] * 30_000, seed=4), strict=True))
    expected = [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (6, 2)]
    assert set(counts) == set(expected)
    assert chi_square([counts[pair] for pair in expected], [1 / 6] * 6) < CHI_SQUARE[5]


def test_reference_comes_from_the_own_cluster() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 4, 200).tolist()
    pool = Instances(rng.integers(0, 10, 200).astype(float).tolist(), clusters, 1.0)
    bases = list(range(200)) * 10
    references, _ = pool.draw(bases, seed=5)
    assert all(clusters[x] == clusters[y] for x, y in zip(bases, references, strict=True))


def test_instance_alone_in_its_cluster_is_its_own_reference() -> None:
    pool = Instances([3.0, 3.0, 3.0, 9.0, 1.0], [0, 1, 2, 2, 7], 1.0)
    assert pool.draw([0, 1, 4], seed=6) == ([0, 1, 4], [Order.SIMILAR] * 3)
    assert pool.draw([2, 3], seed=6) == ([3, 2], [Order.LESS, Order.GREATER])


def test_same_generator_same_pairs() -> None:
    pool = Instances([float(r % 7) for r in range(50)], [r % 3 for r in range(50)], 1.0)
    assert pool.draw(list(range(50)), seed=7) == pool.draw(list(range(50)), seed=7)
    assert pool.draw(list(range(50)), seed=7) != pool.draw(list(range(50)), seed=8)


def test_drawing_changes_nothing_in_the_sampler() -> None:
    """The sampler takes itself out of a count of its own copy: the thousandth draw is as good as the first."""
    levels, clusters = torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.int64)
    sampler = PairSampler(levels, clusters, torch.tensor([0, 1]), torch.tensor([1, 2]))
    edges = sampler.edges.clone()
    for seed in range(5):
        sampler.draw(torch.tensor([0, 1, 2, 0]), torch.Generator().manual_seed(seed))
    assert torch.equal(sampler.edges, edges)


def test_ages_of_morph_on_the_geometric_scale() -> None:
    """At 40, e^0.1 makes 37..44 similar: ln(40/36) = 0.105, ln(44/40) = 0.095, ln(45/40) = 0.118."""
    ages = [float(age) for age in range(16, 78)]
    pool = Instances(ages, [0] * len(ages), 0.1, "geometric")
    references, relations = pool.draw([24] * 5000, seed=9)
    by_relation: dict[int, set[float]] = {r: set() for r in Order}
    for y, relation in zip(references, relations, strict=True):
        by_relation[relation].add(ages[y])
    assert by_relation[Order.GREATER] == set(range(16, 37))
    assert by_relation[Order.SIMILAR] == {37, 38, 39, 41, 42, 43, 44}
    assert by_relation[Order.LESS] == set(range(45, 78))
