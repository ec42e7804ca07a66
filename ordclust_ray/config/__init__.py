"""Every setting of the jobs, once; command lines are made of these dataclasses, recipes return whole ones."""

from ordclust_ray.config.common import (
    DIGITS,
    MACHINES,
    ImagesConfig,
    InputError,
    JobConfig,
    RunConfig,
    WorkersConfig,
    check,
)
from ordclust_ray.config.drc import (
    ClusteringConfig,
    DataConfig,
    DrcConfig,
    LossConfig,
    ModelConfig,
    RankConfig,
    TrainingConfig,
)
from ordclust_ray.config.features import ClusterFeaturesConfig
from ordclust_ray.config.idfd import (
    AugmentationConfig,
    BankConfig,
    FeaturesConfig,
    IdfdConfig,
    IdfdLossConfig,
    IdfdTrainingConfig,
    KMeansConfig,
    PredictConfig,
    UnlabelledConfig,
)

__all__ = [
    "DIGITS",
    "MACHINES",
    "AugmentationConfig",
    "BankConfig",
    "ClusterFeaturesConfig",
    "ClusteringConfig",
    "DataConfig",
    "DrcConfig",
    "FeaturesConfig",
    "IdfdConfig",
    "IdfdLossConfig",
    "IdfdTrainingConfig",
    "ImagesConfig",
    "InputError",
    "JobConfig",
    "KMeansConfig",
    "LossConfig",
    "ModelConfig",
    "PredictConfig",
    "RankConfig",
    "RunConfig",
    "TrainingConfig",
    "UnlabelledConfig",
    "WorkersConfig",
    "check",
]
