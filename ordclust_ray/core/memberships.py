"""The cluster of each row of a shard, and what spares the next pass from reading it.

Legend: N rows, D features, K clusters, P panels of centroids, M rows.
"""

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy import ndarray

from ordclust_ray import kernels
from ordclust_ray.core.blocks import Block, Totals
from ordclust_ray.core.panels import Panels
from ordclust_ray.core.sketch import Sketch


class Memberships:
    """One clustering of a shard's instances: the cluster of each, the sums, and the bounds that spare reads.

    Args:
        labels: (N,) the cluster of each instance, -1 where there is none yet.
    """

    def __init__(self, labels: Int32[ndarray, "N"]) -> None:
        self.labels, self.before = labels, labels.copy()
        self._panels: Panels | None = None
        self._lower = self._upper = np.empty(0, np.float32)
        self._sketches = np.empty((len(labels), 0), np.float32)
        self.sums = self.counts = np.empty(0, np.int64)

    def follow(self, centroids: Float64[ndarray, "K D"], sketch: Sketch | None = None) -> None:
        """Takes over the centroids of the next pass, and sketches of all rows; bounds and sums go on where they can."""
        if self._panels is not None and self.sums.shape != centroids.shape:
            self.labels[:], self._panels = -1, None
        self.before[:] = self.labels
        self._sketches = np.empty((len(self.labels), 0), np.float32) if sketch is None else sketch.rows
        if self._panels is None:
            self.labels[:] = -1
            self.sums, self.counts = np.zeros(centroids.shape, np.int64), np.zeros(len(centroids), np.int64)
        if self._panels is None or not self._panels.move(centroids, sketch):
            self._panels = Panels(centroids, sketch)
            self._lower = np.full(len(self.labels), kernels.NEVER, np.float32)
            self._upper = np.full((len(self.labels), len(self._panels.groups)), kernels.FAR, np.float32)

    def look(self, block: Block, scales: ndarray, rows: slice, totals: Totals) -> int:
        """The NN rule for the rows of a block; adds the change of the sums to the totals."""
        assert self._panels is not None, "follow comes first"
        state = kernels.Members(self.labels[rows], self._lower[rows], self._upper[rows], self._sketches[rows])
        return block.assign(scales[rows], self._panels, state, totals)

    def move(self, rows: Int64[ndarray, "M"], cluster: int, change: Totals) -> None:
        """Gives rows to a cluster, whatever is nearest: the next pass has to look at them again."""
        self.labels[rows] = cluster
        if self._panels is not None:
            self._lower[rows], self._upper[rows] = kernels.NEVER, kernels.FAR
            self.sums += change[0]
            self.counts += change[1]

    def changed(self) -> int:
        """Instances that are elsewhere than at the end of the previous iteration."""
        return int(np.count_nonzero(self.labels != self.before))
