"""Blocks on a GPU: torch does what `kernels` does on CPUs, with the same bits.

Legend: N rows, D features, K clusters, M rows of a part.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numpy import ndarray
from torch import Tensor

from ordclust_ray import kernels
from ordclust_ray.core.blocks import GRID, Totals, scales_of
from ordclust_ray.core.panels import Panels

PART_BYTES = 256 * 1024**2
"""Rows that are widened to float64 together."""


class DeviceBlock:
    """Rows on a torch device. What is computed from them comes back as arrays.

    Args:
        x: (N, D) floats.
    """

    uses_sketches = False

    def __init__(self, x: Tensor) -> None:
        if x.ndim != 2 or not x.is_floating_point():
            raise ValueError(f"features are {x.dtype} of shape {tuple(x.shape)}; they must be rows of floats")
        self._x = x

    def __len__(self) -> int:
        return len(self._x)

    @property
    def width(self) -> int:
        """D."""
        return self._x.shape[1]

    def part(self, rows: slice) -> "DeviceBlock":
        """Some rows, as a block."""
        return DeviceBlock(self._x[rows])

    def scales(self) -> tuple[ndarray, Bool[ndarray, "N"]]:
        """See `core.blocks.Block`; squares are added up in the kernels' order."""
        squared = torch.zeros(len(self._x), kernels.LANES, dtype=torch.float64, device=self._x.device)
        for columns in self._x.split(kernels.LANES, dim=1):
            squared[:, : columns.shape[1]] += columns.double() ** 2
        total = torch.zeros(len(self._x), dtype=torch.float64, device=self._x.device)
        for lane in range(kernels.LANES):
            total += squared[:, lane]
        return scales_of(total.cpu().numpy(), wide=self._x.dtype == torch.float64)

    def assign(self, scales: ndarray, panels: Panels, state: kernels.Members, totals: Totals) -> int:
        """See `core.blocks.Block`; every row is read."""
        centroids, before = self._here(panels.centroids.exact), state.labels.copy()
        parts = self._parts(scales, len(centroids))
        labels = torch.cat([(unit @ centroids.T).argmax(dim=1).int() for unit in parts])
        state.labels[:] = labels.cpu().numpy()
        moved = np.flatnonzero(state.labels != before)
        self._add(scales, state.labels, moved, 1, totals)
        self._add(scales, before, moved[before[moved] >= 0], -1, totals)
        return len(self._x)

    def _add(self, scales: ndarray, labels: Int32[ndarray, "N"], rows: ndarray, sign: int, totals: Totals) -> None:
        sums, counts = totals
        added = torch.zeros(sums.shape, dtype=torch.int64, device=self._x.device)
        clusters = self._here(labels.astype(np.int64))
        for index in self._here(rows).split(self._rows_a_part()):
            added.index_add_(0, clusters[index], self._unit(self._x[index], self._here(scales)[index]).long())
        sums += sign * added.cpu().numpy()
        counts += sign * np.bincount(labels[rows], minlength=len(counts))

    def add_members(self, scales: ndarray, labels: Int32[ndarray, "N"], sums: Int64[ndarray, "K D"]) -> None:
        """See `core.blocks.Block`."""
        self._add(scales, labels, np.arange(len(labels)), 1, (sums, np.zeros(len(sums), np.int64)))

    def similarities(
        self, scales: ndarray, centroid: Float64[ndarray, "D"], labels: Int32[ndarray, "N"], wanted: Bool[ndarray, "K"]
    ) -> Float64[ndarray, "N"]:
        """See `core.blocks.Block`."""
        there = self._here(centroid)
        return torch.cat([unit @ there * GRID for unit in self._parts(scales)]).cpu().numpy()

    def products(self, scales: ndarray, centroids: Float64[ndarray, "K D"]) -> Float32[ndarray, "N K"]:
        """See `core.blocks.Block`."""
        there = self._here(centroids)
        parts = self._parts(scales, len(centroids))
        return torch.cat([(unit @ there.T * GRID).float() for unit in parts]).cpu().numpy()

    def take(self, scales: ndarray, index: Int64[ndarray, "M"]) -> Float32[ndarray, "M D"]:
        """See `core.blocks.Block`."""
        rows = self._here(index)
        return self._unit(self._x[rows], self._here(scales)[rows]).float().cpu().numpy()

    def _rows_a_part(self, num_clusters: int = 1) -> int:
        return max(1, PART_BYTES // (8 * max(self.width, num_clusters)))

    def _parts(self, scales: ndarray, num_clusters: int = 1) -> Iterator[Tensor]:
        """Unit rows in float64, as many at a time as `PART_BYTES` hold, and their similarities to so many centroids."""
        rows = self._rows_a_part(num_clusters)
        for x, scale in zip(self._x.split(rows), self._here(scales).split(rows), strict=True):
            yield self._unit(x, scale)

    def _unit(self, x: Tensor, scales: Tensor) -> Tensor:
        """Rounded to float32 before it is rounded to the grid, as the kernels do."""
        return (x.to(scales.dtype) * scales[:, None]).float().round().double()

    def _here(self, values: ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._x.device)
