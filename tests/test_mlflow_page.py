"""The MLflow page of a run, opened in headless Chromium: its metrics and figures are there."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import job
import numpy as np
import psutil
import pytest
from matplotlib.figure import Figure
from test_readme import answer

from ordclust_ray.tracking import Tracker

PORT = 5198
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def run_id(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A recorded run behind a real server."""
    folder = tmp_path_factory.mktemp("runs") / "leaves"
    (folder / "results").mkdir(parents=True)
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    tracker = Tracker(uri, "drc-orid", "leaves", folder)
    tracker.parameters({"clustering.num_clusters": 3})
    for epoch in range(1, 6):
        tracker.epoch({"epoch": epoch, "reconstruction": 1 / epoch, "centroid_affinity": -0.1 * epoch})
    figure = Figure()
    figure.subplots().imshow(np.eye(4))
    figure.savefig(folder / "results" / "montage.png")
    tracker.artifacts(folder / "results")
    tracker.finish()
    command = ["mlflow", "ui", "--backend-store-uri", uri, "--port", str(PORT)]
    server = subprocess.Popen(command, env=job.environment(), cwd=folder, stderr=subprocess.DEVNULL)
    answer(f"http://127.0.0.1:{PORT}/")
    yield f"{tracker.experiment_id}/runs/{tracker.run_id}"
    for process in [*psutil.Process(server.pid).children(recursive=True), server]:
        process.kill()
    server.wait()


def page(address: str, folder: Path) -> str:
    """What Chromium makes of a page, once its scripts have run."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --window-size=1400,1000 --virtual-time-budget=20000 --dump-dom"
    command = [str(CHROMIUM), *flags.split(), f"--user-data-dir={folder}", f"http://127.0.0.1:{PORT}/{address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_overview_shows_settings_and_metrics(run_id: str, tmp_path: Path) -> None:
    text = page(f"#/experiments/{run_id}", tmp_path)
    for words in ("leaves", "clustering.num_clusters", "centroid_affinity", "reconstruction", "-0.5"):
        assert words in text


def test_artifacts_show_the_figures(run_id: str, tmp_path: Path) -> None:
    assert "montage.png" in page(f"#/experiments/{run_id}/artifacts", tmp_path)
