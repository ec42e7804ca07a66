"""Images a second and memory of `jobs/prepare_data.py`'s engine, on 60,000 PNG files of CIFAR-10's real images.

`python benchmarks/prepare_data.py --data ../shared/data --output /tmp/prepared` writes the PNG files of CIFAR-10 (from
Parquet) into a folder of its own, prepares them, and prints the rate, the largest process and the driver's growth.
"""

import argparse
import resource
import shutil
import threading
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from ordclust_ray.config import PrepareConfig
from ordclust_ray.datasets.folders import FOLDER
from ordclust_ray.preparation import prepare_files, read_back
from ordclust_ray.run import start_ray

SAMPLES_A_SECOND = 4


class Memory:
    """The largest worker of Ray, seen now and then by its own pages (shared ones are the object store's)."""

    def __init__(self) -> None:
        self.worker, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1 / SAMPLES_A_SECOND):
            for child in psutil.Process().children(recursive=True):
                try:
                    if child.name().startswith("ray::"):
                        memory = child.memory_info()
                        self.worker = max(self.worker, memory.rss - memory.shared)
                except psutil.Error:
                    continue


def write_files(data: Path, folder: Path) -> int:
    """CIFAR-10's images as files, a folder a class, unless they are there."""
    written = 0
    for split in ("train", "test"):
        for file in sorted(data.glob(f"cifar10_{split}*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(1_000, columns=["image", "label"]):
                for row in batch.to_pylist():
                    image = row["image"] if isinstance(row["image"], bytes) else row["image"]["bytes"]
                    target = folder / split / str(row["label"]) / f"{written:05d}.png"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(image)
                    written += 1
    return written


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10_*.parquet")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    source = options.output / "png"
    if not source.exists():
        print(f"{write_files(options.data, source)} files written", flush=True)
    start_ray()
    for repeat in range(options.repeats):
        config = PrepareConfig(source=str(source), output=str(options.output / "parquet"))
        shutil.rmtree(config.output_path, ignore_errors=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        listing = FOLDER.read(source, None)
        listed = time.perf_counter() - started
        config.output_path.mkdir(parents=True)
        with Memory() as memory:
            images = max(prepare_files(listing, "", config))
        found = read_back(config.output_path, len(listing.rows))
        seconds = time.perf_counter() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"repeat {repeat}: {images} images, {(found['error'] != '').sum()} broken, {seconds:.1f} s (listing "
            f"{listed:.1f}): {images / seconds:,.0f} images/s; largest worker {memory.worker / 1e6:.0f} MB, "
            f"driver grew by {grown:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
