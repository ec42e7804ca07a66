"""Sketches of rows, which bound similarities to centroids so well that most rows need not be read.

Features, and means of features all the more, lie mostly in few directions. A sketch has the coordinates of a row along
these, and the length of what is outside of them. By the Cauchy-Schwarz inequality the similarity of two vectors is the
product of their coordinates, give or take the product of their lengths outside. (Bottesch, Buehler & Kaechele, ICML
2016, bound distances in this manner by block vectors.)

Legend: N rows, D features, K centroids, V directions, S = V + 1 numbers of a sketch, the length outside comes last.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from ordclust_ray.core.rounding import error_bound, longest

LEAST_WIDTH = 64
"""Narrower rows are read as fast as sketches would be."""
TELLING = 0.25
"""Sketches are worth making where they tell the nearest centroid of this share of the rows."""


@dataclass(frozen=True)
class Sketch:
    """Directions, and the sketches of rows.

    Attributes:
        directions: orthonormal up to rounding to float32, whose values they are.
        rows: sketches of unit rows.
    """

    directions: Float64[ndarray, "D V"]
    rows: Float32[ndarray, "N S"]

    @classmethod
    def of_sample(cls, sample: Float32[ndarray, "N D"]) -> "Sketch":
        """Along the directions in which a sample of unit rows lies mostly, found by subspace iteration."""
        D = sample.shape[1]
        directions = np.random.default_rng(0).standard_normal((D, size(D) - 1))
        for _ in range(4):
            directions = np.linalg.qr(sample.T @ (sample @ directions.astype(np.float32)).astype(np.float64))[0]
        rounded = directions.astype(np.float32)
        sketch = cls(rounded.astype(np.float64), np.empty((0, size(D)), np.float32))
        return replace(sketch, rows=sketch.of_rows(sample @ rounded))

    def of_rows(self, similarities: Float32[ndarray, "N V"]) -> Float32[ndarray, "N V+1"]:
        """Sketches of unit rows by their similarities to the directions, as float32 gives them."""
        D, V = self.directions.shape
        inside = np.sqrt(np.einsum("nm,nm->n", similarities, similarities)) - np.float32(V**0.5 * error_bound(D))
        shortest = np.maximum(inside, 0).astype(np.float64) ** 2 * (1 - 1e-5)
        outside = np.sqrt(np.maximum(longest(D) ** 2 - shortest, 0)) * (1 + 2.0**-22)
        return np.concatenate([similarities, outside[:, None].astype(np.float32)], axis=1)

    def of_centroids(self, centroids: Float64[ndarray, "K D"]) -> Float32[ndarray, "K _"]:
        """Sketches of centroids: coordinates whose combination of the directions is next to each, and how near."""
        coordinates = (centroids @ self._onto.T).astype(np.float32)
        nearest = coordinates.astype(np.float64) @ self.directions.T
        outside = np.linalg.norm(centroids - nearest, axis=1) * (1 + 2.0**-20)
        return np.concatenate([coordinates, outside[:, None].astype(np.float32)], axis=1)

    @cached_property
    def _onto(self) -> Float64[ndarray, "V D"]:
        """What gives a vector's coordinates; the same in each pass."""
        return np.linalg.solve(self.directions.T @ self.directions, self.directions.T)

    @property
    def error(self) -> float:
        """How far the product of two sketches may be from what it is in exact arithmetic of exact coordinates."""
        D, V = self.directions.shape
        return 1.1 * (V**0.5 * error_bound(D) + error_bound(V + 1))

    def telling(self, centroids: Float64[ndarray, "K D"]) -> float:
        """The share of the rows whose nearest centroid their sketches tell."""
        sketches = self.of_centroids(centroids)
        upper = self.rows @ sketches.T
        lower = upper - 2 * np.outer(self.rows[:, -1], sketches[:, -1]) - 2 * self.error
        return float(((upper >= lower.max(axis=1, keepdims=True)).sum(axis=1) == 1).mean()) if len(upper) else 0.0


def size(width: int) -> int:
    """S: a sketch is small beside its row, and its products fill vector registers."""
    return 32 if width >= 128 else 16
