"""Settings that several jobs share: images, training processes, the record; and what a mistake in one says."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

DIGITS = "digits"


class InputError(ValueError):
    """What the user gave cannot be used. The message is one line that names it and says what is allowed."""


_PASSWORD = re.compile(r"(:/{1,2})(?:[^\s/@]*:[^\s]*|[^\s/]*)@")
_SECRET = "key|token|secret|passw|pwd|credential|sig"
_TOKEN = re.compile(rf"(?i)([?&;][^=&;\s]*(?:{_SECRET})[^=&;\s]*=)[^&;\s'\"#]+")


def without_secrets(text: str) -> str:
    """A text whose addresses have lost user, password and the parameters that bear a secret.

    >>> without_secrets("http://user:password@host:5000")
    'http://***@host:5000'
    >>> without_secrets("'s3://ID:SECRET@bucket/a?region=eu&secret_key=SECRET'")
    "'s3://***@bucket/a?region=eu&secret_key=***'"
    """
    return _TOKEN.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))


def check(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raises InputError unless low <= value <= high, and value is finite."""
    if not (low <= value <= high and math.isfinite(value)):
        given, least, most = (str(n) if isinstance(n, int) else f"{n:g}" for n in (value, low, high))
        allowed = f"at least {least}" if high == float("inf") else f"from {least} to {most}"
        raise InputError(f"--{name} is {given}; it must be {allowed}")


@dataclass(frozen=True)
class ImagesConfig:
    """Where the images are."""

    path: str = DIGITS
    """A Parquet file, a folder of Parquet files, a pattern of files in quotes ('train_*.parquet'), a folder of images,
    or "digits" (embedded)."""
    dataset: str = ""
    """A data set by name (`prepare_data.py list`): `path` is its download as it comes, or a folder that prepare_data.py
    wrote. Empty: `path` is read by the columns below."""
    lists: str = ""
    """Published lists of the data set's protocol, a folder. Empty: splits that have to be drawn are drawn with a fixed
    seed."""
    table: str = ""
    """The CSV of a folder of images, relative to the folder. Empty: the only CSV in it."""
    image_column: str = "image"
    """Encoded images (Parquet), or paths relative to the folder (CSV)."""
    image_size: int = 64
    """Side of the square that images are resized to, in pixels."""
    max_pixels: int = 50_000_000
    """Larger images count as broken (decompression bombs), unread."""
    max_broken_fraction: float = 0.01
    """More broken images than this stop the run."""
    pool_images: int = 500_000
    """Decoded images that a training worker draws batches from at a time (12 kB each at 64 pixels, 28 at 96); where it
    has more, the next as many are read meanwhile."""

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the data that a run asks for: our name -> theirs."""
        return {}

    def __post_init__(self) -> None:
        check("data.max-broken-fraction", self.max_broken_fraction, 0, 1)
        check("data.max-pixels", self.max_pixels, 1)
        check("data.pool-images", self.pool_images, 2)


@dataclass(frozen=True)
class WorkersConfig:
    """The processes of a training, and what they compute with."""

    batch_size: int = 64
    """Over all workers together."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: mixed precision, for GPUs."""
    compile: bool = False
    """torch.compile the networks, for GPUs."""
    num_workers: int | str = 1
    """Training processes, each on its own share of the images: 4; or 1..4, as many of them as there is room for, also
    when machines are lost or join."""
    cpus_per_worker: float = 1.0
    """CPUs that a worker reserves; at least one CPU of the cluster must be left for reading data."""
    gpus_per_worker: float = 1.0
    """GPUs that a worker reserves, on machines that have some: 1, or a share of one where several runs use it."""
    threads_per_worker: int = 0
    """Threads of a worker's arithmetic. 0: the machine's cores, shared by the workers on it."""
    max_failures: int = 3
    """Lost workers or nodes that a run survives."""

    def __post_init__(self) -> None:
        check("training.batch-size", self.batch_size, 2)
        least, most = self.min_workers, self.max_workers
        check("training.num-workers", least, 1)
        if most < least:
            raise InputError(f"--training.num-workers is {self.num_workers}; it must be a number like 4, or as 1..4")
        check("training.cpus-per-worker", self.cpus_per_worker, 0.01)
        check("training.gpus-per-worker", self.gpus_per_worker, 0.01, 1)
        check("training.threads-per-worker", self.threads_per_worker, 0)
        check("training.max-failures", self.max_failures, 0)
        if self.batch_size < 2 * most:
            raise InputError(f"--training.batch-size is {self.batch_size}; {most} workers need at least 2 each")

    @property
    def min_workers(self) -> int:
        """With fewer, training waits."""
        return self._workers()[0]

    @property
    def max_workers(self) -> int:
        """It never has more."""
        return self._workers()[1]

    def _workers(self) -> tuple[int, int]:
        found = re.fullmatch(r"(-?\d+)(?:\.\.(\d+))?", str(self.num_workers))
        return (int(found[1]), int(found[2] or found[1])) if found else (1, 0)


