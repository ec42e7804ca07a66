"""Named runs of IDFD: each function returns a whole configuration, and says what it is for in its first line."""

from dataclasses import replace

from ordclust_ray.config import (
    AugmentationConfig,
    FeaturesConfig,
    IdfdConfig,
    IdfdLossConfig,
    IdfdTrainingConfig,
    KMeansConfig,
    UnlabelledConfig,
)


def digits() -> IdfdConfig:
    """scikit-learn's 1,797 handwritten digits, embedded. A minute or two on two cores."""
    return IdfdConfig(
        data=UnlabelledConfig(image_size=16, label_column="label"),
        model=FeaturesConfig(network="convnet", width=0.25, feature_dim=64),
        augmentation=AugmentationConfig(min_crop=0.5),
        clustering=KMeansConfig(every=25),
        training=IdfdTrainingConfig(epochs=150, checkpoint_every=5),
    )


def small() -> IdfdConfig:
    """A small network at 32 pixels, for your own images on a CPU. Needs --data.path, and the number of clusters."""
    return IdfdConfig(
        data=UnlabelledConfig(path="images"),
        model=FeaturesConfig(network="convnet", width=0.25),
        augmentation=AugmentationConfig(min_crop=0.5, flip=True),
        training=IdfdTrainingConfig(epochs=60),
    )


def fashion_mnist() -> IdfdConfig:
    """Fashion-MNIST's 60,000 training images of 28 pixels, on a CPU. Needs --data.path."""
    return replace(small(), data=replace(_labelled("fashion-mnist", split="train"), image_size=28))


def cifar10() -> IdfdConfig:
    """The paper's CIFAR-10: 50,000 images, ResNet18, 2,000 epochs. Needs --data.path and a GPU."""
    return IdfdConfig(
        data=_labelled("cifar10", split="train"),
        clustering=KMeansConfig(every=20),
        training=IdfdTrainingConfig(precision="bfloat16", compile=True, checkpoint_every=10),
    )


def cifar100() -> IdfdConfig:
    """The paper's CIFAR-100: 50,000 images, 20 superclasses. Needs --data.path and a GPU."""
    return replace(cifar10(), data=_labelled("cifar100", split="train"))


def stl10() -> IdfdConfig:
    """The paper's STL-10: the 13,000 images of train and test, at 96 pixels. Needs --data.path and a GPU."""
    return replace(
        cifar10(),
        data=replace(_labelled("stl10"), image_size=96),
        loss=IdfdLossConfig(orthogonality_weight=0.5),
    )


def imagenet10() -> IdfdConfig:
    """The paper's ImageNet-10: 13,000 images of 10 classes at 96 pixels. Needs --data.path and a GPU."""
    return replace(stl10(), data=replace(_labelled("imagenet10"), image_size=96))


def imagenet_dog() -> IdfdConfig:
    """The paper's ImageNet-Dog: 19,500 images of 15 breeds at 96 pixels. Needs --data.path and a GPU."""
    return replace(stl10(), data=replace(_labelled("imagenet-dog"), image_size=96))


def _labelled(dataset: str, split: str = "") -> UnlabelledConfig:
    return UnlabelledConfig(path=dataset, dataset=dataset, label_column="label", split=split)


RECIPES = {
    recipe.__name__.replace("_", "-"): recipe
    for recipe in (digits, small, fashion_mnist, cifar10, cifar100, stl10, imagenet10, imagenet_dog)
}
