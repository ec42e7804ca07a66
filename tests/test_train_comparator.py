"""`jobs/train_comparator.py` as a user runs it, on the clusters of the small run of DRC-ORID."""

import json
from pathlib import Path

import job
import pytest
import ray
import torch
import train_comparator
from conftest import ClusterRun
from mlflow import MlflowClient

from ordclust_ray.training.comparator_weights import load_comparator

SIZE = ["--comparator.width", "0.1", "--comparator.image-size", "16", "--training.epochs", "2"]


def flags(storage: Path, drc: str = "undisturbed") -> list[str]:
    return ["digits", "--drc", drc, *job.two_workers(storage, "compared", SIZE)]


@pytest.fixture(scope="module")
def storage(cluster_run: ClusterRun) -> Path:
    return cluster_run.storage


@pytest.fixture(scope="module")
def output(cluster: dict[str, str], storage: Path) -> list[str]:
    """What the job printed, with two training workers, and MLflow's id of a run instead of its name."""
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("drc-orid")
    assert experiment is not None
    (drc,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'undisturbed'")
    printed = job.run("train_comparator.py", *flags(storage, drc.info.run_id), env=cluster)
    return [line.strip() for line in printed.splitlines() if "pid=" not in line]


def test_output_says_where_weights_come_from_and_ends_with_the_table(output: list[str], storage: Path) -> None:
    why = "ImageNet weights do not fit resnet18 at 16 pixels and width 0.1"
    assert f"comparator starts from Glorot's initialisation: {why}" in output
    assert "1797 images, 1438 to train on, in clusters of undisturbed" in output
    assert any(line.startswith("epoch 2/2") for line in output)
    table = next(i for i, line in enumerate(output) if line.split() == ["comparator", "chance"])
    assert output[table + 1].startswith("held-out accuracy")
    assert output[table + 1].endswith("0.333")
    assert f"results: {storage / 'compared' / 'results'}" in output


def test_results_beat_chance(output: list[str], storage: Path) -> None:
    results = json.loads((storage / "compared" / "results" / "results.json").read_text())
    assert results["measures"]["chance"] == {"held-out accuracy": pytest.approx(1 / 3)}
    assert results["measures"]["comparator"]["held-out accuracy"] > 0.5
    clusters = job.assignments(storage / "undisturbed").query("split == 'train'")["cluster"]
    assert results["cluster_sizes"] == clusters.value_counts().sort_index().tolist()


def test_network_and_its_run_are_kept(output: list[str], storage: Path) -> None:
    folder = storage / "compared" / "results"
    description = json.loads((folder / "comparator.json").read_text())
    expected = {"network": "resnet18", "image_size": 16, "width": 0.1, "scale": "linear", "tolerance": 0.0}
    assert description == expected
    assert load_comparator(folder)(torch.zeros(4, 16, 16, 3, dtype=torch.uint8))[0].shape == (2, 3)
    drc = json.loads((storage / "compared" / "drc.json").read_text())
    assert drc == {"folder": str(storage / "undisturbed")}
    history = json.loads((folder / "history.json").read_text())
    assert [(record["epoch"], record["steps"]) for record in history] == [(1, 45), (2, 90)]
    assert history[1]["accuracy"] > history[0]["accuracy"] > 1 / 3
    settings = json.loads((storage / "compared" / "config.json").read_text())
    assert settings["system"] == "comparator"
    assert not {"drc", "path"} & set(settings)


def test_mlflow_has_the_record(output: list[str], storage: Path) -> None:
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("drc-orid")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'compared'")
    assert run.info.status == "FINISHED"
    assert run.data.params["comparator.network"] == "resnet18"
    assert run.data.params["recipe"] == "digits"
    for name in ("loss", "accuracy", "pairs_per_second"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, name)] == [1, 2]
    assert run.data.metrics["held-out_accuracy"] > run.data.metrics["chance.held-out_accuracy"]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"comparator.json", "comparator.safetensors", "history.json", "results.json"}


def test_finished_run_is_read_not_repeated(
    output: list[str], storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the folder of the run of DRC-ORID now: where it is may change."""
    train_comparator.main(flags(storage, str(storage / "undisturbed")))
    assert not ray.is_initialized()
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == "run compared is finished, on the images of digits; its results:"
    table = next(i for i, line in enumerate(output) if line.split() == ["comparator", "chance"])
    assert output[table : table + 5] == printed[2:7]


@pytest.mark.parametrize(
    ("drc", "message"),
    [
        ("nonsense", "--drc is 'nonsense'; it must be the folder of a finished run, its name in "),
        ("compared", "--drc: run 'compared' is of comparator; it must be of drc-orid"),
        ("", "--drc is missing; it must be the folder, the name or the MLflow run id of a finished run"),
    ],
)
def test_what_is_no_run_of_drc_orid_is_refused(
    output: list[str], storage: Path, capsys: pytest.CaptureFixture[str], drc: str, message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        train_comparator.main(flags(storage, drc))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
