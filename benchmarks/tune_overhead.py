"""What a trial of a sweep costs beyond its own work, and where that goes: its process, MLflow, Ray Tune's snapshots.

`python benchmarks/tune_overhead.py [--trials 20] [--concurrent 1 2] [--repeats 5]` prints a line a sweep and then the
medians. Ray runs before the clock starts. What the trials did is done again in this process, one after another with
the single thread that Ray gives a trial, and

    overhead = (seconds of the sweep x trials at a time - seconds of the work done again) / trials
"""

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # as jobs/tune.py does, before Ray is imported
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "0")
os.environ.setdefault("RAY_ADDRESS", "local")  # another Ray on this machine is busy with something else

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from ray import tune
from ray.tune.execution.tune_controller import TuneController
from threadpoolctl import threadpool_limits

from ordclust_ray.config import FeatureTrialConfig, SearchConfig
from ordclust_ray.run import start_ray
from ordclust_ray.tracking import Tracker
from ordclust_ray.tuning.feature_trials import FeatureTrials, cluster_features, criteria
from ordclust_ray.tuning.record import Recorder
from ordclust_ray.tuning.space import Space, with_values
from ordclust_ray.tuning.sweep import TRIALS, Execution, planned, run_sweep

GROUPS = 5
SPACE = Space(
    name="overhead",
    system="features",
    parameters={
        "clustering.num_clusters": tune.choice(list(range(2, 11))),
        "clustering.repulsion": tune.uniform(0.0, 0.3),
    },
    metric="silhouette",
    mode="max",
    reason="as many clusters as there are groups",
)
START, RESULT, END, SNAPSHOT = "start", "result", "end", "snapshot"
TIMED: dict[str, tuple[type, str]] = {
    START: (Recorder, "on_trial_start"),
    RESULT: (Recorder, "on_trial_result"),
    END: (Recorder, "on_trial_complete"),
    SNAPSHOT: (TuneController, "checkpoint"),
}
SWEEP, OVERHEAD, OUTSIDE = "sweep", "overhead", "outside of the trials"
AGAIN, INSIDE = "work, done again here", "work, in the trials"
FIRST, OTHERS, RECORD, ELSE = "start of the first", "start of the others", "MLflow", "else"
SNAPSHOTS, PROCESSES = "snapshots, beside all that", "processes of trials"


@dataclass(frozen=True)
class Call:
    """In the driver."""

    name: str
    began: float
    ended: float


@dataclass
class Timeline:
    """What the driver did when."""

    calls: list[Call] = field(default_factory=list)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Times the methods above while it is open."""
        originals = {name: getattr(owner, method) for name, (owner, method) in TIMED.items()}
        for name, (owner, method) in TIMED.items():
            setattr(owner, method, self._timed(name, originals[name]))
        try:
            yield
        finally:
            for name, (owner, method) in TIMED.items():
                setattr(owner, method, originals[name])

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.calls.append(Call(name, began, time.perf_counter()))

        return timed

    def of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def seconds(self, *names: str) -> float:
        return sum(call.ended - call.began for name in names for call in self.of(name))


def planted(rows: int, columns: int) -> NDArray[np.float32]:
    """Unit rows in five groups that a clustering needs some iterations for."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(GROUPS, columns))
    features = centers[rng.integers(0, GROUPS, rows)] + 1.5 * rng.normal(size=(rows, columns))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def done_again(given: FeatureTrials, trials: pd.DataFrame) -> float:
    """Seconds of the work of all trials, without Ray."""
    names = list(SPACE.parameters)
    rows = trials[names].itertuples(index=False, name=None)
    settings = [with_values(given.config, dict(zip(names, row, strict=True))) for row in rows]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            criteria(settings[0], given.features, given.labels)  # what is imported and compiled once
            began = time.perf_counter()
            for setting in settings:
                criteria(setting, given.features, given.labels)
            return time.perf_counter() - began
    finally:
        torch.set_num_threads(threads)


