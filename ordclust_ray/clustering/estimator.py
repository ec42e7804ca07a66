"""Repulsive clustering as a scikit-learn estimator."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ordclust_ray.clustering.engine import LocalEngine
from ordclust_ray.core.metrics import centroid_affinity
from ordclust_ray.core.repulsive_kmeans import Clustering, floor_size, objective, repulsive_kmeans
from ordclust_ray.core.shard import Shard
from ordclust_ray.core.starts import STARTS


class RepulsiveKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Clusters directions: k-means on the unit sphere whose centroids repel each other (Lee & Kim 2021, section 3.3).

    Maximises J = sum_j sum_{x in C_j} ( x.c_j - repulsion/(k-1) sum_{l != j} x.c_l ), eq. (6), over memberships and
    unit centroids; rows x are normalised to unit length as they are read, and never copied when they are floats in C
    order. The result does not depend on threads nor, from a given start, on the order of the rows; every decision is
    that of exact arithmetic. Beside the features it takes some 30 bytes a row and 4 for each 16 clusters; from 2^24
    numbers on up to 128 more, where they spare reads (`core.sketch`).

    Args:
        n_clusters: k.
        repulsion: alpha >= 0; 0 is spherical k-means.
        min_cluster_fraction: the floor of every cluster as a share of n/k, 0 (none) to 1; the paper's is 0.5 (B.3).
        init: "k-means++", "k-means||", "k-means" (plain k-means on a sample, the authors' start), "random", or an
            array (n_clusters, n_features) of centroids.
        n_init: starts, of which the best J is kept; one where `init` is an array.
        max_iter: iterations of each start; the authors' code stops at 70.
        tol: a start ends when at most this share of the memberships changes in an iteration; the authors' is 0.01.
        random_state: seed of the start.
        n_jobs: threads; -1 is one a processor.

    Attributes:
        labels_: (n_samples,) int32 cluster of each row. With the floor a row need not be in the nearest one.
        cluster_centers_: (n_clusters, n_features) float64 unit vectors.
        objective_: J of the result.
        n_iter_: iterations of the best start.
        centroid_affinity_: mean cosine of two centroids, eq. (30); lower is better; NaN at k = 1.
        n_features_in_: d.

    >>> X = np.array([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 2.0]])
    >>> RepulsiveKMeans(n_clusters=2, random_state=0).fit(X).cluster_centers_.round(2).tolist()
    [[-0.07, 1.0], [1.0, -0.05]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "repulsion": [Interval(Real, 0, None, closed="left")],
        "min_cluster_fraction": [Interval(Real, 0, 1, closed="both")],
        "init": [StrOptions(set(STARTS)), "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        repulsion: float = 0.1,
        min_cluster_fraction: float = 0.5,
        init: str | ArrayLike = "k-means++",
        n_init: int = 1,
        max_iter: int = 70,
        tol: float = 0.01,
        random_state: Any = None,
        n_jobs: int | None = -1,
    ) -> None:
        self.n_clusters = n_clusters
        self.repulsion = repulsion
        self.min_cluster_fraction = min_cluster_fraction
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: None = None) -> Self:  # noqa: N803
        """Clusters the rows of X.

        Args:
            X: (n_samples, n_features) array of float32, float64, float16 or other numbers, also a memory-mapped one,
                or a torch tensor (bfloat16 too, on a CPU or a GPU). Rows must be finite and not zero.
            y: ignored.

        Raises:
            ValueError: a parameter is out of its limits, or rows are zero or not finite, which it names.
        """
        self._validate_params()
        features = self._checked(X, reset=True)
        n = len(features)
        if n < self.n_clusters:
            raise ValueError(f"n_samples={n} should be >= n_clusters={self.n_clusters}")
        engine = LocalEngine(self._shard(features))
        starts = self._starts(engine)
        results = [self._run(engine, start) for start in starts]
        best = max(results, key=lambda result: result.objective)
        if best is not results[-1]:  # one iteration from where the best one stood gives its clusters again
            self._run(engine, best.assigned_to, max_iter=1)
        self.labels_ = engine.shard.assignments
        self.cluster_centers_: NDArray[np.float64] = best.centroids
        self.objective_, self.n_iter_ = best.objective, best.iterations
        self.centroid_affinity_ = centroid_affinity(best.centroids)
        self._n_features_out = self.n_clusters
        return self

    def _starts(self, engine: LocalEngine) -> list[NDArray[np.float64]]:
        if not isinstance(self.init, str):
            start = np.asarray(self.init, np.float64)
            if start.shape != (self.n_clusters, self.n_features_in_):
                wanted = (self.n_clusters, self.n_features_in_)
                raise ValueError(f"init has shape {start.shape}; it must be finite numbers of shape {wanted}")
            if not np.isfinite(start).all():
                bad = np.flatnonzero(~np.isfinite(start).all(axis=1)).tolist()
                raise ValueError(f"init has rows that are NaN or infinite: {bad}")
            if not start.any(axis=1).all():
                raise ValueError(f"init has rows that are zero: {np.flatnonzero(~start.any(axis=1)).tolist()}")
            return [start]
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=self.n_init)
        return [STARTS[self.init](engine, self.n_clusters, int(seed)) for seed in seeds]

    def _run(self, engine: LocalEngine, start: NDArray[np.float64], max_iter: int | None = None) -> Clustering:
        engine.gather("begin", 0)
        return repulsive_kmeans(
            engine,
            start,
            repulsion=float(self.repulsion),
            min_size=floor_size(engine.num_instances, self.n_clusters, float(self.min_cluster_fraction)),
            max_iterations=max_iter or self.max_iter,
            tolerance=float(self.tol),
        )

    def _checked(self, X: Any, *, reset: bool) -> Any:  # noqa: N803
        """X as the kernels read it: what scikit-learn checks, but for the copies."""
        if type(X).__module__.partition(".")[0] == "torch":
            validate_data(self, X=np.broadcast_to(False, tuple(X.shape)), reset=reset, dtype=None)
            return X
        dtypes = [np.float32, np.float64, np.float16]
        return validate_data(self, X=X, reset=reset, dtype=dtypes, order="C", ensure_all_finite=False)

    def _shard(self, features: Any) -> Shard:
        return Shard(features, np.arange(len(features)), threads=effective_n_jobs(self.n_jobs))

    def predict(self, X: Any) -> NDArray[np.int32]:  # noqa: N803
        """The nearest centroid of each row, eq. (9); the lowest one on a tie.

        Args:
            X: (n_samples, n_features) as in `fit`.

        Returns:
            (n_samples,) int32.
        """
        return self._assigned(X).shard.assignments

    def _assigned(self, X: Any) -> LocalEngine:  # noqa: N803
        check_is_fitted(self)
        engine = LocalEngine(self._shard(self._checked(X, reset=False)))
        engine.add("assign", (0, self.cluster_centers_))
        return engine

    def transform(self, X: Any) -> NDArray[np.floating]:  # noqa: N803
        """The similarity of each row to every centroid.

        Args:
            X: (n_samples, n_features) as in `fit`.

        Returns:
            (n_samples, n_clusters) cosines in float32 arithmetic; float64 where X is.
        """
        check_is_fitted(self)
        features = self._checked(X, reset=False)
        similarities = self._shard(features).products(self.cluster_centers_)
        return similarities.astype(np.float64) if getattr(features, "dtype", None) == np.float64 else similarities

    def score(self, X: Any, y: None = None) -> float:  # noqa: N803
        """J of eq. (6) for these rows, each in its nearest cluster; higher is better.

        Args:
            X: (n_samples, n_features) as in `fit`.
            y: ignored.
        """
        engine = self._assigned(X)
        return objective(engine.shard.clusterings[0].sums, self.cluster_centers_, float(self.repulsion))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
