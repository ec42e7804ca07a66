"""The benchmark of rank estimation: the loop that it is measured against says the same."""

import re

import pytest

from benchmarks import rank_estimation


def test_the_direct_loop_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    rank_estimation.main(["--images", "70", "--image-size", "16", "--width", "0.125", "--repeats", "1"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("from ")]
    assert [line[:14].strip() for line in lines] == ["from features", "from images"]
    for line in lines:
        assert float(re.split(" +", line)[-1]) < 1e-6
