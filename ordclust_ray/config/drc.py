"""Settings of DRC-ORID: meaning, unit, default (the paper's where it has one) and limits."""

from dataclasses import asdict, dataclass, field
from typing import ClassVar

from ordclust_ray.config.common import ImagesConfig, InputError, JobConfig, RunConfig, WorkersConfig, check
from ordclust_ray.core.image_sizes import IMAGE_SIZES
from ordclust_ray.core.order import RankScale


@dataclass(frozen=True)
class DataConfig(ImagesConfig):
    """Where the images are, and what is known of them. The networks are made for sides of 16, 32, 64 or 128 pixels."""

    rank_column: str = "rank"
    """theta(x): a number an image, in the data set's own unit."""
    group_column: str = ""
    """A known identity group, only to report NMI; never used in training. Empty: none."""
    split_column: str = ""
    """A column with "train" and "test"; other values are left out. Empty: a seeded stratified split."""
    fold_column: str = ""
    """A column of whole numbers from 1, in place of a split column: one fold is trained on or tested on, the others are
    the other part."""
    train_fold: int = 0
    """The fold that is trained on; all others are held out. 0: `test_fold` says."""
    test_fold: int = 0
    """The fold that is held out; all others are trained on. 0: `train_fold` says."""
    test_fraction: float = 0.2
    """Share of the images held out where there is no split column."""

    @property
    def columns(self) -> dict[str, str]:
        """See `ImagesConfig`."""
        split = self.fold_column or self.split_column
        wanted = {"rank": self.rank_column, "group": self.group_column, "split": split}
        return {ours: theirs for ours, theirs in wanted.items() if theirs}

    def __post_init__(self) -> None:
        check("data.test-fraction", self.test_fraction, 0.01, 0.9)
        check("data.train-fold", self.train_fold, 0)
        check("data.test-fold", self.test_fold, 0)
        folds = [name for name in ("train_fold", "test_fold") if getattr(self, name)]
        if self.fold_column and self.split_column:
            raise InputError("--data.fold-column and --data.split-column both say what is held out; give one of them")
        if len(folds) != bool(self.fold_column):
            raise InputError(
                f"--data.fold-column is {self.fold_column!r}, --data.train-fold {self.train_fold} and --data.test-fold "
                f"{self.test_fold}; a column needs one of the two folds, and they need a column"
            )
        super().__post_init__()


@dataclass(frozen=True)
class ReferencesConfig:
    """What an image is compared with (section 3.4), and what is said of its rank."""

    section: ClassVar[str] = ""
    """Of the command line."""

    references: int = 1
    """r: the references of each rank that an image is compared with, those most similar to it in identity (13) among
    the candidates of its cluster."""
    candidates: int = 50
    """Training images kept a cluster and rank, those most similar to the centroid. The paper keeps all; as many as
    references: the same ones for all images of a cluster."""
    credible_mass: float = 0.9
    """Share of the posterior that the interval of an image's rank holds."""

    def __post_init__(self) -> None:
        check(f"{self.section}references", self.references, 1)
        check(f"{self.section}candidates", self.candidates, 1)
        check(f"{self.section}credible-mass", self.credible_mass, 0.01, 1)
        if self.candidates < self.references:
            raise InputError(
                f"--{self.section}candidates is {self.candidates}; it must be at least --{self.section}references, "
                f"{self.references}"
            )


@dataclass(frozen=True)
class RankConfig(ReferencesConfig):
    """When two ranks count as similar (eq. 4), and how a rank is estimated."""

    section: ClassVar[str] = "rank."

    tolerance: float = 0.0
    """tau, in the unit of the ranks (linear) or of their logarithm (geometric)."""
    scale: RankScale = "linear"
    """"geometric" compares logarithms: the paper's choice for ages, with tolerance 0.1."""
    step: float = 0.0
    """Round ranks to multiples of this, for scores with too many distinct values. 0: as they are."""
    cumulative_score_at: float = 5.0
    """CS counts absolute errors up to this, in the unit of the ranks."""

    def __post_init__(self) -> None:
        check("rank.tolerance", self.tolerance, 0)
        check("rank.step", self.step, 0)
        check("rank.cumulative-score-at", self.cumulative_score_at, 0)
        super().__post_init__()


