"""From groups to a served model, by the README's commands: each goes on from the run before it."""

import json
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import job
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ClusterRun
from sklearn.datasets import load_digits

from ordclust_ray.data.images import as_png
from ordclust_ray.serving import _load_pyfunc

PORT = 5198
TINY = "--comparator.width 0.2 --comparator.image-size 16 --training.epochs 4 --training.flip False"
TINY += " --training.threads-per-worker 1"


def png(i: int) -> bytes:
    return as_png((load_digits().images[i] * (255 / 16)).round().astype(np.uint8))


@pytest.fixture(scope="module")
def storage(cluster_run: ClusterRun) -> Path:
    return cluster_run.storage


def run(start: str, storage: Path, env: dict[str, str], more: str = "") -> str:
    """Runs the README's command that begins like this, in another storage folder."""
    line = job.readme(start).replace("RUN ", "undisturbed ")
    return job.shell(f"{line} --run.storage {shlex.quote(str(storage))} {more}", env)


@pytest.fixture(scope="module")
def references(cluster: dict[str, str], storage: Path) -> str:
    """What `select_references.py` printed, after `train_comparator.py`."""
    run("python jobs/train_comparator.py", storage, cluster, TINY)
    return run("python jobs/select_references.py", storage, cluster)


def test_references_are_chosen_in_each_cluster(references: str, storage: Path) -> None:
    listed = pd.read_parquet(storage / "REFERENCES" / "results" / "references.parquet")
    assigned = job.assignments(storage / "undisturbed").loc[listed["instance_id"]]
    assert (assigned["split"] == "train").all()
    assert assigned["cluster"].tolist() == listed["cluster"].tolist()
    assert assigned["rank"].tolist() == listed["rank"].tolist()
    assert listed.groupby(["cluster", "rank"]).size().max() == 50
    for _, cell in listed.groupby(["cluster", "rank"]):
        assert cell["place"].tolist() == list(range(len(cell)))
        assert cell["similarity"].is_monotonic_decreasing
    absent = pd.read_csv(storage / "REFERENCES" / "results" / "absent_ranks.csv")
    assert len(absent) + listed.groupby(["cluster", "rank"]).ngroups == 20
    model = json.loads((storage / "REFERENCES" / "results" / "model" / "model.json").read_text())
    assert model["comparator"] == {"network": "resnet18", "image_size": 16, "width": 0.2}
    assert "absent ranks" in references


@pytest.fixture(scope="module")
def estimates(references: str, cluster: dict[str, str], storage: Path) -> str:
    """What `estimate_ranks.py` printed."""
    return run("python jobs/estimate_ranks.py", storage, cluster, "--run.name measured --cumulative-score-at 1")


def test_estimates_of_the_held_out_images_are_measured(estimates: str, storage: Path) -> None:
    folder = storage / "measured" / "results"
    measures = json.loads((folder / "results.json").read_text())["measures"]
    assert measures["MAP"]["MAE"] < measures["median"]["MAE"] / 2
    assert measures["MAP"]["comparisons right"] > 0.5
    assert measures["k-NN on identity"]["MAE"] < measures["median"]["MAE"]
    rows = pq.read_table(folder / "estimates").to_pandas()
    held_out = job.assignments(storage / "undisturbed").query("split == 'test'")
    assert sorted(rows["instance_id"]) == held_out.index.tolist()
    assert (rows["estimate"] - rows["rank"]).abs().mean() == pytest.approx(measures["MAP"]["MAE"])
    assert all(len(posterior) == 10 for posterior in rows["posterior"])
    by_cluster = pd.read_csv(folder / "by_cluster.csv")
    assert by_cluster["images"].sum() == 359
    assert np.average(by_cluster["MAE"], weights=by_cluster["images"]) == pytest.approx(measures["MAP"]["MAE"])
    assert "max. consistency" in estimates


