"""Grids of images on matplotlib axes: tiles are (rows, columns, H, W, 3) uint8, with white between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]

SMALL_IMAGE = 64
WHITE = 255


def tile_figure(tiles: Images) -> tuple[Figure, Axes]:
    """A figure of tiles alone, and its axes."""
    rows, columns, height, width, _ = tiles.shape
    side = tile_side(columns)
    figure = Figure(figsize=(columns * side + 0.8, rows * side * height / width + 0.4), layout="constrained")
    axes = figure.subplots()
    show_tiles(axes, tiles)
    return figure, axes


def show_tiles(axes: Axes, tiles: Images, column_ranks: Sequence[float] | Floats = ()) -> None:
    """Shows tiles as one canvas, ranks above the columns."""
    gap = _gap(tiles)
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=WHITE)
    rows, columns, height, width, _ = padded.shape
    canvas = padded.swapaxes(1, 2).reshape(rows * height, columns * width, 3)[:-gap, :-gap]
    axes.imshow(canvas, interpolation="nearest" if max(tiles.shape[2:4]) <= SMALL_IMAGE else "auto")
    axes.set(yticks=[])
    axes.set_xticks(tile_centres(tiles, 1)[: len(column_ranks)], [rank_text(rank) for rank in column_ranks])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)


def blank_tiles(rows: int, columns: int, like: Images) -> Images:
    """White tiles, of the size of some images (n, H, W, 3)."""
    return np.full((rows, columns, *like.shape[1:]), WHITE, np.uint8)


def _gap(tiles: Images) -> int:
    return max(1, int(tiles.shape[3]) // 16)


def tile_centres(tiles: Images, axis: int) -> Floats:
    """Centres of the rows (axis 0) or columns (axis 1) of tiles, in pixels of the canvas."""
    side = int(tiles.shape[axis + 2])
    return (side + _gap(tiles)) * np.arange(tiles.shape[axis]) + (side - 1) / 2


def tile_side(columns: int) -> float:
    """Width of an image, in inches."""
    return min(0.8, 12 / columns)


def rank_text(rank: float) -> str:
    """Three decimals at most.

    >>> rank_text(3.0), rank_text(0.25), rank_text(2 / 3)
    ('3', '0.25', '0.667')
    """
    return f"{round(float(rank), 3):g}"
