"""Every command in the README is run, as it stands there or with flags that make it short."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import job
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ClusterRun
from mlflow import MlflowClient
from numpy.typing import NDArray
from page import answer, drawn, needs_chromium, serving
from PIL import Image

from benchmarks.planted import planted_images

SHORT = " ".join(job.TINY) + " --training.warmup-epochs 1 --training.rounds 1 --training.epochs-per-round 1"
COFFEE = job.ROOT.parent / "shared" / "data" / "coffee_leaf.parquet"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own: runs go to ~/ordclust_runs."""
    return tmp_path_factory.mktemp("home")


def png_of(image: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_command_is_known_here() -> None:
    exports = ("export RAY_AUTH_MODE", "export RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES")
    known = (
        "make run",
        "make test",
        "python jobs/train_drc.py",
        "python jobs/cluster_features.py",
        "python jobs/tune.py",
        ".venv/bin/python jobs/train_idfd.py",
        "python jobs/train_idfd.py small",
        "python jobs/predict.py",
        "python jobs/train_comparator.py",
        "python jobs/select_references.py",
        "python jobs/estimate_ranks.py",
        "python jobs/export_clusters.py",
        "export MLFLOW_TRACKING_URI",
        "mlflow models serve",
        "printf ",
        "aws cloudformation deploy",
        "python jobs/analyse.py",
        "python jobs/prepare_data.py",
        "python jobs/reproduce.py",
        *exports,
        "ray ",
        "mlflow ui",
    )
    assert [line for line in job.README_COMMANDS if not line.startswith(known)] == []


def test_make_targets_are_what_this_suite_and_the_next_test_run() -> None:
    plans = {
        target: job.shell(f"make --no-print-directory --dry-run --always-make {target}", os.environ)
        for target in ("run", "test")
    }
    assert job.readme("make run") == "make run"
    assert plans["run"].splitlines()[-1] == ".venv/bin/python jobs/train_drc.py"
    assert job.readme("make test") == "make test"
    assert plans["test"].splitlines()[-1] == ".venv/bin/python -m pytest"


@pytest.fixture(scope="module")
def default_run(home: Path) -> tuple[str, Path]:
    """`make run`, whole, in the environment that is there already: what it printed, and its folder."""
    output = job.shell(job.readme("make run"), job.environment(HOME=str(home)))
    (folder,) = (file.parents[1] for file in (home / "ordclust_runs").glob("digits-*/results/montage.png"))
    return output, folder / "results"


def test_default_run_reaches_its_targets(default_run: tuple[str, Path]) -> None:
    output, folder = default_run
    results = json.loads((folder / "results.json").read_text())["measures"]
    assert results["DRC-ORID"]["MAE"] <= 0.25  # the median has 2.5
    assert results["DRC-ORID"]["CA"] < 0
    assert 2.4 < results["median"]["MAE"] < 2.6
    assert f"results: {folder}" in output


def test_job_on_the_cluster(cluster_run: ClusterRun) -> None:
    assert "succeeded" in cluster_run.output
    assert re.search(r"MAE +0\.", cluster_run.output)


def test_without_the_token_nobody_submits(cluster: dict[str, str], tmp_path: Path) -> None:
    stranger = cluster | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    line = shlex.split(job.readme("ray job submit --working-dir"))
    refused = subprocess.run(line, cwd=job.ROOT, env=stranger, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "Unauthenticated" in refused.stderr


def test_parquet(cluster: dict[str, str], tmp_path: Path) -> None:
    """The README's own file where this machine has it, else one like it: images, severities, stresses."""
    line = job.readme("python jobs/train_drc.py coffee")
    if not COFFEE.exists():
        planted = planted_images(120, seed=4)
        columns = {
            "image": [png_of(image) for image in planted.images],
            "id": range(120),
            "severity": np.minimum(planted.ranks - 1, 4),
            "predominant_stress": planted.groups + 1,
        }
        pq.write_table(pa.table(columns), tmp_path / "leaves.parquet")
        line = line.replace("../shared/data/coffee_leaf.parquet", str(tmp_path / "leaves.parquet"))
    output = job.shell(f"{line} {SHORT} --data.image-size 16", cluster)
    assert re.search(r"NMI above lowest rank +0\.", output)


def test_folder_of_images(cluster: dict[str, str], tmp_path: Path) -> None:
    """With groups, a split of its own and a truncated file; in a terminal, where a bar is drawn."""
    planted = planted_images(120, seed=3)
    folder = tmp_path / "my_images"
    folder.mkdir()
    rows = []
    for i, image in enumerate(planted.images):
        Image.fromarray(image).save(folder / f"{i}.png")
        rows.append((f"{i}.png", planted.ranks[i], "abc"[planted.groups[i]], "test" if i % 4 == 0 else "train"))
    pd.DataFrame(rows, columns=["file", "age", "kind", "part"]).to_csv(folder / "ages.csv", index=False)
    whole = (folder / "7.png").read_bytes()
    (folder / "7.png").write_bytes(whole[: len(whole) // 2])
    own = job.readme("python jobs/train_drc.py small").replace("my_images", shlex.quote(str(folder)))
    own += f" --data.group-column kind --data.split-column part --data.image-size 16 --run.name own {SHORT}"
    output = job.in_terminal(own, cluster)
    assert "119 images, 89 to train on, 1 broken" in output
    assert re.search(r"training 100%\|█+\| epoch 2/2", output)
    assert "k-means on pixels" in output
    broken = pd.read_csv(Path(cluster["HOME"]) / "ordclust_runs" / "own" / "results" / "broken_images.csv")
    assert broken["source"].tolist() == [str(folder / "7.png")]
    assert "truncated" in broken["reason"][0]


def test_clusters_without_labels_and_of_new_images(cluster: dict[str, str], tmp_path: Path) -> None:
    """A folder of images, one of them broken; then the clusters of other images, one of them broken."""
    for folder, seed in (("my_images", 3), ("new_images", 5)):
        (tmp_path / folder / "below").mkdir(parents=True)
        for i, image in enumerate(planted_images(60, seed=seed).images):
            Image.fromarray(image).save(tmp_path / folder / ("below" if i % 2 else ".") / f"{i}.png")
        (tmp_path / folder / "7.png").write_bytes(b"broken")
    small = "--model.width 0.1 --training.epochs 2 --data.image-size 16 --clustering.starts 2 --run.name NAME"
    own = job.readme("python jobs/train_idfd.py small").replace("my_images", shlex.quote(str(tmp_path / "my_images")))
    output = job.shell(f"{own} {small} --data.max-broken-fraction 0.1", cluster)
    assert "60 images, 1 broken; 10 clusters" in output
    assert re.search(r"neighbour in same cluster +[01]\.", output)
    assert "ACC" not in output
    line = job.readme("python jobs/predict.py --model ~").replace("~", cluster["HOME"])
    line = line.replace("new_images", str(tmp_path / "new_images")).replace("new_clusters", str(tmp_path / "out"))
    assert f"61 images, 1 of them broken, are in {tmp_path / 'out'}" in job.shell(line, cluster)
    rows = pq.read_table(tmp_path / "out").to_pandas()
    assert sorted(rows["source"]) == sorted(map(str, (tmp_path / "new_images").glob("**/*.png")))
    assert rows[rows["cluster"] < 0]["source"].tolist() == [str(tmp_path / "new_images" / "7.png")]
    assert set(rows["cluster"]) <= set(range(-1, 10))
    other = line.replace("my_images", "new_images").replace(str(tmp_path / "new_images"), str(tmp_path / "my_images"))
    refused = subprocess.run(other, shell=True, cwd=job.ROOT, env=cluster, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "error: --output" in refused.stderr
    assert "holds predictions of other images; name another folder" in refused.stderr


@pytest.fixture(scope="module")
def default_idfd(home: Path) -> tuple[str, Path]:
    """The README's `train_idfd.py`, whole: what it printed, and its results."""
    line = job.readme(".venv/bin/python jobs/train_idfd.py").replace(".venv/bin/python", shlex.quote(sys.executable))
    output = job.shell(line, job.environment(HOME=str(home)))
    (table,) = (home / "ordclust_runs").glob("digits-*/results/clusters.png")
    return output, table.parent


def test_clusters_of_digits_beat_k_means_on_pixels(default_idfd: tuple[str, Path]) -> None:
    output, folder = default_idfd
    measures = json.loads((folder / "results.json").read_text())["measures"]
    ours, pixels = measures["IDFD"], measures["k-means on pixels"]
    assert 0.75 < pixels["ACC"] < 0.85
    for name in ("ACC", "NMI", "ARI"):
        assert ours[name] > pixels[name] + 0.02, name
        assert re.search(rf"{name} +{ours[name]:.3f} +{pixels[name]:.3f}", output)
    assert f"results: {folder}" in output


def test_help(home: Path) -> None:
    env = job.environment(HOME=str(home), PYTHONPROFILEIMPORTTIME="1")
    text = job.shell(job.readme("python jobs/train_drc.py --help"), env)
    assert not re.search(r"\| +(ray|torch|mlflow|sklearn)$", text, re.MULTILINE)  # help comes at once
    for words in ("--data.rank-column", "coffee", "--clustering.repulsion"):
        assert words in text


@pytest.fixture(scope="module")
def mlflow_page(home: Path, default_run: tuple[str, Path]) -> Iterator[str]:
    """The address of the README's `mlflow ui`."""
    line = job.readme("mlflow ui").replace("$HOME", str(home)) + " --port 5197 --workers 1"
    with serving(shlex.split(line), "http://127.0.0.1:5197/", home) as address:
        yield address


def test_mlflow_page_answers(mlflow_page: str) -> None:
    assert "MLflow" in answer(mlflow_page)


@pytest.mark.browser
@needs_chromium
def test_page_of_the_run_shows_settings_metrics_and_figures(
    mlflow_page: str, home: Path, default_run: tuple[str, Path], tmp_path: Path
) -> None:
    client = MlflowClient(f"sqlite:///{home / 'ordclust_runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("drc-orid")
    assert experiment is not None
    name = default_run[1].parent.name
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    page = f"{mlflow_page}#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}"
    overview = drawn(page, tmp_path)
    mae = str(run.data.metrics["MAE"])[:5]
    for words in (name, "clustering.num_clusters", "centroid_affinity", "reconstruction", mae):
        assert words in overview
    assert "montage.png" in drawn(f"{page}/artifacts", tmp_path)
