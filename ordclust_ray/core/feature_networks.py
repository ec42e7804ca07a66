"""The networks of IDFD (Tao et al. 2021, appendix A, C.1 and C.2): images to unit features, and a decoder back.

ResNet and VGG16 are torchvision's at width 1. The paper changes the input layer with the size of the images and does
not say how; it names a ConvNet and does not describe it. `stem` and `convnet` are ours. torchvision takes seconds to
import, so that happens where it is needed.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ordclust_ray.core.networks import scaled

NETWORKS = ("resnet18", "resnet34", "vgg16", "convnet")
SMALLEST_SIZE = 16
RESNET_CHANNELS = (64, 128, 256, 512)
RESNET_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
CONVNET_CHANNELS = (64, 128, 256)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels


class FeatureNetwork(nn.Module):
    """Images (N, 3, S, S) in [0, 1] -> unit features (N, feature_dim).

    The channels are normalised by the statistics of ImageNet: torchvision's published weights fit `backbone`.

    Args:
        network: one of `NETWORKS`.
        image_size: side of the square images in pixels, at least 16; it chooses the first layers.
        feature_dim: length of a feature, at least 2 (paper: 128).
        width: factor on the channels; 1 is the published network.

    Raises:
        ValueError: a network that is not in `NETWORKS`, a size or a length that is too small.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: str = "resnet18", image_size: int = 32, feature_dim: int = 128, width: float = 1.0
    ) -> None:
        check_sizes(image_size, feature_dim)
        super().__init__()
        self.backbone = backbone(network, image_size, width)
        self.head = nn.Linear(_last_channels(self.backbone), feature_dim)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N D"]:
        """Features of unit norm, in float32 under autocast too: bfloat16 keeps a norm to 3 digits only."""
        maps = self.backbone((images - self.mean) / self.std)
        return F.normalize(self.head(F.adaptive_avg_pool2d(maps, 1).flatten(1)).float(), dim=1)


class ImageDecoder(nn.Module):
    """Features (N, feature_dim) -> images (N, 3, S, S) in [0, 1]; for the autoencoders AE and AE+FD (appendix C.2).

    A linear layer draws maps of 3 or 4 pixels a side, and each transposed convolution doubles the side. The sides are
    those of halving S and rounding up: 28 pixels are drawn as 4, 7, 14, 28. So S is any size from 16, odd ones too.

    Args:
        image_size: side of the square images in pixels, at least 16.
        feature_dim: length of a feature, at least 2.
        width: factor on the channels.

    Raises:
        ValueError: a size or a length that is too small.
    """

    def __init__(self, image_size: int, feature_dim: int, width: float = 1.0) -> None:
        check_sizes(image_size, feature_dim)
        super().__init__()
        first, *sides = decoder_sides(image_size)
        inner = scaled(CONVNET_CHANNELS[-1], width)
        self.start = nn.Sequential(
            nn.Linear(feature_dim, inner * first**2, bias=False),
            nn.Unflatten(1, (inner, first, first)),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.Sequential()
        for i, side in enumerate(sides[:-1], start=1):
            outer = scaled(max(32, CONVNET_CHANNELS[-1] >> i), width)
            self.stages.append(_normalised(doubling(inner, outer, side, bias=False)))
            inner = outer
        self.last = doubling(inner, 3, sides[-1], bias=True)
        self.apply(initialise)

    def forward(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N 3 S S"]:
        """Images, in float32 under autocast too."""
        return self.last(self.stages(self.start(features))).float().sigmoid()


def check_sizes(image_size: int, feature_dim: int) -> None:
    """Raises ValueError for a size or a length that the networks are not made for."""
    if image_size < SMALLEST_SIZE:
        raise ValueError(f"image size is {image_size}; it must be at least {SMALLEST_SIZE}")
    if feature_dim < 2:
        raise ValueError(f"feature dim is {feature_dim}; it must be at least 2")


def backbone(network: str, image_size: int, width: float) -> nn.Sequential:
    """The layers from images to maps: a network without its pooling over the whole map and its classifier.

    Raises:
        ValueError: a network that is not in `NETWORKS`.
    """
    if network in RESNET_BLOCKS:
        layers = resnet(RESNET_BLOCKS[network], image_size, width)
    elif network == "vgg16":
        layers = vgg16(image_size, width)
    elif network == "convnet":
        layers = convnet(image_size, width)
    else:
        raise ValueError(f"network is {network!r}; it must be one of {', '.join(NETWORKS)}")
    return layers.apply(initialise)


def stem(image_size: int, channels: int) -> OrderedDict[str, nn.Module]:
    """The first layers, under torchvision's names: they halve small images less often than the published 2 times.

    ResNet halves 3 times more, so its last maps have 4 x 4 pixels at 32, 28 and 64, and 3 x 3 at 96: there the
    published layers stay, for with one halving only, 6 x 6, an image would cost four times as much.
    """
    kernel, stride = (3, 1) if image_size <= 32 else (3, 2) if image_size <= 64 else (7, 2)
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(3, channels, kernel, stride, padding=kernel // 2, bias=False),
        bn1=nn.BatchNorm2d(channels),
        relu=nn.ReLU(inplace=True),
    )
    if image_size > 64:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    return layers


def resnet(blocks: tuple[int, ...], image_size: int, width: float) -> nn.Sequential:
    """ResNet of torchvision's basic blocks, under its names; torchvision's own class has fixed channels.

    Args:
        blocks: number of blocks in each stage.
        image_size: see `stem`.
        width: factor on the channels.
    """
    from torchvision.models.resnet import BasicBlock

    inner = scaled(RESNET_CHANNELS[0], width)
    layers = stem(image_size, inner)
    for i, (channels, count) in enumerate(zip(RESNET_CHANNELS, blocks, strict=True), start=1):
        outer, shortcut = scaled(channels, width), None
        if i > 1:
            shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride=2, bias=False), nn.BatchNorm2d(outer))
        first = BasicBlock(inner, outer, stride=1 if i == 1 else 2, downsample=shortcut)
        layers[f"layer{i}"] = nn.Sequential(first, *(BasicBlock(outer, outer) for _ in range(count - 1)))
        inner = outer
    return nn.Sequential(layers)


