"""Progress: workers tell a `Monitor` what they do, the driver watches it, shows a bar and keeps the records.

A Ray actor stands between them, so that it works on any machine of a cluster, whatever file systems they share.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor
from tqdm import tqdm

from ordclust_ray.board import Board

SECONDS_BETWEEN_STEPS = 0.5
SECONDS_BETWEEN_LINES = 10.0


class Monitor:
    """The workers' end."""

    def __init__(self, board: ActorHandle) -> None:
        self._board = board
        self._told = 0.0

    def step(self, epoch: int, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        """Tells of a step, at most twice a second: only then the losses leave the device."""
        if time.monotonic() - self._told >= SECONDS_BETWEEN_STEPS:
            self._told = time.monotonic()
            now = {name: float(loss) for name, loss in losses.items()}
            self._board.step.remote({"epoch": epoch + 1, "step": step, "steps": steps, **now})

    def epoch(self, record: dict[str, Any]) -> None:
        """Tells of an epoch, and waits until the board has it; without a board the driver reads the checkpoint."""
        with contextlib.suppress(ray.exceptions.RayActorError):
            ray.get(self._board.epoch.remote(record))


class Silent(Monitor):
    """Nobody watches."""

    def __init__(self) -> None:
        pass

    def step(self, epoch: int, step: int, steps: int, losses: Mapping[str, Tensor]) -> None:
        """Tells nobody."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Tells nobody."""


class ProgressBar:
    """A bar in a terminal, plain lines elsewhere: epoch, losses, time left.

    Args:
        epochs: of the whole run.
        done: epochs of earlier attempts.
    """

    def __init__(self, epochs: int, done: int = 0) -> None:
        self.epochs = epochs
        self.started: tuple[float, float] | None = None  # when the first news came, and from which position
        self.bar: tqdm | None = None
        if sys.stderr.isatty():
            layout = "training {percentage:3.0f}%|{bar:20}| {desc}"
            self.bar = tqdm(total=epochs, initial=done, bar_format=layout)
        self.last_line = time.monotonic()

    def show_step(self, newest: dict[str, Any]) -> None:
        """Within an epoch: its number, the step, steps an epoch, and the step's losses."""
        epoch = newest["epoch"]
        self._show(epoch - 1 + newest["step"] / newest["steps"], epoch, newest, last=False)

    def show_epoch(self, record: dict[str, Any]) -> None:
        """After an epoch: its record."""
        self._show(record["epoch"], record["epoch"], record, last=record["epoch"] == self.epochs)

    def _show(self, position: float, epoch: int, state: dict[str, Any], *, last: bool) -> None:
        text = f"epoch {epoch}/{self.epochs}{self._time_left(position)} {describe(state)}"
        if self.bar is not None:
            self.bar.n = position
            self.bar.set_description_str(text)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES or last:
            self.last_line = time.monotonic()
            print(text, flush=True)

    def _time_left(self, position: float) -> str:
        """By the speed since the first news: what came before it was the start of processes."""
        now = time.monotonic()
        since, start = self.started = self.started or (now, position)
        if position <= start:
            return ""
        left = (now - since) / (position - start) * (self.epochs - position)
        return f", {int(left // 60)}:{int(left % 60):02d} left"

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self.bar is not None:
            self.bar.close()


WORDS = {
    "reconstruction": "rec {:.3f}",
    "comparison": "com {:.3f}",
    "pair_accuracy": "pairs right {:.0%}",
    "instance_discrimination": "instances {:.3f}",
    "feature_decorrelation": "decorrelation {:.3f}",
    "orthogonality": "orthogonality {:.3f}",
    "centroid_affinity": "CA {:+.2f}",
    "changed": "moved {:.1%}",
    "silhouette": "silhouette {:.2f}",
    "acc": "ACC {:.1%}",
    "nmi": "NMI {:.2f}",
}


def describe(record: dict[str, Any]) -> str:
    """The losses of a step or an epoch, and the clusters where they are new, in a few words.

    >>> describe({"epoch": 3, "reconstruction": 0.25, "centroid_affinity": -0.3})
    'rec 0.250, CA -0.30'
    """
    return ", ".join(words.format(record[name]) for name, words in WORDS.items() if name in record)


class Watcher:
    """The driver's end: a thread that reads the board while `TorchTrainer.fit` blocks. A context manager.

    Args:
        bar: draws.
        on_epoch: is called once with each epoch's record. Where it raises, the user is told once, and training goes
            on.
        seen_epochs: whose records are known already.
    """

    def __init__(
        self, bar: ProgressBar, on_epoch: Callable[[dict[str, Any]], None], seen_epochs: Collection[int] = ()
    ) -> None:
        here = ray.get_runtime_context().get_node_id()  # other machines may go, and the run goes on
        pinned = NodeAffinitySchedulingStrategy(here, soft=False)
        self.board: ActorHandle = ray.remote(num_cpus=0, scheduling_strategy=pinned)(Board).remote()
        self.monitor = Monitor(self.board)
        self._bar, self._on_epoch, self._seen_epochs = bar, on_epoch, set(seen_epochs)
        self._read = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._warned = False
        self._newest: dict[str, Any] = {}

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()
        ray.kill(self.board)

    def _watch(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the cluster is gone: training ends and says so
            while not self._stop.wait(SECONDS_BETWEEN_STEPS):
                self._look()
            self._look()

    def _look(self) -> None:
        newest, records = ray.get(self.board.read.remote(self._read))
        self._read += len(records)
        for record in records:
            if record["epoch"] not in self._seen_epochs:
                self._seen_epochs.add(record["epoch"])
                self._bar.show_epoch(record)
                self._record(record)
        if newest != self._newest and newest["epoch"] not in self._seen_epochs:
            self._bar.show_step(newest)
        self._newest = newest

    def _record(self, record: dict[str, Any]) -> None:
        try:
            self._on_epoch(record)
        except Exception as error:  # a store that is down for a minute must not end a training of days
            if not self._warned:
                tqdm.write(f"warning: epoch {record['epoch']} is not recorded yet: {error}", file=sys.stderr)
            self._warned = True
