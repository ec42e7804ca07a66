"""Every setting of a run, once: its meaning, unit, default (the paper's where it has one) and limits.

Jobs parse these dataclasses from the command line; recipes are functions that return a whole `DrcConfig`.
"""

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ordclust_ray.core.image_sizes import IMAGE_SIZES
from ordclust_ray.core.order import RankScale

DIGITS = "digits"


class InputError(ValueError):
    """What the user gave cannot be used. The message is one line that names it and says what is allowed."""


def check(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raises InputError unless low <= value <= high, and value is finite."""
    if not (low <= value <= high and math.isfinite(value)):
        given, least, most = (str(n) if isinstance(n, int) else f"{n:g}" for n in (value, low, high))
        allowed = f"at least {least}" if high == float("inf") else f"from {least} to {most}"
        raise InputError(f"--{name} is {given}; it must be {allowed}")


@dataclass(frozen=True)
class DataConfig:
    """Where the images are, and what is known of them."""

    path: str = DIGITS
    """A Parquet file, a folder of Parquet files, a folder of images with a CSV, or "digits" (embedded)."""
    table: str = ""
    """The CSV of a folder of images, relative to the folder. Empty: the only CSV in it."""
    image_column: str = "image"
    """Encoded images (Parquet), or paths relative to the folder (CSV)."""
    rank_column: str = "rank"
    """theta(x): a number an image, in the data set's own unit."""
    group_column: str = ""
    """A known identity group, only to report NMI; never used in training. Empty: none."""
    split_column: str = ""
    """A column with "train" and "test"; other values are left out. Empty: a seeded stratified split."""
    test_fraction: float = 0.2
    """Share of the images held out where there is no split column."""
    image_size: int = 64
    """Side of the square that images are resized to, in pixels: 16, 32, 64 or 128."""
    max_pixels: int = 50_000_000
    """Larger images count as broken (decompression bombs), unread."""
    max_broken_fraction: float = 0.01
    """More broken images than this stop the run."""
    pool_images: int = 500_000
    """Decoded images that a training worker holds at a time (12 kB each at 64 pixels); pairs come from a pool."""

    def __post_init__(self) -> None:
        if self.image_size not in IMAGE_SIZES:
            allowed = ", ".join(map(str, IMAGE_SIZES))
            raise InputError(f"--data.image-size is {self.image_size}; it must be one of {allowed}")
        check("data.test-fraction", self.test_fraction, 0.01, 0.9)
        check("data.max-broken-fraction", self.max_broken_fraction, 0, 1)
        check("data.max-pixels", self.max_pixels, 1)
        check("data.pool-images", self.pool_images, 2)


@dataclass(frozen=True)
class RankConfig:
    """When two ranks count as similar (eq. 4), and how a rank is estimated."""

    tolerance: float = 0.0
    """tau, in the unit of the ranks (linear) or of their logarithm (geometric)."""
    scale: RankScale = "linear"
    """"geometric" compares logarithms: the paper's choice for ages, with tolerance 0.1."""
    step: float = 0.0
    """Round ranks to multiples of this, for scores with too many distinct values. 0: as they are."""
    references: int = 50
    """Training images kept a cluster and rank, the most typical ones; each test image is compared with the one most
    similar to it. The paper keeps all (eq. 13)."""
    cumulative_score_at: float = 5.0
    """CS counts absolute errors up to this, in the unit of the ranks."""

    def __post_init__(self) -> None:
        check("rank.tolerance", self.tolerance, 0)
        check("rank.step", self.step, 0)
        check("rank.references", self.references, 1)
        check("rank.cumulative-score-at", self.cumulative_score_at, 0)


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
class TrainingConfig:
    """The schedule of algorithm 1, the optimiser, and the machines."""

    warmup_epochs: int = 3
    """Epochs on pairs of all instances, before the first clustering."""
    rounds: int = 30
    """How often fine-tuning and clustering alternate."""
    epochs_per_round: int = 3
    """Epochs on pairs within clusters before each clustering."""
    batch_size: int = 64
    """Pairs a step, over all workers together."""
    learning_rate: float = 1e-4
    """Of Adam for encoder, decoder and comparator."""
    learning_rate_halved_every: int = 50_000
    """Steps after which the learning rate is halved, again and again."""
    discriminator_learning_rate: float = 1e-4
    """Of Adam for the discriminator; it stays."""
    flip: bool = True
    """Random horizontal flips. Off for digits and letters."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: mixed precision, for GPUs."""
    compile: bool = False
    """torch.compile the networks, for GPUs."""
    num_workers: int = 1
    """Training processes; with GPUs, one GPU each. Each draws its pairs from its own share of the images."""
    cpus_per_worker: float = 1.0
    """CPUs that a worker reserves; at least one CPU of the cluster must be left for reading data."""
    threads_per_worker: int = 0
    """Threads of a worker's arithmetic. 0: the machine's cores, shared by the workers on it."""
    max_failures: int = 3
    """Lost workers or nodes that a run survives."""

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.warmup_epochs + self.rounds * self.epochs_per_round

    def __post_init__(self) -> None:
        check("training.warmup-epochs", self.warmup_epochs, 1)
        check("training.rounds", self.rounds, 0)
        check("training.epochs-per-round", self.epochs_per_round, 1)
        check("training.batch-size", self.batch_size, 2)
        check("training.learning-rate", self.learning_rate, 0)
        check("training.discriminator-learning-rate", self.discriminator_learning_rate, 0)
        check("training.learning-rate-halved-every", self.learning_rate_halved_every, 1)
        check("training.num-workers", self.num_workers, 1)
        check("training.cpus-per-worker", self.cpus_per_worker, 0.01)
        check("training.threads-per-worker", self.threads_per_worker, 0)
        check("training.max-failures", self.max_failures, 0)
        if self.batch_size < 2 * self.num_workers:
            raise InputError(
                f"--training.batch-size is {self.batch_size}; {self.num_workers} workers need at least 2 pairs each"
            )


@dataclass(frozen=True)
class RunConfig:
    """The record of the run."""

    name: str = ""
    """Give the same name again to continue a run. Empty: recipe, date and time."""
    storage: str = "~/ordclust_runs"
    """Folder of all runs: checkpoints, results, figures. Shared by all machines of a cluster."""
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
        if "://" in self.storage:
            raise InputError(f"--run.storage is {self.storage!r}; it must be a folder, on a cluster one that all share")

    @property
    def storage_path(self) -> Path:
        """`storage` as an absolute path."""
        return Path(self.storage).expanduser().absolute()


@dataclass(frozen=True)
class DrcConfig:
    """All settings of `jobs/train_drc.py`."""

    data: DataConfig = field(default_factory=DataConfig)
    rank: RankConfig = field(default_factory=RankConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def flat(self) -> dict[str, Any]:
        """Settings by dotted name, as on the command line: `{"data.path": ..., "rank.tolerance": ...}`."""
        return {f"{part}.{name}": value for part, values in asdict(self).items() for name, value in values.items()}


@dataclass(frozen=True)
class ClusterFeaturesConfig:
    """All settings of `jobs/cluster_features.py`."""

    features: str = ""
    """A Parquet file, a folder of them (also in object storage, s3://...), or a .npy file."""
    k: str = "2..12"
    """Numbers of clusters: 8, or 2..12, or 2,4,8; all of them in one pass over the features an iteration."""
    column: str = "features"
    """Of a Parquet file: lists of numbers, all of one length; rows are normalised to unit length."""
    id_column: str = ""
    """Of a Parquet file: goes with the results. Empty: the number of the row."""
    label_column: str = ""
    """Of a Parquet file: a known class, only to report NMI, ARI and ACC. Empty: none."""
    repulsion: float = 0.1
    """alpha, the weight of the other centroids' push; 0 is spherical k-means."""
    min_cluster_fraction: float = 0.5
    """The floor of a cluster as a share of n / k: 0.5 is the paper's, 0 is none."""
    init: Literal["k-means++", "k-means||", "k-means", "random"] = "k-means||"
    """How to start; k-means|| reads all features 12 times, k-means++ 2 k times, k-means (the paper's) once."""
    seeds: int = 1
    """Starts of each k; the best objective is kept, and how well they agree is reported as stability."""
    max_iterations: int = 70
    """Iterations of one clustering at most."""
    tolerance: float = 0.01
    """A clustering ends when at most this share of the memberships changes."""
    silhouette_sample: int = 2_000
    """Rows of the sample that the silhouette is computed on."""
    num_shards: int = 0
    """Actors. 0: as many as the cluster's CPUs allow. The result does not depend on it."""
    cpus_per_shard: float = 1.0
    """CPUs that an actor reserves, and threads that it uses."""
    run: RunConfig = field(default_factory=lambda: RunConfig(experiment="drc-features"))

    def __post_init__(self) -> None:
        check("repulsion", self.repulsion, 0)
        check("min-cluster-fraction", self.min_cluster_fraction, 0, 1)
        check("seeds", self.seeds, 1)
        check("max-iterations", self.max_iterations, 1)
        check("tolerance", self.tolerance, 0, 1)
        check("silhouette-sample", self.silhouette_sample, 2)
        check("num-shards", self.num_shards, 0)
        check("cpus-per-shard", self.cpus_per_shard, 0.01)
        if self.id_column in ("cluster", "similarity", "similarities"):
            raise InputError(f"--id-column is {self.id_column!r}, as a column of the results is; rename it in the file")
        self.all_k  # noqa: B018  # a mistake shows now

    @property
    def all_k(self) -> list[int]:
        """The numbers of clusters that `k` stands for, ascending."""
        ends = re.fullmatch(r"(\d+)\.\.(\d+)", self.k)
        if ends:
            found = list(range(int(ends[1]), int(ends[2]) + 1))
        else:
            found = sorted({int(k) for k in self.k.split(",")}) if re.fullmatch(r"\d+(,\d+)*", self.k) else []
        if not found or found[0] < 1:
            raise InputError(f"--k is {self.k!r}; it must be numbers of at least 1, like 8, 2..12 or 2,4,8")
        return found

    def flat(self) -> dict[str, Any]:
        """Settings by dotted name, as on the command line."""
        values = asdict(self)
        run = {f"run.{name}": value for name, value in values.pop("run").items()}
        return values | run
