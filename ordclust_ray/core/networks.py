"""The four networks of ORID (Lee & Kim 2021, tables 4-7), exact at 64 x 64 pixels and width 1.

Where the tables are silent: LeakyReLU has slope 0.2 (Radford et al. 2016), a convolution before batch
normalisation has no bias, weights start from Glorot's normal distribution (appendix A). Other image sizes drop
or repeat middle stages, so that the encoder always ends at 1 x 1; `width` scales the inner channels.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ordclust_ray.core.image_sizes import IMAGE_SIZES

ENCODER_CHANNELS = {16: (64, 128, 512), 32: (64, 128, 256, 512)}
ENCODER_CHANNELS |= {64: (64, 128, 256, 512, 512), 128: (64, 128, 256, 512, 512, 512)}
DECODER_CHANNELS = {16: (1024, 512, 128), 32: (1024, 512, 256, 128)}
DECODER_CHANNELS |= {64: (1024, 512, 512, 256, 128), 128: (1024, 512, 512, 256, 128, 64)}
SLOPE = 0.2


def scaled(channels: int, width: float) -> int:
    """Channels at a width: at least 8, and a multiple of 8 so that matrix units stay busy.

    >>> scaled(512, 0.25), scaled(64, 0.1)
    (128, 8)
    """
    return max(8, round(channels * width / 8) * 8)


def stage(layer: nn.Module, channels: int, dropout: float = 0.0) -> nn.Sequential:
    """One row of the tables: a layer, batch normalisation, dropout where the table has it, LeakyReLU."""
    norm = nn.BatchNorm1d(channels) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(channels)
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(layer, norm, *drop, nn.LeakyReLU(SLOPE, inplace=True))


class Encoder(nn.Sequential):
    """F of table 4: images (N, 3, S, S) in [-1, 1] -> features (N, feature_dim)."""

    def __init__(self, image_size: int, width: float, feature_dim: int) -> None:
        stages: list[nn.Module] = []
        inner = 3
        for i, channels in enumerate(ENCODER_CHANNELS[image_size]):
            outer, kernel = scaled(channels, width), 4 if i == 0 else 3
            stages.append(stage(nn.Conv2d(inner, outer, kernel, stride=2, padding=1, bias=False), outer))
            if kernel == 4:  # the same size out of an even kernel needs one more pixel on the right than on the left
                stages.append(nn.ZeroPad2d((1, 2, 1, 2)))
            same = nn.Conv2d(outer, outer, kernel, padding=0 if kernel == 4 else 1, bias=False)
            stages.append(stage(same, outer))
            inner = outer
        last = nn.Conv2d(inner, feature_dim, 2, stride=2, bias=False)
        super().__init__(*stages, stage(last, feature_dim), nn.Flatten())


class Decoder(nn.Sequential):
    """G of table 5: features (N, feature_dim) -> images (N, 3, S, S) in [-1, 1]."""

    def __init__(self, image_size: int, width: float, feature_dim: int) -> None:
        stages: list[nn.Module] = [nn.Unflatten(1, (feature_dim, 1, 1))]
        inner = feature_dim
        for i, channels in enumerate(DECODER_CHANNELS[image_size]):
            outer, kernel = scaled(channels, width), (2, 3, 4)[min(i, 2)]
            padding, extra = {2: (0, 0), 3: (1, 1), 4: (1, 0)}[kernel]
            layer = nn.ConvTranspose2d(inner, outer, kernel, 2, padding, output_padding=extra, bias=False)
            stages.append(stage(layer, outer, dropout=0.3 if i < 2 else 0.0))
            inner = outer
        super().__init__(*stages, nn.ConvTranspose2d(inner, 3, 4, 2, 1), nn.Tanh())


class Comparator(nn.Module):
    """C of table 6: the order features of x and y, concatenated -> logits of greater, similar, less."""

    def __init__(self, order_dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            stage(nn.Linear(2 * order_dim, hidden, bias=False), hidden),
            stage(nn.Linear(hidden, hidden, bias=False), hidden),
            nn.Dropout(0.5),
            nn.Linear(hidden, 3),
        )

    def forward(self, x: Float[Tensor, "B D"], y: Float[Tensor, "B D"]) -> Float[Tensor, "B 3"]:
        """Logits; their softmax is p^xy of eq. (5)."""
        return self.layers(torch.cat([x, y], dim=1))

    def half_of(self, features: Float[Tensor, "*N D"], *, second: bool) -> Float[Tensor, "*N H"]:
        """What the first layer, which is linear, makes of x alone, or of y, the second of a pair.

        Their sum is what it makes of the pair, so that many pairs of few x and y cost little there.
        """
        weight = self.layers.get_parameter("0.0.weight")
        return F.linear(features, weight.chunk(2, dim=1)[int(second)])

    def of_sums(self, sums: Float[Tensor, "*N H"]) -> Float[Tensor, "*N 3"]:
        """Logits of pairs from the sums of their halves."""
        first, *rest = self.layers
        assert isinstance(first, nn.Sequential)
        return nn.Sequential(*first[1:], *rest)(sums.flatten(0, -2)).view(*sums.shape[:-1], 3)


class Discriminator(nn.Module):
    """D of table 7: images (N, 3, S, S) -> logit of being real (N,). Its 1 x 1 convolution is a dense layer."""

    def __init__(self, image_size: int, width: float) -> None:
        super().__init__()
        first, second = scaled(64, width), scaled(128, width)
        self.layers = nn.Sequential(
            stage(nn.Conv2d(3, first, 5, 2, 2, bias=False), first),
            nn.Dropout(0.5),
            stage(nn.Conv2d(first, second, 5, 2, 2, bias=False), second),
            stage(nn.Conv2d(second, second, 5, 2, 2, bias=False), second),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(second * (image_size // 8) ** 2, 1),
        )

    def forward(self, images: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N"]:
        """Logits of P(real)."""
        return self.layers(images).squeeze(1)


class Orid(nn.Module):
    """Order-identity decomposition: encoder, decoder and comparator (section 3.2).

    Args:
        image_size: side of the square images in pixels, one of `IMAGE_SIZES`.
        width: factor on the inner channels; 1 is the paper's network.
        order_dim: length of the order feature (paper: 128).
        identity_dim: length of the identity feature (paper: 896).

    Raises:
        ValueError: an image size that is not in `IMAGE_SIZES`.
    """

    def __init__(self, image_size: int = 64, width: float = 1.0, order_dim: int = 128, identity_dim: int = 896) -> None:
        if image_size not in IMAGE_SIZES:
            raise ValueError(f"image size is {image_size}; it must be one of {', '.join(map(str, IMAGE_SIZES))}")
        super().__init__()
        self.order_dim = order_dim
        self.encoder = Encoder(image_size, width, order_dim + identity_dim)
        self.decoder = Decoder(image_size, width, order_dim + identity_dim)
        self.comparator = Comparator(order_dim)
        self.apply(initialise)

    def split(self, h: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N A"], Float[Tensor, "N I"]]:
        """Order features as they are, identity features of unit norm (eq. 2, 3)."""
        return h[:, : self.order_dim], F.normalize(h[:, self.order_dim :], dim=1)

    def features(self, images: Float[Tensor, "N 3 S S"]) -> tuple[Float[Tensor, "N A"], Float[Tensor, "N I"]]:
        """Order and identity features of images in [-1, 1]."""
        return self.split(self.encoder(images))

    def forward(
        self, images: Float[Tensor, "N 3 S S"]
    ) -> tuple[Float[Tensor, "N I"], Float[Tensor, "N 3 S S"], Float[Tensor, "B 3"]]:
        """One training pass over pairs: the first half of the images are the x, the second half their y.

        Returns:
            Identity features and decoded images of all, order logits of the pairs.
        """
        h = self.encoder(images)
        order, identity = self.split(h)
        x, y = order.chunk(2)
        return identity, self.decoder(h), self.comparator(x, y)


def initialise(module: nn.Module) -> None:
    """Glorot's normal distribution for weights, zero for biases (appendix A)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 (N, S, S, 3) in [0, 255] -> float (N, 3, S, S) in [-1, 1], the range of the decoder's tanh."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_unit_range`."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def parameter_count(module: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(math.prod(p.shape) for p in module.parameters())
