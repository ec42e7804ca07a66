"""Settings of the tests of the decomposition."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ordclust_ray.config.common import JobConfig, RunConfig, WorkersConfig, check


@dataclass(frozen=True)
class MachinesConfig:
    """The processes of the trainings; all else of them is the run's."""

    num_workers: int | str = WorkersConfig.num_workers
    """Training processes: 4; or 1..4, as many of them as there is room for. With GPUs, one GPU each."""
    cpus_per_worker: float = WorkersConfig.cpus_per_worker
    """CPUs that a worker reserves; at least one CPU of the cluster must be left for reading data."""
    threads_per_worker: int = WorkersConfig.threads_per_worker
    """Threads of a worker's arithmetic. 0: the machine's cores, shared by the workers on it."""
    max_failures: int = WorkersConfig.max_failures
    """Lost workers or nodes that a training survives."""


@dataclass(frozen=True)
class AnalyseConfig(JobConfig):
    """The decomposition's own tests (tables 8 to 12, figures 14 and 15): all settings of `jobs/analyse.py`."""

    system: ClassVar[str] = "analysis"

    drc: str = ""
    """The finished run of train_drc.py: its folder, name or MLflow run id."""
    path: str = ""
    """Where the run's images are now. Empty: where they were."""
    k: tuple[int, ...] = ()
    """Numbers of clusters that the run is trained with again: --k 1 2 4. Its own is not."""
    without_repulsion: bool = True
    """Train the run again without repulsion too (table 8)."""
    analysed_images: int = 20_000
    """At most so many training images, and as many held-out ones, drawn at random, have their features looked at."""
    comparator_epochs: int = 30
    """How often every analysed training image is compared with another one by each of the small comparators."""
    training: MachinesConfig = field(default_factory=MachinesConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def flat(self) -> dict[str, Any]:
        """See `JobConfig`; k as JSON gives it back."""
        return super().flat() | {"k": list(self.k)}

    def __post_init__(self) -> None:
        for k in self.k:
            check("k", k, 1)
        check("analysed-images", self.analysed_images, 2)
        check("comparator-epochs", self.comparator_epochs, 1)
