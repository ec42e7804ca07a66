"""Named runs of DRC-ORID: each function returns a whole configuration, and says what it is for in its first line."""

from dataclasses import replace

from ordclust_ray.config import (
    ClusteringConfig,
    DataConfig,
    DrcConfig,
    ModelConfig,
    RankConfig,
    TrainingConfig,
)


def digits() -> DrcConfig:
    """scikit-learn's 1,797 handwritten digits, embedded; the rank is the digit. Minutes on two cores."""
    return DrcConfig(
        data=DataConfig(image_size=16),
        rank=RankConfig(cumulative_score_at=1.0),
        model=ModelConfig(width=0.25, order_dim=64, identity_dim=192),
        clustering=ClusteringConfig(num_clusters=2),
        training=TrainingConfig(rounds=4, learning_rate=1e-3, learning_rate_halved_every=100, flip=False),
    )


def coffee() -> DrcConfig:
    """Coffee leaves ranked by severity of their disease, for a CPU. Needs --data.path."""
    return replace(
        small(),
        data=DataConfig(
            path="coffee_leaf.parquet", image_size=32, rank_column="severity", group_column="predominant_stress"
        ),
        rank=RankConfig(cumulative_score_at=1.0),
        clustering=ClusteringConfig(num_clusters=4),
    )


def retina() -> DrcConfig:
    """RetinaMNIST, ranked by grade, in its own split, for a CPU. Needs --data.path."""
    return replace(
        small(),
        data=DataConfig(path="retinamnist.parquet", image_size=32, rank_column="label", split_column="split"),
        rank=RankConfig(cumulative_score_at=1.0),
    )


def small() -> DrcConfig:
    """Networks of a quarter of the paper's width at 32 pixels, for your own images on a CPU. Needs --data.path."""
    return DrcConfig(
        data=DataConfig(path="images", image_size=32),
        model=ModelConfig(width=0.25, order_dim=64, identity_dim=192),
        training=TrainingConfig(rounds=13, batch_size=32, learning_rate=1e-3),
    )


def paper() -> DrcConfig:
    """The paper's networks and schedule at full size, for your own images. Needs --data.path and a GPU."""
    return DrcConfig(data=DataConfig(path="images"))


RECIPES = {recipe.__name__: recipe for recipe in (digits, coffee, retina, small, paper)}
