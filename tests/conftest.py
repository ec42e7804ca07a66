"""Fixtures that several folders of tests share: one Ray for the session, and one small data set on it."""

import logging
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import job
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ordclust_ray.config import ClusteringConfig, DataConfig, DrcConfig, ModelConfig, TrainingConfig

if TYPE_CHECKING:
    from ordclust_ray.core.rank_estimator import RankEstimator
    from ordclust_ray.data.prepare import Prepared

RANKS = (1.5, 3.0, 1.5, 2.0, 7.25, 1.5, 3.0, 1.5, 2.0, 1.5, 1.5)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole jobs first: no Ray of this process runs beside them then. Before them hosts: they hide no Ray."""
    first = [
        "test_on_premises.py",
        "test_faults.py",
        "test_readme.py",
        "test_train_drc.py",
        "test_train_comparator.py",
        "test_analyse.py",
        "test_whole_path.py",
        "test_train_idfd.py",
        "test_export_clusters.py",
        "test_planted.py",
    ]
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the session, but those of hosts")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not reporter or not session.config.getoption("--no-skips"):
        return
    if [test for test in reporter.stats.get("skipped", []) if "hosts" not in test.keywords]:
        reporter.write_line("a test was skipped, which --no-skips forbids", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The README's cluster, from `ray get-auth-token` to `ray stop` at the end of all tests: the environment of those
    who may use it, with a home of their own. The tests that need a Ray of this process have another one beside it.
    """
    if any("raylet" in (process.info["name"] or "") for process in psutil.process_iter(["name"])):
        pytest.skip("another Ray runs on this machine, and `ray stop` would end it")
    exports = (
        line.removeprefix("export ").split("=") for line in job.README_COMMANDS if line.startswith("export RAY_")
    )
    env = {key: value for key, value in job.environment().items() if key != "RAY_ADDRESS"}
    env |= {"HOME": str(tmp_path_factory.mktemp("home")), **dict(exports)}
    job.shell(job.readme("ray get-auth-token"), env)
    job.shell(job.readme("ray start"), env)
    wait_for_jobs(env)
    yield env
    job.shell(job.readme("ray stop"), env)


def wait_for_jobs(env: dict[str, str]) -> None:
    """Until a cluster that was just started takes jobs: its agents start last, and on a busy machine slowly."""
    for _ in range(20):
        tried = subprocess.run(["ray", "job", "submit", "--", "true"], env=env, capture_output=True, text=True)
        if tried.returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(tried.stdout + tried.stderr)


@dataclass(frozen=True)
class ClusterRun:
    """A small job that the README's command submitted to the cluster, with two training workers.

    Attributes:
        storage: folder of the runs; this one's name is "undisturbed".
        output: what `ray job submit` printed.
    """

    storage: Path
    output: str


@pytest.fixture(scope="session")
def cluster_run(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> ClusterRun:
    """The small run, whole."""
    storage = tmp_path_factory.mktemp("runs")
    submit = (
        f"{job.readme('ray job submit --working-dir')} digits {shlex.join(job.two_workers(storage, 'undisturbed'))}"
    )
    return ClusterRun(storage, job.shell(submit, cluster))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of our own: in this process where Ray still can (before 2.55, without Ray Data), else on four CPUs."""
    import ray
    import ray.data

    if tuple(map(int, ray.__version__.split(".")[:2])) < (2, 55):
        ray.init(local_mode=True)
    else:
        ray.init(address="local", num_cpus=4, num_gpus=0, include_dashboard=False, logging_level="WARNING")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def png() -> Callable[[int], bytes]:
    """Makes a PNG of 16 x 16 pixels whose colour is a number: red + 256 green; blue is always 7."""

    def make(number: int) -> bytes:
        buffer = BytesIO()
        Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory, png: Callable[[int], bytes]) -> DrcConfig:
    """103 numbered images in three Parquet files as Hugging Face writes them; images 3 and 34 are broken.

    The number of an image (its colour) is its instance id. Image 50 alone has rank 9; the others have four ranks.
    """
    folder = tmp_path_factory.mktemp("small")
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    broken = {3: {"bytes": b"garbage"}, 34: None}
    for name, first, end in (("b", 30, 70), ("a", 0, 30), ("c", 70, 103)):  # not written in the order of the ids
        ids = range(first, end)
        images = [broken[i] if i in broken else {"bytes": png(i), "path": f"{i}.png"} for i in ids]
        columns = {
            "rank": [9.0 if i == 50 else RANKS[i * 7 % 11] for i in ids],
            "kind": [("tall", "broad", "odd")[i * i % 3 + i % 2] for i in ids],
            "image": pa.array(images, image_type),
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=16)
    data = DataConfig(
        path=str(folder), image_size=16, group_column="kind", max_broken_fraction=0.05, test_fraction=0.19
    )
    return DrcConfig(data=data, clustering=ClusteringConfig(num_clusters=3))


@pytest.fixture(scope="session")
def prepared(local_ray: None, small_config: DrcConfig) -> "Prepared":
    """The small data set, decoded and split."""
    from ordclust_ray.data.prepare import open_checked, prepare  # tests of core do not wait for Ray's import

    return prepare(open_checked(small_config), small_config)


@dataclass(frozen=True)
class Trained:
    """One round of DRC-ORID on the small data set, in this process."""

    config: DrcConfig
    estimator: "RankEstimator"
    assignments: pd.DataFrame
    history: list[dict[str, Any]]


@pytest.fixture(scope="session")
def trained(prepared: "Prepared", small_config: DrcConfig) -> Trained:
    """Networks, clusters and references of the small data set."""
    import torch

    from benchmarks.planted import finished_estimator
    from ordclust_ray.training.drc_orid import DrcOrid, InMemoryData, Problem
    from ordclust_ray.training.orid import OridTrainer

    torch.manual_seed(0)
    training = TrainingConfig(warmup_epochs=1, rounds=1, epochs_per_round=1)
    config = replace(small_config, training=training, model=ModelConfig(width=0.1, order_dim=8, identity_dim=12))
    rows = prepared.train.take_batch(prepared.train.count())
    columns = (torch.from_numpy(np.array(rows[name])) for name in ("image", "instance_id", "level", "group"))
    problem = Problem.of(len(rows["level"]), prepared.rank_levels, config.rank, len(prepared.groups))
    model = DrcOrid(config, problem, InMemoryData(*columns), OridTrainer(config, torch.device("cpu")))
    for _ in range(training.epochs):
        model.run_epoch()
    ranks = prepared.rank_levels[rows["level"]]
    estimator = finished_estimator(model, np.array(rows["instance_id"]), ranks, prepared.rank_levels)
    assignments = pd.DataFrame(
        {"cluster": model.assignments.numpy(), "similarity": model.conclude()["similarities"].numpy()},
        index=pd.Index(rows["instance_id"], name="instance_id"),
    )
    return Trained(config, estimator, assignments, model.history)
