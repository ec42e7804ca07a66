"""Where a matrix product would overtake the fused kernel: one full pass of each against k.

    python benchmarks/drc_kernel.py

The kernel finds the nearest centroids and adds the rows up; of the matrix product only the product of blocks of rows
is timed (the library's own threads, the output in the cache), without the search for the nearest and without sums: a
lower bound for any pass that is built on it. Times are of all cores, the fastest of some.
"""

import time
from collections.abc import Callable

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from ordclust_ray.core.repulsive_kmeans import normalised
from ordclust_ray.core.shard import Shard

BLOCK = 1024


def fastest(function: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def product(x: NDArray[np.float32], centroids: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for start in range(0, len(x), BLOCK):
        rows = x[start : start + BLOCK]
        np.dot(rows, centroids.T, out=out[: len(rows)])


def compare(shard: Shard, x: NDArray[np.float32], k: int) -> tuple[float, float]:
    """Seconds of the kernel's pass and of the product."""
    centroids = normalised(x[:k])
    narrow, out = centroids.astype(np.float32), np.empty((BLOCK, k), np.float32)

    def one_pass() -> None:
        shard.begin(0)
        shard.assign((0, centroids))

    return fastest(one_pass), fastest(lambda: product(x, narrow, out))


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{'n':>8} {'d':>5} {'k':>5} {'kernel ms':>10} {'product ms':>10} {'ratio':>6}")
    for n, d in ((60_000, 896), (400_000, 128)):
        x = rng.standard_normal((n, d), dtype=np.float32)
        shard = Shard(x, np.arange(n), threads=cpu_count(), sketch_from=x.size + 1)  # every row is read
        for k in (4, 8, 16, 32, 64, 100, 256, 1000):
            ours, theirs = compare(shard, x, k)
            print(f"{n:8d} {d:5d} {k:5d} {ours * 1e3:10.1f} {theirs * 1e3:10.1f} {ours / theirs:6.2f}", flush=True)


if __name__ == "__main__":
    main()
