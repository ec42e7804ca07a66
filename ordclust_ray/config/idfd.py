"""Settings of IDFD: meaning, unit, default (the paper's, Tao et al. 2021, section 4 and appendix A) and limits."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ordclust_ray.config.common import ImagesConfig, InputError, JobConfig, RunConfig, WorkersConfig, check

Variant = Literal["id-original", "id-tuned", "idfo", "idfd", "ae", "ae-fd"]
MILESTONES = (0.3, 0.475, 0.65, 0.825)
"""The learning rate falls to a tenth after these shares of the epochs: 600, 950, 1300, 1650 of the paper's 2,000."""


@dataclass(frozen=True)
class UnlabelledConfig(ImagesConfig):
    """Where the images are. No label is used in training."""

    image_size: int = 32
    """Side of the square that images are resized to, in pixels: 16 to 256."""
    label_column: str = ""
    """A known class, only to report ACC, NMI and ARI; "folder" in a folder of images without a CSV: the name of an
    image's folder. Empty: none."""
    split: str = ""
    """Only the images whose column `split` says so, "train" for one. Empty: all."""
    max_images: int = 0
    """Only so many of the images, drawn at random, the same ones whatever the run's seed. 0: all."""

    @property
    def columns(self) -> dict[str, str]:
        """See `ImagesConfig`."""
        wanted = {"label": self.label_column, "split": "split" if self.split else ""}
        return {ours: theirs for ours, theirs in wanted.items() if theirs}

    def __post_init__(self) -> None:
        check("data.image-size", self.image_size, 16, 256)
        check("data.max-images", self.max_images, 0)
        super().__post_init__()


@dataclass(frozen=True)
class FeaturesConfig:
    """The network that maps an image to its feature."""

    network: Literal["resnet18", "resnet34", "vgg16", "convnet"] = "resnet18"
    """Published networks with a stem for the image size; convnet: a small one, for CPUs."""
    width: float = 1.0
    """Factor on the channels; 1 is the published network."""
    feature_dim: int = 128
    """d, length of the feature."""

    def __post_init__(self) -> None:
        check("model.width", self.width, 0.01, 4)
        check("model.feature-dim", self.feature_dim, 2)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random views of the images; each can be turned off."""

    min_crop: float = 0.2
    """Least share of an image's area that a crop keeps. 1: no cropping."""
    jitter: float = 0.4
    """Strength of the changes of brightness, contrast and saturation. 0: none."""
    grey: float = 0.2
    """Probability of losing the colours. 0: never."""
    flip: bool = False
    """Random horizontal flips, which the paper lists and its code lacks."""

    def __post_init__(self) -> None:
        check("augmentation.min-crop", self.min_crop, 0.01, 1)
        check("augmentation.jitter", self.jitter, 0, 1)
        check("augmentation.grey", self.grey, 0, 1)


@dataclass(frozen=True)
class IdfdLossConfig:
    """Which terms the loss has; the weights and temperatures of absent ones mean nothing."""

    variant: Variant = "idfd"
    """id-original and id-tuned: instance discrimination alone (2). idfo: and orthogonality (3). idfd: and decorrelation
    (5). ae: an autoencoder (C.2). ae-fd: and decorrelation."""
    instance_temperature: float = 0.0
    """tau. 0: that of the variant, 0.07 in id-original and else 1."""
    decorrelation_temperature: float = 2.0
    """tau2."""
    decorrelation_weight: float = 1.0
    """alpha of idfd and ae-fd."""
    orthogonality_weight: float = 10.0
    """alpha of idfo; 0.5 for the paper's sets of larger images."""

    @property
    def tau(self) -> float:
        """The instance temperature that is used."""
        return self.instance_temperature or (0.07 if self.variant == "id-original" else 1.0)

    @property
    def discriminates(self) -> bool:
        """Whether there is a term of instance discrimination."""
        return not self.reconstructs

    @property
    def decorrelates(self) -> bool:
        """Whether there is a term of feature decorrelation."""
        return self.variant in ("idfd", "ae-fd")

    @property
    def orthogonalises(self) -> bool:
        """Whether there is a term of orthogonality."""
        return self.variant == "idfo"

    @property
    def reconstructs(self) -> bool:
        """Whether a decoder is trained."""
        return self.variant in ("ae", "ae-fd")

    def __post_init__(self) -> None:
        check("loss.instance-temperature", self.instance_temperature, 0, 100)
        check("loss.decorrelation-temperature", self.decorrelation_temperature, 0.01, 100)
        check("loss.decorrelation-weight", self.decorrelation_weight, 0)
        check("loss.orthogonality-weight", self.orthogonality_weight, 0)
        if 0 < self.instance_temperature < 0.01:
            raise InputError(f"--loss.instance-temperature is {self.instance_temperature:g}; it must be 0 or from 0.01")


