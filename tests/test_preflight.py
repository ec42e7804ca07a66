"""What would hang is an error in one line, before anything expensive starts."""

from pathlib import Path

import job
import pytest

from ordclust_ray.config import InputError, TrainingConfig
from ordclust_ray.preflight import make_storage, preflight


def test_two_lines_say_what_is_used(local_ray: None, tmp_path: Path) -> None:
    make_storage(tmp_path / "runs")
    job.wait_for_cpus(4)
    lines, use_gpu = preflight(TrainingConfig(num_workers=2), tmp_path / "runs")
    assert lines[0] == "4 CPUs, 0 GPUs; 2 workers x 1 CPU leave 2 for data"
    assert lines[1].startswith(f"runs in {tmp_path / 'runs'} (")
    assert len(lines) == 2
    assert not use_gpu


def test_workers_that_leave_no_cpu_for_data_are_refused(local_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"4 workers x 1 CPU leave 0 for reading data, which needs 1: lower"):
        preflight(TrainingConfig(num_workers=4), tmp_path)
    lines, _ = preflight(TrainingConfig(num_workers=4, cpus_per_worker=0.5), tmp_path)
    assert "4 workers x 0.5 CPU leave 2 for data" in lines[0]


def test_storage_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--run\.storage .*file cannot be used: File exists"):
        make_storage(tmp_path / "file")


def test_storage_is_made(tmp_path: Path) -> None:
    make_storage(tmp_path / "of" / "runs")
    assert list((tmp_path / "of" / "runs").iterdir()) == []
