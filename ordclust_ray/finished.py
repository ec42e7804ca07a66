"""Finished runs, read back: what the jobs that come later go on from."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from ordclust_ray.config import DrcConfig, InputError, JobConfig, RunConfig
from ordclust_ray.data.prepare import Prepared, open_checked, prepare
from ordclust_ray.data.readers import Source
from ordclust_ray.files import read_table, write_whole
from ordclust_ray.models import MODEL, describe_model
from ordclust_ray.reports.results import RESULTS as TABLE
from ordclust_ray.run import DATA, SETTINGS
from ordclust_ray.storage import pull
from ordclust_ray.tracking import folder_of, resolve_uri

RESULTS, ORIGIN = "results", "drc.json"
Config = TypeVar("Config", bound=JobConfig)


@dataclass(frozen=True)
class FinishedRun(Generic[Config]):
    """A run that has written its results.

    Attributes:
        folder: of the run.
        config: as it was run; `data.path`, where there is one, is where its images were last.
    """

    folder: Path
    config: Config

    @property
    def results(self) -> Path:
        """The folder of its results."""
        return self.folder / RESULTS

    def assignments(self) -> pd.DataFrame:
        """`assignments.parquet`, by instance_id."""
        return read_table(self.results / "assignments.parquet").to_pandas()


def find_run(given: str, flag: str, run: RunConfig) -> Path:
    """The folder of a run.

    Args:
        given: a folder, the name of a run in the storage folder, or an MLflow run id.
        flag: of the command line, for the message.
        run: says which storage folder and which store of MLflow.

    Raises:
        InputError: no such run.
    """
    if not given:
        raise InputError(f"--{flag} is missing; it must be the folder, the name or the MLflow run id of a finished run")
    given = given.removeprefix(f"{run.storage}/")
    for folder in (Path(given).expanduser().absolute(), run.storage_path / given):
        if found := _with_settings(folder, run):
            return found
    known = folder_of(resolve_uri(run.tracking_uri, run.storage_path), given) if given.isalnum() else None
    found = _with_settings(known, run) if known else None
    if found is None:
        raise InputError(
            f"--{flag} is {given!r}; it must be the folder of a finished run, its name in {run.storage}, or its MLflow "
            "run id"
        )
    return found


def _with_settings(folder: Path, run: RunConfig) -> Path | None:
    """A run's folder, brought up to date where it is a copy of what is in a bucket; None where it is none."""
    if run.in_bucket and folder == run.storage_path / folder.name:
        pull(run, folder.name)
    return folder if (folder / SETTINGS).is_file() else None


def system_of(folder: Path) -> str:
    """What the job of a run makes, "drc-orid" for one."""
    return str(json.loads((folder / SETTINGS).read_text()).get("system", ""))


def require_kind(folder: Path, kinds: Collection[str], flag: str) -> None:
    """Raises InputError unless a run is of one of these systems, and finished."""
    found = system_of(folder) or "an unknown kind"
    if found not in kinds:
        raise InputError(f"--{flag}: run {folder.name!r} is of {found}; it must be of {' or '.join(kinds)}")
    if not (folder / RESULTS / TABLE).exists():
        raise InputError(f"--{flag}: run {folder.name!r} is not finished; start it again by its --run.name")


def model_of(folder: Path, kinds: Collection[str], flag: str) -> Path:
    """The folder of the model that a finished run left.

    Raises:
        InputError: a run of another kind, or one that is not finished.
    """
    require_kind(folder, kinds, flag)
    describe_model(folder / RESULTS / MODEL, flag)
    return folder / RESULTS / MODEL


def open_run(folder: Path, kind: type[Config], flag: str, data_path: str = "") -> FinishedRun[Config]:
    """A finished run of a kind.

    Args:
        folder: from `find_run`.
        kind: of settings, `DrcConfig` for one.
        flag: of the command line, for the message.
        data_path: where the run's images are now; empty: where they were.

    Raises:
        InputError: a run of another kind, or one that is not finished.
    """
    require_kind(folder, (kind.system,), flag)
    settings: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
    if (folder / DATA).exists():
        settings["data.path"] = data_path or json.loads((folder / DATA).read_text())["path"]
    return FinishedRun(folder, kind.from_flat(settings))


def remember_origin(folder: Path, drc: FinishedRun[DrcConfig]) -> None:
    """Notes in the folder of a run which run of DRC-ORID it goes on from."""
    write_whole(folder / ORIGIN, {"folder": str(drc.folder)})


def open_origin(folder: Path, flag: str, run: RunConfig, data_path: str = "") -> FinishedRun[DrcConfig]:
    """The run of DRC-ORID that a run is, or goes on from.

    Raises:
        InputError: there is none, or it is not finished.
    """
    if (folder / ORIGIN).exists():
        folder = Path(json.loads((folder / ORIGIN).read_text())["folder"])
        if _with_settings(folder, run) is None:
            raise InputError(f"--{flag}: the run of train_drc.py that it goes on from is gone: {folder}")
    return open_run(folder, DrcConfig, flag, data_path)


def open_again(drc: FinishedRun[DrcConfig]) -> Source:
    """The images of a run of DRC-ORID, undecoded.

    Raises:
        InputError: they have other ranks now.
    """
    source, known = open_checked(drc.config), drc.assignments()["rank"]
    if not source.manifest["rank"].reindex(known.index).equals(known):
        raise InputError(f"the images of run {drc.folder.name!r} in {drc.config.data.path} are not those that it had")
    return source


def prepare_again(
    drc: FinishedRun[DrcConfig], image_size: int | None = None, columns: pd.DataFrame | None = None
) -> Prepared:
    """The images of a run of DRC-ORID in the split that it had.

    Args:
        drc: the run.
        image_size: another side of the decoded images than the run's.
        columns: more ones of the training rows, integers by instance_id.

    Raises:
        InputError: they are others now.
    """
    source = open_checked(drc.config)
    everyone = pd.DataFrame(columns, index=source.manifest.index).fillna(0).astype(int)
    prepared = prepare(source, drc.config, image_size, {str(name): everyone[name].to_numpy() for name in everyone})
    known = json.loads((drc.folder / DATA).read_text())
    if prepared.fingerprint() != known["sha256"]:
        raise InputError(
            f"the images of run {drc.folder.name!r} in {drc.config.data.path} are not those that it was trained on "
            f"({known['images']} usable images then, {len(prepared.manifest)} now)"
        )
    return prepared
