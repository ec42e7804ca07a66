"""`jobs/analyse.py` as a user runs it, on the small run of DRC-ORID."""

import json
from pathlib import Path

import analyse
import job
import numpy as np
import pandas as pd
import pytest
import ray
from conftest import ClusterRun
from mlflow import MlflowClient
from PIL import Image

from ordclust_ray.reports.analysis_table import TITLES

FIGURES = {f"rank_histograms_{by}.png" for by in ("order", "whole", "identity")} | {"tsne_identity.png"}
TABLES = {f"table_{number}.csv" for number in (8, 9, 11, 12)}


def flags(storage: Path) -> list[str]:
    workers = ["--training.cpus-per-worker", "0.5", "--training.threads-per-worker", "1"]
    return ["--drc", "undisturbed", "--k", "1", "2", "--run.storage", str(storage), "--run.name", "analysed", *workers]


@pytest.fixture(scope="module")
def storage(cluster_run: ClusterRun) -> Path:
    return cluster_run.storage


@pytest.fixture(scope="module")
def output(cluster: dict[str, str], storage: Path) -> list[str]:
    """What the job printed."""
    printed = job.run("analyse.py", *flags(storage), env=cluster)
    return [line.strip() for line in printed.splitlines() if "pid=" not in line]


def table(storage: Path, number: int) -> pd.DataFrame:
    return pd.read_csv(storage / "analysed" / "results" / f"table_{number}.csv", index_col=0)


def measures(storage: Path, run: str) -> dict[str, dict[str, float]]:
    found = json.loads((storage / run / "results" / "results.json").read_text())
    return dict(found["measures"])


def test_output_ends_with_the_papers_tables(output: list[str], storage: Path) -> None:
    starts = [next(i for i, line in enumerate(output) if line.startswith(title)) for title in TITLES.values()]
    assert starts == sorted(starts)
    assert output[starts[0] + 2].split()[:3] == ["without", "2.47", "90.7"]
    assert output[starts[1] + 2].split()[:4] == ["1", "-", "-", "-"]
    assert output[starts[2] + 4].split()[:3] == ["identity", "2.26", "93.8"]
    assert output[starts[3] + 4].split() == ["random", "guess", "33.3", "33.3", "33.33"]
    assert f"results: {storage / 'analysed' / 'results'}" in output
    assert any(line.startswith("Table 11: the paper trains its VGG16 comparator") for line in output)


def test_variants_are_runs_of_their_own_that_differ_in_their_clustering(output: list[str], storage: Path) -> None:
    base = json.loads((storage / "undisturbed" / "config.json").read_text())
    changed = {}
    for name in ("analysed-alpha0", "analysed-k1"):
        settings = json.loads((storage / name / "config.json").read_text())
        changed[name] = {key: value for key, value in settings.items() if base[key] != value}
        assert job.status(storage, name) == "FINISHED"
    experiment = {"run.experiment": "drc-orid-variants"}
    assert changed["analysed-alpha0"] == {"clustering.repulsion": 0.0, **experiment}
    assert changed["analysed-k1"] == {"clustering.num_clusters": 1, **experiment}
    assert not (storage / "analysed-k2").exists()  # the run itself
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    newest = client.get_model_version_by_alias("drc-orid", "newest")
    assert int(newest.version) == len(client.search_model_versions("name = 'drc-orid'"))


def test_tables_hold_what_the_runs_measured(output: list[str], storage: Path) -> None:
    ours = {name: measures(storage, name)["DRC-ORID"] for name in ("undisturbed", "analysed-alpha0", "analysed-k1")}
    by_repulsion, by_k = table(storage, 8)["our MAE"], table(storage, 9)["our MAE"]
    assert by_repulsion["with"] == by_k[2] == pytest.approx(ours["undisturbed"]["MAE"])
    assert by_repulsion["without"] == pytest.approx(ours["analysed-alpha0"]["MAE"])
    assert by_k[1] == pytest.approx(ours["analysed-k1"]["MAE"])
    assert np.isnan(by_k[3])


def test_ranks_are_told_from_order_features_and_estimated_in_all_clusters(output: list[str], storage: Path) -> None:
    accuracy = table(storage, 12)["ours"]
    assert accuracy["order feature"] > 80
    assert 100 > accuracy["identity feature"] > 40  # a digit's looks are its rank, so identity cannot hide it
    regrouped = table(storage, 11)
    assert (regrouped["our MAE"] < measures(storage, "undisturbed")["median"]["MAE"] / 3).all()
    assert regrouped["our NMI with ranks"].between(0, 1, inclusive="neither").all()
    assert regrouped["our NMI with groups"].isna().all()


def test_mlflow_has_the_record(output: list[str], storage: Path) -> None:
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("drc-orid")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'analysed'")
    assert run.info.status == "FINISHED"
    assert run.data.params["k"] == "[1, 2]"
    assert run.data.metrics["MAE"] == pytest.approx(measures(storage, "undisturbed")["DRC-ORID"]["MAE"])
    assert {"alpha0.MAE", "k1.MAE", "clusters_of_whole.MAE", "order_feature.held-out_accuracy"} <= set(run.data.metrics)
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"results.json", *FIGURES, *TABLES}
    for name in FIGURES:
        with Image.open(storage / "analysed" / "results" / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_finished_analysis_is_read_not_repeated(
    output: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analyse.main(flags(storage))
    assert not ray.is_initialized()
    first, _, *rest = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert first == "run analysed is finished; its results:"
    start = output.index(next(iter(TITLES.values())))
    assert rest[:-1] == output[start : start + len(rest) - 1]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--k", "1", "3"], "run 'analysed' was started with other settings: --k was [1, 2]; name it differently"),
        (["--k", "0"], "--k is 0; it must be at least 1"),
        (["--drc", "analysed"], "--drc: run 'analysed' is of analysis; it must be of drc-orid"),
    ],
)
def test_what_cannot_be_is_refused(
    output: list[str], storage: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        analyse.main([*flags(storage), *extra])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"
