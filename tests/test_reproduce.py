"""The papers' tables on small generated copies of their sets: every one runs, goes on where it stopped, and is read."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import job
import pandas as pd
import pytest

from ordclust_ray.config import ComparatorConfig, DrcConfig, InputError, ReproduceConfig, RunConfig
from ordclust_ray.config.analyse import MachinesConfig
from ordclust_ray.reproduction.cells import Cell, DrcCell, IdfdCell, Measured
from ordclust_ray.reproduction.cost import hours, network_of, trained_of, training_images, work_of
from ordclust_ray.reproduction.curves import Curves
from ordclust_ray.reproduction.plans import TABLES, cells_of
from ordclust_ray.reproduction.results import Store
from ordclust_ray.reproduction.settings import comparator_config, drc_config, idfd_config

FULL = ReproduceConfig(data="/sets")


@pytest.fixture(scope="module")
def jobs() -> Iterator[None]:
    """The jobs as modules, as they are to each other."""
    folder = str(Path(__file__).parent.parent / "jobs")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture
def reproduced(
    jobs: None, local_ray: None, storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> "Reproduced":
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Reproduced(storage, capsys)


class Reproduced:
    """Runs a table as the job does, in this process."""

    def __init__(self, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.storage, self._capsys = storage, capsys

    def __call__(self, *line: str) -> str:
        import reproduce

        reproduce.main([*line, "--scale", "smoke", "--run.storage", str(self.storage)])
        return self._capsys.readouterr().out


@pytest.mark.parametrize("name", TABLES)
def test_every_table_runs_on_the_generated_copies(name: str, reproduced: Reproduced) -> None:
    said, plan = reproduced(name), TABLES[name]
    results = reproduced.storage / f"{name}-smoke" / "results"
    assert plan.title in said
    assert plan.title in (results / "table.txt").read_text()
    if isinstance(plan, Curves):
        points = pd.read_csv(results / "points.csv")
        assert set(points["label"]) == set(plan.lines)
        assert points["y"].notna().all()
        assert (results / "figure.png").stat().st_size > 10_000
    else:
        table = pd.read_csv(results / "table.csv")
        assert len(table) == len(plan.entries)
        measured = table[~table["row"].str.contains("Random")]
        assert measured["ours"].notna().all()
        assert (table["ours"] - table["paper"] - table["difference"]).abs().max() < 1e-9


def test_a_table_goes_on_at_the_cell_where_it_stopped(reproduced: Reproduced) -> None:
    reproduced("drc-table-10")
    assert "run " not in reproduced("drc-table-10").split("results:")[0]
    (lost,) = (reproduced.storage / "reproduction" / "smoke").glob("aadb-k6-efficientnet-b4-seed0-*.json")
    before = lost.read_text()
    lost.unlink()
    said = reproduced("drc-table-10")
    assert [line for line in said.splitlines() if line.startswith("run ")] == [
        "run 2 of 4: aadb-k6-efficientnet-b4-seed0"
    ]
    assert json.loads(lost.read_text())["measures"] == json.loads(before)["measures"]


def test_killed_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    line = ["reproduce.py", "drc-table-10", "--scale", "smoke", "--run.storage", str(tmp_path)]
    with job.start(*line, env=job.environment()) as process:
        assert process.stdout
        assert any(said.startswith("run 2 of 4") for said in process.stdout)
        job.kill(process.pid)
    said = job.run(*line, env=job.environment())
    assert "\n1 of 4 runs were measured before" in f"\n{said}"
    assert TABLES["drc-table-10"].title in said


def test_several_seeds_have_a_spread(reproduced: Reproduced) -> None:
    said = reproduced("drc-table-3", "--seeds", "0", "1", "--run.name", "two-seeds")
    assert "hci-k4-seed1" in said
    assert " ± " in said


def test_the_list_says_what_each_needs(jobs: None, capsys: pytest.CaptureFixture[str]) -> None:
    import reproduce

    reproduce.main(["list"])
    said = capsys.readouterr().out
    for name in TABLES:
        assert f"\n{name} " in said
    assert "morph-a, morph-b, morph-c, morph-d" in said
    reproduce.main(["list", "--seeds", "0", "1"])
    assert re.search(r"\nidfd-table-2 +16 ", capsys.readouterr().out)
    assert "\nCPU hours: of training alone, from steps measured on 2 CPU cores" in said


BOTH = """
import json, sys
sys.path.insert(0, "jobs")
from reproducing import JobsEngine
from ordclust_ray.config import ReproduceConfig, RunConfig
from ordclust_ray.reproduction.cells import DrcCell, IdfdCell
from ordclust_ray.reproduction.local import LocalEngine
from ordclust_ray.reproduction.smoke import generate_copies
from ordclust_ray.run import start_ray
cell = eval(sys.argv[2])
options = ReproduceConfig(scale="smoke", run=RunConfig(storage=sys.argv[1], experiment="reproduction"))
options = generate_copies(options, [cell])
start_ray()
print(json.dumps([engine(options).measure(cell).measures for engine in (LocalEngine, JobsEngine)]))
"""


@pytest.mark.parametrize(
    "cell",
    [
        DrcCell("morph-a", 2, comparator="vgg16"),
        DrcCell("morph-c", 2, fold=3, features=True),
        IdfdCell("cifar10", network="convnet", flip=True),
    ],
    ids=lambda cell: cell.name,
)
def test_in_this_process_and_by_the_jobs_a_cell_measures_the_same(cell: Cell, tmp_path: Path) -> None:
    """In a process of its own, as users' are: MLflow warns of itself in this one."""
    done = subprocess.run(
        [sys.executable, "-c", BOTH, str(tmp_path), repr(cell)],
        cwd=job.ROOT,
        env=job.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )
    assert done.returncode == 0, done.stderr
    local, by_jobs = json.loads(done.stdout.splitlines()[-1])
    assert by_jobs == pytest.approx(local, abs=1e-6)


