"""Finished runs are found by folder, name and MLflow run id, and read back as they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ordclust_ray.config import DrcConfig, IdfdConfig, InputError, RunConfig
from ordclust_ray.data.prepare import open_checked, prepare
from ordclust_ray.finished import find_run, open_again, open_origin, open_run, prepare_again, remember_origin
from ordclust_ray.run import SETTINGS, kept, refuse_other_data, write_once
from ordclust_ray.tracking import Tracker


@pytest.fixture(scope="module")
def folder(local_ray: None, small_config: DrcConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the small data, as far as it is read back: settings, data, assignments, a result."""
    folder = tmp_path_factory.mktemp("storage") / "leaves"
    (folder / "results").mkdir(parents=True)
    prepared = prepare(open_checked(small_config), small_config)
    fingerprint, n = prepared.fingerprint(), len(prepared.manifest)
    refuse_other_data(folder, path=small_config.data.path, images=n, fingerprint=fingerprint, what="images")
    write_once(folder / SETTINGS, kept(small_config))
    prepared.manifest.to_parquet(folder / "results" / "assignments.parquet")
    (folder / "results" / "results.json").write_text("{}")
    return folder


def storage(folder: Path) -> RunConfig:
    return RunConfig(storage=str(folder.parent))


def test_settings_come_back_from_their_flat_names(small_config: DrcConfig) -> None:
    for config in (small_config, IdfdConfig()):
        assert type(config).from_flat(config.flat()) == config
    assert DrcConfig.from_flat({"rank.tolerance": 0.5, "gone.since": 1}).rank.tolerance == 0.5


def test_a_run_is_found_three_ways(folder: Path) -> None:
    tracker = Tracker(f"sqlite:///{folder.parent / 'mlflow.db'}", "drc-orid", "leaves", folder)
    tracker.start({})
    for given in (str(folder), "leaves", tracker.run_id):
        assert find_run(given, "drc", storage(folder)) == folder


@pytest.mark.parametrize("given", ["nobody", "no/where", "0123456789abcdef0123456789abcdef", "/"])
def test_a_run_that_is_not_there_is_named(given: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"--drc is '{given}'; it must be the folder of a finished run, its name in"):
        find_run(given, "drc", RunConfig(storage=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []  # looking for a run makes no store


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model is missing; it must be the folder, the name or the MLflow run id"):
        find_run("", "model", RunConfig(storage=str(tmp_path)))


def test_a_run_is_read_back_with_its_data(folder: Path, small_config: DrcConfig) -> None:
    run = open_run(folder, DrcConfig, "drc")
    assert run.config == replace(small_config, run=replace(small_config.run, storage=run.config.run.storage))
    again = prepare_again(run, image_size=20, columns=pd.DataFrame({"cluster": np.arange(103) % 3}))
    rows = again.train.take_batch(200)
    assert rows["image"].shape[1:] == (20, 20, 3)
    assert rows["cluster"].tolist() == (rows["instance_id"] % 3).tolist()
    pd.testing.assert_series_equal(again.manifest["split"], run.assignments()["split"])


def test_runs_that_cannot_be_used_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--run: run 'leaves' is of drc-orid; it must be of idfd"):
        open_run(folder, IdfdConfig, "run")
    (tmp_path / SETTINGS).write_text("{}")
    with pytest.raises(InputError, match="is of an unknown kind; it must be of drc-orid"):
        open_run(tmp_path, DrcConfig, "run")
    (tmp_path / SETTINGS).write_text(json.dumps({"system": "drc-orid"}))
    with pytest.raises(InputError, match=r"is not finished; start it again by its --run\.name"):
        open_run(tmp_path, DrcConfig, "run")


def test_other_images_are_refused(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder, DrcConfig, "drc", data_path=str(tmp_path / "moved"))
    assert run.config.data.path == str(tmp_path / "moved")
    (tmp_path / "moved").mkdir()
    known = pd.read_parquet(open_run(folder, DrcConfig, "drc").config.data.path)
    known.assign(rank=known["rank"] + 1).to_parquet(tmp_path / "moved" / "a.parquet")
    with pytest.raises(InputError, match="are not those that it had"):
        open_again(run)
    with pytest.raises(InputError, match="are not those that it was trained on"):
        prepare_again(run)


def test_a_later_run_knows_where_it_comes_from(folder: Path, tmp_path: Path) -> None:
    drc, run = open_run(folder, DrcConfig, "model"), RunConfig(storage=str(tmp_path))
    remember_origin(tmp_path, drc)
    assert open_origin(tmp_path, "model", run) == drc == open_origin(folder, "model", run)
    (tmp_path / "drc.json").write_text(json.dumps({"folder": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match=r"--model: the run of train_drc\.py that it goes on from is gone"):
        open_origin(tmp_path, "model", run)
