"""The benchmarks of IDFD run, a few steps of them, and go on where they stopped."""

import argparse
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from benchmarks import idfd_cifar10, idfd_step, idfd_variants

SMALL = ["--network", "convnet", "--width", "0.1", "--batch-size", "16", "--epochs", "3", "--every", "2"]


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in the layout of the training set: two of 25 images each."""
    folder, draw = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for part in range(2):
        images = []
        for _ in range(25):
            buffer = BytesIO()
            Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
            images.append(buffer.getvalue())
        columns = {"image": images, "label": [i % 10 for i in range(25)]}
        pq.write_table(pa.table(columns), folder / f"cifar10_train_{part}.parquet")
    return folder


def test_cifar10_in_two_goes_is_cifar10_in_one(
    cifar10: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output, limits in (("one", [[]]), ("two", [["--max-epochs", "1"], []])):
        for limit in limits:
            idfd_cifar10.main(["--data", str(cifar10), "--output", str(tmp_path / output), *SMALL, *limit])
    printed = capsys.readouterr().out
    assert printed.count("50 images, ") == 3
    assert "from epoch 1" in printed
    assert "the paper, best of 2,000 epochs: ACC 81.5%   NMI 71.1%   ARI 66.3%" in printed
    one, two = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two"))
    assert [record["epoch"] for record in two] == [1, 2, 3]
    assert [record["epoch"] for record in two if "acc" in record] == [2, 3]
    for mine, theirs in zip(one, two, strict=True):
        for name in ("instance_discrimination", "feature_decorrelation", "learning_rate"):
            assert mine[name] == theirs[name]
    assert one[-1]["acc"] == two[-1]["acc"]


def test_a_folder_goes_on_with_its_settings_alone(cifar10: Path, tmp_path: Path) -> None:
    line = ["--data", str(cifar10), "--output", str(tmp_path), *SMALL, "--max-epochs", "1"]
    idfd_cifar10.main(line)
    with pytest.raises(SystemExit, match=r"was started with other settings: loss\.variant was 'idfd'; choose another"):
        idfd_cifar10.main([*line, "--variant", "idfo"])


def test_the_table_of_variants(cifar10: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--data", str(cifar10 / "cifar10_train_0.parquet"), "--output", str(tmp_path), "--variants", "idfo"]
    for _ in range(2):  # the second reads the files of the first
        idfd_variants.main([*line, "--seeds", "0", "1", "--epochs", "1"])
    first, second = capsys.readouterr().out.split("25 images, ")[1:]
    assert first.count("IDFO, seed") == 2
    assert "IDFO, seed" not in second
    for name in ("IDFO", "k-means on pixels"):
        assert re.search(rf"{name} +0\.\d+ ± 0\.\d+ \(2 seeds\)", second)
    with pytest.raises(SystemExit, match=r"was made with other settings, .*; choose another --output"):
        idfd_variants.main([*line, "--seeds", "0", "--epochs", "2"])


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"holds no cifar10_train_\*.parquet"):
        idfd_cifar10.main(["--data", str(tmp_path), "--output", str(tmp_path / "out")])


def test_the_step_s_parts_are_the_whole_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    options = argparse.Namespace(
        network="convnet", width=0.1, image_size=16, images=96, batch_size=32, precision="float32", compile=False,
        loader_workers=0, repeats=1,
    )  # fmt: skip
    idfd_step.report(idfd_step.settings(options), options, torch.device("cpu"))
    lines = {line.split("  ")[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()}
    shares = {name: float(value.rstrip("%")) for name, value in lines.items() if value.endswith("%")}
    assert set(shares) == {"data wait", "augmentation", "forward", "bank", "backward", "optimiser", "else"}
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)
    assert min(shares.values()) >= 0
    assert max(shares["forward"], shares["backward"]) > 10
    assert float(lines["ratio"]) > 0
