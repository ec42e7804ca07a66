"""Time of an iteration of the Ray engine against n, k, actors and features on disk; and what a cluster would take.

    python benchmarks/drc_scaling.py

1. n and k: one actor, the first iteration (every row is read and compared). A line through the times gives seconds a
   row and centroid (compute) and seconds a row (reading and adding up).
2. Actors: so few rows that there is nothing to compute; what is left is the overhead of an iteration.
3. Disk: Parquet features twice as large as the memory that the actors may use, read again in each iteration.
4. From these, a cluster of 64 machines and 10^9 x 896 features, with the assumptions printed.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from ordclust_ray.clustering.ray_engine import RayEngine
from ordclust_ray.clustering.sources import Part
from ordclust_ray.core.repulsive_kmeans import normalised
from ordclust_ray.core.shard import Shard

D = 896


def rows_of(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def first_iteration(engine: RayEngine, centroids: NDArray[np.float64], repeats: int = 3) -> float:
    """Seconds in which every row is read, compared and added, the fastest of some."""
    times = []
    for _ in range(repeats):
        engine.gather("begin", 0)
        started = time.perf_counter()
        engine.add("assign", (0, centroids))
        times.append(time.perf_counter() - started)
    return min(times)


def compute(cpus: int) -> tuple[float, float]:
    """Fits seconds = n (a + b k); returns a and b of one CPU."""
    rows, found = [], []
    for n in (20_000, 60_000, 120_000):
        engine = RayEngine.from_arrays(rows_of(n, D), num_shards=1, num_cpus=cpus)
        for k in (2, 8, 32, 100):
            took = first_iteration(engine, normalised(rows_of(k, D, seed=1)))
            rows.append([n, n * k])
            found.append(took)
            print(f"  n {n:7d}  k {k:4d}  {took * 1e3:8.1f} ms", flush=True)
        engine.close()
    (a, b), *_ = np.linalg.lstsq(np.array(rows, float), np.array(found), rcond=None)
    off = float(np.abs(np.array(rows) @ [a, b] - found).max() / max(found))
    print(f"  on one CPU {a * cpus * 1e9:.0f} ns a row and {b * cpus * 1e9:.1f} ns a row and centroid")
    print(f"  (the line is off by {off:.0%} of the longest time at most)")
    return a * cpus, b * cpus


def overhead() -> tuple[float, float]:
    """Median seconds of an iteration of up to 64 actors with 10 rows each; a line through them."""
    counts, found = [1, 2, 4, 8, 16, 32, 64], []
    for actors in counts:
        engine = RayEngine.from_arrays(rows_of(10 * actors, D), num_shards=actors, num_cpus=0.01)
        path = [normalised(rows_of(8, D, seed=1) + 1e-4 * step) for step in range(60)]
        times = []
        for centroids in path:
            started = time.perf_counter()
            engine.add("assign", (0, centroids))
            times.append(time.perf_counter() - started)
        engine.close()
        found.append(float(np.median(times[10:])))
        print(f"  {actors:3d} actors  {found[-1] * 1e3:6.2f} ms", flush=True)
    slope, base = np.polyfit(counts, found, 1)
    print(f"  {base * 1e3:.2f} ms and {slope * 1e3:.2f} ms an actor")
    return float(base), float(slope)


def peak_memory(part: Part, shard: Shard) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_memory(part: Part, shard: Shard, more: int) -> None:
    """From here on the process may grow by so many bytes, then allocations fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def disk(folder: Path, rows: int, actors: int) -> float:
    """Bytes a second and machine of iterations over Parquet features, in memory half their size."""
    for file in range(4):
        own = rows_of(rows // 4, D, seed=file)
        column = pa.FixedSizeListArray.from_arrays(pa.array(own.ravel()), D)
        pq.write_table(
            pa.table({"features": column}), folder / f"{file}.parquet", row_group_size=20_000, compression="none"
        )
    size = rows * D * 4
    engine = RayEngine.from_files(str(folder), num_shards=actors)
    engine.run(limit_memory, size // 2 // actors)
    took = first_iteration(engine, normalised(rows_of(8, D, seed=1)), repeats=2)
    peaks = engine.run(peak_memory)
    engine.close()
    print(f"  {size / 1e9:.1f} GB of features, at most {size / 2e9:.1f} GB more memory allowed")
    print(f"  {took:.2f} s an iteration, {size / took / 1e9:.2f} GB/s")
    print(f"  {len(peaks)} actors had at most {sum(peaks) / 1e6:.0f} MB together, their libraries included")
    return size / took


def extrapolate(row: float, row_and_centroid: float, base: float, actor: float, bytes_a_second: float) -> None:
    n, k, machines, cores = 10**9, 8, 64, 32
    work = n * (row + row_and_centroid * k) / (machines * cores)
    traffic = machines * k * D * 8 * 2 / 1.25e9
    streamed = n * D * 4 / machines / bytes_a_second
    ray_seconds = base + actor * machines
    print(f"  {n:.0e} x {D} features ({n * D * 4 / 1e12:.1f} TB), k = {k}, {machines} machines of {cores} cores:")
    print(f"  {work:.2f} s compute, {ray_seconds:.2f} s Ray, {traffic:.2f} s for sums and centroids an iteration;")
    print(f"  {streamed:.0f} s where the features have to be read from disk.")
    print("  Assumed: an actor a machine; features in memory (56 GB each), or on disks as fast as here; cores as here,")
    print("  each with this one's share of memory bandwidth; 10 Gbit/s at the driver; no machine slower than others.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk-rows", type=int, default=1_000_000, help="of 3.6 kB each")
    arguments = parser.parse_args()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    cpus = int(ray.cluster_resources()["CPU"])
    print(f"compute: one actor of {cpus} CPUs, d = {D}")
    row, row_and_centroid = compute(cpus)
    print("overhead: actors of 10 rows each")
    base, actor = overhead()
    print("disk")
    with tempfile.TemporaryDirectory() as folder:
        rate = disk(Path(folder), arguments.disk_rows, cpus)
    print("a cluster")
    extrapolate(row, row_and_centroid, base, actor, rate)


if __name__ == "__main__":
    main()
