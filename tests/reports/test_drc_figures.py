"""A run's figures, for the data that nearly have nothing to show too."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Trained
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ordclust_ray.data.prepare import Prepared
from ordclust_ray.estimation import estimate_ranks
from ordclust_ray.models import save_estimator, save_networks
from ordclust_ray.reports.drc_figures import run_figures
from ordclust_ray.reports.drc_table import sample_images

NAMES = [
    "montage", "rank_histograms", "clustering", "tsne_order", "tsne_identity", "reconstructions", "order_transfer",
    "references",
]  # fmt: skip


@pytest.fixture(scope="module")
def estimates(trained: Trained, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The estimates of the held-out images, as files."""
    folder = tmp_path_factory.mktemp("estimates")
    save_networks(folder / "model", trained.estimator.networks, trained.config, comparator=None)
    save_estimator(folder / "model", trained.estimator)
    estimate_ranks(prepared.test, folder / "model", folder / "estimates")
    return folder / "estimates"


def drawn(
    trained: Trained, prepared: Prepared, estimates: Path, images: Mapping[str, Any], folder: Path
) -> dict[str, Figure]:
    found = run_figures(prepared, trained.estimator, trained.assignments, estimates, trained.history, images, 0)
    figures = dict(found)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
    return figures


def test_every_figure_of_a_run(trained: Trained, prepared: Prepared, estimates: Path, tmp_path: Path) -> None:
    assert list(drawn(trained, prepared, estimates, sample_images(prepared), tmp_path)) == NAMES


def test_few_images_in_the_sample(trained: Trained, prepared: Prepared, estimates: Path, tmp_path: Path) -> None:
    """References are fetched from the whole training set: among five images there are hardly any."""
    figures = drawn(trained, prepared, estimates, sample_images(prepared, 5), tmp_path)
    tiles = [axes for axes in figures["references"].axes if axes.images]
    pictures = [np.asarray(image.get_array()) for axes in tiles for image in axes.images if type(image) is AxesImage]
    assert len(pictures) == 2 * 5  # an image and its references, a row
    assert all(picture.std() > 0 for picture in pictures)


def test_k_of_1_has_no_curves_but_says_so(
    trained: Trained, prepared: Prepared, estimates: Path, tmp_path: Path
) -> None:
    plain = replace(trained, history=[{"epoch": 1}])
    figure = drawn(plain, prepared, estimates, sample_images(prepared), tmp_path)["clustering"]
    assert [text.get_text() for text in figure.texts] == ["no clustering at k = 1"]
