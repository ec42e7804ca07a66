"""Selection of references against sorting in Python and eq. (13) in loops."""

from typing import TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ordclust_ray.core.references import most_typical, nearest_candidates

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=80)
Instance: TypeAlias = tuple[float, int, int, int]
"""Similarity, cluster, level, id."""


def columns(instances: list[Instance]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    similarities = torch.tensor([i[0] for i in instances], dtype=torch.float32)
    clusters, levels, ids = (torch.tensor([i[c] for i in instances], dtype=torch.int64) for c in (1, 2, 3))
    return similarities, clusters, levels, ids


def selected(instances: list[Instance], num_levels: int, limit: int) -> list[tuple[Instance, int]]:
    rows, places = most_typical(*columns(instances), num_levels, limit)
    return [(instances[row], place) for row, place in zip(rows.tolist(), places.tolist(), strict=True)]


def by_sorting(instances: list[Instance], limit: int) -> dict[tuple[int, int], list[Instance]]:
    cells: dict[tuple[int, int], list[Instance]] = {}
    for instance in instances:
        cells.setdefault(instance[1:3], []).append(instance)
    return {cell: sorted(members, key=lambda i: (-i[0], i[3]))[:limit] for cell, members in cells.items()}


@st.composite
def populations(draw: st.DrawFn) -> list[Instance]:
    """With few distinct similarities, so that ties are common, and ids in any order."""
    ids = draw(st.lists(st.integers(0, 1000), unique=True, max_size=30))
    similarity = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
    return [(draw(similarity), draw(st.integers(0, 2)), draw(st.integers(0, 3)), i) for i in ids]


def test_most_typical_by_hand() -> None:
    instances = [
        (0.9, 0, 0, 5),  # third of cluster 0, level 0
        (0.7, 0, 1, 6),
        (0.95, 0, 0, 9),  # first of three equals is id 2, then id 9 would be the second
        (0.95, 0, 0, 2),
        (0.1, 1, 0, 7),
        (-0.5, 1, 0, 1),
        (-0.9, 1, 0, 3),
    ]
    assert selected(instances, num_levels=2, limit=2) == [
        (instances[3], 0),
        (instances[2], 1),
        (instances[1], 0),
        (instances[4], 0),
        (instances[5], 1),
    ]


@PROPERTY
@given(instances=populations(), limit=st.integers(1, 5))
def test_most_typical_is_the_head_of_a_sort(instances: list[Instance], limit: int) -> None:
    found = selected(instances, num_levels=4, limit=limit)
    expected = by_sorting(instances, limit)
    assert len(found) == sum(map(len, expected.values()))
    for instance, place in found:
        assert expected[instance[1:3]][place] == instance


@PROPERTY
@given(instances=populations(), limit=st.integers(1, 4), shards=st.integers(1, 5), seed=st.integers(0, 99))
def test_selection_from_pooled_selections_is_that_of_all(
    instances: list[Instance], limit: int, shards: int, seed: int
) -> None:
    deal = np.random.default_rng(seed).integers(0, shards, len(instances)).tolist()
    pooled = []
    for shard in range(shards):
        own = [instance for instance, s in zip(instances, deal, strict=True) if s == shard]
        pooled += [instance for instance, _ in selected(own, 4, limit)]
    assert selected(pooled, 4, limit) == selected(instances, 4, limit)


def test_a_limit_above_the_members_takes_them_all() -> None:
    instances = [(0.5, 0, 0, 1), (0.6, 0, 0, 2)]
    assert selected(instances, num_levels=1, limit=10) == [((0.6, 0, 0, 2), 0), ((0.5, 0, 0, 1), 1)]


def test_no_instances_no_references() -> None:
    assert selected([], num_levels=3, limit=2) == []


def test_nearest_candidates_by_hand() -> None:
    empty = -torch.inf
    similarities = torch.tensor(
        [  # two instances, two clusters, two levels, three places
            [[[0.1, 0.9, 0.3], [0.2, empty, empty]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]],
            [[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[-0.5, -0.2, -0.4], [empty, empty, empty]]],
        ]
    )
    values, places = nearest_candidates(similarities, torch.tensor([0, 1]))
    torch.testing.assert_close(values, torch.tensor([[0.9, 0.2], [-0.2, empty]]))
    assert places[0].tolist() == [1, 0]
    assert int(places[1, 0]) == 1


@pytest.mark.parametrize("places", [1, 4])
def test_nearest_candidates_by_loops(places: int) -> None:
    B, K, M = 9, 3, 5
    generator = torch.Generator().manual_seed(places)
    similarities = torch.rand(B, K, M, places, generator=generator) * 2 - 1
    similarities[torch.rand(B, K, M, places, generator=generator) < 0.3] = -torch.inf
    clusters = torch.randint(0, K, (B,), generator=generator)
    values, indices = nearest_candidates(similarities, clusters)
    for b in range(B):
        for level in range(M):
            own = similarities[b, int(clusters[b]), level].tolist()
            assert values[b, level] == max(own)
            assert own[int(indices[b, level])] == max(own)


def test_first_place_wins_a_tie() -> None:
    """Places are ordered by typicality, so the more typical of two equals is the reference."""
    similarities = torch.tensor([0.3, 0.8, 0.8, 0.1]).view(1, 1, 1, 4)
    assert nearest_candidates(similarities, torch.tensor([0]))[1].tolist() == [[1]]
