"""Blocks of torch give what compiled blocks give, bit by bit. Here on CPU tensors, and on a GPU where there is one."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ordclust_ray import kernels
from ordclust_ray.clustering.engine import LocalEngine
from ordclust_ray.core import device_block, shard
from ordclust_ray.core.blocks import CpuBlock, as_block, on_grid
from ordclust_ray.core.device_block import DeviceBlock
from ordclust_ray.core.panels import Panels
from ordclust_ray.core.repulsive_kmeans import Clustering, repulsive_kmeans
from ordclust_ray.core.rounding import error_bound
from ordclust_ray.core.shard import Shard
from ordclust_ray.core.starts import STARTS

PROPERTY = settings(deadline=None, database=None, derandomize=True, max_examples=60)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
KINDS = ["random", "duplicates", "ties", "lengths"]


def rows_of(kind: str, n: int, d: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Random rows; few of them over and over; many ties; of lengths that differ by much."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d))
    if kind == "ties":
        rows = rng.integers(-1, 2, (n, d)).astype(np.float64)
        rows[~rows.any(axis=1), 0] = 1.0
    elif kind == "duplicates":
        rows = rows[rng.integers(0, max(1, n // 8), n)]
    elif kind == "lengths":
        rows *= np.logspace(-3, 4, n)[:, None]
    return torch.from_numpy(rows).to(dtype)


def centroids_of(kind: str, k: int, d: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed + 1)
    rows = rng.normal(size=(k, d))
    if kind == "ties":
        rows = rng.integers(-1, 2, (k, d)).astype(np.float64)
        rows[~rows.any(axis=1), 0] = 1.0
    return np.asarray(on_grid(rows / np.linalg.norm(rows, axis=1, keepdims=True)))


def both(rows: Tensor, device: str) -> tuple[CpuBlock, DeviceBlock]:
    compiled = as_block(rows)
    assert isinstance(compiled, CpuBlock)
    return compiled, DeviceBlock(rows.to(device))


def members(n: int, panels: Panels) -> kernels.Members:
    """What is remembered of rows that have no cluster yet."""
    bounds = np.full(n, kernels.NEVER, np.float32), np.full((n, len(panels.groups)), kernels.FAR, np.float32)
    return kernels.Members(np.full(n, -1, np.int32), *bounds, np.empty((n, 0), np.float32))


@pytest.fixture(params=[1, 1000, device_block.PART_BYTES])
def part_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row at a time, some rows, or all of them at once."""
    monkeypatch.setattr(device_block, "PART_BYTES", request.param)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_give_the_same(part_bytes: None, kind: str, dtype: torch.dtype, device: str) -> None:
    n, d, k = 90, 21, 19
    rows, centroids = rows_of(kind, n, d, dtype), centroids_of(kind, k, d)
    compiled, other = both(rows, device)
    assert (len(other), other.width) == (len(compiled), compiled.width) == (n, d)
    scales, usable = compiled.scales()
    found, able = other.scales()
    assert found.dtype == scales.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    np.testing.assert_array_equal(found, scales)
    np.testing.assert_array_equal(able, usable)
    index = np.array([0, 3, 3, 89, 17])
    np.testing.assert_array_equal(other.take(scales, index), compiled.take(scales, index))
    labels = np.random.default_rng(0).integers(0, k, n).astype(np.int32)
    sums = np.full((2, k, d), 7, np.int64)
    compiled.add_members(scales, labels, sums[0])
    other.add_members(scales, labels, sums[1])
    np.testing.assert_array_equal(sums[1], sums[0])
    wanted = np.arange(k) % 3 > 0
    similarities = [block.similarities(scales, centroids[0], labels, wanted) for block in (compiled, other)]
    np.testing.assert_array_equal(similarities[1][wanted[labels]], similarities[0][wanted[labels]])
    products = other.products(scales, centroids)
    assert products.dtype == np.float32
    assert np.abs(products - compiled.products(scales, centroids)).max() <= error_bound(d)


@PROPERTY
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    n=st.integers(1, 60),
    d=st.integers(1, 40),
    k=st.integers(1, 40),
    first=st.integers(0, 20),
    device=st.sampled_from(DEVICES),
    seed=st.integers(0, 10_000),
)
def test_blocks_assign_the_same(
    kind: str, dtype: torch.dtype, n: int, d: int, k: int, first: int, device: str, seed: int
) -> None:
    """In several passes, with labels from anywhere: sums change by what the labels change."""
    compiled, other = both(rows_of(kind, n, d, dtype, seed), device)
    first = min(first, n - 1)
    compiled, other = compiled.part(slice(first, n)), other.part(slice(first, n))
    scales, _ = compiled.scales()
    panels = Panels(centroids_of(kind, k, d, seed))
    states = [members(n - first, panels), members(n - first, panels)]
    totals = [(np.zeros((k, d), np.int64), np.zeros(k, np.int64)) for _ in states]
    for step in range(3):
        assert compiled.assign(scales, panels, states[0], totals[0]) <= n - first
        assert other.assign(scales, panels, states[1], totals[1]) == n - first
        np.testing.assert_array_equal(states[1].labels, states[0].labels)
        np.testing.assert_array_equal(totals[1][0], totals[0][0])
        np.testing.assert_array_equal(totals[1][1], totals[0][1])
        panels.move(centroids_of(kind, k, d, seed + step + 1))
    assert int(totals[1][1].sum()) == n - first


