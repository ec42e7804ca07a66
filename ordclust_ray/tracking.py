"""The record of a run in MLflow; no other file knows MLflow. Only the driver writes."""

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Array

from ordclust_ray.config import InputError, without_secrets

ALIAS, FOLDER, SQLITE = "newest", "folder", "sqlite:///"
MOST = 50_000
"""Runs that MLflow lists at once."""
SERVING_PACKAGES = ("torch", "torchvision", "mlflow", "numpy", "pandas", "pillow", "safetensors", "jaxtyping")
"""What a model needs beside this package."""
PACKAGES = ("ordclust_ray", "ray", "torch", "mlflow", "numpy", "scikit-learn")


def resolve_uri(tracking_uri: str, storage: Path) -> str:
    """The settings' store, else MLFLOW_TRACKING_URI, else sqlite in the folder of all runs."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "") or f"{SQLITE}{storage / 'mlflow.db'}"


def nothing() -> None:
    """Does nothing."""


class Tracker:
    """One MLflow run: made at the first start of a run's name, found again when the name comes again.

    Args:
        uri: MLflow's store. Of its user and password nothing is written or said.
        experiment: its name.
        name: of the run.
        folder: of the run, where it remembers its MLflow run. Artifacts lie beside it where the store is a file.
        parent: id of the MLflow run that it is shown below, a trial below its sweep; empty: none.
        begun: is called whenever the run is going to work, with all that it is known by in its folder.

    Raises:
        InputError: the store cannot be used.
    """

    def __init__(
        self, uri: str, experiment: str, name: str, folder: Path, parent: str = "", begun: Callable[[], None] = nothing
    ) -> None:
        self._begun = begun
        self.uri, self._name, self._folder, self._memory = uri, name, folder, folder / "mlflow_run"
        self._parent = {"mlflow.parentRunId": parent} if parent else {}
        store, run_id = self._memory.read_text().splitlines() if self._memory.exists() else ("", "")
        self.run_id = run_id if without_secrets(store) == without_secrets(uri) else ""
        with _usable(uri), FileLock(folder.parent / ".mlflow.lock"), _quiet("mlflow"):
            mlflow.set_tracking_uri(uri)
            self._client = MlflowClient(uri)  # the first on a fresh sqlite file makes its tables
            found = self._client.get_experiment_by_name(experiment)
            artifacts = (folder.parent / "mlflow-artifacts").as_uri() if uri.startswith("sqlite") else None
            if found and found.lifecycle_stage != "active":
                raise ValueError(f"experiment {experiment!r} was deleted there; name it differently or restore it")
            self.experiment_id = found.experiment_id if found else self._client.create_experiment(experiment, artifacts)
            known = self._known()
            self.run_id, self.finished = (self.run_id if known else "", known == "FINISHED")

    def _known(self) -> str:
        """The run's status; empty where the store has none: a file that is gone, while the run is kept elsewhere."""
        try:
            return str(self._client.get_run(self.run_id).info.status) if self.run_id else ""
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise
            return ""

    def start(self, parameters: Mapping[str, Any]) -> None:
        """Makes the run, or goes on with it. The parameters are the settings, by their dotted names."""
        with _usable(self.uri):
            if not self.run_id:
                tags = {"mlflow.runName": self._name, FOLDER: str(self._folder), "git_commit": git_commit()}
                tags |= {f"version.{package}": version(package) for package in PACKAGES} | self._parent
                self.run_id = self._client.create_run(self.experiment_id, tags=tags).info.run_id
                self._memory.write_text(f"{without_secrets(self.uri)}\n{self.run_id}")
            self._client.update_run(self.run_id, status="RUNNING")
            known = self._client.get_run(self.run_id).data.params
            new = [Param(key, without_secrets(str(value))) for key, value in parameters.items() if key not in known]
            self._client.log_batch(self.run_id, params=new)
        self._begun()

    def logged_epochs(self) -> set[int]:
        """Epochs that are recorded already, by an earlier attempt too."""
        return {metric.step for metric in self._client.get_metric_history(self.run_id, "seconds")}

    def epoch(self, record: Mapping[str, Any]) -> None:
        """The numbers of an epoch's record, all or none of them; the epoch is MLflow's step."""
        self.metrics({name: v for name, v in record.items() if isinstance(v, int | float)}, record["epoch"])

    def missing_epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Records the epochs that are not recorded yet: a driver that was killed may have left some out."""
        logged = self.logged_epochs()
        for record in history:
            if record["epoch"] not in logged:
                self.epoch(record)

    def alike(
        self, parameters: Mapping[str, Any], free: Collection[str]
    ) -> list[tuple[Mapping[str, str], Mapping[str, float]]]:
        """Parameters and metrics of this run and of the experiment's finished ones that differ in free ones alone.

        Args:
            parameters: of this run.
            free: names of those that may differ.
        """
        fixed = {key: without_secrets(str(value)) for key, value in parameters.items() if key not in free}
        with _usable(self.uri):
            finished = self._client.search_runs(
                [self.experiment_id], "attributes.status = 'FINISHED'", max_results=MOST
            )
            runs = [run for run in finished if run.info.run_id != self.run_id] + [self._client.get_run(self.run_id)]
        return [
            (run.data.params, run.data.metrics)
            for run in runs
            if all(run.data.params.get(key) == value for key, value in fixed.items())
        ]

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers; those that are not finite are left out."""
        now = int(time.time() * 1000)
        finite = {name: float(value) for name, value in values.items() if np.isfinite(value)}
        with _usable(self.uri):
            self._client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in finite.items()])

    def artifacts(self, folder: Path) -> None:
        """All files of a folder, in the same order of folders."""
        with _usable(self.uri):
            self._client.log_artifacts(self.run_id, str(folder))

    def artifact(self, file: Path) -> None:
        """One file."""
        with _usable(self.uri):
            self._client.log_artifact(self.run_id, str(file))

    def model(
        self,
        folder: Path,
        example: bytes,
        outputs: Mapping[str, str | list[str]],
        registered_name: str,
        alias: str = ALIAS,
    ) -> int:
        """Logs a model's folder as a pyfunc that `ordclust_ray.serving` loads (no pickle), and registers it.

        Args:
            folder: of the model.
            example: an encoded image.
            outputs: columns of a prediction and their types; a list holds the type of its members.
            registered_name: in the model registry.
            alias: of the new version there; the one before loses it.

        Returns:
            The version in the registry.
        """
        types = {name: Array(kind[0]) if isinstance(kind, list) else kind for name, kind in outputs.items()}
        signature = ModelSignature(
            inputs=Schema([ColSpec("binary", "image")]),
            outputs=Schema([ColSpec(kind, name) for name, kind in types.items()]),
        )
        with mlflow.start_run(run_id=self.run_id), _quiet("mlflow"):
            logged = mlflow.pyfunc.log_model(
                name="model",
                loader_module="ordclust_ray.serving",
                data_path=str(folder),
                signature=signature,
                input_example=pd.DataFrame({"image": [example]}),
                pip_requirements=[f"{package}=={version(package)}" for package in SERVING_PACKAGES],
            )
            registered = mlflow.register_model(logged.model_uri, registered_name)
        self._client.set_registered_model_alias(registered_name, alias, registered.version)
        return int(registered.version)

    def tag(self, name: str, value: str) -> None:
        """A word about the run."""
        with _usable(self.uri):
            self._client.set_tag(self.run_id, name, without_secrets(value))

    def finish(self, status: str = "FINISHED") -> None:
        """FINISHED, or FAILED; a run that fails can be started again by its name."""
        self._client.set_terminated(self.run_id, status)

    def where(self) -> str:
        """How to look at the run: a command for a store that is a file, else the server's page."""
        if self.uri.startswith("http"):
            return f"{without_secrets(self.uri).rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        program = Path(sys.executable).with_name("mlflow")
        on_path = shutil.which("mlflow") == str(program)
        return shlex.join(
            ["mlflow" if on_path else str(program), "ui", "--backend-store-uri", without_secrets(self.uri)]
        )


def folder_of(uri: str, run_id: str) -> Path | None:
    """The folder of the run that has this id in a store; None where there is no such run."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():  # a look would make one
        return None
    try:
        return Path(MlflowClient(uri).get_run(run_id).data.tags[FOLDER])
    except (MlflowException, KeyError):
        return None


@contextlib.contextmanager
def _usable(uri: str) -> Iterator[None]:
    """What a store's library raises, whichever it is, in one line."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())
        raise InputError(without_secrets(f"MLflow's store {uri} cannot be used: {said}")[:400]) from None


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Errors only: MLflow warns, for one, that an environment without pip has no pip version."""
    level = logging.getLogger(logger).level
    logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger(logger).setLevel(level)


def git_commit() -> str:
    """The commit that runs, "unknown" outside of a checkout or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "-c", "core.fileMode=false"]  # an unpacked copy has no modes
    command += ["describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return "unknown"
    return done.stdout.strip() or "unknown"