MACHINES = {
    f"training.{name}"
    for name in ("max_failures", "num_workers", "cpus_per_worker", "gpus_per_worker", "threads_per_worker")
}
"""Settings that may change while a run goes on: results then differ as those of two seeds do."""


@dataclass(frozen=True)
class RunConfig:
    """The record of the run."""

    name: str = ""
    """Give the same name again to continue a run. Empty: recipe, date and time."""
    storage: str = os.environ.get("ORDCLUST_STORAGE", "") or "~/ordclust_runs"
    """Of all runs: checkpoints, results, figures. A folder, on a cluster one that all machines share; or s3://bucket/runs
    or gs://bucket/runs, of which ~/.cache/ordclust_ray has a copy without the checkpoints. ORDCLUST_STORAGE where that
    is set."""
    tracking_uri: str = ""
    """MLflow's store. Empty: MLFLOW_TRACKING_URI where it is set, else sqlite in the storage folder."""
    experiment: str = "drc-orid"
    """MLflow's experiment, and the name of the registered model."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        check("run.seed", self.seed, 0, 2**32 - 1)
        if not re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?", self.name) or self.name.startswith("mlflow"):
            raise InputError(
                f"--run.name is {self.name!r}; it may hold letters, digits, '_', and later '.' and '-'; "
                "names that begin with mlflow are taken"
            )
        if not re.fullmatch(r"[^/:.%\"']+", self.experiment):
            raise InputError(f"--run.experiment is {self.experiment!r}; it must not hold / : . % or quotes")
        if self.in_bucket and not re.fullmatch(r"(s3|gs)://[a-z0-9][a-z0-9.-]+(/[\w.=-]+)*", self.storage):
            raise InputError(
                f"--run.storage is {self.storage!r}; it must be a folder, on a cluster one that all share, or like "
                "s3://bucket/runs or gs://bucket/runs; keys belong into the environment"
            )

    @property
    def in_bucket(self) -> bool:
        """Whether runs are in object storage."""
        return "://" in self.storage

    @property
    def storage_path(self) -> Path:
        """`storage` as an absolute path; of object storage, the folder of the copies."""
        if self.in_bucket:
            return Path("~/.cache/ordclust_ray", self.storage.replace("://", "/")).expanduser()
        return Path(self.storage).expanduser().absolute()

    def require_folder(self, what: str) -> None:
        """Raises InputError where runs are in object storage, which does not do for some jobs."""
        if self.in_bucket:
            raise InputError(
                f"--run.storage is {self.storage!r}; for {what} it must be a folder that all machines share"
            )


@dataclass(frozen=True)
class JobConfig:
    """All settings of a job, in sections."""

    system: ClassVar[str] = ""
    """What the job makes; a run keeps it beside its settings."""

    def flat(self) -> dict[str, Any]:
        """Settings by dotted name, as on the command line: `{"data.path": ..., "run.seed": ...}`."""
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            found |= (
                {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            )
        return found

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `flat`: settings that are not there have their defaults, names of others mean nothing."""
        found: dict[str, Any] = {}
        for field in fields(cls):
            if isinstance(field.type, type) and is_dataclass(field.type):
                names = {part.name: f"{field.name}.{part.name}" for part in fields(field.type)}
                found[field.name] = field.type(**{name: values[key] for name, key in names.items() if key in values})
            elif field.name in values:
                found[field.name] = values[field.name]
        return cls(**found)