@pytest.mark.parametrize("device", DEVICES)
def test_ties_go_to_the_lowest_cluster(device: str) -> None:
    block = DeviceBlock(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, 3.0], [0.0, -1.0]], device=device))
    panels = Panels(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]))
    state = members(4, panels)
    assert block.assign(block.scales()[0], panels, state, (np.zeros((4, 2), np.int64), np.zeros(4, np.int64))) == 4
    assert state.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_cannot_be_normalised_are_the_same(dtype: torch.dtype, device: str) -> None:
    values = [0.0, -0.0, torch.nan, torch.inf, -torch.inf, 1e-35, 1e-31, 1e-29, 1e-20, 1e30, 3e38, 1e144, 1e146, 1e200]
    rows = torch.tensor(values, dtype=torch.float64)[:, None].repeat(1, 3).to(dtype)
    rows = torch.cat([rows, rows * torch.tensor([0.0, 1.0, 0.0], dtype=dtype)])
    compiled, other = both(rows, device)
    for found, expected in zip(other.scales(), compiled.scales(), strict=True):
        np.testing.assert_array_equal(found, expected)


def shards_of(rows: Tensor, device: str, monkeypatch: pytest.MonkeyPatch, parts: int) -> tuple[Shard, Shard]:
    """One of compiled blocks, and one of blocks of torch, which a CPU's tensors do not become by themselves."""
    monkeypatch.setattr(shard, "as_block", lambda block: block if isinstance(block, DeviceBlock) else as_block(block))
    blocks, ids = list(rows.tensor_split(parts)), np.arange(len(rows))
    there = [DeviceBlock(block.to(device)) for block in blocks]
    return Shard(blocks, ids, sketch_from=0), Shard(there, ids, threads=parts, sketch_from=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [1, 3])
def test_clusterings_of_both_are_the_same(
    kind: str, dtype: torch.dtype, parts: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Iteration by iteration, with the floor; from a start on each."""
    rows = rows_of(kind, 400, 9, dtype)
    found: list[list[Any]] = []
    for own in shards_of(rows, device, monkeypatch, parts):
        engine = LocalEngine(own)
        start = STARTS["random"](engine, 20, 0)
        states: list[Clustering] = []
        repulsive_kmeans(engine, start, min_size=12, tolerance=0.0, max_iterations=8, on_iteration=states.append)
        numbers = [
            (state.centroids.tolist(), state.counts.tolist(), state.objective, state.changed) for state in states
        ]
        found.append([start.tolist(), numbers, own.assignments.tolist()])
    assert found[1] == found[0]


@pytest.mark.parametrize("device", DEVICES)
def test_sketches_are_made_where_they_are_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(500, 3)) @ rng.normal(size=(3, 64))).float()
    compiled, there = shards_of(rows, device, monkeypatch, 2)
    for own in (compiled, there):
        start = STARTS["random"](LocalEngine(own), 5, 0)
        repulsive_kmeans(LocalEngine(own), start, tolerance=0.0, max_iterations=3)
    np.testing.assert_array_equal(compiled.assignments, there.assignments)
    assert compiled.rows_read < 500
    assert there.rows_read == 500
    assert (compiled._sketch is None, there._sketch is None) == (False, True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", STARTS)
def test_starts_of_both_are_alike(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances in float32 are not the same bits; that decides which point is chosen only where it hardly matters."""
    means = np.random.default_rng(1).normal(size=(12, 8))
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(means[rng.integers(0, 12, 300)] + 0.01 * rng.normal(size=(300, 8))).float()
    starts = [STARTS[name](LocalEngine(own), 12, 0) for own in shards_of(rows, device, monkeypatch, 3)]
    np.testing.assert_allclose(starts[1], starts[0], rtol=1e-6)


def test_parts_are_views() -> None:
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    whole = DeviceBlock(rows)
    scales, _ = whole.scales()
    taken = whole.take(scales, np.arange(20))
    for a, b in pairwise([0, 7, 8, 20]):
        part = whole.part(slice(a, b))
        np.testing.assert_array_equal(part.take(scales[a:b], np.arange(b - a)), taken[a:b])
    assert part._x.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()


def test_block_without_rows() -> None:
    block, panels = DeviceBlock(torch.zeros(0, 3)), Panels(np.eye(3))
    scales, usable = block.scales()
    assert len(scales) == len(usable) == 0
    totals = np.zeros((3, 3), np.int64), np.zeros(3, np.int64)
    assert block.assign(scales, panels, members(0, panels), totals) == 0
    assert not totals[0].any()
    assert block.products(scales, np.eye(3)).shape == (0, 3)
    assert block.take(scales, np.empty(0, np.int64)).shape == (0, 3)


@pytest.mark.parametrize(
    "wrong",
    [torch.ones(3), torch.ones(2, 2, 2), torch.ones(3, 2, dtype=torch.int64)],
    ids=lambda x: f"{x.dtype}-{x.ndim}",
)
def test_what_is_no_rows_of_floats_is_an_error(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^features are torch\..* of shape .*; they must be rows of floats$"):
        DeviceBlock(wrong)
