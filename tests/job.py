"""Running jobs as a user does: in a process of their own, in a terminal or not."""

import contextlib
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import psutil

ROOT = Path(__file__).parent.parent
README_COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    for line in block.strip().splitlines()
]
TINY = ["--model.width", "0.1", "--model.order-dim", "16", "--model.identity-dim", "32"]
SIX_EPOCHS = ["--training.warmup-epochs", "2", "--training.rounds", "2", "--training.epochs-per-round", "2"]


def environment(**extra: str) -> dict[str, str]:
    """A Ray of the job's own, without GPUs, whatever the machine has and runs; the environment's programs first."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}  # MLflow sets it
    return {**inherited, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "", "PATH": programs, **extra}


def readme(start: str) -> str:
    """The README's command that begins like this."""
    (found,) = [line for line in README_COMMANDS if line.startswith(start)]
    return found


def shell(command: str, env: Mapping[str, str]) -> str:
    """Runs a command, which has to end well, and returns what it printed."""
    done = subprocess.run(command, shell=True, cwd=ROOT, env=env, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def start(script: str, *arguments: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Starts `python jobs/SCRIPT ...`."""
    command = [sys.executable, str(ROOT / "jobs" / script), *arguments]
    output, errors = subprocess.PIPE, subprocess.STDOUT
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=output, stderr=errors)


def two_workers(storage: Path, name: str, size: Sequence[str] = (*TINY, *SIX_EPOCHS)) -> list[str]:
    """Flags of a small run with two training workers on two CPUs, or fewer cores."""
    workers = ["--training.num-workers", "2", "--training.cpus-per-worker", "0.5", "--training.threads-per-worker", "1"]
    return [*size, *workers, "--run.storage", str(storage), "--run.name", name]


def run(script: str, *arguments: str, env: Mapping[str, str]) -> str:
    """Runs a job to its end, which has to be a good one, and returns what it printed."""
    process = start(script, *arguments, env=env)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def assignments(folder: Path) -> pd.DataFrame:
    """The clusters and estimates that a run wrote."""
    return pd.read_parquet(folder / "results" / "assignments.parquet")


def reported_epochs(folder: Path) -> int:
    """Epochs in the newest checkpoint of a run."""
    found = sorted(folder.glob("checkpoint_*/history.json"))
    return len(json.loads(found[-1].read_text())) if found else 0


def status(storage: Path, name: str) -> str:
    """Of a run, in MLflow."""
    with contextlib.closing(sqlite3.connect(storage / "mlflow.db")) as database:
        (found,) = database.execute("select status from runs where name = ?", (name,)).fetchone()
    return str(found)


def kill_a_worker_and_then_the_driver(process: subprocess.Popen[str], folder: Path, *, epochs: int) -> None:
    """kill -9 of a training worker once some epochs are checkpointed, and of the job once new workers went on.

    Args:
        process: of the job.
        folder: of its run.
        epochs: of the whole run, which must not be over by then.
    """
    wait_for_epochs(process, folder, 2)
    workers = [p for p in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in " ".join(p.info["cmdline"] or [])]
    assert len(workers) == 2
    kill(workers[1].pid)
    before = reported_epochs(folder)
    assert before < epochs - 1
    wait_for_epochs(process, folder, before + 1)  # new workers go on
    kill(process.pid)
    process.communicate()
    assert reported_epochs(folder) < epochs


def wait_for_epochs(process: subprocess.Popen[str], folder: Path, epochs: int) -> None:
    """Until a run has checkpointed that many epochs."""
    for _ in range(1200):
        assert process.poll() is None, process.communicate()[0]
        try:
            if reported_epochs(folder) >= epochs:
                return
        except (FileNotFoundError, json.JSONDecodeError):  # a checkpoint that was just replaced, or is being written
            pass
        time.sleep(0.1)
    raise AssertionError(f"no epoch {epochs} in {folder}")


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)


def in_terminal(command: str, env: Mapping[str, str]) -> str:
    """Runs a shell command, which has to end well, with a terminal as its output, and returns what it drew."""
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 120))
    process = subprocess.Popen(command, shell=True, cwd=ROOT, env=env, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    drawn = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    os.close(terminal)
    text = drawn.decode(errors="replace")
    assert process.wait() == 0, text
    return text


def wait_for_cpus(number: float) -> None:
    """Actors of the tests before end by themselves, a little later."""
    import ray

    for _ in range(300):
        if ray.available_resources().get("CPU", 0.0) == number:
            return
        time.sleep(0.1)
    raise TimeoutError(f"of {ray.cluster_resources()} only {ray.available_resources()} are free")