def sweep(name: str, search: SearchConfig, given: FeatureTrials, storage: Path) -> dict[str, float]:
    """Seconds of a sweep and its parts, divided by the trials, and how many processes it had."""
    folder, experiment = storage / name, given.config.run.experiment
    folder.mkdir()
    tracker = Tracker(f"sqlite:///{storage / 'mlflow.db'}", experiment, name, folder)
    tracker.start({})
    recorder = Recorder(
        uri=tracker.uri,
        experiment=experiment,
        folder=folder,
        parent=tracker.run_id,
        metric=SPACE.metric,
        mode=SPACE.mode,
        shown=tuple(SPACE.parameters),
        total=planned(SPACE, search),
    )
    execution = Execution({"cpu": given.config.cpus_per_trial}, search.concurrent, reuse=True)
    timeline, data = Timeline(), {"trials": given}
    with contextlib.redirect_stdout(io.StringIO()), timeline.kept():
        began = time.perf_counter()
        trials, whole = run_sweep(
            cluster_features, data, SPACE, search, execution, folder, callbacks=[recorder], seed=0
        )
        wall = time.perf_counter() - began
    tracker.finish()
    if not whole or (trials["error"] != "").any():
        raise RuntimeError(f"a trial failed:\n{trials['error']}")
    again, inside = done_again(given, trials), float(trials["seconds"].sum())
    found = {
        SWEEP: wall,
        OVERHEAD: search.concurrent * wall - again,
        OUTSIDE: search.concurrent * wall - inside,
        AGAIN: again,
        INSIDE: inside,
        **(waits(timeline, began) if search.concurrent == 1 else {}),
        RECORD: timeline.seconds(START, RESULT, END),
    }
    if search.concurrent == 1:
        found[ELSE] = wall - sum(found[part] for part in (INSIDE, FIRST, OTHERS, RECORD))
    found[SNAPSHOTS] = timeline.seconds(SNAPSHOT)
    return {part: seconds / len(trials) for part, seconds in found.items()} | {PROCESSES: processes(folder)}


def waits(timeline: Timeline, began: float) -> dict[str, float]:
    """Where there is one trial at a time, the driver waits between them for a process that is ready for the next."""
    starts, ends = timeline.of(START), timeline.of(END)
    gaps = [start.began - end.ended for end, start in zip(ends, starts[1:], strict=False)]
    return {FIRST: starts[0].began - began, OTHERS: sum(gaps)}


def processes(folder: Path) -> int:
    """That trials of a sweep ran in."""
    reports = (folder / TRIALS).glob("*/result.json")
    return len({json.loads(file.read_text().splitlines()[-1])["pid"] for file in reports})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--concurrent", type=int, nargs="+", default=[1, 2], help="trials at a time, a CPU each")
    parser.add_argument("--algorithm", choices=["tpe", "random"], default="tpe")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    features = planted(options.rows, options.columns)
    given = FeatureTrials(FeatureTrialConfig(features="planted"), features, np.full(len(features), -1))
    criteria(given.config, features, given.labels)  # compiled once, for all processes
    start_ray()
    print(f"{os.cpu_count()} CPUs; {vars(options)}; all numbers are seconds a trial", flush=True)
    with tempfile.TemporaryDirectory() as storage:
        for concurrent in options.concurrent:
            search = SearchConfig(algorithm=options.algorithm, num_trials=options.trials, concurrent=concurrent)
            found = []
            for repeat in range(options.repeats):
                found.append(sweep(f"{concurrent}-{repeat}", search, given, Path(storage)))
                said = ", ".join(f"{part} {found[-1][part]:.3f}" for part in (SWEEP, OVERHEAD, OUTSIDE))
                print(f"{concurrent} at a time, repeat {repeat}: {said}", flush=True)
            table = pd.DataFrame(found).quantile([0.5, 0.0, 1.0]).T.set_axis(["median", "least", "most"], axis=1)
            print(f"\n{concurrent} at a time:\n{table.to_string(float_format='{:.3f}'.format)}\n", flush=True)


if __name__ == "__main__":
    main()