@dataclass(frozen=True)
class ModelConfig:
    """The networks of tables 4-7."""

    width: float = 1.0
    """Factor on the inner channels; 1 is the paper's network."""
    order_dim: int = 128
    """d_or, length of the order feature."""
    identity_dim: int = 896
    """d_id, length of the identity feature."""

    def __post_init__(self) -> None:
        check("model.width", self.width, 0.01, 4)
        check("model.order-dim", self.order_dim, 1)
        check("model.identity-dim", self.identity_dim, 2)


@dataclass(frozen=True)
class LossConfig:
    """The lambdas of eq. (24): weights of the losses, without unit."""

    reconstruction_weight: float = 5.0
    """lambda_rec, of the error of the decoded pixels (25)."""
    clustering_weight: float = 0.1
    """lambda_clu, of the similarity to the centroid of the own cluster (26)."""
    comparison_weight: float = 1.0
    """lambda_com, of the comparator's orders (27)."""
    adversarial_weight: float = 1.0
    """lambda_gan, of decoded images being taken for real (28)."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check(f"loss.{name.replace('_', '-')}", value, 0)


@dataclass(frozen=True)
class ClusteringConfig:
    """Deep repulsive clustering (section 3.3, B.3)."""

    num_clusters: int = 2
    """k. 1: no clustering, and no clustering loss."""
    repulsion: float = 0.1
    """alpha, the weight of the other centroids' push."""
    repulsion_halved_after: int = 200
    """alpha is halved after this many epochs."""
    min_cluster_fraction: float = 0.5
    """The floor of a cluster as a share of n / k: 0.5 is the paper's, 0 is none."""
    max_iterations: int = 70
    """Iterations of one clustering round at most."""
    tolerance: float = 0.01
    """A round ends when at most this share of the memberships changes."""

    def repulsion_after(self, epochs: int) -> float:
        """Alpha after that many epochs."""
        return self.repulsion / (2 if epochs > self.repulsion_halved_after else 1)

    def __post_init__(self) -> None:
        check("clustering.num-clusters", self.num_clusters, 1)
        check("clustering.repulsion", self.repulsion, 0)
        check("clustering.repulsion-halved-after", self.repulsion_halved_after, 1)
        check("clustering.min-cluster-fraction", self.min_cluster_fraction, 0, 1)
        check("clustering.max-iterations", self.max_iterations, 1)
        check("clustering.tolerance", self.tolerance, 0, 1)


@dataclass(frozen=True)
class TrainingConfig(WorkersConfig):
    """The schedule of algorithm 1, the optimiser, and the machines. A batch is of pairs."""

    warmup_epochs: int = 3
    """Epochs on pairs of all instances, before the first clustering."""
    rounds: int = 30
    """How often fine-tuning and clustering alternate."""
    epochs_per_round: int = 3
    """Epochs on pairs within clusters before each clustering."""
    learning_rate: float = 1e-4
    """Of Adam for encoder, decoder and comparator."""
    learning_rate_halved_every: int = 50_000
    """Steps after which the learning rate is halved, again and again."""
    discriminator_learning_rate: float = 1e-4
    """Of Adam for the discriminator; it stays."""
    flip: bool = True
    """Random horizontal flips. Off for digits and letters."""

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.warmup_epochs + self.rounds * self.epochs_per_round

    def ends_round(self, epochs: int) -> bool:
        """Whether a clustering follows after that many epochs."""
        tuned = epochs - self.warmup_epochs
        return tuned >= 0 and tuned % self.epochs_per_round == 0

    def __post_init__(self) -> None:
        check("training.warmup-epochs", self.warmup_epochs, 1)
        check("training.rounds", self.rounds, 0)
        check("training.epochs-per-round", self.epochs_per_round, 1)
        check("training.learning-rate", self.learning_rate, 0)
        check("training.discriminator-learning-rate", self.discriminator_learning_rate, 0)
        check("training.learning-rate-halved-every", self.learning_rate_halved_every, 1)
        super().__post_init__()


@dataclass(frozen=True)
class DrcConfig(JobConfig):
    """All settings of `jobs/train_drc.py`."""

    system: ClassVar[str] = "drc-orid"

    data: DataConfig = field(default_factory=DataConfig)
    rank: RankConfig = field(default_factory=RankConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.data.image_size not in IMAGE_SIZES:
            allowed = ", ".join(map(str, IMAGE_SIZES))
            raise InputError(f"--data.image-size is {self.data.image_size}; it must be one of {allowed}")
