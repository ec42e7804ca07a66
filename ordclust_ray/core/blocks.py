"""Blocks of features, read where they are: arrays of any float precision, memory-mapped ones, tensors, GPU tensors.

Sums that do not depend on who adds them: a row is normalised when it is read, and its components are rounded to
multiples of 2^-26. So sums are integers, and a product with a centroid on the same grid is a multiple of 2^-52 whose
partial sums, at most 1, float64 holds exactly. Similarities and sums have no rounding error, hence the same bits in
any order, for any number of shards, threads, machines and GPUs, up to 2^37 rows. The rounding moves a component by
at most 7.5e-9, less than float32 does at 0.125.

Legend: N rows, D features, K clusters.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numpy import ndarray

from ordclust_ray import kernels
from ordclust_ray.core.panels import Panels, packed

GRID = 2.0**-26
Totals: TypeAlias = tuple[Int64[ndarray, "K D"], Int64[ndarray, "K"]]


def on_grid(unit: Any) -> Any:
    """Components rounded to the grid on which dot products are exact."""
    return (unit / GRID).round() * GRID


@runtime_checkable
class Block(Protocol):
    """Rows of features that stay where they are. Unit rows are in units of the grid: whole numbers up to 2^26.

    Attributes:
        uses_sketches: whether `assign` leaves rows unread where their sketches tell the nearest centroid.
    """

    uses_sketches: bool

    @property
    def width(self) -> int:
        """D."""
        ...

    def __len__(self) -> int: ...

    def part(self, rows: slice) -> "Block":
        """Some rows, as a block."""
        ...

    def scales(self) -> tuple[ndarray, Bool[ndarray, "N"]]:
        """What makes each row a unit row in units of the grid, and which rows have such a number."""
        ...

    def assign(self, scales: ndarray, panels: Panels, state: kernels.Members, totals: Totals) -> int:
        """The NN rule for all rows; adds the change of sums and counts to the totals. Returns how many were read."""
        ...

    def add_members(self, scales: ndarray, labels: Int32[ndarray, "N"], sums: Int64[ndarray, "K D"]) -> None:
        """Adds every row to the sum of its cluster."""
        ...

    def similarities(
        self, scales: ndarray, centroid: Float64[ndarray, "D"], labels: Int32[ndarray, "N"], wanted: Bool[ndarray, "K"]
    ) -> Float64[ndarray, "N"]:
        """Exact similarities of the members of some clusters to a centroid; anything for the others."""
        ...

    def products(self, scales: ndarray, centroids: Float64[ndarray, "K D"]) -> Float32[ndarray, "N K"]:
        """Similarities of all rows to all centroids, as float32 gives them."""
        ...

    def take(self, scales: ndarray, index: Int64[ndarray, "M"]) -> Float32[ndarray, "M D"]:
        """Some rows."""
        ...


def as_block(features: Any) -> Block:
    """A block over rows (N, D): an array or a tensor, without a copy where its numbers are floats in C order.

    Raises:
        ValueError: it has no rows of numbers.
    """
    if type(features).__module__.partition(".")[0] == "torch":
        if features.device.type != "cpu":
            from ordclust_ray.core.device_block import DeviceBlock

            return DeviceBlock(features.detach())
        return CpuBlock(_tensor_numbers(features.detach()))
    return CpuBlock(_numbers(np.asarray(features)))


def _tensor_numbers(features: Any) -> ndarray:
    import torch

    if features.dtype == torch.bfloat16:
        return features.contiguous().view(torch.int16).numpy()
    return _numbers(features.numpy())


def _numbers(x: ndarray) -> ndarray:
    """In a type that the kernels read; integers become float64."""
    if x.dtype == np.float16:
        return np.ascontiguousarray(x).view(np.uint16)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"features are {x.dtype}; they must be numbers")
    return np.ascontiguousarray(x, dtype=x.dtype if x.dtype in (np.float32, np.float64) else np.float64)


def scales_of(squared: Float64[ndarray, "N"], *, wide: bool) -> tuple[ndarray, Bool[ndarray, "N"]]:
    """`Block.scales` from squared lengths, for float64 rows (wide) or narrower ones."""
    usable = (squared > (1e-290 if wide else 1e-60)) & (squared < 1e290)
    scales = np.where(usable, 1 / GRID / np.sqrt(np.where(usable, squared, 1)), 0)
    return scales.astype(np.float64 if wide else np.float32), usable


class CpuBlock:
    """Rows in memory, or in a file mapped to it.

    Args:
        x: float32, float64, or 16 bits as `kernels` reads them.
    """

    uses_sketches = True

    def __init__(self, x: ndarray) -> None:
        if x.ndim != 2:
            raise ValueError(f"features have shape {x.shape}; they must be rows of numbers")
        self._x = x[:]
        self._x.flags.writeable = False  # numba would compile once more for arrays that may be written

    def __len__(self) -> int:
        return len(self._x)

    @property
    def width(self) -> int:
        """D."""
        return int(self._x.shape[1])

    def part(self, rows: slice) -> "CpuBlock":
        """Some rows, as a block."""
        return CpuBlock(self._x[rows])

    def scales(self) -> tuple[ndarray, Bool[ndarray, "N"]]:
        """What makes each row a unit row in units of the grid, and which rows have such a number."""
        squared = np.empty(len(self._x))
        kernels.squared_norms(self._x, squared)
        return scales_of(squared, wide=self._x.dtype == np.float64)

    def assign(self, scales: ndarray, panels: Panels, state: kernels.Members, totals: Totals) -> int:
        """See `Block`."""
        in_place = self._x.dtype == np.float32 and scales.size and scales.min() > 1e-12 and scales.max() < 1e28
        buffer = None if in_place else self._buffer()
        return int(kernels.assign(self._x, scales, buffer, panels.centroids, state, *totals)[0])

    def add_members(self, scales: ndarray, labels: Int32[ndarray, "N"], sums: Int64[ndarray, "K D"]) -> None:
        """See `Block`."""
        kernels.add_members(self._x, scales, labels, sums)

    def similarities(
        self, scales: ndarray, centroid: Float64[ndarray, "D"], labels: Int32[ndarray, "N"], wanted: Bool[ndarray, "K"]
    ) -> Float64[ndarray, "N"]:
        """See `Block`."""
        out = np.zeros(len(self._x))
        kernels.similarities(self._x, scales, centroid, labels, wanted, out)
        return out

    def products(self, scales: ndarray, centroids: Float64[ndarray, "K D"]) -> Float32[ndarray, "N K"]:
        """See `Block`."""
        out = np.empty((len(self._x), len(centroids)), np.float32)
        groups = [
            np.arange(start, min(start + kernels.LANES, len(centroids)))
            for start in range(0, len(centroids), kernels.LANES)
        ]
        widths = np.array([len(group) for group in groups])
        kernels.products(self._x, scales, self._buffer(), packed(centroids, groups), widths, out)
        return out

    def take(self, scales: ndarray, index: Int64[ndarray, "M"]) -> Float32[ndarray, "M D"]:
        """See `Block`."""
        out = np.empty((len(index), self.width), np.float32)
        kernels.take(self._x, scales, index, out)
        return out

    def _buffer(self) -> Float32[ndarray, "M D"]:
        """Where rows become unit rows before they are compared.

        `assign` can do without. What float32 makes of unit rows does not depend on the rows beside them.
        """
        return np.empty((max(kernels.ROWS, kernels.BLOCK_BYTES // (4 * self.width)), self.width), np.float32)
