"""The monitor and the bar: what workers tell arrives, and is shown once."""

import re

import pytest
import torch

from ordclust_ray.progress import ProgressBar, Watcher

RECORD = {"reconstruction": 0.25, "comparison": 0.5, "pair_accuracy": 0.75}
CLUSTERED = RECORD | {"centroid_affinity": -0.31, "changed": 0.042, "nmi": 0.5}


def test_plain_lines_name_epoch_losses_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(epochs=4, done=1)
    bar.started -= 10  # as if the epoch had taken ten seconds
    bar.last_line -= 20
    bar.show({}, {"epoch": 2, **CLUSTERED})
    bar.show({}, {"epoch": 3, **RECORD})  # too soon after the last line
    bar.show({}, {"epoch": 4, **RECORD})  # the last epoch is always told
    first, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"epoch 2/4, 0:(19|2\d) left rec 0\.250, com 0\.500, pairs right 75%, CA -0\.31, moved 4\.2%, NMI 0\.50", first
    )
    assert last.startswith("epoch 4/4, 0:00 left")


def test_records_arrive_once_each_whatever_is_repeated(local_ray: None) -> None:
    arrived: list[dict[str, float]] = []
    with Watcher(ProgressBar(epochs=3), arrived.append, seen_epochs={1}) as watcher:
        watcher.monitor.step(0, 1, 10, torch.tensor([1.0]))
        for epoch in (1, 2, 2, 3):  # 1 was recorded by an earlier attempt, 2 is repeated after a lost worker
            watcher.monitor.epoch({"epoch": epoch, **RECORD})
    assert [record["epoch"] for record in arrived] == [2, 3]


def test_an_error_while_recording_is_not_lost(local_ray: None) -> None:
    def full_disk(record: dict[str, float]) -> None:
        raise OSError("disk full")

    def record_one_epoch() -> None:
        with Watcher(ProgressBar(epochs=1), full_disk) as watcher:
            watcher.monitor.epoch({"epoch": 1, **RECORD})

    with pytest.raises(OSError, match="disk full"):
        record_one_epoch()
