"""A trained model as files and over a Ray Dataset says what it says in this process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Trained

from ordclust_ray.data.prepare import Prepared
from ordclust_ray.estimation import estimate_ranks, read_estimates
from ordclust_ray.models import load_estimator, save_estimator, save_networks


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as files."""
    folder = tmp_path_factory.mktemp("model")
    save_networks(folder, trained.estimator.networks, trained.config, comparator=None)
    save_estimator(folder, trained.estimator)
    return folder


def test_files_are_the_whole_model(trained: Trained, folder: Path) -> None:
    loaded = load_estimator(folder).state_dict()
    assert loaded.keys() == trained.estimator.state_dict().keys()
    for name, tensor in trained.estimator.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".json"}


def test_estimates_over_a_data_set_are_those_of_the_model(
    trained: Trained, folder: Path, prepared: Prepared, tmp_path: Path
) -> None:
    rows = prepared.test.take_batch(prepared.test.count())
    with torch.inference_mode():
        expected = trained.estimator.estimate(torch.from_numpy(np.array(rows["image"])))
    estimates = estimate_ranks(prepared.test, folder, tmp_path).loc[rows["instance_id"]]
    assert estimates["estimate"].tolist() == expected.ranks.tolist()  # 7.25 among them: in float64, not nearly
    assert estimates["cluster"].tolist() == expected.clusters.tolist()
    assert set(estimates["estimate"]) <= set(prepared.rank_levels)
    some = rows["instance_id"][[5, 2]]
    whole = read_estimates(tmp_path, some)
    assert whole.index.tolist() == some.tolist()
    np.testing.assert_array_equal(np.stack(whole["references"].to_list()), expected.references[[5, 2], :, 0])
    np.testing.assert_allclose(np.stack(whole["posterior"].to_list()), expected.posteriors[[5, 2]], rtol=1e-5)


def test_estimating_again_replaces_what_was_there(folder: Path, prepared: Prepared, tmp_path: Path) -> None:
    for _ in range(2):
        estimates = estimate_ranks(prepared.test, folder, tmp_path)
    assert len(estimates) == prepared.test.count()
