"""Centroids in the form that `kernels.assign` wants, and how far they have moved since.

Centroids that are alike share a panel, so that most panels cannot hold a row's nearest centroid and are left out.

Legend: K centroids, D features, P panels, L lanes.
"""

import functools

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy import ndarray
from threadpoolctl import ThreadpoolController

from ordclust_ray.core.rounding import error_bound, longest
from ordclust_ray.core.sketch import Sketch
from ordclust_ray.kernels import LANES, NOWHERE, Centroids

blas = functools.cache(ThreadpoolController)
"""Of numpy's matrix products: its threads wait busily for more work, on the cores where passes over the data run."""
FARTHEST = 8.0
"""Where drifts have added up to this, bounds begin anew: float32 holds them to `kernels.SLACK`."""


def grouped(centroids: Float[ndarray, "K D"]) -> list[Int64[ndarray, "_"]]:
    """Panels of up to 16 centroids, by halving along the direction in which they differ most.

    >>> [len(panel) for panel in grouped(np.eye(40))]
    [16, 16, 8]
    """

    def halves(clusters: Int64[ndarray, "_"]) -> list[Int64[ndarray, "_"]]:
        if len(clusters) <= LANES:
            return [np.sort(clusters)]
        centred = centroids[clusters] - centroids[clusters].mean(axis=0)
        direction = centred[np.linalg.norm(centred, axis=1).argmax()]
        for _ in range(5):  # of the power method: about the main direction will do
            direction = centred.T @ (centred @ direction)
            direction = direction / max(np.linalg.norm(direction), 1e-30)
        order = clusters[np.argsort(centred @ direction, kind="stable")]
        half = -(-len(clusters) // LANES) // 2 * LANES
        return halves(order[:half]) + halves(order[half:])

    return halves(np.arange(len(centroids)))


def packed(centroids: Float[ndarray, "K D"], groups: list[Int64[ndarray, "_"]]) -> Float[ndarray, "P D L"]:
    """Panels in float32, the centroids of one side by side; one of up to 8 fills only the first half of its place."""
    panels = _aligned((len(groups), centroids.shape[1], LANES))
    for panel, group in zip(panels, groups, strict=True):
        lanes = LANES if len(group) > LANES // 2 else LANES // 2
        panel.reshape(-1)[: lanes * len(panel)].reshape(-1, lanes)[:, : len(group)] = centroids[group].T
    return panels


def _aligned(shape: tuple[int, ...]) -> Float[ndarray, "..."]:
    """Zeros at the start of a cache line, or every load of a vector touches two of them."""
    count = int(np.prod(shape))
    memory = np.zeros(count + 16, np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return memory[start : start + count].reshape(shape)


class Panels:
    """The centroids of a clustering as they move from pass to pass.

    Args:
        centroids: on the grid.
        sketch: along whose directions the rows were sketched; None where they were not.
    """

    def __init__(self, centroids: Float64[ndarray, "K D"], sketch: Sketch | None = None) -> None:
        self.groups = grouped(centroids)
        K, P = len(centroids), len(self.groups)
        members, widths = np.zeros((P, LANES), np.int64), np.array([len(group) for group in self.groups])
        panel_of, lane_of = np.empty(K, np.int64), np.empty(K, np.int64)
        for p, group in enumerate(self.groups):
            members[p, : len(group)], panel_of[group], lane_of[group] = group, p, np.arange(len(group))
        self.centroids = Centroids(
            exact=centroids,
            panels=packed(centroids, self.groups),
            members=members,
            widths=widths,
            panel_of=panel_of,
            lane_of=lane_of,
            own_drift=np.zeros(K),
            panel_drift=np.zeros(P),
            drift=np.zeros((K, P)),
            error=error_bound(centroids.shape[1]),
            sketches=np.empty((P, 0, LANES), np.float32),
            outside=np.empty((P, LANES), np.float32),
            sketch_error=0.0,
        )
        self._sketch(sketch)

    def _sketch(self, sketch: Sketch | None) -> None:
        if sketch is None:
            self.centroids = self.centroids._replace(sketches=self.centroids.sketches[:, :0])
        else:
            sketches, outside = sketch.of_centroids(self.centroids.exact), np.zeros_like(self.centroids.outside)
            nowhere = np.zeros((1, sketches.shape[1]), np.float32)
            nowhere[0, -1] = -NOWHERE
            full = [
                np.pad(group, (0, -len(group) % (LANES // 2)), constant_values=len(sketches)) for group in self.groups
            ]
            for p, group in enumerate(self.groups):
                outside[p, : len(group)] = 2 * sketches[group, -1]
            panels = packed(np.concatenate([sketches, nowhere]), full)
            self.centroids = self.centroids._replace(sketches=panels, outside=outside, sketch_error=sketch.error)

    def move(self, centroids: Float64[ndarray, "K D"], sketch: Sketch | None = None) -> bool:
        """Takes over the next centroids; False where they have moved too far for bounds to go on."""
        before = self.centroids
        moved = np.linalg.norm(centroids - before.exact, axis=1) * longest(centroids.shape[1])
        farthest, second, where = self._farthest(moved)
        others = np.repeat(farthest[None], len(moved), axis=0)
        others[where, np.arange(len(where))] = second
        self.centroids = before._replace(
            exact=centroids,
            panels=packed(centroids, self.groups),
            own_drift=before.own_drift + moved,
            panel_drift=before.panel_drift + farthest,
            drift=before.drift + moved[:, None] + others,
        )
        self._sketch(sketch)
        return bool(self.centroids.own_drift.max() + self.centroids.panel_drift.max() < FARTHEST)

    def _farthest(self, moved: Float64[ndarray, "K"]) -> tuple[ndarray, ndarray, ndarray]:
        """Of each panel: the largest movement, the second largest, and whose the largest is."""
        ordered = [group[np.argsort(-moved[group], kind="stable")] for group in self.groups]
        farthest = np.array([moved[group[0]] for group in ordered])
        second = np.array([moved[group[1]] if len(group) > 1 else 0.0 for group in ordered])
        return farthest, second, np.array([group[0] for group in ordered])
