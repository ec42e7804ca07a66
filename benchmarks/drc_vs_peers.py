"""Spherical k-means on the same features from the same start: ours, scikit-learn, faiss, dask-ml, Spark.

`lloyd` and `elkan` are scikit-learn's KMeans, which does not normalise its centroids; `spherical` does, between calls
of scikit-learn's assignment.

One after another in one process, each by its own user interface. Peers are optional (`uv pip install --group peers`):
those that are not installed are left out.

    python benchmarks/drc_vs_peers.py
    python benchmarks/drc_vs_peers.py --cases 400000,896,8 --structure none --methods ours lloyd faiss

Seconds a pass: the difference of two runs of different length, by the passes between them; what a method does once is
not in it. Seconds to convergence: everything, until no membership changes. faiss and Spark cannot tell: they run for as
many passes as ours took. Memory: what the process grew by at most, beyond the features.
"""

import argparse
import contextlib
import gc
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from joblib import cpu_count
from numba import njit, prange
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ordclust_ray import RepulsiveKMeans

CASES = ["400000,896,8", "400000,128,10", "60000,896,100", "2000000,128,20"]
FEW, MANY, LIMIT = 2, 12, 300
"""Passes of the two runs that give seconds a pass, and of the one to convergence at most."""


def features_of(n: int, d: int, structure: str, seed: int = 0) -> NDArray[np.float32]:
    """Unit rows: 50 unequal groups that overlap in a space of 20 dimensions, and noise; or noise alone."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d), dtype=np.float32)
    if structure == "groups":
        axes = np.linalg.qr(rng.standard_normal((d, 20)))[0]
        means = rng.standard_normal((50, 20))
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        groups = rng.choice(50, n, p=rng.dirichlet(np.ones(50)))
        for start in range(0, n, 50_000):
            own = groups[start : start + 50_000]
            place = means[own] + 0.5 / 20**0.5 * rng.standard_normal((len(own), 20))
            x[start : start + len(own)] = (place @ axes.T).astype(np.float32) + 0.5 / d**0.5 * x[
                start : start + len(own)
            ]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


@dataclass(frozen=True)
class Fit:
    """What a method returns: the cluster of each row, and how many passes it made."""

    labels: NDArray[np.integer]
    passes: int


Method = Callable[[NDArray[np.float32], NDArray[np.float32], int], Fit]


def ours(x: NDArray[np.float32], start: NDArray[np.float32], passes: int) -> Fit:
    model = RepulsiveKMeans(
        len(start), repulsion=0.0, min_cluster_fraction=0.0, init=start, max_iter=passes, tol=0.0, n_jobs=-1
    ).fit(x)
    return Fit(model.labels_, model.n_iter_)


def scikit_learn(algorithm: str) -> Method:
    from sklearn.cluster import KMeans

    def fit(x: NDArray[np.float32], start: NDArray[np.float32], passes: int) -> Fit:
        model = KMeans(len(start), init=start, n_init=1, max_iter=passes, tol=0, algorithm=algorithm).fit(x)
        return Fit(model.labels_, model.n_iter_)

    return fit


def spherical_scikit_learn(x: NDArray[np.float32], start: NDArray[np.float32], passes: int) -> Fit:
    """scikit-learn's assignment, and centroids of unit length between its calls."""
    from sklearn.metrics import pairwise_distances_argmin

    centroids, labels, made = start, np.full(len(x), -1), 0
    for _ in range(passes):
        made += 1
        before, labels = labels, pairwise_distances_argmin(x, centroids)
        if (labels == before).all():
            break
        onto = csr_array((np.ones(len(x), np.float32), (labels, np.arange(len(x)))), shape=(len(start), len(x)))
        sums = onto @ x
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(lengths > 0, sums / np.maximum(lengths, 1e-30), centroids)
    return Fit(labels, made)


def faiss_method() -> Method:
    import faiss

    def fit(x: NDArray[np.float32], start: NDArray[np.float32], passes: int) -> Fit:
        model = faiss.Kmeans(x.shape[1], len(start), niter=passes, spherical=True, max_points_per_centroid=len(x))
        model.train(x, init_centroids=start)
        return Fit(model.index.search(x, 1)[1][:, 0], passes)

    return fit


