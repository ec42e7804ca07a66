"""The results table, from estimates and clusters whose measures are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ordclust_ray.config import DrcConfig
from ordclust_ray.data.prepare import Prepared, group_codes
from ordclust_ray.reports.drc_table import evaluate, sample_images
from ordclust_ray.reports.results import Results

CENTROIDS = np.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])


@pytest.fixture(scope="module")
def measured(prepared: Prepared, small_config: DrcConfig) -> Results:
    """Of perfect groups, and of estimates of which every fifth is 1.5 too high."""
    manifest = prepared.manifest
    test, train = (manifest[manifest["split"] == split] for split in ("test", "train"))
    estimates = pd.DataFrame({"estimate": test["rank"] + 1.5 * (np.arange(len(test)) % 5 == 0)})
    clusters = pd.Series(group_codes(train["group"], prepared.groups), index=train.index)
    return evaluate(small_config, prepared, estimates, clusters, CENTROIDS, -0.125, sample_images(prepared))


def test_measures_of_ranks(measured: Results, prepared: Prepared) -> None:
    ours = measured.measures["DRC-ORID"]
    assert ours["MAE"] == pytest.approx(1.5 * 4 / 20)
    assert ours["accuracy"] == pytest.approx(16 / 20)
    assert ours["CS at 5"] == 1.0
    manifest = prepared.manifest
    test, train = (manifest.loc[manifest["split"] == split, "rank"] for split in ("test", "train"))
    assert measured.measures["median"]["MAE"] == pytest.approx((test - train.median()).abs().mean())


def test_measures_of_groups(measured: Results, prepared: Prepared) -> None:
    ours = measured.measures["DRC-ORID"]
    assert ours["NMI"] == ours["NMI above lowest rank"] == 1.0
    assert ours["CA"] == pytest.approx(-0.5)
    assert measured.measures["spherical k-means"] == {"CA": -0.125}
    assert 0 <= measured.measures["k-means on pixels"]["NMI"] < 0.5  # the colours number the images
    assert sum(measured.cluster_sizes) == prepared.train.count()


def test_table_shows_every_measure_and_what_was_not_measured(measured: Results) -> None:
    lines = measured.table().splitlines()
    assert [name in lines[0] for name in measured.measures] == [True] * 5
    assert lines[1].split()[:2] == ["MAE", "0.300"]
    (nmi,) = [line for line in lines if line.startswith("NMI ") and "above" not in line]
    assert nmi.split()[1:4] == ["1.000", "-", "-"]
    assert lines[-1] == f"cluster sizes: {', '.join(map(str, measured.cluster_sizes))}"


def test_names_for_mlflow(measured: Results) -> None:
    flat = measured.flat()
    assert flat["MAE"] == pytest.approx(0.3)
    assert {"median.MAE", "nearest_in_pixels.accuracy", "k-means_on_pixels.NMI"} <= set(flat)


def test_results_are_read_as_they_were_written(measured: Results, tmp_path: Path) -> None:
    measured.write(tmp_path)
    assert Results.read(tmp_path) == measured
