"""Settings of the jobs that work with finished runs."""

from dataclasses import dataclass, field
from typing import ClassVar

from ordclust_ray.config.common import ImagesConfig, InputError, JobConfig, RunConfig, check
from ordclust_ray.config.drc import ReferencesConfig


@dataclass(frozen=True)
class PredictConfig(JobConfig):
    """All settings of `jobs/predict.py`."""

    model: str = ""
    """A finished run of train_drc.py, select_references.py or train_idfd.py: its folder, name or MLflow run id."""
    output: str = ""
    """A folder for the Parquet files. What an interrupted prediction of the same images left there is gone on with."""
    path: str = ""
    """The images: a Parquet file, a folder of Parquet files, a pattern of files in quotes, or a folder of images."""
    image_column: str = "image"
    """Encoded images (Parquet), or paths relative to the folder (CSV)."""
    table: str = ""
    """The CSV of a folder of images, relative to the folder. Empty: the only CSV in it, or else all images."""
    max_pixels: int = 50_000_000
    """Larger images count as broken (decompression bombs), unread."""
    storage: str = RunConfig.storage
    """Folder of all runs, to find one by its name."""
    tracking_uri: str = ""
    """MLflow's store, to find a run by its id. Empty: MLFLOW_TRACKING_URI where it is set, else sqlite in the storage
    folder."""

    def require(self) -> None:
        """Raises InputError where one of the three that have no default was not given."""
        for name in ("model", "path", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is missing; --model, --path and --output have to be given")

    def __post_init__(self) -> None:
        check("max-pixels", self.max_pixels, 1)

    @property
    def record(self) -> RunConfig:
        """Where runs are kept and recorded."""
        return RunConfig(storage=self.storage, tracking_uri=self.tracking_uri)

    @property
    def images(self) -> ImagesConfig:
        """For the readers."""
        return ImagesConfig(
            path=self.path, image_column=self.image_column, table=self.table, max_pixels=self.max_pixels
        )


@dataclass(frozen=True)
class SelectConfig(ReferencesConfig, JobConfig):
    """All settings of `jobs/select_references.py`."""

    system: ClassVar[str] = "references"

    model: str = ""
    """A finished run of train_comparator.py, or of train_drc.py, whose own comparator is used then: its folder, name or
    MLflow run id."""
    path: str = ""
    """Where the run's images are now. Empty: where they were."""
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class EstimateConfig(JobConfig):
    """All settings of `jobs/estimate_ranks.py`."""

    system: ClassVar[str] = "estimates"

    model: str = ""
    """A finished run of select_references.py, or of train_drc.py: its folder, name or MLflow run id."""
    path: str = ""
    """Where the run's images are now. Empty: where they were."""
    cumulative_score_at: float = 5.0
    """CS counts absolute errors up to this, in the unit of the ranks."""
    neighbours: int = 10
    """k of the nearest neighbours that estimates are compared with."""
    baseline_images: int = 20_000
    """At most so many training images, drawn at random, are the neighbours, of at most so many held-out ones."""
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check("cumulative-score-at", self.cumulative_score_at, 0)
        check("neighbours", self.neighbours, 1)
        check("baseline-images", self.baseline_images, 1)
