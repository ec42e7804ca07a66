"""A model as MLflow loads it: bytes in, rows out, whatever the bytes are."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Trained

from ordclust_ray.core.image_comparator import ImageComparator
from ordclust_ray.core.rank_estimator import RankEstimator, RankNetworks
from ordclust_ray.data.images import decode
from ordclust_ray.models import RANKS, load_estimator, save_estimator, save_networks, sizes_of
from ordclust_ray.serving import OUTPUTS, _load_pyfunc, input_example


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, whose ranks a stronger comparator of another image size compares."""
    torch.manual_seed(0)
    folder, estimator = tmp_path_factory.mktemp("model"), trained.estimator
    arguments = {"network": "resnet18", "image_size": 24, "width": 0.125}
    networks = RankNetworks(estimator.networks.orid, ImageComparator(**arguments))  # type: ignore[arg-type]
    save_networks(folder, networks, trained.config, arguments)
    compared = torch.randn(*estimator.reference_ids.shape, 512)
    tables = (estimator.centroids, estimator.rank_levels, estimator.likelihoods, estimator.reference_ids)
    save_estimator(folder, RankEstimator(networks, *tables, compared, estimator.reference_identity))
    return folder


def test_rows_are_the_estimators(folder: Path, png: Callable[[int], bytes]) -> None:
    encoded = [
        png(number) for number in range(0, 700, 14)
    ]  # one batch: rounding may choose another of two equal references
    found = _load_pyfunc(str(folder)).predict(pd.DataFrame({"image": encoded}))
    assert list(found.columns) == list(OUTPUTS[RANKS])
    sizes = sizes_of(folder)
    assert sizes == {"image": 16, "compared": 24}
    pixels = [torch.from_numpy(np.stack([decode(e, size, 10**6) for e in encoded])) for size in sizes.values()]
    with torch.inference_mode():
        expected = load_estimator(folder).estimate(*pixels)
    assert found["rank"].tolist() == expected.ranks.tolist()
    assert found["cluster"].tolist() == expected.clusters.tolist()
    np.testing.assert_allclose(np.array(found["posterior"].to_list()), expected.posteriors, atol=1e-5)
    assert found["interval_high"].tolist() == expected.intervals[:, 1].tolist()
    assert set(found["error"]) == {""}


def test_broken_images_are_rows_that_json_can_say(folder: Path, png: Callable[[int], bytes]) -> None:
    model = _load_pyfunc(str(folder))
    found = model.predict(pd.DataFrame({"image": [b"nonsense", png(5), b""]}))
    whole = model.predict(pd.DataFrame({"image": [png(4), png(5), png(6)]}))
    assert found["cluster"].tolist() == [-1, whole["cluster"][1], -1]
    assert found["rank"].tolist() == [None, whole["rank"][1], None]
    assert found["posterior"][0] is None
    assert found["posterior"][1] == pytest.approx(whole["posterior"][1], abs=1e-5)
    assert "UnidentifiedImageError" in found["error"][0]
    assert found["error"][2].startswith("empty")
    json.dumps(found.to_dict(orient="records"), allow_nan=False)


def test_the_example_is_an_image_of_the_models_size(folder: Path) -> None:
    assert (decode(input_example(folder), 16, 16 * 16) == 127).all()


def test_base64_and_what_is_no_image(folder: Path, png: Callable[[int], bytes]) -> None:
    model = _load_pyfunc(str(folder))
    sent = [base64.b64encode(png(5)).decode(), png(5), None, "no base64!", 7.5]
    found = model.predict(pd.DataFrame({"image": sent}))
    assert found["rank"][0] == found["rank"][1] is not None
    assert [error.partition(",")[0] for error in found["error"]] == ["", "", *["empty"] * 3]
    assert len(model.predict(pd.DataFrame({"image": []}))) == 0


def test_it_loads_without_ray(folder: Path) -> None:
    """`mlflow.pyfunc.load_model` needs this package and what it computes with, and no cluster."""
    program = f"""import sys
import mlflow.pyfunc
import pandas as pd
import ordclust_ray.serving
model = ordclust_ray.serving._load_pyfunc({str(folder)!r})
print(len(model.predict(pd.DataFrame({{"image": [b""]}}))))
print(sorted(name for name in sys.modules if name == "ray" or name.startswith("ray.")))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "[]"]
