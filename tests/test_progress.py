"""The monitor and the bar: what workers tell arrives, and is shown once."""

import re
import time

import pytest
import torch

from ordclust_ray.progress import ProgressBar, Watcher

RECORD = {"reconstruction": 0.25, "comparison": 0.5, "pair_accuracy": 0.75}
CLUSTERED = RECORD | {"centroid_affinity": -0.31, "changed": 0.042, "nmi": 0.5}
STEP = {"epoch": 3, "step": 1, "steps": 2, **RECORD}


def test_plain_lines_name_epoch_losses_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(epochs=4, done=1)
    bar.started = (time.monotonic() - 10, 1.0)  # as if the epoch had taken ten seconds
    bar.last_line -= 20
    bar.show_epoch({"epoch": 2, **CLUSTERED})
    bar.show_epoch({"epoch": 3, **RECORD})  # too soon after the last line
    bar.show_epoch({"epoch": 4, **RECORD})  # the last epoch is always told
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"epoch 2/4, 0:(19|2\d) left rec 0\.250, com 0\.500, pairs right 75%, CA -0\.31, moved 4\.2%, NMI 0\.50", first
    )
    assert last.startswith("epoch 4/4, 0:00 left")


def test_a_long_epoch_is_told_of_before_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(epochs=4)
    bar.started = (time.monotonic() - 10, 0.0)
    bar.last_line -= 20
    bar.show_step(STEP)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch 3/4, 0:0[56] left rec 0\.250, com 0\.500, pairs right 75%", line)


def test_the_start_of_processes_is_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(epochs=4)
    bar.last_line -= 20
    bar.show_step({**STEP, "epoch": 1})
    assert capsys.readouterr().out.startswith("epoch 1/4 rec 0.250")


def test_records_arrive_once_each_whatever_is_repeated(local_ray: None) -> None:
    arrived: list[dict[str, float]] = []
    with Watcher(ProgressBar(epochs=3), arrived.append, seen_epochs={1}) as watcher:
        watcher.monitor.step(0, 1, 10, {"reconstruction": torch.ones(())})
        for epoch in (1, 2, 2, 3):  # 1 was recorded by an earlier attempt, 2 is repeated after a lost worker
            watcher.monitor.epoch({"epoch": epoch, **RECORD})
    assert [record["epoch"] for record in arrived] == [2, 3]


def test_a_store_that_is_down_is_told_once_and_stops_nothing(
    local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    arrived: list[int] = []

    def down_until_epoch_3(record: dict[str, int]) -> None:
        if record["epoch"] < 3:
            raise OSError("no route to host")
        arrived.append(record["epoch"])

    with Watcher(ProgressBar(epochs=4), down_until_epoch_3) as watcher:
        for epoch in (1, 2, 3, 4):
            watcher.monitor.epoch({"epoch": epoch, **RECORD})
    assert arrived == [3, 4]
    printed = capsys.readouterr()
    assert printed.err.count("warning: epoch 1 is not recorded yet: no route to host") == 1
    assert "warning: epoch 2" not in printed.err
    assert "epoch 4/4" in printed.out
