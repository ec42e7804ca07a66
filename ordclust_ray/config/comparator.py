"""Settings of the stronger comparator of DRC-ORID: meaning, unit, default (the paper's where it has one) and limits."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from ordclust_ray.config.common import InputError, JobConfig, RunConfig, WorkersConfig, check
from ordclust_ray.config.drc import RankConfig
from ordclust_ray.core.order import RankScale

LARGEST_SIZE = 512


@dataclass(frozen=True)
class ComparatorNetworkConfig:
    """The siamese network (appendices C.4 and D.1)."""

    network: Literal["resnet18", "vgg16", "efficientnet_b4"] = "resnet18"
    """The backbone: the paper's VGG16 for ages, its EfficientNet-B4 for scores, or ResNet18, ours for small images."""
    image_size: int = 32
    """Side of the square that the run's images are resized to, in pixels; it need not be that of the run."""
    width: float = 1.0
    """Factor on the channels of ResNet18 and VGG16; 1 is the published network."""
    weights: str = "imagenet"
    """What the backbone starts from: "imagenet" (torchvision's, where they fit and can be fetched), "none" (Glorot's
    initialisation), or a file of weights under torchvision's names (.pth, .pt or .safetensors)."""

    def __post_init__(self) -> None:
        check("comparator.image-size", self.image_size, 16, LARGEST_SIZE)
        check("comparator.width", self.width, 0.01, 4)
        if self.network == "efficientnet_b4" and self.width != 1:
            raise InputError(f"--comparator.width is {self.width:g}; it must be 1 with efficientnet_b4")


@dataclass(frozen=True)
class ComparedRankConfig:
    """When two ranks count as similar (eq. 4), where that is not as in the run of DRC-ORID."""

    scale: RankScale | None = None
    """"geometric" compares logarithms: the paper's choice for ages. None: that of the run."""
    tolerance: float | None = None
    """tau, in the unit of the ranks (linear) or of their logarithm (geometric). None: that of the run."""

    def __post_init__(self) -> None:
        if self.tolerance is not None:
            check("rank.tolerance", self.tolerance, 0)

    def resolved(self, run: RankConfig) -> RankConfig:
        """The run's settings of ranks, with the scale and the tolerance that the comparator has.

        Raises:
            InputError: another scale than the run's, with a tolerance in the unit of the run's.
        """
        scale = self.scale or run.scale
        if scale != run.scale and self.tolerance is None and run.tolerance:
            raise InputError(f"--rank.scale is {scale}, that of the run {run.scale}; it needs a --rank.tolerance too")
        return replace(run, scale=scale, tolerance=run.tolerance if self.tolerance is None else self.tolerance)


@dataclass(frozen=True)
class ComparatorTrainingConfig(WorkersConfig):
    """The schedule, the optimiser (Adam), and the machines."""

    batch_size: int = 32
    """Pairs a step, over all workers together."""
    epochs: int = 20
    """How often every training image is compared with another one of its cluster."""
    learning_rate: float = 1e-4
    """Of Adam, at the beginning."""
    learning_rate_factor: float = 0.5
    """The learning rate is multiplied by this, again and again."""
    learning_rate_every: int = 80_000
    """Steps between two such changes."""
    flip: bool = True
    """Random horizontal flips. Off for digits and letters."""
    min_crop: float = 1.0
    """Least share of the area that a random resized crop keeps, against overfitting of small sets. 1: no crops."""

    def learning_rate_after(self, steps: int) -> float:
        """After that many steps."""
        return self.learning_rate * self.learning_rate_factor ** (steps // self.learning_rate_every)

    def __post_init__(self) -> None:
        check("training.epochs", self.epochs, 1)
        check("training.learning-rate", self.learning_rate, 0)
        check("training.learning-rate-factor", self.learning_rate_factor, 0.01, 1)
        check("training.learning-rate-every", self.learning_rate_every, 1)
        check("training.min-crop", self.min_crop, 0.01, 1)
        super().__post_init__()


@dataclass(frozen=True)
class ComparatorConfig(JobConfig):
    """All settings of `jobs/train_comparator.py`."""

    system: ClassVar[str] = "comparator"

    drc: str = ""
    """The finished run of train_drc.py whose clusters are used: its folder, name or MLflow run id."""
    path: str = ""
    """Where the images of that run are now. Empty: where they were."""
    comparator: ComparatorNetworkConfig = field(default_factory=ComparatorNetworkConfig)
    rank: ComparedRankConfig = field(default_factory=ComparedRankConfig)
    training: ComparatorTrainingConfig = field(default_factory=ComparatorTrainingConfig)
    run: RunConfig = field(default_factory=RunConfig)