def test_ranks_of_a_folder(references: str, cluster: dict[str, str], storage: Path, tmp_path: Path) -> None:
    """Two of the images are broken; a second time all is there already."""
    (tmp_path / "images" / "below").mkdir(parents=True)
    for i in range(40):
        (tmp_path / "images" / ("below" if i % 2 else ".") / f"{i}.png").write_bytes(
            png(i)[: 60 if i in (3, 8) else None]
        )
    line = job.readme("python jobs/predict.py --model REFERENCES").replace("new_images", str(tmp_path / "images"))
    line = f"{line.replace('new_ranks', str(tmp_path / 'out'))} --storage {storage}"
    for _ in range(2):
        assert f"40 images, 2 of them broken, are in {tmp_path / 'out'}" in job.shell(line, cluster)
    rows = pq.read_table(tmp_path / "out").to_pandas().set_index("source")
    assert sorted(rows.index) == sorted(map(str, (tmp_path / "images").glob("**/*.png")))
    assert {Path(source).name for source in rows.index[rows["rank"].isna()]} == {"3.png", "8.png"}
    refused = line.replace(str(tmp_path / "out"), str(tmp_path / "images" / "ranks"))
    done = subprocess.run(refused, shell=True, cwd=job.ROOT, env=cluster, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lies among the images in" in done.stderr


def test_predictions_survive_kill_9(references: str, cluster: dict[str, str], storage: Path, tmp_path: Path) -> None:
    """Of 18,000 images, one of them broken; the job is killed while it writes, and started again."""
    encoded = [png(i) for i in range(1797)] * 10 + [b"broken"]
    pq.write_table(pa.table({"image": encoded}), tmp_path / "new.parquet", row_group_size=500)
    line = job.readme("python jobs/predict.py --model REFERENCES").replace("REFERENCES", str(storage / "REFERENCES"))
    line = line.replace("new_images", str(tmp_path / "new.parquet")).replace("new_ranks", str(tmp_path / "out"))
    process = subprocess.Popen(shlex.split(f"exec {line}")[1:], cwd=job.ROOT, env=cluster)
    first = first_file(process, tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = first.stat().st_mtime_ns
    assert f"{len(encoded)} images, 1 of them broken" in job.shell(line, cluster)
    rows = pq.read_table(tmp_path / "out").to_pandas().sort_values("instance_id")
    assert rows["instance_id"].tolist() == list(range(17_971))
    assert first.stat().st_mtime_ns == written
    assert rows["error"].iloc[-1].startswith("UnidentifiedImageError")
    known = job.assignments(storage / "undisturbed")["rank"].to_numpy()
    assert np.abs(rows["rank"].to_numpy()[:1797] - known).mean() < 1.2


def first_file(process: subprocess.Popen[bytes], folder: Path) -> Path:
    """The first whole Parquet file that a job writes."""
    for _ in range(6000):
        assert process.poll() is None, "the job ended before it could be killed"
        for file in folder.glob("*.parquet"):
            if file.read_bytes()[-4:] == b"PAR1" and file.stat().st_size > 4:
                return file
        time.sleep(0.01)
    raise AssertionError(f"no file in {folder}")


@pytest.fixture(scope="module")
def server(references: str, cluster: dict[str, str], storage: Path) -> Iterator[str]:
    """The README's `mlflow models serve`: the address of its invocations."""
    env = {**cluster, "MLFLOW_TRACKING_URI": f"sqlite:///{storage / 'mlflow.db'}", "RAY_ADDRESS": "nowhere"}
    line = job.readme("mlflow models serve").replace("5001", str(PORT))
    process = subprocess.Popen(shlex.split(line), cwd=job.ROOT, env=env, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{PORT}"
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        process.wait()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_served_model_answers(server: str, references: str, storage: Path, tmp_path: Path) -> None:
    """It is the newest version: the one that `select_references.py` registered."""
    (tmp_path / "image.jpg").write_bytes(png(5))
    line = job.readme("printf").replace("5001", str(PORT)).replace("image.jpg", str(tmp_path / "image.jpg"))
    patient = line.replace("curl", "curl --silent --retry 120 --retry-delay 1 --retry-connrefused")
    answer = subprocess.run(["bash", "-c", patient], capture_output=True, check=True)
    (row,) = json.loads(answer.stdout)["predictions"]
    model = _load_pyfunc(str(storage / "REFERENCES" / "results" / "model"))
    (expected,) = model.predict(pd.DataFrame({"image": [png(5)]})).to_dict(orient="records")
    assert row.pop("rank_levels") == expected.pop("rank_levels") == list(range(10))
    assert row.pop("posterior") == pytest.approx(expected.pop("posterior"), rel=1e-4)
    assert row.pop("error") == expected.pop("error") == ""
    assert row == pytest.approx(expected, rel=1e-4)
