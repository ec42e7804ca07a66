"""Every setting of the jobs, once; command lines are made of these dataclasses, recipes return whole ones."""

from ordclust_ray.config.analyse import AnalyseConfig
from ordclust_ray.config.common import (
    DIGITS,
    MACHINES,
    ImagesConfig,
    InputError,
    JobConfig,
    RunConfig,
    WorkersConfig,
    check,
    without_secrets,
)
from ordclust_ray.config.comparator import (
    ComparatorConfig,
    ComparatorNetworkConfig,
    ComparatorTrainingConfig,
    ComparedRankConfig,
)
from ordclust_ray.config.drc import (
    ClusteringConfig,
    DataConfig,
    DrcConfig,
    LossConfig,
    ModelConfig,
    RankConfig,
    ReferencesConfig,
    TrainingConfig,
)
from ordclust_ray.config.export import ExportConfig
from ordclust_ray.config.features import ClusterFeaturesConfig
from ordclust_ray.config.finished import EstimateConfig, PredictConfig, SelectConfig
from ordclust_ray.config.idfd import (
    AugmentationConfig,
    BankConfig,
    FeaturesConfig,
    IdfdConfig,
    IdfdLossConfig,
    IdfdTrainingConfig,
    KMeansConfig,
    UnlabelledConfig,
)
from ordclust_ray.config.prepare import PrepareConfig
from ordclust_ray.config.reproduce import ReproduceConfig
from ordclust_ray.config.tune import (
    ComparatorTrialConfig,
    FeatureTrialConfig,
    SearchConfig,
    StoppingConfig,
    ValidationConfig,
)

__all__ = [
    "DIGITS",
    "MACHINES",
    "AnalyseConfig",
    "AugmentationConfig",
    "BankConfig",
    "ClusterFeaturesConfig",
    "ClusteringConfig",
    "ComparatorConfig",
    "ComparatorNetworkConfig",
    "ComparatorTrainingConfig",
    "ComparatorTrialConfig",
    "ComparedRankConfig",
    "DataConfig",
    "DrcConfig",
    "EstimateConfig",
    "ExportConfig",
    "FeatureTrialConfig",
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
    "PrepareConfig",
    "RankConfig",
    "ReferencesConfig",
    "ReproduceConfig",
    "RunConfig",
    "SearchConfig",
    "SelectConfig",
    "StoppingConfig",
    "TrainingConfig",
    "UnlabelledConfig",
    "ValidationConfig",
    "WorkersConfig",
    "check",
    "without_secrets",
]
