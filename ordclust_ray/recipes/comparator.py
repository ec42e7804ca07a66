"""Named runs of the stronger comparator: each function returns a whole configuration, and says what it is for."""

from ordclust_ray.config import (
    ComparatorConfig,
    ComparatorNetworkConfig,
    ComparatorTrainingConfig,
    ComparedRankConfig,
)


def digits() -> ComparatorConfig:
    """For a run on scikit-learn's digits. A minute on two cores."""
    return ComparatorConfig(
        comparator=ComparatorNetworkConfig(image_size=16, width=0.25),
        training=ComparatorTrainingConfig(epochs=20, learning_rate=1e-3, learning_rate_every=400, flip=False),
    )


def small() -> ComparatorConfig:
    """ResNet18 of half its width at 32 pixels, for your own images on a CPU."""
    return ComparatorConfig(
        comparator=ComparatorNetworkConfig(width=0.5),
        training=ComparatorTrainingConfig(epochs=30, learning_rate=1e-3, learning_rate_every=5_000),
    )


def vgg16() -> ComparatorConfig:
    """The paper's comparator of ages: VGG16 at 224 pixels, ranks on the geometric scale. Needs a GPU."""
    return ComparatorConfig(
        comparator=ComparatorNetworkConfig(network="vgg16", image_size=224),
        rank=ComparedRankConfig(scale="geometric", tolerance=0.1),
        training=ComparatorTrainingConfig(epochs=100, precision="bfloat16", compile=True),
    )


def efficientnet_b4() -> ComparatorConfig:
    """The paper's comparator of aesthetic scores (AADB, 0 to 1): EfficientNet-B4 at 224 pixels. Needs a GPU."""
    return ComparatorConfig(
        comparator=ComparatorNetworkConfig(network="efficientnet_b4", image_size=224),
        rank=ComparedRankConfig(scale="linear", tolerance=0.15),
        training=ComparatorTrainingConfig(
            batch_size=16,
            epochs=60,
            learning_rate_factor=0.8,
            learning_rate_every=8_000,
            precision="bfloat16",
            compile=True,
        ),
    )


RECIPES = {recipe.__name__.replace("_", "-"): recipe for recipe in (digits, small, vgg16, efficientnet_b4)}