def test_settings_of_a_cell() -> None:
    cell = DrcCell("morph-c", 3, repulsion=0.0, comparator="vgg16", fold=4, seed=7)
    found = drc_config(cell, FULL)
    assert (found.data.path, found.data.test_fold, found.data.train_fold) == ("/sets/morph-c", 4, 0)
    assert (found.clustering.num_clusters, found.clustering.repulsion, found.run.seed) == (3, 0.0, 7)
    assert (found.rank.scale, found.rank.tolerance) == ("geometric", 0.1)
    assert drc_config(DrcCell("morph-b", 2, fold=2), FULL).data.train_fold == 2
    assert comparator_config(cell, FULL).comparator.network == "vgg16"
    views = idfd_config(IdfdCell("cifar10", without=("crop", "jitter", "grey", "flip")), FULL).augmentation
    assert vars(views) == {"min_crop": 1.0, "jitter": 0.0, "grey": 0.0, "flip": False}
    flipped = idfd_config(IdfdCell("cifar10", flip=True, without=("crop",)), FULL).augmentation
    assert vars(flipped) == {"min_crop": 1.0, "jitter": 0.4, "grey": 0.2, "flip": True}
    hot = idfd_config(IdfdCell("stl10", instance_temperature=0.5, decorrelation_temperature=3.0), FULL).loss
    assert (hot.tau, hot.decorrelation_temperature) == (0.5, 3.0)


def test_another_recipe_has_its_own_path() -> None:
    options = ReproduceConfig(data="/sets", recipe="coffee", path="leaves.parquet")
    assert drc_config(DrcCell("coffee", 2), options).data.path == str(Path("leaves.parquet").absolute())
    assert drc_config(DrcCell("aadb", 2), options).data.path == "/sets/aadb"


