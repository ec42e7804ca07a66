"""Selection of references against sorting in Python and eq. (13) in loops."""

from typing import TypeAlias

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ordclust_ray.core.references import most_typical, nearest_candidates, own_and_margin

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


def test_a_limit_above_the_members_takes_them_all() -> None:
    instances = [(0.5, 0, 0, 1), (0.6, 0, 0, 2)]
    assert selected(instances, num_levels=1, limit=10) == [((0.6, 0, 0, 2), 0), ((0.5, 0, 0, 1), 1)]


def test_no_instances_no_references() -> None:
    assert selected([], num_levels=3, limit=2) == []


def test_nearest_candidates_by_hand() -> None:
    empty = -torch.inf
    similarities = torch.tensor([[[0.1, 0.9, 0.3], [0.2, empty, empty]], [[-0.5, -0.2, -0.4], [empty] * 3]])
    values, places = nearest_candidates(similarities, 2)
    torch.testing.assert_close(values, torch.tensor([[[0.9, 0.3], [0.2, empty]], [[-0.2, -0.4], [empty] * 2]]))
    assert places[0, 0].tolist() == [1, 2]
    assert int(places[0, 1, 0]) == 0
    assert places[1, 0].tolist() == [1, 2]
    assert nearest_candidates(similarities, 9)[0].shape == (2, 2, 3)


@pytest.mark.parametrize("references", [1, 3])
def test_nearest_candidates_by_sorting(references: int) -> None:
    generator = torch.Generator().manual_seed(references)
    similarities = torch.rand(9, 5, 4, generator=generator) * 2 - 1
    similarities[torch.rand(9, 5, 4, generator=generator) < 0.3] = -torch.inf
    values, places = nearest_candidates(similarities, references)
    for b in range(9):
        for level in range(5):
            own = similarities[b, level].tolist()
            assert values[b, level].tolist() == sorted(own, reverse=True)[:references]
            assert [own[place] for place in places[b, level].tolist()] == values[b, level].tolist()


def test_margin_by_hand() -> None:
    """The third one was moved by the floor: another centroid is nearer."""
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    own, margin = own_and_margin(features, torch.eye(2), torch.tensor([0, 1, 0]))
    torch.testing.assert_close(own, torch.tensor([1.0, 0.8, 0.6]))
    torch.testing.assert_close(margin, torch.tensor([1.0, 0.2, -0.2]))
    assert own_and_margin(features, torch.eye(2)[:1], torch.tensor([0, 0, 0]))[1].isnan().all()
