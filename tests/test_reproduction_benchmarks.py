"""The benchmarks of the papers' data sets and tables: they run, and what they write is read."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import prepare_data, steps
from ordclust_ray.config import ReproduceConfig
from ordclust_ray.data.images import as_png
from ordclust_ray.reproduction.cost import measured_steps, overview
from ordclust_ray.reproduction.plans import TABLES


def test_the_speeds_of_steps_are_read_by_the_list(tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    steps.main(["--output", str(file), "--only", "convnet", "--repeats", "1"])
    found = measured_steps(file)
    (network,) = found["per_second"]
    assert network == "convnet, 32 pixels, images"
    assert found["per_second"][network] > 0
    said = overview(TABLES, ReproduceConfig(steps=str(file)))
    assert f"from steps measured on {found['machine']} ({found['date']};" in said


def test_every_network_of_the_tables_has_a_step() -> None:
    assert {*steps.networks()} == {*measured_steps()["per_second"]}


def test_gpus_train_as_the_recipes_say() -> None:
    for config in steps.networks().values():
        assert steps.on(config, torch.device("cuda")) == config
        assert not steps.on(config, torch.device("cpu")).training.compile


def test_images_as_files_are_prepared(local_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.randint(0, 256, (12, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    data = tmp_path / "data"
    data.mkdir()
    table = pa.table({"image": [as_png(image) for image in images], "label": [index % 2 for index in range(12)]})
    pq.write_table(table, data / "cifar10_test.parquet")
    output = tmp_path / "prepared"
    prepare_data.main(["--data", str(data), "--output", str(output), "--repeats", "1"])
    said = capsys.readouterr().out
    assert "12 files written" in said
    assert re.search("repeat 0: 12 images, 0 broken, .* images/s; largest worker ", said)
    assert pq.read_table(output / "parquet", columns=["image"])["image"].to_pylist() == [
        (output / "png" / "test" / str(index % 2) / f"{index:05d}.png").read_bytes()
        for index in sorted(range(12), key=lambda index: (index % 2, index))
    ]