def test_a_measurement_belongs_to_its_data_and_not_to_the_machines(jobs: None, tmp_path: Path) -> None:
    from reproducing import JobsEngine

    cell, measured = DrcCell("coffee", 2), Measured({"MAE": 1.0}, [])
    run = RunConfig(storage=str(tmp_path))
    options = ReproduceConfig(scale="small", recipe="coffee", path="/a", run=run)
    Store(options).put(cell, measured)
    assert Store(replace(options, training=MachinesConfig(num_workers=2))).get(cell) == measured
    for other in (replace(options, path="/b"), replace(options, lists="index")):
        assert cell not in Store(other)
        assert JobsEngine(other).name_of(cell) != JobsEngine(options).name_of(cell)  # whose finished run would be found
    assert cell not in Store(replace(options, scale="full"))


def test_sets_that_are_missing_are_named_before_anything_is_trained(
    jobs: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import reproduce

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit):
        reproduce.main(["drc-table-1", "--data", str(tmp_path), "--run.storage", str(tmp_path / "runs")])
    said = capsys.readouterr()
    for name in ("morph-a", "morph-b", "morph-c", "morph-d"):
        assert f"there is no '{tmp_path / name}'" in said.err
    assert "run 1 of" not in said.out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["drc-table-8", "--epochs", "3"], "--epochs is 3, which is for tables of IDFD at --scale small alone"),
        (["idfd-table-2", "--images", "30", "--scale", "smoke"], "--images is 30, which is for tables of IDFD at"),
        (["list", "--scale", "small"], "--scale is small, which means nothing to the list, which is of scale full"),
        (["list", "--steps", __file__], "which lacks 'date'; it must be of benchmarks/steps.py"),
        (["list", "--steps", "nosuch.json"], "--steps is 'nosuch.json'; there is no such file"),
        (["drc-table-8", "--scale", "smoke", "--recipe", "digits"], "--scale smoke needs a recipe of a data set"),
    ],
)
def test_mistakes_are_one_line(
    line: list[str],
    message: str,
    jobs: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import reproduce

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit):
        reproduce.main([*line, "--run.storage", str(tmp_path)])
    assert message in capsys.readouterr().err


def test_an_unknown_recipe_is_named() -> None:
    with pytest.raises(InputError, match="there is no recipe 'nosuch'; it must be one of digits, "):
        drc_config(DrcCell("nosuch", 2), FULL)


@pytest.mark.parametrize(
    ("cell", "images"),
    [
        (DrcCell("morph-a", 2), 4394),
        (DrcCell("morph-b", 2), 7000),
        (DrcCell("morph-c", 2, fold=3), 44107),
        (DrcCell("balanced", 3), 29720),
        (IdfdCell("cifar10"), 50_000),
        (IdfdCell("stl10"), 13_000),
        (IdfdCell("imagenet-dog"), 19_500),
    ],
)
def test_training_images_of_the_papers(cell: Cell, images: int) -> None:
    config = trained_of(cell, FULL)[0]
    assert not isinstance(config, ComparatorConfig)
    assert training_images(config.data) == images


def test_hours_are_work_over_speed() -> None:
    cell = DrcCell("morph-a", 2, comparator="vgg16")
    work = work_of(cell, FULL)
    drc, comparator = trained_of(cell, FULL)
    assert isinstance(drc, DrcConfig)
    assert work == {network_of(drc): 4394 * 303, network_of(comparator): 4394 * comparator.training.epochs}
    speeds = {network_of(drc): 100.0, network_of(comparator): 50.0}
    expected = (4394 * 303 / 100 + 4394 * comparator.training.epochs / 50) / 3600
    assert hours([cell], FULL, speeds) == pytest.approx(expected)
    assert str(hours([replace(cell, comparator="")], FULL, {})) == "nan"
    shared = [replace(cell, comparator=""), cell, replace(cell, comparator="", features=True)]
    assert hours(shared, FULL, speeds) == pytest.approx(expected)
    assert hours([*shared, replace(cell, seed=1)], FULL, speeds) == pytest.approx(2 * expected)


def test_all_cells_of_the_tables_have_settings() -> None:
    cells = [cell for plan in TABLES.values() for cell in cells_of(plan)]
    names = {network_of(config) for cell in cells for config in trained_of(cell, FULL)}
    assert "ORID, 64 pixels, pairs" in names
    assert "comparator vgg16, 224 pixels, pairs" in names
    assert "resnet18, 96 pixels, images" in names
