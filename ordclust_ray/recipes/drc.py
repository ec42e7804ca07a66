"""Named runs of DRC-ORID: each function returns a whole configuration, and says what it is for in its first line."""

from dataclasses import replace
from typing import Any

from ordclust_ray.config import (
    ClusteringConfig,
    DataConfig,
    DrcConfig,
    ModelConfig,
    RankConfig,
    TrainingConfig,
)

ROUNDS = 100
"""Of the paper's sets: 303 epochs, for the paper halves alpha after 200; it does not say how many there were."""


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
        data=DataConfig(path="coffee", dataset="coffee", image_size=32, group_column="stress"),
        rank=RankConfig(cumulative_score_at=1.0),
        clustering=ClusteringConfig(num_clusters=4),
    )


def retina() -> DrcConfig:
    """RetinaMNIST, ranked by grade, in its own split, for a CPU. Needs --data.path."""
    return replace(
        small(),
        data=DataConfig(path="retina", dataset="retina", image_size=32, split_column="split"),
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


def morph_a() -> DrcConfig:
    """MORPH II, setting A: 5,492 Caucasians, 80/20; the comparator is vgg16. Needs --data.path and a GPU."""
    return _ages("morph-a", group_column="gender", split_column="split")


def morph_b() -> DrcConfig:
    """MORPH II, setting B: trained on the subset S1 of 21,000 (--data.train-fold 2: on S2), else as morph-a."""
    return _ages("morph-b", group_column="race", fold_column="fold", train_fold=1)


def morph_c() -> DrcConfig:
    """MORPH II, setting C: five folds by person, tested on the first (--data.test-fold 2: ...), else as morph-a."""
    return _ages("morph-c", group_column="race", fold_column="fold", test_fold=1)


def morph_d() -> DrcConfig:
    """MORPH II, setting D: all images, 80/20, else as morph-a."""
    return _ages("morph-d", group_column="race", split_column="split")


def balanced() -> DrcConfig:
    """The balanced set of MORPH II, AFAD and UTKFace, 80/20, k = 3; the comparator is vgg16. Needs a GPU."""
    return _ages("balanced", num_clusters=3, group_column="database", split_column="split")


def afad() -> DrcConfig:
    """AFAD, 80/20; the comparator is vgg16. Needs --data.path and a GPU."""
    return _ages("afad", group_column="gender", split_column="split")


def utkface() -> DrcConfig:
    """UTKFace, 80/20; the comparator is vgg16. Needs --data.path and a GPU."""
    return _ages("utkface", group_column="race", split_column="split")


def utkface_21_60() -> DrcConfig:
    """UTKFace from 21 to 60 years, as later work has it, else as utkface."""
    return _ages("utkface-21-60", group_column="race", split_column="split")


def aadb() -> DrcConfig:
    """AADB's scores in 101 classes, k = 8; the comparator is efficientnet-b4. Needs --data.path and a GPU."""
    return replace(
        paper(),
        data=DataConfig(path="aadb", dataset="aadb", split_column="split"),
        rank=RankConfig(tolerance=0.15, cumulative_score_at=0.1),
        clustering=ClusteringConfig(num_clusters=8),
        training=TrainingConfig(rounds=ROUNDS),
    )


def hci() -> DrcConfig:
    """HCI's five decades, k = 4, compared by ORID itself. Needs --data.path and a GPU."""
    return replace(
        paper(),
        data=DataConfig(path="hci", dataset="hci", split_column="split"),
        rank=RankConfig(tolerance=1.0, cumulative_score_at=1.0),
        clustering=ClusteringConfig(num_clusters=4),
        training=TrainingConfig(rounds=ROUNDS),
    )


def _ages(dataset: str, *, num_clusters: int = 2, **data: Any) -> DrcConfig:
    """Ages on the geometric scale (C.4), networks and schedule of C.1."""
    return replace(
        paper(),
        data=DataConfig(path=dataset, dataset=dataset, **data),
        rank=RankConfig(scale="geometric", tolerance=0.1),
        clustering=ClusteringConfig(num_clusters=num_clusters),
        training=TrainingConfig(rounds=ROUNDS),
    )


RECIPES = {
    recipe.__name__.replace("_", "-"): recipe
    for recipe in (
        digits,
        coffee,
        retina,
        small,
        paper,
        morph_a,
        morph_b,
        morph_c,
        morph_d,
        balanced,
        afad,
        utkface,
        utkface_21_60,
        aadb,
        hci,
    )
}