def vgg16(image_size: int, width: float, batch_norm: bool = True) -> nn.Sequential:
    """The convolutions of VGG16, with batch normalisation or as first published.

    Below 32 pixels it does without the fourth of the five poolings. It would leave single pixels to the last three
    convolutions: only the centres of their kernels would learn, and one image could not be normalised as a batch.
    """
    from torchvision.models.vgg import cfgs, make_layers

    layers = [c if c == "M" else scaled(c, width) for c in cfgs["D"]]
    if image_size < 32:
        fourth = [i for i, c in enumerate(layers) if c == "M"][3]
        del layers[fourth]
    return make_layers(layers, batch_norm=batch_norm)


def convnet(image_size: int, width: float) -> nn.Sequential:
    """A network for processors: three stages of two 3 x 3 convolutions, the first of which is the stem."""
    first, second, third = (scaled(c, width) for c in CONVNET_CHANNELS)
    return nn.Sequential(
        *stem(image_size, first).values(),
        _normalised(nn.Conv2d(first, first, 3, padding=1, bias=False)),
        nn.MaxPool2d(2),
        _normalised(nn.Conv2d(first, second, 3, padding=1, bias=False)),
        _normalised(nn.Conv2d(second, second, 3, padding=1, bias=False)),
        nn.MaxPool2d(2),
        _normalised(nn.Conv2d(second, third, 3, padding=1, bias=False)),
        _normalised(nn.Conv2d(third, third, 3, padding=1, bias=False)),
    )


def decoder_sides(image_size: int) -> list[int]:
    """Sides of the decoder's maps, the images' last.

    >>> decoder_sides(28), decoder_sides(96)
    ([4, 7, 14, 28], [3, 6, 12, 24, 48, 96])
    """
    sides = [image_size]
    while sides[0] > 4:
        sides.insert(0, (sides[0] + 1) // 2)
    return sides


def doubling(inner: int, outer: int, side: int, *, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution from half the side, rounded up, to the side: 2 n is even, and 2 n - 1 odd."""
    return nn.ConvTranspose2d(inner, outer, kernel_size=4 - side % 2, stride=2, padding=1, bias=bias)


def initialise(module: nn.Module) -> None:
    """He's normal distribution for the weights of convolutions and zero for biases, as torchvision has it."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _normalised(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace=True))


def _last_channels(layers: nn.Module) -> int:
    return [m.num_features for m in layers.modules() if isinstance(m, nn.BatchNorm2d)][-1]
