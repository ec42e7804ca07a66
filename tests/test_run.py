"""What a job's driver holds while it runs, and how it lets go of it."""

import subprocess
import sys
from pathlib import Path

import pytest
from job import environment

from ordclust_ray.config import InputError
from ordclust_ray.run import only_driver, refuse_other_data

ENDS_WHILE_A_THREAD_COLLECTS = """
import gc, threading, time
import ray
from ordclust_ray.run import start_ray

class Cycle:
    def __init__(self, reference):
        self.itself, self.reference = self, reference

start_ray()
references = [ray.put(i) for i in range(20_000)]
gc.disable()
for reference in references[::10]:
    Cycle(reference)
for reference in references:
    Cycle(reference)
del reference, references

def collect():
    time.sleep(0.49)  # Ray begins to shut down after 0.5 s
    gc.collect()

threading.Thread(target=collect, daemon=True).start()
"""


def test_a_run_has_one_driver(tmp_path: Path) -> None:
    with (
        only_driver(tmp_path / "mine"),
        pytest.raises(InputError, match="run 'mine' is held by another process just now"),
    ):
        only_driver(tmp_path / "mine").__enter__()
    with only_driver(tmp_path / "mine"):
        pass


def test_a_collection_while_ray_shuts_down_does_not_fail_the_job() -> None:
    command = [sys.executable, "-c", ENDS_WHILE_A_THREAD_COLLECTS]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_other_data_are_refused(tmp_path: Path) -> None:
    for _ in range(2):  # the same again
        refuse_other_data(tmp_path, path="x", images=101, fingerprint="a", what="images")
    with pytest.raises(InputError, match=r"other images \(101 usable then, 101 now\); name it differently"):
        refuse_other_data(tmp_path, path="x", images=101, fingerprint="b", what="images")
    with pytest.raises(InputError, match=r"other images \(101 usable then, 99 now\)"):
        refuse_other_data(tmp_path, path="x", images=99, fingerprint="a", what="images")
