"""Settings of the reproduction of the papers' tables."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ordclust_ray.config.analyse import MachinesConfig
from ordclust_ray.config.common import InputError, JobConfig, RunConfig, check


@dataclass(frozen=True)
class ReproduceConfig(JobConfig):
    """All settings of `jobs/reproduce.py`."""

    system: ClassVar[str] = "reproduction"

    scale: Literal["full", "small", "smoke"] = "full"
    """full: the paper's networks and schedules, by the training jobs. small: for CPUs, in one process: DRC-ORID as the
    recipe `small`, IDFD as `fashion-mnist`. smoke: a minute on small generated copies of the sets, to see that all
    works; its numbers mean nothing."""
    data: str = "."
    """A folder that holds the data sets, each in a folder of its name (or prepared there)."""
    lists: str = ""
    """Published lists of the protocols, a folder. Empty: splits that have to be drawn are drawn with one seed."""
    recipe: str = ""
    """Of another data set, in place of the paper's: "coffee" for one. Empty: the paper's."""
    path: str = ""
    """Where the images of that recipe are. Empty: in `data`, as the others."""
    seeds: tuple[int, ...] = (0,)
    """Every cell is run with each of them: --seeds 0 1 2."""
    epochs: int = 20
    """Of IDFD at scale small."""
    images: int = 5_000
    """At most so many of a set at scale small, of IDFD, drawn at random."""
    steps: str = ""
    """Of `list`: a file of `benchmarks/steps.py`, the speeds of the machine that the hours are meant for."""
    training: MachinesConfig = field(default_factory=MachinesConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(experiment="reproduction"))

    @property
    def data_path(self) -> Path:
        """`data` as an absolute path."""
        return Path(self.data).expanduser().absolute()

    def flat(self) -> dict[str, Any]:
        """See `JobConfig`; seeds as JSON gives them back."""
        return super().flat() | {"seeds": list(self.seeds)}

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("--seeds is empty; it must be at least one number")
        for seed in self.seeds:
            check("seeds", seed, 0, 2**32 - 1)
        check("epochs", self.epochs, 1)
        check("images", self.images, 10)
        if self.path and not self.recipe:
            raise InputError(f"--path is {self.path!r}, which means nothing without --recipe")
