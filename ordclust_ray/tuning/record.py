"""What becomes of each trial: a line for people, with the best so far, and a nested run in MLflow."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd
from ray.tune import Callback
from ray.tune.experiment import Trial

from ordclust_ray.files import write_whole
from ordclust_ray.tracking import Tracker
from ordclust_ray.tuning.space import plain

EPOCH, EPOCHS, STEP, STOPPED, DONE = "epoch", "epochs", "training_iteration", "stopped", "done"
OWN = {
    EPOCHS,
    "timestamp",
    "training_iteration",
    "time_this_iter_s",
    "time_total_s",
    "time_since_restore",
    "iterations_since_restore",
    "pid",
}
"""Numbers that Ray Tune adds to every report."""
RECORDS, SETTINGS, ENDED, REPORTS = "records", "settings.json", "ended.json", "reports.jsonl"
"""A folder a trial in that of the sweep, and files in it: what it tries, that it ended and why, its reports."""
TIME_IS_OVER = "time_is_over"
"""A file in the folder of a sweep whose time budget is spent."""
SECONDS_BETWEEN_TABLES = 60.0
FINISHED, FAILED = "all of it was done", "failed"
EARLY, OVER, INTERRUPTED = "stopped early, as others were better", "the time was over", "interrupted"


@dataclass
class Recorder(Callback):
    """Told by Ray Tune, in the driver. Ray Tune pickles it, so it holds no connection.

    Attributes:
        uri: MLflow's store.
        experiment: its name.
        folder: of the sweep.
        parent: id of the sweep's run in MLflow.
        metric: that decides.
        mode: "min" or "max".
        shown: settings in the line of a trial, by dotted name.
        total: number of trials that are planned.
    """

    uri: str
    experiment: str
    folder: Path
    parent: str
    metric: str
    mode: str
    shown: tuple[str, ...]
    total: int
    early: set[str] = field(default_factory=set)
    """Ids of trials that are about to be stopped."""
    told: float = field(default_factory=time.time)
    """When something was printed last."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Its run in MLflow begins, or goes on."""
        self._begin(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """All numbers that it reported."""
        if result.get(DONE):  # a trial that ends by itself has said so after its last report
            self.early.add(trial.trial_id)
        numbers = reported(result)
        self._tracker(trial.trial_id).metrics(numbers, int(result.get(EPOCH, result[STEP])))
        with (self._home(trial.trial_id) / REPORTS).open("a") as file:
            file.write(json.dumps(numbers) + "\n")

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Now and then, where the trials are."""
        running = [trial for trial in trials if trial.status == Trial.RUNNING]
        if running and time.time() - self.told >= SECONDS_BETWEEN_TABLES:
            ended = sum(trial.is_finished() for trial in trials)
            self._say([f"{ended}/{self.total} trials ended, best {self._best(trials)}; running:"])
            self._say(f"  {self._row(trial)}{_progress(trial)}" for trial in running)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It ended by itself, or was ended: others were better, or the time is over."""
        reason = FINISHED
        if trial.trial_id in self.early or not (trial.last_result or {}).get(DONE):
            reason = OVER if (self.folder / TIME_IS_OVER).exists() else EARLY
        self._end(trial, trials, reason, "FINISHED")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """It raised; the sweep goes on. Ray Tune tells why afterwards, see `settle`."""
        self._end(trial, trials, FAILED, "FAILED")

    def settle(self, trials: pd.DataFrame) -> None:
        """Says in MLflow why trials failed, and of those that did not end, that they go on no longer.

        Args:
            trials: as `run_sweep` returns them.
        """
        for trial_id, error in trials["error"][trials["error"] != ""].items():
            self._tracker(str(trial_id)).tag(STOPPED, f"{FAILED}: {error}")
        for trial_id, reason in trials["stopped"].items():
            tracker = self._tracker(str(trial_id))
            if tracker.run_id and not ended_because(self.folder, str(trial_id)):
                tracker.tag(STOPPED, reason or INTERRUPTED)
                tracker.finish("KILLED")

    def _begin(self, trial: Trial) -> Tracker:
        file, tracker = self._home(trial.trial_id) / SETTINGS, self._tracker(trial.trial_id)
        if not file.exists():
            write_whole(file, {name: plain(value) for name, value in trial.config.items()})
        tracker.start(trial.config)
        return tracker

    def _end(self, trial: Trial, trials: Sequence[Trial], reason: str, status: str) -> None:
        tracker = self._tracker(trial.trial_id)
        if not tracker.run_id:  # its process never ran
            tracker = self._begin(trial)
        tracker.tag(STOPPED, reason)
        tracker.finish(status)
        write_whole(self._home(trial.trial_id) / ENDED, {"reason": reason})
        self._say([self.line(trial, trials, "" if reason == FINISHED else reason)])

    def line(self, trial: Trial, trials: Sequence[Trial], why: str) -> str:
        """A row of the live table."""
        ended = sum(other.is_finished() for other in trials if other is not trial) + 1
        said = f"trial {ended}/{self.total}: {self._row(trial)}, best {self._best(trials)}"
        return f"{said} ({why})" if why else said

    def _row(self, trial: Trial) -> str:
        """Its settings, and the metric where it is known."""
        values = ", ".join(f"{name.rpartition('.')[2]} {_short(trial.config[name])}" for name in self.shown)
        return f"{values}: {self.metric} {_number(score(trial, self.metric))}"

    def _best(self, trials: Sequence[Trial]) -> str:
        """Metric of the best trial so far; of those that were trained to their end, once there is one."""
        whole = [other for other in trials if ended_because(self.folder, other.trial_id) == FINISHED] or trials
        known = [value for value in (score(other, self.metric) for other in whole) if isfinite(value)]
        return _number((min if self.mode == "min" else max)(known, default=nan))

    def _say(self, lines: Iterable[str]) -> None:
        print("\n".join(lines), flush=True)
        self.told = time.time()

    def _home(self, trial_id: str) -> Path:
        home = self.folder / RECORDS / trial_id
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _tracker(self, trial_id: str) -> Tracker:
        name = f"{self.folder.name}-{trial_id}"
        return _tracker(self.uri, self.experiment, name, self._home(trial_id), self.parent)


@lru_cache(maxsize=256)
def _tracker(uri: str, experiment: str, name: str, folder: Path, parent: str) -> Tracker:
    """One for all that a trial reports: each asks the store for the experiment."""
    return Tracker(uri, experiment, name, folder, parent)


def reported(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a report that are the trial's own."""
    return {
        name: float(value)
        for name, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in OWN and "/" not in name
    }


def settings_of(folder: Path, trial_id: str) -> dict[str, Any]:
    """What a trial tries, by dotted name; empty where it has not begun.

    Args:
        folder: of the sweep.
        trial_id: of the trial.
    """
    file = folder / RECORDS / trial_id / SETTINGS
    return dict(json.loads(file.read_text())) if file.exists() else {}


def finished_alike(folder: Path, values: Mapping[str, Any]) -> str:
    """The trial that was trained to its end with these settings; empty where there is none.

    Args:
        folder: of the sweep.
        values: settings by dotted name.
    """
    wanted = {name: plain(value) for name, value in values.items()}
    for file in sorted((folder / RECORDS).glob(f"*/{SETTINGS}")):
        trial_id = file.parent.name
        if ended_because(folder, trial_id) == FINISHED and settings_of(folder, trial_id) == wanted:
            return trial_id
    return ""


def reports_of(folder: Path, trial_id: str) -> pd.DataFrame:
    """What a trial reported, a row an epoch; of those that were reported again, the last.

    Args:
        folder: of the sweep.
        trial_id: of the trial.
    """
    file = folder / RECORDS / trial_id / REPORTS
    if not file.exists():
        return pd.DataFrame()
    rows = pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])
    return rows.drop_duplicates(EPOCH, keep="last") if EPOCH in rows else rows


def ended_because(folder: Path, trial_id: str) -> str:
    """Why a trial ended; empty where it has not.

    Args:
        folder: of the sweep.
        trial_id: of the trial.
    """
    file = folder / RECORDS / trial_id / ENDED
    return str(json.loads(file.read_text())["reason"]) if file.exists() else ""


def score(trial: Trial, metric: str) -> float:
    """The last one that a trial reported; NaN where there is none."""
    return float((trial.last_result or {}).get(metric, nan))


def _progress(trial: Trial) -> str:
    """How far it is; nothing before its first report."""
    last = trial.last_result or {}
    return f", epoch {last[EPOCH]} of {last[EPOCHS]}" if EPOCH in last else ""


def _number(value: float) -> str:
    return f"{value:.4f}" if isfinite(value) else "not known"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
