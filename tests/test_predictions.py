"""Predictions over a source: every image a row, and an interrupted job goes on where it stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Trained
from filelock import FileLock

from ordclust_ray.config import DrcConfig, ImagesConfig, InputError
from ordclust_ray.data.readers import Source, open_source
from ordclust_ray.models import save_estimator, save_networks
from ordclust_ray.predictions import check_whole, predict

IMAGES = ImagesConfig(max_pixels=10**6)


@pytest.fixture(scope="module")
def model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_networks(folder, trained.estimator.networks, trained.config, comparator=None)
    save_estimator(folder, trained.estimator)
    return folder


@pytest.fixture(scope="module")
def source(local_ray: None, small_config: DrcConfig) -> Source:
    return open_source(ImagesConfig(path=small_config.data.path))


def rows_of(folder: Path) -> pd.DataFrame:
    return pq.read_table(folder).to_pandas().set_index("instance_id").sort_index()


def test_every_image_is_a_row(trained: Trained, model: Path, source: Source, tmp_path: Path) -> None:
    predict(source, model, tmp_path / "out", IMAGES)
    rows = rows_of(tmp_path / "out")
    assert rows.index.tolist() == list(range(103))
    broken = rows[rows["cluster"] < 0]
    assert broken.index.tolist() == [3, 34]
    assert broken[["rank", "posterior", "references", "similarity"]].isna().all(axis=None)
    assert rows.loc[34, "error"] == "empty, not found, or outside of the folder"
    assert rows["source"].tolist() == source.manifest["source"].tolist()
    usable = rows[rows["error"] == ""]
    shown = np.zeros((len(usable), 16, 16, 3), dtype=np.uint8)
    shown[..., 0], shown[..., 2] = usable.index.to_numpy()[:, None, None], 7
    with torch.inference_mode():
        expected = trained.estimator.estimate(torch.from_numpy(shown)).columns()
    assert usable["rank"].tolist() == expected["estimate"].tolist()
    np.testing.assert_allclose(np.stack(usable["posterior"].to_list()), expected["posterior"], atol=1e-5)
    np.testing.assert_array_equal(np.stack(usable["references"].to_list()), expected["references"])


def test_an_interrupted_job_goes_on(model: Path, source: Source, tmp_path: Path) -> None:
    """As a job leaves its folder that is killed: some rows are there, one file is cut off."""
    predict(source, model, tmp_path / "whole", IMAGES)
    predict(source, model, tmp_path / "cut", IMAGES)
    expected = rows_of(tmp_path / "cut")
    for file in (tmp_path / "cut").glob("*.parquet"):
        file.unlink()
    done = expected.reset_index().query("instance_id % 3 == 0").assign(margin=99.0)
    done.to_parquet(tmp_path / "cut" / "earlier.parquet", index=False)
    (tmp_path / "cut" / "torn.parquet").write_bytes(next((tmp_path / "whole").glob("*.parquet")).read_bytes()[:-30])
    predict(source, model, tmp_path / "cut", IMAGES)
    assert not (tmp_path / "cut" / "torn.parquet").exists()
    rows = rows_of(tmp_path / "cut")
    assert rows.index.tolist() == list(range(103))  # none lost, none twice
    assert (rows["margin"] == 99.0).tolist() == [i % 3 == 0 for i in range(103)]  # what was done is not done again
    assert rows["rank"].equals(expected["rank"])
    files = sorted((tmp_path / "cut").glob("*.parquet"))
    predict(source, model, tmp_path / "cut", IMAGES)
    assert sorted((tmp_path / "cut").glob("*.parquet")) == files


def test_a_folder_of_something_else_is_refused(
    trained: Trained, model: Path, source: Source, small_config: DrcConfig, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds files already; name another folder"):
        predict(source, model, tmp_path / "full", IMAGES)
    with pytest.raises(InputError, match="is a file; name a folder"):
        predict(source, model, tmp_path / "full" / "mine.txt", IMAGES)
    predict(source, model, tmp_path / "out", IMAGES)
    one_file = open_source(ImagesConfig(path=str(Path(small_config.data.path) / "a.parquet")))
    with pytest.raises(InputError, match="holds predictions of other images; name another folder"):
        predict(one_file, model, tmp_path / "out", IMAGES)
    other = tmp_path / "other"
    save_networks(other, trained.estimator.networks, trained.config, comparator=None)
    save_estimator(other, trained.estimator, tolerance=1.0)
    with pytest.raises(InputError, match="holds predictions of other model; name another folder"):
        predict(source, other, tmp_path / "out", IMAGES)


@pytest.mark.parametrize("change", ["rewritten", "column", "pixels"])
def test_other_images_under_the_same_names_are_refused(
    model: Path, png: Callable[[int], bytes], tmp_path: Path, change: str
) -> None:
    """Of a Parquet file the rows have the same names, whatever is in them."""
    file = tmp_path / "new.parquet"
    columns = {name: [png(i) for i in range(6)] for name in ("image", "other")}
    pq.write_table(pa.table(columns), file)
    images = ImagesConfig(path=str(file))
    predict(open_source(images), model, tmp_path / "out", images)
    if change == "rewritten":
        pq.write_table(pa.table(columns), file)
    else:
        images = replace(images, **({"image_column": "other"} if change == "column" else {"max_pixels": 9}))
    with pytest.raises(InputError, match="holds predictions of other images; name another folder"):
        predict(open_source(images), model, tmp_path / "out", images)


def test_one_job_writes_a_folder_at_a_time(model: Path, source: Source, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(InputError, match="is written by another process just now"),
    ):
        predict(source, model, tmp_path / "out", IMAGES)


def test_every_image_has_one_row_in_the_end(tmp_path: Path) -> None:
    pd.DataFrame({"instance_id": [0, 2], "cluster": [1, -1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="lacks 1 images; all machines have to share that folder"):
        check_whole(tmp_path, 3)
    assert check_whole(tmp_path / "nothing", 0) == 0
    pd.DataFrame({"instance_id": [1, 2], "cluster": [0, -1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="holds 1 images more than once; name another folder"):
        check_whole(tmp_path, 3)