def dask_ml_method() -> Method:
    import dask
    import dask.array as da
    from dask_ml.cluster import KMeans

    def fit(x: NDArray[np.float32], start: NDArray[np.float32], passes: int) -> Fit:
        with dask.config.set(scheduler="threads"):
            rows = da.from_array(x, chunks=(-(-len(x) // (4 * cpu_count())), x.shape[1]))
            model = KMeans(len(start), init=start.astype(np.float64), max_iter=passes, tol=0).fit(rows)
            return Fit(np.asarray(model.labels_), model.n_iter_)

    return fit


def spark_method() -> Method:
    """Cosine distance, its own random start: its interface takes no other."""
    import pandas as pd
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master(f"local[{cpu_count()}]")
        .config("spark.driver.memory", "10g")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    cached: dict[int, Any] = {}

    def fit(x: NDArray[np.float32], start: NDArray[np.float32], passes: int) -> Fit:
        if id(x) not in cached:  # not part of a pass
            parts = [session.createDataFrame(pd.DataFrame({"row": list(part)})) for part in np.array_split(x, 8)]
            rows = parts[0]
            for part in parts[1:]:
                rows = rows.union(part)
            cached[id(x)] = rows.select(array_to_vector("row").alias("features")).cache()
            cached[id(x)].count()
        model = KMeans(k=len(start), maxIter=passes, tol=0.0, initMode="random", seed=0, distanceMeasure="cosine")
        fitted = model.fit(cached[id(x)])
        labels = fitted.transform(cached[id(x)]).select("prediction").toPandas()["prediction"].to_numpy()
        return Fit(labels, passes)

    return fit


METHODS: dict[str, Callable[[], Method]] = {
    "ours": lambda: ours,
    "lloyd": lambda: scikit_learn("lloyd"),
    "elkan": lambda: scikit_learn("elkan"),
    "spherical": lambda: spherical_scikit_learn,
    "faiss": faiss_method,
    "dask-ml": dask_ml_method,
    "spark": spark_method,
}
UNTIL_CONVERGED = {"ours", "lloyd", "elkan", "spherical"}
"""The others are told how many passes to make."""


@njit(parallel=True, fastmath=True)
def total(x: NDArray[np.float32]) -> Any:
    """Reads every number once, on all cores."""
    found: Any = 0.0
    for i in prange(len(x)):
        row: Any = np.float32(0)
        for j in range(x.shape[1]):
            row = row + x[i, j]
        found += row
    return found


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


@contextlib.contextmanager
def growth() -> Iterator[list[float]]:
    """How many bytes the process grew by at most."""
    process, peak, ended = psutil.Process(), [0.0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def objective(x: NDArray[np.float32], labels: NDArray[np.integer], k: int) -> float:
    """J of eq. (6) at repulsion 0, a row: the sum of the lengths of the clusters' sums."""
    sums = np.zeros((k, x.shape[1]))
    for j in range(k):
        sums[j] = x[labels == j].sum(axis=0, dtype=np.float64)
    return float(np.linalg.norm(sums, axis=1).sum() / len(x))


def measure(
    name: str, method: Method, x: NDArray[np.float32], start: NDArray[np.float32], passes: int, repeats: int
) -> dict[str, float]:
    method(x[: 20 * len(start)], start, 2)  # compiles, starts threads
    few = min(seconds(lambda: method(x, start, FEW))[0] for _ in range(repeats))
    several = [seconds(lambda: method(x, start, MANY)) for _ in range(repeats)]
    between = several[0][1].passes - FEW
    gc.collect()
    with growth() as peak:
        took, fitted = seconds(lambda: method(x, start, LIMIT if name in UNTIL_CONVERGED else passes))
    return {
        "pass": (min(s for s, _ in several) - few) / max(between, 1),
        "converged": took,
        "passes": fitted.passes,
        "MB": peak[0] / 1e6,
        "J": objective(x, fitted.labels, len(start)),
    }


def run_case(n: int, d: int, k: int, structure: str, names: list[str], repeats: int) -> dict[str, dict[str, float]]:
    x = features_of(n, d, structure)
    start = x[np.random.default_rng(1).choice(n, k, replace=False)].copy()
    total(x[:1000])
    floor = min(seconds(lambda: total(x))[0] for _ in range(7))
    found: dict[str, dict[str, float]] = {"reading once": {"pass": floor}}
    passes = LIMIT
    for name in names:
        try:
            method = METHODS[name]()
        except ImportError as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        try:
            found[name] = measure(name, method, x, start, passes, repeats)
        except Exception as error:  # a peer that cannot do it is a result, too
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        passes = int(found["ours"]["passes"]) if "ours" in found else passes
        print(f"  {name:8s}", {key: round(value, 5) for key, value in found[name].items()}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, help="n,d,k")
    parser.add_argument("--structure", choices=["groups", "none"], default="groups")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=2, help="of the two timed runs; the faster one counts")
    parser.add_argument("--output", help="a JSON file for the figures")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    found = {}
    for case in arguments.cases:
        n, d, k = map(int, case.split(","))
        print(f"n = {n}, d = {d}, k = {k}, structure: {arguments.structure}", flush=True)
        found[case] = run_case(n, d, k, arguments.structure, arguments.methods, arguments.repeats)
        floor, own = found[case]["reading once"]["pass"], found[case]["ours"]
        peers = {name: v for name, v in found[case].items() if name not in ("ours", "reading once")}
        print(f"  reading once {floor:.4f} s; our pass is {own['pass'] / floor:.2f} of it", flush=True)
        if peers:
            fastest = min(v["pass"] for v in peers.values())
            earliest = min(v["converged"] for v in peers.values())
            print(
                f"  the fastest peer's pass takes {fastest / own['pass']:.1f} times ours, "
                f"its way to convergence {earliest / own['converged']:.1f} times",
                flush=True,
            )
        if arguments.output:
            with open(arguments.output, "w") as file:  # noqa: PTH123
                json.dump({"structure": arguments.structure, "cases": found}, file, indent=1)


if __name__ == "__main__":
    main()