@dataclass(frozen=True)
class BankConfig:
    """The features of all instances, as they were when last seen."""

    momentum: float = 0.5
    """m: share of the old feature in the new one."""
    negatives: int = 0
    """Approximation: compare with so many instances, drawn anew each step, instead of all. 0: all, which is exact."""

    def __post_init__(self) -> None:
        check("bank.momentum", self.momentum, 0, 0.999)
        check("bank.negatives", self.negatives, 0)


@dataclass(frozen=True)
class KMeansConfig:
    """The clusters: k-means on the bank."""

    num_clusters: int = 0
    """k. 0: as many as there are known classes."""
    starts: int = 20
    """Starts of k-means, the best of which is kept."""
    every: int = 10
    """Epochs between two clusterings while training; the last epoch has one."""
    sklearn_images: int = 200_000
    """Up to so many images scikit-learn's k-means (squared distances) in one process; more are clustered where their
    features are, by spherical k-means (cosines)."""
    sample: int = 2_000
    """Images that silhouette and nearest neighbours are computed for."""

    def __post_init__(self) -> None:
        check("clustering.num-clusters", self.num_clusters, 0)
        check("clustering.starts", self.starts, 1)
        check("clustering.every", self.every, 1)
        check("clustering.sklearn-images", self.sklearn_images, 0)
        check("clustering.sample", self.sample, 100)
        if self.num_clusters == 1:
            raise InputError("--clustering.num-clusters is 1; it must be 0 (the known classes) or at least 2")


@dataclass(frozen=True)
class IdfdTrainingConfig(WorkersConfig):
    """The schedule, the optimiser (SGD), and the machines."""

    batch_size: int = 128
    """Images a step, over all workers together."""
    epochs: int = 2_000
    """How often every image is seen; the learning rate falls to a tenth after 30, 47.5, 65 and 82.5 per cent."""
    learning_rate: float = 0.03
    """At the beginning."""
    momentum: float = 0.9
    """beta of SGD."""
    weight_decay: float = 5e-4
    """Of all weights; the published code's."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints, which hold the bank; the last epoch has one."""

    def learning_rate_in(self, epoch: int) -> float:
        """In an epoch, counted from 0."""
        return self.learning_rate * 0.1 ** sum(epoch >= round(share * self.epochs) for share in MILESTONES)

    def __post_init__(self) -> None:
        check("training.epochs", self.epochs, 1)
        check("training.learning-rate", self.learning_rate, 0)
        check("training.momentum", self.momentum, 0, 0.999)
        check("training.weight-decay", self.weight_decay, 0)
        check("training.checkpoint-every", self.checkpoint_every, 1)
        super().__post_init__()


@dataclass(frozen=True)
class IdfdConfig(JobConfig):
    """All settings of `jobs/train_idfd.py`."""

    system: ClassVar[str] = "idfd"

    data: UnlabelledConfig = field(default_factory=UnlabelledConfig)
    model: FeaturesConfig = field(default_factory=FeaturesConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: IdfdLossConfig = field(default_factory=IdfdLossConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    clustering: KMeansConfig = field(default_factory=KMeansConfig)
    training: IdfdTrainingConfig = field(default_factory=IdfdTrainingConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(experiment="idfd"))
