"""Settings of the export of a run's groups."""

from dataclasses import dataclass
from typing import Literal

from ordclust_ray.config.common import InputError, JobConfig, RunConfig, check


@dataclass(frozen=True)
class ExportConfig(JobConfig):
    """All settings of `jobs/export_clusters.py`."""

    run: str = ""
    """The folder, the name or the MLflow run id of a finished run of train_drc.py or train_idfd.py."""
    output: str = ""
    """A folder for tables, page and images, which must not exist yet or be empty; on a cluster one that all share."""
    images: Literal["none", "links", "copies"] = "none"
    """One folder a cluster, the most typical images first. links: to the images' files; copies: their bytes as they
    are, also where they lie in Parquet."""
    images_per_cluster: int = 0
    """Only so many links or copies a cluster, the most typical. 0: all."""
    path: str = ""
    """Where the run's images are now, if they were moved. Empty: where they were."""
    storage: str = RunConfig.storage
    """Folder of all runs, to find one by its name."""
    tracking_uri: str = ""
    """MLflow's store, to find a run by its id. Empty: MLFLOW_TRACKING_URI where it is set, else sqlite in the storage
    folder."""

    def require(self) -> None:
        """Raises InputError where one of the two that have no default was not given."""
        for name in ("run", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is missing; --run and --output have to be given")

    def __post_init__(self) -> None:
        check("images-per-cluster", self.images_per_cluster, 0)
        if self.images_per_cluster and self.images == "none":
            raise InputError(
                f"--images-per-cluster is {self.images_per_cluster}, which means nothing without --images links or "
                "--images copies"
            )

    @property
    def record(self) -> RunConfig:
        """Where runs are kept and recorded."""
        return RunConfig(storage=self.storage, tracking_uri=self.tracking_uri)
