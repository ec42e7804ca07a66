"""The stronger comparator: published backbones, both orders of a pair, features of single images."""

import pytest
import torch
from torch import Tensor, nn

from ordclust_ray.core.image_comparator import FEATURES, NETWORKS, ImageComparator
from ordclust_ray.core.networks import parameter_count

SIZES = [("resnet18", 16, 0.1), ("resnet18", 96, 0.25), ("vgg16", 16, 0.1), ("vgg16", 50, 0.25)]
SIZES += [("efficientnet_b4", 16, 1.0)]
COMPARATOR = 1024 * 512 + 2 * 512 + 512 * 512 + 2 * 512 + 512 * 3 + 3


def images_of(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture
def small() -> ImageComparator:
    torch.manual_seed(0)
    return ImageComparator("resnet18", 16, 0.1)


@pytest.mark.parametrize(("network", "size", "width"), SIZES)
def test_shapes(network: str, size: int, width: float) -> None:
    comparator = ImageComparator(network, size, width)
    comparator(images_of(6, size))[0].sum().backward()  # in training mode, with pairs of the smallest maps
    assert comparator.features(images_of(3, size)).shape == (3, FEATURES)
    xy, yx = comparator.eval()(images_of(6, size))
    assert xy.shape == yx.shape == (3, 3)
    assert all(p.grad is not None for p in comparator.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_backbones_are_the_published_ones(network: str) -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        comparator, published = ImageComparator(network, 224), get_model(network)
    classifier = published.fc if network == "resnet18" else published.classifier
    assert parameter_count(comparator.backbone) == parameter_count(published) - parameter_count(classifier)
    normalised = any(isinstance(m, nn.BatchNorm2d) for m in comparator.backbone.modules())
    assert normalised == (network != "vgg16")
    projection = 1792 * 512 + 512 if network == "efficientnet_b4" else 0
    assert parameter_count(comparator.projection) == projection
    assert parameter_count(comparator.comparator) == COMPARATOR


def test_features_are_projected_where_the_maps_are_not_512_wide() -> None:
    assert isinstance(ImageComparator("resnet18", 32).projection, nn.Identity)
    assert isinstance(ImageComparator("resnet18", 32, 0.5).projection, nn.Linear)


def test_swapping_the_halves_swaps_the_results(small: ImageComparator) -> None:
    x, y = images_of(4, 16), images_of(5, 16)[:4]
    small.eval()
    xy, yx = small(torch.cat([x, y]))
    swapped = small(torch.cat([y, x]))
    torch.testing.assert_close(swapped[0], yx)
    torch.testing.assert_close(swapped[1], xy)
    assert (xy - yx).abs().max() > 1e-3  # or the lines above would say nothing
    torch.testing.assert_close(small.comparator(small.features(x), small.features(y)), xy)


def test_features_do_not_depend_on_the_batch(small: ImageComparator) -> None:
    small.train()(images_of(16, 16))  # statistics of some images
    small.eval()
    images = images_of(6, 16)
    whole = small.features(images)
    torch.testing.assert_close(torch.cat([small.features(image[None]) for image in images]), whole)
    assert whole.std(dim=0).max() > 1e-3


def test_channels_are_normalised_as_imagenet_s(small: ImageComparator) -> None:
    seen: list[Tensor] = []
    small.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    small.eval().features(torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 16, 16, 3))
    expected = [(0.0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1.0 - 0.406) / 0.225]
    torch.testing.assert_close(seen[0], torch.tensor(expected).view(1, 3, 1, 1).expand(1, 3, 16, 16))


def test_features_and_logits_are_float32_under_autocast(small: ImageComparator) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert small.features(images_of(4, 16)).dtype == torch.float32
        assert small(images_of(4, 16))[0].dtype == torch.float32


def test_what_cannot_be_built_is_an_error() -> None:
    with pytest.raises(ValueError, match="network is 'resnet19'; it must be one of resnet18, vgg16, efficientnet_b4"):
        ImageComparator("resnet19", 32)
    with pytest.raises(ValueError, match="image size is 15; it must be at least 16"):
        ImageComparator("resnet18", 15)
    with pytest.raises(ValueError, match=r"width is 0\.5; efficientnet_b4 has width 1 only"):
        ImageComparator("efficientnet_b4", 32, 0.5)
