"""Progress: workers tell a `Monitor` what they do, the driver watches it, shows a bar and keeps the records.

A Ray actor stands between them, so that it works on any machine of a cluster, whatever file systems they share.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import ray
from ray.actor import ActorHandle
from torch import Tensor
from tqdm import tqdm

SECONDS_BETWEEN_STEPS = 0.5
SECONDS_BETWEEN_LINES = 10.0


class Board:
    """The actor: the newest step, and the records of the epochs."""

    def __init__(self) -> None:
        self.newest: dict[str, Any] = {}
        self.records: list[dict[str, Any]] = []

    def step(self, newest: dict[str, Any]) -> None:
        """Where training stands."""
        self.newest = newest

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch that is checkpointed."""
        self.records.append(record)

    def read(self, seen: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The newest step, and the records from the `seen`-th on."""
        return self.newest, self.records[seen:]


class Monitor:
    """The workers' end."""

    def __init__(self, board: ActorHandle) -> None:
        self._board = board
        self._told = 0.0

    def step(self, epoch: int, step: int, steps: int, metrics: Tensor) -> None:
        """Tells of a step, at most twice a second: only then the losses leave the device."""
        if time.monotonic() - self._told >= SECONDS_BETWEEN_STEPS:
            self._told = time.monotonic()
            self._board.step.remote({"epoch": epoch, "step": step, "steps": steps, "losses": metrics.tolist()})

    def epoch(self, record: dict[str, Any]) -> None:
        """Tells of an epoch, and waits until the board has it."""
        ray.get(self._board.epoch.remote(record))


class ProgressBar:
    """A bar in a terminal, plain lines elsewhere: epoch, losses, time left.

    Args:
        epochs: of the whole run.
        done: epochs of earlier attempts.
    """

    def __init__(self, epochs: int, done: int = 0) -> None:
        self.epochs, self.done, self.started = epochs, done, time.monotonic()
        self.bar: tqdm | None = None
        if sys.stderr.isatty():
            layout = "training {percentage:3.0f}%|{bar:20}| {desc}"
            self.bar = tqdm(total=epochs, initial=done, bar_format=layout)
        self.last_line = self.started

    def show(self, newest: dict[str, Any], record: dict[str, Any] | None) -> None:
        """Draws the state; a plain line every ten seconds, or when the run is complete."""
        epoch = record["epoch"] if record else newest["epoch"] + newest["step"] / max(newest["steps"], 1)
        text = f"epoch {min(int(epoch) + (record is None), self.epochs)}/{self.epochs}{self._time_left(epoch)}"
        if record:
            text += " " + describe(record)
        if self.bar is not None:
            self.bar.n = min(epoch, self.epochs)
            self.bar.set_description_str(text)
        elif record and (time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES or epoch == self.epochs):
            self.last_line = time.monotonic()
            print(text, flush=True)

    def _time_left(self, epoch: float) -> str:
        if epoch <= self.done:
            return ""
        left = (time.monotonic() - self.started) / (epoch - self.done) * (self.epochs - epoch)
        return f", {int(left // 60)}:{int(left % 60):02d} left"

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self.bar is not None:
            self.bar.close()


def describe(record: dict[str, Any]) -> str:
    """The losses and the clusters of an epoch's record, in a few words."""
    words = [f"rec {record['reconstruction']:.3f}", f"com {record['comparison']:.3f}"]
    words += [f"pairs right {record['pair_accuracy']:.0%}"]
    if "centroid_affinity" in record:
        words += [f"CA {record['centroid_affinity']:+.2f}", f"moved {record['changed']:.1%}"]
    if "nmi" in record:
        words += [f"NMI {record['nmi']:.2f}"]
    return ", ".join(words)


class Watcher:
    """The driver's end: a thread that reads the board while `TorchTrainer.fit` blocks. A context manager.

    Args:
        bar: draws.
        on_epoch: is called once with each epoch's record.
        seen_epochs: whose records are known already.
    """

    def __init__(
        self, bar: ProgressBar, on_epoch: Callable[[dict[str, Any]], None], seen_epochs: Collection[int] = ()
    ) -> None:
        self.board: ActorHandle = ray.remote(num_cpus=0)(Board).remote()
        self.monitor = Monitor(self.board)
        self._bar, self._on_epoch, self._seen_epochs = bar, on_epoch, set(seen_epochs)
        self._read = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._error: Exception | None = None

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()
        ray.kill(self.board)
        if self._error:
            raise self._error

    def _watch(self) -> None:
        try:
            while not self._stop.wait(SECONDS_BETWEEN_STEPS):
                self._look()
            self._look()
        except Exception as error:  # the main thread raises it when training ends
            self._error = error

    def _look(self) -> None:
        newest, records = ray.get(self.board.read.remote(self._read))
        self._read += len(records)
        for record in records:
            if record["epoch"] not in self._seen_epochs:
                self._seen_epochs.add(record["epoch"])
                self._on_epoch(record)
                self._bar.show(newest, record)
        if newest and not records:
            self._bar.show(newest, None)
