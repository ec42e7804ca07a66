"""The stronger comparator of DRC-ORID: a siamese network that orders two images (Lee & Kim 2021, C.4 and D.1).

ORID's own comparator sees order features of a small encoder. This one is trained afterwards, within the clusters that
were found, and has a published backbone: VGG16 for ages, EfficientNet-B4 for scores, ResNet18 (ours) for small images.

Legend: N images, B pairs.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ordclust_ray.core import feature_networks
from ordclust_ray.core.networks import Comparator, initialise, scaled

FEATURES = 512
LAST_CHANNELS = {"resnet18": 512, "vgg16": 512, "efficientnet_b4": 1792}
NETWORKS = tuple(LAST_CHANNELS)


class ImageComparator(nn.Module):
    """Images of x and y -> logits of greater, similar, less.

    Both images pass the same backbone, a mean over their maps, and a linear layer where the maps are not 512 already;
    the comparator of table 6 orders the two features. Weights start from Glorot's normal distribution.

    Args:
        network: one of `NETWORKS`.
        image_size: side of the square images in pixels, at least 16; it chooses the first layers of ResNet18.
        width: factor on the channels; 1 is the published network. EfficientNet-B4 has no other.

    Raises:
        ValueError: a network that is not in `NETWORKS`, a size that is too small, a width that the network lacks.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: str, image_size: int, width: float = 1.0) -> None:
        if network not in NETWORKS:
            raise ValueError(f"network is {network!r}; it must be one of {', '.join(NETWORKS)}")
        feature_networks.check_sizes(image_size, FEATURES)
        super().__init__()
        self.network, self.image_size, self.width = network, image_size, width
        self.backbone = backbone(network, image_size, width)
        channels = LAST_CHANNELS[network] if width == 1 else scaled(LAST_CHANNELS[network], width)
        self.projection = nn.Identity() if channels == FEATURES else nn.Linear(channels, FEATURES)
        self.comparator = Comparator(FEATURES, hidden=FEATURES)
        self.register_buffer("mean", torch.tensor(feature_networks.MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(feature_networks.STD).view(3, 1, 1), persistent=False)
        self.apply(initialise)

    def features(self, images: UInt8[Tensor, "N S S 3"]) -> Float[Tensor, "N 512"]:
        """What the comparator knows of each image, in float32 under autocast too."""
        maps = self.backbone((images.permute(0, 3, 1, 2) / 255 - self.mean) / self.std)
        return self.projection(F.adaptive_avg_pool2d(maps, 1).flatten(1)).float()

    def forward(self, images: UInt8[Tensor, "N S S 3"]) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3"]]:
        """One training pass over pairs: the first half of the images are the x, the second half their y.

        Returns:
            Logits of (x, y), and of (y, x).
        """
        x, y = self.features(images).chunk(2)
        # one batch of both orders: normalisation favours neither
        xy, yx = self.comparator(torch.cat([x, y]), torch.cat([y, x])).float().chunk(2)
        return xy, yx


def backbone(network: str, image_size: int, width: float) -> nn.Sequential:
    """The layers from images to maps, of which state_dict has torchvision's names without "features."."""
    if network == "resnet18":
        return feature_networks.resnet(feature_networks.RESNET_BLOCKS[network], image_size, width)
    if network == "vgg16":
        return feature_networks.vgg16(image_size, width, batch_norm=False)
    if width != 1:
        raise ValueError(f"width is {width:g}; {network} has width 1 only")
    from torchvision.models import efficientnet_b4

    return efficientnet_b4().features
