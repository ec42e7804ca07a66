"""A trained IDFD as files, and new images assigned by it: all of them, in a stream."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ordclust_ray.assignment import agreement, build_clusters
from ordclust_ray.config import DrcConfig, FeaturesConfig, IdfdConfig, ImagesConfig, InputError, UnlabelledConfig
from ordclust_ray.data.readers import open_source
from ordclust_ray.models import DESCRIPTION, describe_model, load_clusters, save_clusters
from ordclust_ray.predictions import predict
from ordclust_ray.training.idfd import IdfdTrainer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network and four centroids among its features."""
    torch.manual_seed(0)
    config = IdfdConfig(
        data=UnlabelledConfig(image_size=16), model=FeaturesConfig(network="convnet", width=0.125, feature_dim=6)
    )
    trainer = IdfdTrainer(config, 10, torch.device("cpu"))
    folder = tmp_path_factory.mktemp("model")
    centroids = torch.nn.functional.normalize(torch.randn(4, 6), dim=1)
    save_clusters(folder, build_clusters(config, trainer.modules.state_dict(), centroids), config)
    return folder


def images() -> torch.Tensor:
    return torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_what_is_loaded_is_what_was_saved(model: Path, tmp_path: Path) -> None:
    first = load_clusters(model)
    config = IdfdConfig(
        data=UnlabelledConfig(image_size=16), model=FeaturesConfig(network="convnet", width=0.125, feature_dim=6)
    )
    save_clusters(tmp_path, first, config)
    assert torch.equal(first.assigned(images()).distances, load_clusters(tmp_path).assigned(images()).distances)
    assert not first.training


def test_agreement_of_the_model_with_the_clusters_of_training(model: Path) -> None:
    clusters = load_clusters(model)
    own = clusters.assigned(images()).clusters.numpy()
    assert agreement(clusters, images().numpy(), own) == 1.0
    moved = np.where(np.arange(9) < 3, (own + 1) % 4, own)
    assert agreement(clusters, images().numpy(), moved) == pytest.approx(6 / 9)


def test_an_image_s_cluster_does_not_depend_on_its_batch(model: Path) -> None:
    clusters = load_clusters(model)
    alone = [clusters.assigned(images()[i : i + 1]).distances for i in range(9)]
    torch.testing.assert_close(torch.cat(alone), clusters.assigned(images()).distances, rtol=1e-5, atol=1e-6)


def test_no_image_is_lost(local_ray: None, model: Path, small_config: DrcConfig, tmp_path: Path) -> None:
    source = open_source(ImagesConfig(path=small_config.data.path))
    predict(source, model, tmp_path / "out", ImagesConfig(max_pixels=10**6))
    rows = pq.read_table(tmp_path / "out").to_pandas().set_index("instance_id").sort_index()
    assert rows.index.tolist() == list(range(103))
    assert rows.index[rows["cluster"] < 0].tolist() == [3, 34]
    assert rows.loc[[3, 34], "distance"].isna().all()
    assert "UnidentifiedImageError" in rows.loc[3, "error"]
    assert rows.loc[34, "error"] == "empty, not found, or outside of the folder"
    assert rows["source"].tolist() == source.manifest["source"].tolist()
    usable = rows[rows["error"] == ""]
    shown = np.zeros((len(usable), 16, 16, 3), dtype=np.uint8)
    shown[..., 0], shown[..., 2] = usable.index.to_numpy()[:, None, None], 7
    expected = load_clusters(model).assigned(torch.from_numpy(shown))
    np.testing.assert_array_equal(usable["cluster"], expected.clusters)
    np.testing.assert_allclose(usable["distance"], expected.distances, rtol=1e-4)
    np.testing.assert_allclose(usable["margin"], expected.margins, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("text", ["", "{", json.dumps({"image_size": 16})])
def test_a_folder_without_such_a_model_is_named(text: str, tmp_path: Path) -> None:
    if text:
        (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(InputError, match=r"holds no model; give the folder of a finished run"):
        describe_model(tmp_path)
